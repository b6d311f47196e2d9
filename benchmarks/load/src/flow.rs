//! Messages from publishers to subscribers in a closed loop, and what each delivery costs.
//!
//! Knows who publishes where and who listens (`pair`: i to i; `fanout`: all on one topic, all subscribers; `fanin`: a
//! topic for each publisher, a wildcard for each subscriber). Connects, subscribes, warms up, measures, then drains.

use std::time::{Duration, Instant};

use whimbrel_protocol::encode::ack;
use whimbrel_protocol::packet::Ack;
use whimbrel_protocol::reason::ReasonCode;
use whimbrel_protocol::{Packet, QoS, Version};

use crate::arguments::Arguments;
use crate::broker::{Broker, Span};
use crate::census::{Census, Delivery};
use crate::clients::{Clients, Player};
use crate::failure::Outcome;
use crate::publisher::{HEADER_BYTES, Habit, Publisher, read_header};
use crate::report::Report;

const SETUP_MAX: Duration = Duration::from_secs(30);
/// Silence after which what has not come is lost.
const SILENCE_MAX: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Pattern {
    Pair,
    Fanout,
    Fanin,
}

struct Plan {
    port: u16,
    broker: Broker,
    pattern: Pattern,
    publishers: usize,
    subscribers: usize,
    habit: Habit,
    warm: Duration,
    measure: Duration,
}

/// Clients 0 to `subscribers` listen, those behind them publish.
struct Flow {
    subscribers: usize,
    is_pair: bool,
    habit: Habit,
    publishers: Vec<Publisher>,
    hungry: Vec<usize>,
    census: Census,
    greeted: usize,
    subscribed: usize,
    refused: u64,
    foreign: u64,
    delivered: u64,
}

/// Makes one run.
pub fn run(arguments: Arguments) -> Outcome<Report> {
    let plan = Plan::new(arguments)?;
    let mut clients = Clients::new(plan.port)?;
    let mut flow = plan.flow()?;
    plan.set_up(&mut clients, &mut flow)?;
    flow.hungry.extend(0..plan.publishers);
    flow.pump(&mut clients, plan.warm)?;
    let (before, delivered) = (plan.broker.read()?, flow.delivered);
    flow.pump(&mut clients, plan.measure)?;
    let span = plan.broker.read()?.since(before);
    let measured = flow.delivered - delivered;
    flow.drain(&mut clients)?;
    Ok(flow.report(&clients, &span, measured))
}

impl Plan {
    fn new(mut arguments: Arguments) -> Outcome<Plan> {
        let pattern = match arguments.take_text("pattern", "pair").as_str() {
            "pair" => Pattern::Pair,
            "fanout" => Pattern::Fanout,
            "fanin" => Pattern::Fanin,
            other => return Err(format!("--pattern: found {other:?}, allowed is pair, fanout, fanin").into()),
        };
        let publishers = arguments.take("publishers", 50, 1..=10_000)?;
        let subscribers = match pattern {
            Pattern::Pair => publishers,
            _ => arguments.take("subscribers", 50, 1..=10_000)?,
        };
        let qos = match arguments.take("qos", 0, 0..=1)? {
            0 => QoS::AtMostOnce,
            _ => QoS::AtLeastOnce,
        };
        let plan = Plan {
            port: arguments.take("port", 1883, 1..=u16::MAX)?,
            broker: Broker::new(arguments.take("broker-pid", 0, 1..=u32::MAX)?),
            pattern,
            publishers,
            subscribers,
            habit: Habit {
                run: std::process::id(),
                qos,
                payload_bytes: arguments.take("payload", 64, HEADER_BYTES..=65_536)?,
                window: arguments.take("window", 64, 1..=32_768)?,
                receivers: if pattern == Pattern::Pair { 1 } else { subscribers as u32 },
            },
            warm: Duration::from_secs_f64(arguments.take("warm", 0.7, 0.0..=60.0)?),
            measure: Duration::from_secs_f64(arguments.take("measure", 2.0, 0.01..=3600.0)?),
        };
        arguments.finish()?;
        Ok(plan)
    }

    fn flow(&self) -> Outcome<Flow> {
        let is_pair = self.pattern == Pattern::Pair;
        let publishers = (0..self.publishers)
            .map(|number| Publisher::new(self.habit, number as u32, &self.topic(number)))
            .collect::<Outcome<Vec<Publisher>>>()?;
        Ok(Flow {
            subscribers: self.subscribers,
            is_pair,
            habit: self.habit,
            publishers,
            hungry: Vec::new(),
            census: Census::new(self.subscribers, self.publishers),
            greeted: 0,
            subscribed: 0,
            refused: 0,
            foreign: 0,
            delivered: 0,
        })
    }

    fn topic(&self, publisher: usize) -> String {
        match self.pattern {
            Pattern::Fanout => format!("load/{}/all", self.habit.run),
            _ => format!("load/{}/{publisher}", self.habit.run),
        }
    }

    fn filter(&self, subscriber: usize) -> String {
        match self.pattern {
            Pattern::Fanin => format!("load/{}/+", self.habit.run),
            _ => self.topic(subscriber),
        }
    }

    fn set_up(&self, clients: &mut Clients, flow: &mut Flow) -> Outcome<()> {
        for number in 0..self.subscribers + self.publishers {
            clients.open(&format!("load-{}-{number}", self.habit.run))?;
            if !clients.run_until(flow, SETUP_MAX, |flow, _| flow.greeted > number)? {
                return Err(format!("client {number} got no CONNACK that lets it in").into());
            }
        }
        for subscriber in 0..self.subscribers {
            clients.subscribe(subscriber, &self.filter(subscriber), self.habit.qos)?;
        }
        match clients.run_until(flow, SETUP_MAX, |flow, _| flow.subscribed == flow.subscribers)? {
            true => Ok(()),
            false => Err(format!("{} of {} subscriptions granted", flow.subscribed, self.subscribers).into()),
        }
    }
}

impl Flow {
    /// Keeps every window full for so long.
    fn pump(&mut self, clients: &mut Clients, span: Duration) -> Outcome<()> {
        let deadline = Instant::now() + span;
        while Instant::now() < deadline {
            self.feed(clients);
            clients.flush()?;
            clients.receive(self)?;
        }
        Ok(())
    }

    fn feed(&mut self, clients: &mut Clients) {
        for number in self.hungry.drain(..) {
            self.publishers[number].fill(clients.outbox(self.subscribers + number));
        }
    }

    /// Sends nothing new and waits for what is under way, as long as something comes.
    fn drain(&mut self, clients: &mut Clients) -> Outcome<()> {
        loop {
            let progress = self.progress();
            if clients.run_until(self, SILENCE_MAX, |flow, _| flow.is_complete())? || self.progress() == progress {
                return Ok(());
            }
        }
    }

    fn progress(&self) -> (u64, u64) {
        (self.delivered, self.acknowledged())
    }

    fn is_complete(&self) -> bool {
        self.delivered >= self.expected() && self.unacknowledged() == 0
    }

    fn sent(&self) -> u64 {
        self.publishers.iter().map(|publisher| publisher.sent).sum()
    }

    fn expected(&self) -> u64 {
        self.sent() * u64::from(self.habit.receivers)
    }

    fn acknowledged(&self) -> u64 {
        self.publishers.iter().map(|publisher| publisher.acknowledged).sum()
    }

    fn unacknowledged(&self) -> u64 {
        if self.habit.qos == QoS::AtMostOnce { 0 } else { self.sent().saturating_sub(self.acknowledged()) }
    }

    fn on_message(&mut self, subscriber: usize, payload: &[u8]) {
        let known = read_header(payload).filter(|(run, publisher, sequence)| {
            *run == self.habit.run
                && (!self.is_pair || *publisher == subscriber)
                && self.publishers.get(*publisher).is_some_and(|publisher| *sequence < publisher.sent)
        });
        let Some((_, number, sequence)) = known else {
            self.foreign += 1;
            return;
        };
        if self.census.note(subscriber, number, sequence) == Delivery::Again {
            return;
        }
        self.delivered += 1;
        let publisher = &mut self.publishers[number];
        let was_full = !publisher.has_room();
        publisher.delivered(sequence);
        if was_full && publisher.has_room() {
            self.hungry.push(number);
        }
    }

    fn report(&self, clients: &Clients, span: &Span, measured: u64) -> Report {
        let mut report = Report::default();
        let messages = measured as f64;
        report.put("seconds", span.seconds);
        report.count("delivered", measured);
        report.put("delivered_per_s", messages / span.seconds);
        report.put("cpu_us_per_message", span.broker_cpu_s * 1e6 / messages);
        report.put("load_us_per_message", span.own_cpu_s * 1e6 / messages);
        report.count("lost", self.expected().saturating_sub(self.delivered));
        report.count("duplicated", self.census.duplicated);
        report.count("out_of_order", self.census.out_of_order);
        report.count("foreign", self.foreign);
        report.count("refused", self.refused);
        report.count("unacknowledged", self.unacknowledged());
        report.count("closed_by_broker", clients.closed as u64);
        report
    }
}

impl Player for Flow {
    fn on_packet(&mut self, clients: &mut Clients, client: usize, packet: Packet<'_>) -> Outcome<()> {
        match packet {
            Packet::Publish(publish) => {
                self.on_message(client, publish.payload);
                if publish.qos == QoS::AtLeastOnce {
                    let answer = Ack::new(publish.packet_id, ReasonCode::SUCCESS);
                    ack(clients.outbox(client), Version::V311, 0x40, &answer);
                }
            }
            Packet::PubAck(_) if client >= self.subscribers => {
                self.publishers[client - self.subscribers].acknowledged += 1;
            }
            Packet::ConnAck(answer) => self.greeted += usize::from(answer.reason == ReasonCode::SUCCESS),
            Packet::SubAck(answer) if answer.reasons.iter().all(|reason| reason.0 < 0x80) => self.subscribed += 1,
            _ => self.refused += 1,
        }
        Ok(())
    }
}
