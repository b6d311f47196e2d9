//! One client that publishes a known number of messages, each on its own topic if need be, until the broker has them all.
//!
//! Knows the window (unacknowledged messages; at QoS 0 unsent bytes) and that a PING behind the last message is answered
//! when all before it was taken in. Must not know what becomes of the messages.

use std::time::Duration;

use whimbrel_protocol::packet::Ack;
use whimbrel_protocol::{Packet, QoS};

use crate::clients::{Clients, Player};
use crate::failure::Outcome;
use crate::histogram::Histogram;
use crate::live::{Cadence, Live, Snapshot};
use crate::options::{FillOptions, Options};
use crate::publisher::{Habit, Publisher};
use crate::report::{Meter, Report};

/// Unsent bytes, beyond which the broker is the slow one.
const OUTBOX_MAX_BYTES: usize = 1 << 20;

/// Before memory is read: late frees and the broker's own housekeeping are over.
pub const SETTLE: Duration = Duration::from_millis(500);

/// What is to be published.
#[derive(Clone, Copy)]
pub struct Load<'a> {
    /// The whole run.
    pub options: &'a Options,
    /// How much, and how.
    pub plan: &'a FillOptions,
    /// How many messages.
    pub count: u64,
    /// Whether the broker keeps it.
    pub retain: bool,
    /// Of each message.
    pub payload_bytes: usize,
    /// Where each message goes.
    pub topic: &'a dyn Fn(u64) -> String,
}

/// How that went.
pub struct Supply<'a> {
    load: Load<'a>,
    live: &'a Live,
    client: usize,
    publisher: Publisher,
    pongs: u64,
    cadence: Cadence,
    /// Messages that the broker took: acknowledged, or at QoS 0 written.
    pub taken: u64,
    /// Packets that the broker answered with an error.
    pub refused: u64,
    /// Until the acknowledgement.
    pub latency: Histogram,
}

impl<'a> Supply<'a> {
    /// Nothing was published yet.
    pub fn new(load: Load<'a>, client: usize, live: &'a Live) -> Outcome<Supply<'a>> {
        let habit = Habit {
            run: load.options.run,
            version: load.options.version,
            qos: load.plan.qos,
            retain: load.retain,
            payload_bytes: load.payload_bytes,
            window: load.plan.window as u64,
            receivers: 0,
            is_open_loop: false,
        };
        let publisher = Publisher::new(habit, 0, &(load.topic)(0), load.count)?;
        let latency = Histogram::new();
        Ok(Supply {
            load,
            live,
            client,
            publisher,
            pongs: 0,
            cadence: Cadence::default(),
            taken: 0,
            refused: 0,
            latency,
        })
    }

    /// Publishes everything, and waits until the broker has it; as long as something moves and nobody stops it.
    pub fn run(&mut self, clients: &mut Clients) -> Outcome<()> {
        self.publisher.agree(clients.receive_max(self.client), 1);
        let (live, client, patience) = (self.live, self.client, self.load.options.patience);
        while self.has_work() && !live.is_stopping() && clients.is_open(client) {
            self.fill(clients)?;
            let can_go_on = |supply: &Supply<'_>, clients: &Clients| {
                supply.is_ready(clients) || live.is_stopping() || !clients.is_open(client)
            };
            if !clients.run_until(self, patience, can_go_on)? {
                break;
            }
            self.tell(clients);
        }
        self.settle(clients, patience)
    }

    /// Does that and reports what it cost: `done` says what became of a message, and of how many copies of it.
    pub fn measure(&mut self, clients: &mut Clients, meter: &mut Meter, (done, copies): (&str, u64)) -> Outcome<()> {
        let (before, rss_bytes) = (meter.broker.read()?, meter.broker.rss_bytes()?);
        self.run(clients)?;
        let span = meter.broker.read()?.since(before);
        let count = self.taken * copies;
        meter.report.cost(done, count, &span);
        meter.report.percentiles("latency", &self.latency);
        if meter.broker.is_visible() {
            let live = self.live;
            clients.run_until(self, SETTLE, |_, _| live.is_stopping())?;
            meter.report.put(format!("rss_bytes_per_{done}"), (meter.broker.rss_bytes()? - rss_bytes) / count as f64);
        }
        Ok(())
    }

    /// Adds what went wrong; `refused`: what others were refused.
    pub fn report_faults(&self, report: &mut Report, refused: u64) {
        report.count("refused", self.refused + refused);
        report.count("unacknowledged", self.unacknowledged());
    }

    fn has_work(&self) -> bool {
        self.publisher.sent < self.load.count
    }

    fn is_ready(&self, clients: &Clients) -> bool {
        !self.has_work() || (self.publisher.may_send() && clients.is_idle(self.client))
    }

    fn fill(&mut self, clients: &mut Clients) -> Outcome<()> {
        let now_ns = clients.look();
        let outbox = clients.outbox(self.client);
        while self.publisher.may_send() && outbox.len() < OUTBOX_MAX_BYTES {
            self.publisher.turn_to(&(self.load.topic)(self.publisher.sent))?;
            self.publisher.append(outbox, now_ns);
        }
        Ok(())
    }

    fn settle(&mut self, clients: &mut Clients, patience: Duration) -> Outcome<()> {
        clients.send(self.client, &Packet::PingReq);
        let live = self.live;
        loop {
            let before = self.taken;
            let is_done = |supply: &Supply<'_>, _: &Clients| {
                (supply.pongs > 0 && supply.unacknowledged() == 0) || live.is_abandoned()
            };
            let is_complete = clients.run_until(self, patience, is_done)?;
            if is_complete || self.taken == before {
                break;
            }
        }
        if self.load.plan.qos == QoS::AtMostOnce {
            self.taken = self.publisher.sent;
        }
        Ok(())
    }

    /// Messages that were written.
    pub fn sent(&self) -> u64 {
        self.publisher.sent
    }

    /// Messages that the broker has not answered.
    pub fn unacknowledged(&self) -> u64 {
        if self.load.plan.qos == QoS::AtMostOnce { 0 } else { self.publisher.sent - self.taken - self.refused }
    }

    fn on_answer(&mut self, clients: &mut Clients, answer: &Ack<'_>) {
        let Some((_, since_ns)) = self.publisher.on_answer(answer.packet_id) else {
            return;
        };
        if answer.reason.is_error() {
            self.refused += 1;
            clients.refused(answer.reason);
            return;
        }
        self.taken += 1;
        self.latency.record(clients.now_ns().saturating_sub(since_ns));
    }

    fn tell(&mut self, clients: &Clients) {
        if !self.cadence.is_due(clients.now_ns()) {
            return;
        }
        self.live.tell(&Snapshot {
            connected: clients.greeted as u64,
            sent: self.publisher.sent,
            acknowledged: self.taken,
            delivered: 0,
            p50_ns: self.latency.quantile_ns(0.5).unwrap_or(0),
            p99_ns: self.latency.quantile_ns(0.99).unwrap_or(0),
        });
    }
}

impl Player for Supply<'_> {
    fn on_packet(&mut self, clients: &mut Clients, client: usize, packet: Packet<'_>) -> Outcome<()> {
        match packet {
            Packet::PubAck(answer) | Packet::PubComp(answer) => self.on_answer(clients, &answer),
            Packet::PubRec(answer) if answer.reason.is_error() => self.on_answer(clients, &answer),
            Packet::PubRec(answer) => clients.answer(client, 0x62, answer.packet_id),
            Packet::PingResp => self.pongs += 1,
            _ => self.refused += 1,
        }
        Ok(())
    }
}
