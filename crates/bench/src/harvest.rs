//! Receivers of a known number of messages: how many came, how often again, and when the last one did.
//!
//! Knows the payload's header and who of the clients listens. Must not know how the messages were published.

use whimbrel_protocol::{Packet, QoS, ReasonCode};

use crate::clients::{Clients, Player};
use crate::failure::Outcome;
use crate::live::{Cadence, Live, Phase, Snapshot};
use crate::options::{FillOptions, Options};
use crate::publisher::read_header;
use crate::report::{Meter, Report};
use crate::tally::Tally;

/// Clients from `first` on, each of whom should get every message once.
pub struct Harvest<'a> {
    options: &'a Options,
    live: &'a Live,
    first: usize,
    tallies: Vec<Tally>,
    messages: u64,
    /// Of the messages that came, repeats not counted.
    arrived: u64,
    came_ns: u64,
    cadence: Cadence,
    subscribed: usize,
    /// Messages that are not of this run.
    pub foreign: u64,
    /// Packets that the broker answered with an error.
    pub refused: u64,
}

impl<'a> Harvest<'a> {
    /// Nothing has come yet; `first` is the first receiver.
    pub fn new(options: &'a Options, plan: &FillOptions, live: &'a Live, first: usize) -> Harvest<'a> {
        Harvest {
            options,
            live,
            first,
            tallies: (0..plan.receivers).map(|_| Tally::new(plan.messages)).collect(),
            messages: plan.messages,
            arrived: 0,
            came_ns: 0,
            cadence: Cadence::default(),
            subscribed: 0,
            foreign: 0,
            refused: 0,
        }
    }

    /// How many listen.
    pub fn receivers(&self) -> usize {
        self.tallies.len()
    }

    /// Every receiver asks for a subscription; an error where one is not granted.
    pub fn subscribe(&mut self, clients: &mut Clients, filter: &str, qos: QoS) -> Outcome<()> {
        let wanted = self.tallies.len();
        for receiver in 0..wanted {
            clients.subscribe(self.first + receiver, &[filter], qos, 1)?;
        }
        let live = self.live;
        clients.run_until(self, self.options.patience, |harvest, _| {
            harvest.subscribed == wanted || harvest.refused > 0 || live.is_stopping()
        })?;
        if self.subscribed == wanted || live.is_stopping() {
            return Ok(());
        }
        let why = clients.first_refusal.as_deref().unwrap_or("it did not answer");
        Err(format!("the broker granted {} of {wanted} subscriptions, then: {why}", self.subscribed).into())
    }

    /// Asks for the messages, waits until `expected` of them came, and reports what that cost: `done` says what became of
    /// a message. The time ends with the last that came.
    pub fn measure(
        &mut self,
        clients: &mut Clients,
        meter: &mut Meter,
        (done, expected): (&str, u64),
        ask: impl FnOnce(&mut Harvest<'a>, &mut Clients) -> Outcome<()>,
    ) -> Outcome<()> {
        let before = meter.broker.read()?;
        let start_ns = clients.look();
        self.came_ns = start_ns + 1;
        ask(self, clients)?;
        self.gather(clients, expected)?;
        let mut span = meter.broker.read()?.since(before);
        span.seconds = (self.came_ns - start_ns) as f64 / 1e9;
        meter.report.cost(done, self.arrived, &span);
        let range = self.first..clients.count().min(self.first + self.receivers());
        let who = (self.options, self.live);
        clients.hear_out(self, range, who)
    }

    /// As long as something comes.
    fn gather(&mut self, clients: &mut Clients, expected: u64) -> Outcome<()> {
        self.live.enter(Phase::Draining);
        let live = self.live;
        loop {
            let before = self.arrived;
            let is_done = |harvest: &Harvest<'_>, clients: &Clients| {
                harvest.is_complete(clients, expected) || live.is_abandoned()
            };
            let is_complete = clients.run_until(self, self.options.patience, is_done)?;
            if is_complete || self.arrived == before {
                return Ok(());
            }
        }
    }

    fn is_complete(&self, clients: &Clients, expected: u64) -> bool {
        self.arrived >= expected && clients.is_flushed()
    }

    /// Adds what went wrong.
    pub fn report_faults(&self, report: &mut Report, expected: u64) {
        report.count("lost", expected.saturating_sub(self.arrived));
        report.count("duplicated", self.tallies.iter().map(|tally| tally.duplicated).sum());
        report.count("foreign", self.foreign);
    }

    /// Adds how many came late, where the topic promises an order.
    pub fn report_order(&self, report: &mut Report) {
        report.count("out_of_order", self.tallies.iter().map(|tally| tally.out_of_order).sum());
    }

    #[inline]
    fn on_message(&mut self, client: usize, payload: &[u8], now_ns: u64) {
        let known =
            read_header(payload).filter(|(run, _, sequence)| *run == self.options.run && *sequence < self.messages);
        let tally = client.checked_sub(self.first).and_then(|receiver| self.tallies.get_mut(receiver));
        let (Some((_, _, sequence)), Some(tally)) = (known, tally) else {
            self.foreign += 1;
            return;
        };
        let arrived = tally.arrived;
        tally.note(sequence);
        self.arrived += tally.arrived - arrived;
        self.came_ns = now_ns;
    }

    fn on_suback(&mut self, clients: &mut Clients, reasons: &[ReasonCode]) {
        match reasons.iter().find(|reason| reason.is_error()) {
            None => self.subscribed += 1,
            Some(reason) => {
                self.refused += 1;
                clients.refused(*reason);
            }
        }
    }

    fn tell(&mut self, clients: &Clients) {
        if !self.cadence.is_due(clients.now_ns()) {
            return;
        }
        self.live.tell(&Snapshot {
            connected: clients.greeted as u64,
            sent: self.messages,
            delivered: self.arrived,
            ..Snapshot::default()
        });
    }
}

impl Player for Harvest<'_> {
    #[inline]
    fn on_packet(&mut self, clients: &mut Clients, client: usize, packet: Packet<'_>) -> Outcome<()> {
        match packet {
            Packet::Publish(publish) => {
                self.on_message(client, publish.payload, clients.now_ns());
                clients.accept(client, &publish);
                self.tell(clients);
            }
            Packet::PubRel(answer) => clients.answer(client, 0x70, answer.packet_id),
            Packet::SubAck(answer) => self.on_suback(clients, &answer.reasons),
            Packet::ConnAck(_) | Packet::PingResp => {}
            _ => self.refused += 1,
        }
        Ok(())
    }
}
