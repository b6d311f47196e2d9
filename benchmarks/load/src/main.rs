//! Load for an MQTT broker, and what it costs the broker: one run, one line of JSON on stdout.
//!
//! Knows the command line and which scenario answers to which word. `benchmarks/run.py` drives it, once for each broker
//! and round. Exit code 2 where a run could not be made; a broker that loses messages is a result, not a failure.

mod arguments;
mod broker;
mod census;
mod clients;
mod crowd;
mod failure;
mod flow;
mod publisher;
mod report;

use std::process::ExitCode;

use arguments::Arguments;
use failure::Outcome;
use report::Report;

const USAGE: &str = "\
usage: whimbrel-load flow|crowd --port N --broker-pid N [--NAME VALUE ...]
  flow   --pattern pair|fanout|fanin --publishers 50 --subscribers 50 --qos 0|1 --payload 64 (bytes, 16 to 65536)
         --window 64 (undelivered messages of a publisher) --warm 0.7 --measure 2 (seconds)
  crowd  --clients 5000 --concurrency 64 --hold 0 (seconds at rest) --pings 0 --subscribes 0 (of
         each client, one at a time)";

fn main() -> ExitCode {
    match run() {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("whimbrel-load: {failure}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Outcome<Report> {
    let mut words = std::env::args().skip(1);
    let scenario = words.next().unwrap_or_default();
    let arguments = Arguments::parse(words)?;
    match scenario.as_str() {
        "flow" => flow::run(arguments),
        "crowd" => crowd::run(arguments),
        other => Err(format!("found {other:?} in the place of a scenario\n{USAGE}").into()),
    }
}
