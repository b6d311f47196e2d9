//! Runs seeds: `simulate FIRST COUNT` many, `simulate SEED` one, whose whole story it prints.
//!
//! Knows arguments and exit codes. Driven by `make simulate`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let numbers: Option<Vec<u64>> = std::env::args().skip(1).map(|argument| argument.parse().ok()).collect();
    match numbers.as_deref() {
        Some([seed]) => one(*seed),
        Some([first, count]) => many(*first, *count),
        _ => {
            eprintln!("simulate: expected SEED, or FIRST and COUNT, all of them whole numbers");
            ExitCode::from(2)
        }
    }
}

fn one(seed: u64) -> ExitCode {
    let outcome = whimbrel_sim::run(seed);
    print!("{}", outcome.story);
    match outcome.fault {
        None => ExitCode::SUCCESS,
        Some(fault) => {
            eprintln!("seed {seed}: {fault}");
            ExitCode::FAILURE
        }
    }
}

fn many(first: u64, count: u64) -> ExitCode {
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    match whimbrel_sim::run_all(first, count, threads) {
        Ok(sum) => {
            println!("{} seeds, {} steps, {} promises kept", sum.seeds, sum.steps, sum.promises);
            ExitCode::SUCCESS
        }
        Err((seed, outcome)) => {
            eprint!("{}", whimbrel_sim::report(seed, &outcome));
            ExitCode::FAILURE
        }
    }
}
