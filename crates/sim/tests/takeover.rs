//! Takeover under ten thousand seeds: who owns a session, and what becomes of its messages and its will.
//!
//! Knows which seeds run in CI. `make simulate` runs more of them, or one alone.

use whimbrel_sim::{Outcome, Scenario};

/// Seeds of every run in CI.
const SEEDS: u64 = 10_000;
/// What they must have looked at, so that a scenario that no longer gets anywhere is noticed.
const PROMISES_MIN: usize = 100_000;

#[test]
fn ten_thousand_seeds_of_takeover_keep_every_promise() {
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    match whimbrel_sim::run_all(Scenario::Takeover, (0, SEEDS), threads) {
        Ok(sum) => {
            assert_eq!(sum.seeds, SEEDS);
            assert!(sum.promises >= PROMISES_MIN, "only {} deliveries were promised in {sum:?}", sum.promises);
        }
        Err((seed, outcome)) => panic!("{}", whimbrel_sim::report(Scenario::Takeover, seed, &outcome)),
    }
}

fn run(seed: u64) -> Outcome {
    whimbrel_sim::run(Scenario::Takeover, seed)
}

#[test]
fn the_same_seed_tells_the_same_story() {
    let mut told = std::collections::BTreeSet::new();
    for seed in 0..50 {
        let (first, second) = (run(seed), run(seed));
        assert!(first == second, "seed {seed} has two stories:\n{}\nand\n{}", first.story, second.story);
        told.insert(first.story);
    }
    assert_eq!(told.len(), 50, "every seed has a story of its own");
}

#[test]
fn a_seed_that_fails_names_itself_and_tells_how_it_came_to_it() {
    let lines: String = (0..200).map(|line| format!("line {line}\n")).collect();
    let fault = Some("c1 has two owners".to_owned());
    let outcome = Outcome { story: lines, fault, steps: 0, promises: (0, 0) };
    let report = whimbrel_sim::report(Scenario::Takeover, 77, &outcome);
    assert!(report.starts_with("seed 77: c1 has two owners\n"));
    assert!(report.contains("line 199\n") && report.contains("line 120\n") && !report.contains("line 119\n"));
    assert!(report.ends_with("make simulate SCENARIO=takeover SEED=77\n"));
}
