//! Crashes under ten thousand seeds, half of them with some: what was promised is there when the broker is back.
//!
//! Knows which seeds run in CI. `make simulate SCENARIO=crash` runs more of them, or one alone.

use whimbrel_sim::{Outcome, Scenario};

/// Seeds of every run in CI.
const SEEDS: u64 = 10_000;
/// What they must have looked at, so that a scenario that no longer gets anywhere is noticed.
const PROMISES_MIN: usize = 40_000;

fn run(seed: u64) -> Outcome {
    whimbrel_sim::run(Scenario::Crash, seed)
}

#[test]
fn ten_thousand_seeds_over_a_store_keep_every_promise() {
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    match whimbrel_sim::run_all(Scenario::Crash, (0, SEEDS), threads) {
        Ok(sum) => {
            assert_eq!(sum.seeds, SEEDS);
            assert!(sum.promises >= PROMISES_MIN, "only {} deliveries were promised in {sum:?}", sum.promises);
        }
        Err((seed, outcome)) => panic!("{}", whimbrel_sim::report(Scenario::Crash, seed, &outcome)),
    }
}

#[test]
fn the_same_seed_tells_the_same_story_and_half_of_them_tell_of_crashes() {
    let (mut crashed, mut refused) = (0, 0);
    for seed in 0..100 {
        let (first, second) = (run(seed), run(seed));
        assert!(first == second, "seed {seed} has two stories:\n{}\nand\n{}", first.story, second.story);
        crashed += usize::from(first.story.contains("THE POWER FAILS"));
        refused += usize::from(first.story.contains("was taken, 0x97"));
    }
    assert!(refused >= 8, "{refused} of 100 seeds have a publish that was refused for want of room");
    assert!((30..=70).contains(&crashed), "{crashed} of 100 seeds have a crash");
}
