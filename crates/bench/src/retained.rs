//! Retained messages: what it costs the broker to store each, to keep it, and to send it to who subscribes later.
//!
//! One client stores, each message on its own topic; then receivers that were not there before subscribe to all of them.
//! In the end the topics are cleared. The broker's process should be fresh where memory is asked for.

use crate::broker::Broker;
use crate::clients::{Clients, Stay};
use crate::failure::Outcome;
use crate::harvest::Harvest;
use crate::live::{Live, Phase};
use crate::options::{FillOptions, Options};
use crate::report::{Meter, Report};
use crate::stays;
use crate::supply::{Load, Supply};

/// Who stores; the receivers come behind.
const STORER: usize = 0;

/// Makes one run.
pub fn run(options: &Options, plan: &FillOptions, live: &Live) -> Outcome<Report> {
    let mut clients = Clients::new(options, plan.payload_bytes)?;
    let mut meter = Meter { broker: Broker::new(options.broker_pid), report: Report::new("retained") };
    plan.describe(options, &mut meter.report);
    let topic = |number: u64| format!("whimbrel-bench/{}/{}/{number}", options.run, number / 100);
    let (count, payload_bytes) = (plan.messages, plan.payload_bytes);
    let load = Load { options, plan, count, retain: true, payload_bytes, topic: &topic };
    let mut supply = Supply::new(load, STORER, live)?;
    let mut harvest = Harvest::new(options, plan, live, 1);
    // Where the run is stopped before anybody asked for the messages, nobody expects them.
    let mut expected = 0;
    if clients.admit(1, Stay::Passing, (options, live))? {
        live.enter(Phase::Measuring);
        supply.measure(&mut clients, &mut meter, ("stored", 1))?;
        if clients.admit(1 + plan.receivers, Stay::Passing, (options, live))? {
            let filter = format!("whimbrel-bench/{}/#", options.run);
            expected = supply.taken * plan.receivers as u64;
            harvest.measure(&mut clients, &mut meter, ("delivered", expected), |harvest, clients| {
                harvest.subscribe(clients, &filter, plan.receive_qos)
            })?;
        }
        let receivers = 1..clients.count();
        stays::depart(&mut clients, receivers)?;
        clear(&mut clients, Load { count: supply.sent(), payload_bytes: 0, ..load })?;
    }
    harvest.report_faults(&mut meter.report, expected);
    supply.report_faults(&mut meter.report, harvest.refused);
    meter.report.count("closed_by_broker", clients.closed as u64);
    meter.report.text("first_refusal", clients.first_refusal.as_ref());
    clients.leave()?;
    Ok(meter.report)
}

/// Our topics keep no message, whether the run was stopped or not [MQTT-3.3.1-6].
fn clear(clients: &mut Clients, load: Load<'_>) -> Outcome<()> {
    let live = Live::default();
    Supply::new(load, STORER, &live)?.run(clients)
}
