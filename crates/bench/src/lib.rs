//! Load for an MQTT broker: what it does to messages, how long they take, and what they cost.
//!
//! Knows scenarios (connect, subscribe, publish, flow, retained, offline), sockets and the clock. Must not know Python, a terminal, or any
//! crate of the broker but its protocol: it measures foreign brokers with the same eyes. One run is one thread, [`run`];
//! another thread looks at it and stops it through [`Live`]. `whimbrel bench` drives it, and so does `make bench`.

mod broker;
mod census;
mod clients;
mod crowd;
mod door;
mod failure;
mod flow;
mod group;
mod harvest;
mod histogram;
mod listeners;
mod live;
mod offline;
mod options;
mod publisher;
mod report;
mod retained;
mod schedule;
mod stays;
mod supply;
mod tally;
mod tls;
mod websocket;
mod window;
mod wire;

pub use failure::{Failure, Outcome};
pub use live::{Live, Phase, Snapshot};
pub use options::{ConnectOptions, FillOptions, FlowOptions, Options, Pattern, Scenario, SubscribeOptions};
pub use report::{Measure, Report};
pub use tls::TlsOptions;

/// Makes one run on the calling thread; it ends early when `live` is told to stop.
///
/// An error is a run that could not be made: no broker there, no client let in, an option out of range. What a broker
/// loses, repeats or refuses is a result and stands in the report.
pub fn run(options: &Options, live: &Live) -> Outcome<Report> {
    options.check()?;
    // Where it is refused, the schedule is kept up to the kernel's usual 50 us.
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
    let report = match &options.scenario {
        Scenario::Connect(plan) => crowd::run(options, plan, live),
        Scenario::Subscribe(plan) => listeners::run(options, plan, live),
        Scenario::Flow(plan) => flow::run(options, plan, live),
        Scenario::Retained(plan) => retained::run(options, plan, live),
        Scenario::Offline(plan) => offline::run(options, plan, live),
    };
    live.enter(Phase::Over);
    report
}
