//! Runs seeds: `simulate SCENARIO FIRST COUNT` many, `simulate SCENARIO SEED` one, whose whole story it prints.
//!
//! Knows arguments and exit codes. Driven by `make simulate`.

use std::process::ExitCode;

use whimbrel_sim::Scenario;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let scenario = arguments.next().and_then(|name| Scenario::named(&name));
    let numbers: Option<Vec<u64>> = arguments.map(|argument| argument.parse().ok()).collect();
    match (scenario, numbers.as_deref()) {
        (Some(scenario), Some([seed])) => one(scenario, *seed),
        (Some(scenario), Some([first, count])) => many(scenario, (*first, *count)),
        _ => {
            eprintln!("simulate: expected takeover or crash, then SEED, or FIRST and COUNT, all of them whole numbers");
            ExitCode::from(2)
        }
    }
}

fn one(scenario: Scenario, seed: u64) -> ExitCode {
    let outcome = whimbrel_sim::run(scenario, seed);
    print!("{}", outcome.story);
    match outcome.fault {
        None => ExitCode::SUCCESS,
        Some(fault) => {
            eprintln!("seed {seed}: {fault}");
            ExitCode::FAILURE
        }
    }
}

fn many(scenario: Scenario, seeds: (u64, u64)) -> ExitCode {
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    match whimbrel_sim::run_all(scenario, seeds, threads) {
        Ok(sum) => {
            println!("{} seeds, {} steps, {} promises kept", sum.seeds, sum.steps, sum.promises);
            ExitCode::SUCCESS
        }
        Err((seed, outcome)) => {
            eprint!("{}", whimbrel_sim::report(scenario, seed, &outcome));
            ExitCode::FAILURE
        }
    }
}
