//! Many clients that subscribe and then listen: how long a SUBACK takes, and what comes.
//!
//! Closed loop: each client has one SUBSCRIBE under way. Open loop: they take turns at a rate. What is received afterwards
//! is counted and acknowledged, whoever published it. Then messages may flow past the filters, which do not match them, and
//! as many again when the clients are gone: what a message costs more while the filters are there.

use std::time::Duration;

use whimbrel_protocol::packet::SubAck;
use whimbrel_protocol::{Packet, QoS, ReasonCode};

use crate::broker::Broker;
use crate::clients::{Bystander, Clients, Player, Stay};
use crate::failure::Outcome;
use crate::flow;
use crate::histogram::Histogram;
use crate::live::{Cadence, Live, Phase, Snapshot};
use crate::options::{FlowOptions, Options, Pattern, Scenario, SubscribeOptions};
use crate::report::{Report, version_name};
use crate::schedule::Schedule;
use crate::stays;
use crate::supply::SETTLE;
use crate::window::Window;

/// The longest message that can be listened to, besides what small ones need.
const MESSAGE_MAX_BYTES: usize = 16 << 20;
/// Of the flow past the filters: as many as `flow` and `make bench` have.
const FLOW_PAIRS: usize = 50;
const FLOW_WARM_MAX: Duration = Duration::from_millis(700);

struct Listeners<'a> {
    options: &'a Options,
    plan: &'a SubscribeOptions,
    live: &'a Live,
    asking: Vec<Asking>,
    latency: Histogram,
    sent: u64,
    granted: u64,
    refused: u64,
    received: u64,
    received_bytes: u64,
    cadence: Cadence,
    moved_ns: u64,
}

/// The SUBSCRIBEs of one client; the packet identifier is the sequence plus one.
#[derive(Default)]
struct Asking {
    /// Subscriptions, and SUBSCRIBEs.
    asked: usize,
    packets: u64,
    under_way: Window,
}

/// Makes one run.
pub fn run(options: &Options, plan: &SubscribeOptions, live: &Live) -> Outcome<Report> {
    let broker = Broker::new(options.broker_pid);
    let mut clients = Clients::new(options, MESSAGE_MAX_BYTES)?;
    let mut report = Report::new("subscribe");
    report.text("mqtt", Some(&version_name(options.version).to_owned()));
    let mut listeners = Listeners::new(options, plan, live);
    if clients.admit(plan.clients, Stay::Passing, (options, live))? {
        listeners.subscribe(&mut clients, &broker, &mut report)?;
        listeners.listen(&mut clients, &broker, &mut report)?;
        listeners.flow_past(&mut clients, &mut report)?;
    }
    report.count("refused", listeners.refused);
    let answered = listeners.granted + listeners.refused;
    report.count("unacknowledged", listeners.sent.saturating_sub(answered));
    report.count("closed_by_broker", clients.closed as u64);
    report.text("first_refusal", clients.first_refusal.as_ref());
    clients.leave()?;
    Ok(report)
}

impl<'a> Listeners<'a> {
    fn new(options: &'a Options, plan: &'a SubscribeOptions, live: &'a Live) -> Listeners<'a> {
        Listeners {
            options,
            plan,
            live,
            asking: (0..plan.clients).map(|_| Asking::default()).collect(),
            latency: Histogram::new(),
            sent: 0,
            granted: 0,
            refused: 0,
            received: 0,
            received_bytes: 0,
            cadence: Cadence::default(),
            moved_ns: 0,
        }
    }

    fn subscribe(&mut self, clients: &mut Clients, broker: &Broker, report: &mut Report) -> Outcome<()> {
        self.live.enter(Phase::Measuring);
        let (before, rss_bytes) = (broker.read()?, broker.rss_bytes()?);
        let start_ns = clients.look();
        self.moved_ns = start_ns;
        match self.plan.rate {
            0.0 => self.ask_in_turns(clients)?,
            rate => self.ask_on_time(clients, rate)?,
        }
        self.wait_for_answers(clients)?;
        let span = broker.read()?.since(before);
        let count = self.granted as f64;
        let seconds = (self.moved_ns.max(start_ns + 1) - start_ns) as f64 / 1e9;
        report.count("clients", self.plan.clients as u64);
        report.count("subscriptions", self.granted);
        report.put("seconds", seconds);
        report.put("subscribes_per_s", count / seconds);
        report.put("cpu_us_per_subscribe", span.broker_cpu_s * 1e6 / count);
        report.put("load_us_per_subscribe", span.own_cpu_s * 1e6 / count);
        if broker.is_visible() {
            let live = self.live;
            clients.run_until(self, SETTLE, |_, _| live.is_stopping())?;
            report.put("rss_bytes_per_subscription", (broker.rss_bytes()? - rss_bytes) / count);
        }
        report.percentiles("latency", &self.latency);
        Ok(())
    }

    /// Closed loop: everybody asks once; each answer brings the next question (see `on_suback`).
    fn ask_in_turns(&mut self, clients: &mut Clients) -> Outcome<()> {
        let now_ns = clients.look();
        (0..self.plan.clients).try_for_each(|client| self.ask(clients, client, now_ns))
    }

    fn ask_on_time(&mut self, clients: &mut Clients, rate: f64) -> Outcome<()> {
        let all = (self.plan.clients * self.plan.packets()) as u64;
        let mut schedule = Schedule::new(clients.look(), rate, self.plan.clients, all);
        while let Some(next_ns) = schedule.next_ns().filter(|_| !self.live.is_stopping()) {
            while let Some(client) = schedule.take_due(clients.now_ns()) {
                let due_ns = schedule.due_ns(client, self.asking[client].packets);
                self.ask(clients, client, due_ns)?;
            }
            clients.wait_until(self, next_ns)?;
            self.tell(clients);
        }
        Ok(())
    }

    fn ask(&mut self, clients: &mut Clients, client: usize, since_ns: u64) -> Outcome<()> {
        let asked = self.asking[client].asked;
        let end = self.plan.subscriptions.min(asked + self.plan.batch);
        let filters: Vec<String> = (asked..end).map(|number| self.filter(client, number)).collect();
        let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
        let asking = &mut self.asking[client];
        asking.asked = end;
        asking.packets += 1;
        asking.under_way.push(since_ns, 1);
        self.sent += filters.len() as u64;
        clients.subscribe(client, &filters, self.plan.qos, asking.packets as u16)
    }

    fn filter(&self, client: usize, number: usize) -> String {
        self.plan.filters[number % self.plan.filters.len()]
            .replace("{run}", &self.options.run.to_string())
            .replace("{client}", &client.to_string())
            .replace("{number}", &number.to_string())
    }

    /// As long as something comes.
    fn wait_for_answers(&mut self, clients: &mut Clients) -> Outcome<()> {
        let live = self.live;
        loop {
            let before = self.granted + self.refused;
            let is_done = |listeners: &Listeners<'_>, _: &Clients| {
                let answered = listeners.granted + listeners.refused;
                answered >= listeners.sent || live.is_stopping()
            };
            let is_complete = clients.run_until(self, self.options.patience, is_done)?;
            if is_complete || self.granted + self.refused == before {
                return Ok(());
            }
        }
    }

    fn listen(&mut self, clients: &mut Clients, broker: &Broker, report: &mut Report) -> Outcome<()> {
        if self.plan.hold.is_zero() {
            return Ok(());
        }
        let live = self.live;
        let (before, received, bytes) = (broker.read()?, self.received, self.received_bytes);
        clients.run_until(self, self.plan.hold, |_, _| live.is_stopping())?;
        let span = broker.read()?.since(before);
        report.put("hold_seconds", span.seconds);
        report.count("received", self.received - received);
        report.count("received_bytes", self.received_bytes - bytes);
        report.put("received_per_s", (self.received - received) as f64 / span.seconds);
        Ok(())
    }

    /// Messages that none of the filters matches, and as many again when the clients have left: `past` and `bare`.
    fn flow_past(&self, clients: &mut Clients, report: &mut Report) -> Outcome<()> {
        if self.plan.flow.is_zero() || self.live.is_stopping() {
            return Ok(());
        }
        let past = self.flow(1)?;
        let everybody = 0..clients.count();
        stays::depart(clients, everybody)?;
        clients.run_until(&mut Bystander, SETTLE, |_, _| self.live.is_stopping())?;
        let bare = self.flow(2)?;
        for (name, flow) in [("past", &past), ("bare", &bare)] {
            for measure in ["delivered_per_s", "cpu_us_per_message", "latency_p50_us", "latency_p99_us"] {
                report.put(format!("{name}_{measure}"), flow.value(measure));
            }
        }
        report.put("past_to_bare", past.value("cpu_us_per_message") / bare.value("cpu_us_per_message"));
        for fault in ["lost", "duplicated", "out_of_order", "foreign"] {
            let count = |flow: &Report| flow.get_count(fault).unwrap_or(0);
            report.count(fault, count(&past) + count(&bare));
        }
        Ok(())
    }

    /// A run of its own, with clients and topics of its own.
    fn flow(&self, number: u32) -> Outcome<Report> {
        let plan = FlowOptions {
            pattern: Pattern::Pair,
            publishers: FLOW_PAIRS,
            subscribers: FLOW_PAIRS,
            qos: QoS::AtMostOnce,
            lasting: false,
            retain: false,
            payload_bytes: 64,
            window: 64,
            rate: 0.0,
            warm: FLOW_WARM_MAX.min(self.plan.flow),
            measure: self.plan.flow,
            count: None,
            topic: String::new(),
        };
        let run = self.options.run.wrapping_add(number);
        let options = Options { run, scenario: Scenario::Flow(plan.clone()), ..self.options.clone() };
        flow::run(&options, &plan, self.live)
    }

    fn on_suback(&mut self, clients: &mut Clients, client: usize, answer: &SubAck<'_>) -> Outcome<()> {
        let sequence = u64::from(answer.packet_id).wrapping_sub(1);
        let Some(since_ns) = self.asking[client].under_way.settle(sequence) else {
            self.refused += 1;
            return Ok(());
        };
        let now_ns = clients.now_ns();
        self.moved_ns = now_ns;
        self.latency.record(now_ns.saturating_sub(since_ns));
        for reason in &answer.reasons {
            match reason.is_error() {
                true => self.refuse(clients, *reason),
                false => self.granted += 1,
            }
        }
        let asked = self.asking[client].asked;
        if self.plan.rate == 0.0 && asked < self.plan.subscriptions && !self.live.is_stopping() {
            self.ask(clients, client, now_ns)?;
        }
        self.tell(clients);
        Ok(())
    }

    fn refuse(&mut self, clients: &mut Clients, reason: ReasonCode) {
        self.refused += 1;
        clients.refused(reason);
    }

    fn tell(&mut self, clients: &Clients) {
        if !self.cadence.is_due(clients.now_ns()) {
            return;
        }
        self.live.tell(&Snapshot {
            connected: clients.greeted as u64,
            sent: self.sent,
            acknowledged: self.granted + self.refused,
            delivered: self.received,
            p50_ns: self.latency.quantile_ns(0.5).unwrap_or(0),
            p99_ns: self.latency.quantile_ns(0.99).unwrap_or(0),
        });
    }
}

impl Player for Listeners<'_> {
    fn on_packet(&mut self, clients: &mut Clients, client: usize, packet: Packet<'_>) -> Outcome<()> {
        match packet {
            Packet::SubAck(answer) => self.on_suback(clients, client, &answer)?,
            Packet::Publish(publish) => {
                self.received += 1;
                self.received_bytes += publish.payload.len() as u64;
                clients.accept(client, &publish);
                self.tell(clients);
            }
            Packet::PubRel(answer) => clients.answer(client, 0x70, answer.packet_id),
            Packet::ConnAck(_) | Packet::PingResp => {}
            _ => self.refused += 1,
        }
        Ok(())
    }
}
