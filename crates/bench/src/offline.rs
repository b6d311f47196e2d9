//! Sessions whose clients are away: what it costs the broker to queue each message, to keep it, and to send it when the
//! clients come back; whether all arrive once and in order.
//!
//! Receivers subscribe and disconnect; one publisher sends to the topic that all of them hear; they connect again. In the
//! end their sessions are removed. The broker's process should be fresh where memory is asked for.

use crate::broker::Broker;
use crate::clients::{Clients, Stay};
use crate::failure::Outcome;
use crate::harvest::Harvest;
use crate::live::{Live, Phase};
use crate::options::{FillOptions, Options};
use crate::report::{Meter, Report};
use crate::stays;
use crate::supply::{Load, Supply};

/// Makes one run.
pub fn run(options: &Options, plan: &FillOptions, live: &Live) -> Outcome<Report> {
    let mut clients = Clients::new(options, plan.payload_bytes)?;
    let mut meter = Meter { broker: Broker::new(options.broker_pid), report: Report::new("offline") };
    plan.describe(options, &mut meter.report);
    let (receivers, who) = (plan.receivers, (options, live));
    let topic = format!("whimbrel-bench/{}/queued", options.run);
    let topic_of = |_: u64| topic.clone();
    let (count, payload_bytes) = (plan.messages, plan.payload_bytes);
    let load = Load { options, plan, count, retain: false, payload_bytes, topic: &topic_of };
    let mut supply = Supply::new(load, receivers, live)?;
    let mut harvest = Harvest::new(options, plan, live, 0);
    if clients.admit(receivers, Stay::Lasting, who)? {
        harvest.subscribe(&mut clients, &topic, plan.receive_qos)?;
        stays::depart(&mut clients, 0..receivers)?;
        // From here on the sessions are removed, whatever happens.
        let made = exchange(&mut clients, &mut meter, (&mut supply, &mut harvest, who));
        stays::forget(&mut clients, 0..receivers, who)?;
        made?;
        harvest.report_order(&mut meter.report);
    }
    harvest.report_faults(&mut meter.report, supply.taken * receivers as u64);
    supply.report_faults(&mut meter.report, harvest.refused);
    meter.report.count("closed_by_broker", clients.closed as u64);
    meter.report.text("first_refusal", clients.first_refusal.as_ref());
    clients.leave()?;
    Ok(meter.report)
}

type Parts<'p, 'a> = (&'p mut Supply<'a>, &'p mut Harvest<'a>, (&'a Options, &'a Live));

fn exchange(clients: &mut Clients, meter: &mut Meter, parts: Parts<'_, '_>) -> Outcome<()> {
    let (supply, harvest, who) = parts;
    let receivers = harvest.receivers();
    if !clients.admit(receivers + 1, Stay::Passing, who)? {
        return Ok(());
    }
    who.1.enter(Phase::Measuring);
    supply.measure(clients, meter, ("queued", receivers as u64))?;
    let expected = supply.taken * receivers as u64;
    harvest.measure(clients, meter, ("drained", expected), |harvest, clients| {
        stays::come_back(clients, harvest, (0..receivers, Stay::Lasting), who).map(drop)
    })
}
