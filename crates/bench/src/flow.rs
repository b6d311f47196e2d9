//! Messages from publishers to subscribers: how long each takes, whether all arrive once and in order, what they cost.
//!
//! Knows who publishes where and who listens (`Pair`: i to i; `Fanout`: all on one topic, all subscribers; `Fanin`: a
//! topic for each publisher, a wildcard for each subscriber; `Share`: the
//! same, but the subscribers are a group; `Publish`: nobody). Connects, subscribes, warms up, measures,
//! then drains. A latency runs from when the message was due (open loop) or written (closed loop), and counts where that
//! moment lies in the measurement, however late the message arrives: what is slow cannot hide by delaying what follows.

use std::time::Duration;

use whimbrel_protocol::packet::{Ack, SubAck};
use whimbrel_protocol::{Packet, QoS, ReasonCode};

use crate::broker::{Broker, Span};
use crate::census::{Census, Delivery};
use crate::clients::{Clients, Player, Stay};
use crate::failure::Outcome;
use crate::group::Group;
use crate::histogram::Histogram;
use crate::live::{Cadence, Live, Phase, Snapshot};
use crate::options::{FlowOptions, Options, Pattern};
use crate::publisher::{Habit, Publisher, read_header};
use crate::report::Report;
use crate::schedule::Schedule;
use crate::stays;

/// For all SUBACKs.
const SUBSCRIBE_MAX: Duration = Duration::from_secs(30);
/// Unsent bytes of a publisher, beyond which the broker is the slow one.
const OUTBOX_MAX_BYTES: usize = 1 << 20;

/// Clients 0 to `subscribers` listen, those behind them publish.
struct Flow<'a> {
    options: &'a Options,
    plan: &'a FlowOptions,
    live: &'a Live,
    publishers: Vec<Publisher>,
    hungry: Vec<usize>,
    schedule: Option<Schedule>,
    outbox_max_bytes: usize,
    books: Books,
    latency: Histogram,
    /// Until the broker's acknowledgement, where the latency runs on until the delivery.
    ack: Histogram,
    lag: Histogram,
    /// The measurement, on the run's clock.
    measured_ns: std::ops::Range<u64>,
    moved_ns: u64,
    stalled_ns: u64,
    stalls: u64,
    stalls_in_a_row: u64,
    cadence: Cadence,
}

/// What happened, over the whole run.
struct Books {
    census: Census,
    /// Instead of the census, where the subscribers are a group.
    group: Option<Group>,
    subscribed: usize,
    sent: u64,
    acknowledged: u64,
    delivered: u64,
    /// Messages that the broker did not take; nobody expects them.
    rejected: u64,
    refused: u64,
    foreign: u64,
}

/// What the measurement saw.
struct Measured {
    span: Span,
    sent: u64,
    acknowledged: u64,
    delivered: u64,
}

/// Makes one run.
pub fn run(options: &Options, plan: &FlowOptions, live: &Live) -> Outcome<Report> {
    let broker = Broker::new(options.broker_pid);
    let mut clients = Clients::new(options, plan.payload_bytes)?;
    let mut flow = Flow::new(options, plan, live)?;
    flow.set_up(&mut clients)?;
    flow.begin(&mut clients);
    if plan.count.is_none() {
        live.enter(Phase::Warming);
        flow.pump(&mut clients, plan.warm)?;
    }
    live.enter(Phase::Measuring);
    let measured = flow.measure(&mut clients, &broker)?;
    let subscribers = 0..plan.subscribers.min(clients.count());
    clients.hear_out(&mut flow, subscribers.clone(), (options, live))?;
    let report = flow.report(&clients, &measured);
    flow.clear_retained(&mut clients)?;
    if plan.lasting {
        stays::forget(&mut clients, subscribers, (options, live))?;
    }
    clients.leave()?;
    Ok(report)
}

impl<'a> Flow<'a> {
    fn new(options: &'a Options, plan: &'a FlowOptions, live: &'a Live) -> Outcome<Flow<'a>> {
        let habit = Habit {
            run: options.run,
            version: options.version,
            qos: plan.qos,
            retain: plan.retain,
            payload_bytes: plan.payload_bytes,
            window: plan.window as u64,
            receivers: plan.receivers(),
            is_open_loop: plan.rate > 0.0,
        };
        let publishers = (0..plan.publishers)
            .map(|number| Publisher::new(habit, number as u32, &topic(options, plan, number), share(plan, number)))
            .collect::<Outcome<Vec<Publisher>>>()?;
        let window_bytes = plan.window * (plan.payload_bytes + 32);
        Ok(Flow {
            options,
            plan,
            live,
            publishers,
            hungry: Vec::new(),
            schedule: None,
            outbox_max_bytes: window_bytes.min(OUTBOX_MAX_BYTES),
            books: Books::new(plan),
            latency: Histogram::new(),
            ack: Histogram::new(),
            lag: Histogram::new(),
            measured_ns: u64::MAX..u64::MAX,
            moved_ns: 0,
            stalled_ns: 0,
            stalls: 0,
            stalls_in_a_row: 0,
            cadence: Cadence::default(),
        })
    }

    fn set_up(&mut self, clients: &mut Clients) -> Outcome<()> {
        let all = self.plan.subscribers + self.plan.publishers;
        let (stay, who) = (if self.plan.lasting { Stay::Lasting } else { Stay::Passing }, (self.options, self.live));
        if !clients.admit(self.plan.subscribers, stay, who)? || !clients.admit(all, Stay::Passing, who)? {
            return Ok(());
        }
        for subscriber in 0..self.plan.subscribers {
            let filter = filter(self.options, self.plan, subscriber);
            clients.subscribe(subscriber, &[&filter], self.plan.qos, 1)?;
        }
        let (live, wanted) = (self.live, self.plan.subscribers);
        clients.run_until(self, SUBSCRIBE_MAX, |flow, _| {
            flow.books.subscribed == wanted || flow.books.refused > 0 || live.is_stopping()
        })?;
        if self.books.subscribed == wanted || live.is_stopping() {
            return Ok(());
        }
        let why = clients.first_refusal.as_deref().unwrap_or("it did not answer");
        Err(format!("the broker granted {} of {wanted} subscriptions, then: {why}", self.books.subscribed).into())
    }

    /// From now on messages may go.
    fn begin(&mut self, clients: &mut Clients) {
        let now_ns = clients.look();
        self.moved_ns = now_ns;
        if self.plan.rate > 0.0 {
            let limit = self.plan.count.unwrap_or(u64::MAX);
            self.schedule = Some(Schedule::new(now_ns, self.plan.rate, self.plan.publishers, limit));
        }
        for (number, publisher) in self.publishers.iter_mut().enumerate() {
            if self.plan.subscribers + number < clients.count() {
                publisher.agree(clients.receive_max(self.plan.subscribers + number), self.plan.publishers);
                publisher.is_hungry = true;
                self.hungry.push(number);
            }
        }
    }

    fn measure(&mut self, clients: &mut Clients, broker: &Broker) -> Outcome<Measured> {
        let (before, start_ns) = (broker.read()?, clients.look());
        let (sent, acknowledged, delivered) = (self.books.sent, self.books.acknowledged, self.books.delivered);
        self.measured_ns = start_ns..u64::MAX;
        let time = if self.plan.count.is_none() { self.plan.measure } else { Duration::from_secs(u64::MAX >> 32) };
        self.pump(clients, time)?;
        self.measured_ns.end = clients.look();
        if self.plan.count.is_some() {
            self.drain(clients)?;
        }
        let mut measured = Measured {
            span: broker.read()?.since(before),
            sent: self.books.sent - sent,
            acknowledged: self.books.acknowledged - acknowledged,
            delivered: self.books.delivered - delivered,
        };
        if self.plan.count.is_some() {
            // The patience with what never came is not the broker's time.
            measured.span.seconds = (self.moved_ns.max(start_ns + 1) - start_ns) as f64 / 1e9;
        } else {
            self.drain(clients)?;
        }
        Ok(measured)
    }

    /// Sends whatever may be sent, for so long; less where nothing is left to send or somebody asked to stop.
    fn pump(&mut self, clients: &mut Clients, span: Duration) -> Outcome<()> {
        let deadline_ns = clients.look().saturating_add(span.as_nanos() as u64);
        while clients.now_ns() < deadline_ns && !self.is_over(clients) {
            self.fall_due(clients.now_ns());
            self.feed(clients);
            clients.flush()?;
            let wait_ns = self.wait_ns(clients, deadline_ns);
            clients.receive(self, Duration::from_nanos(wait_ns))?;
            clients.look();
            self.relieve(clients.now_ns());
            self.tell(clients);
        }
        Ok(())
    }

    fn is_over(&self, clients: &Clients) -> bool {
        let is_stuck = self.plan.count.is_some() && self.stalls_in_a_row > 1;
        self.plan.count == Some(self.books.sent)
            || is_stuck
            || self.live.is_stopping()
            || clients.closed == clients.count()
    }

    fn fall_due(&mut self, now_ns: u64) {
        let Some(schedule) = &mut self.schedule else {
            return;
        };
        while let Some(number) = schedule.take_due(now_ns) {
            let publisher = &mut self.publishers[number];
            publisher.owe();
            if !publisher.is_hungry {
                publisher.is_hungry = true;
                self.hungry.push(number);
            }
        }
    }

    fn feed(&mut self, clients: &mut Clients) {
        let mut hungry = std::mem::take(&mut self.hungry);
        hungry.retain(|number| self.fill(clients, *number));
        self.hungry = hungry;
    }

    /// Writes what one publisher may send; whether it could send more if its outbox were empty.
    fn fill(&mut self, clients: &mut Clients, number: usize) -> bool {
        let client = self.plan.subscribers + number;
        let publisher = &mut self.publishers[number];
        if !clients.is_open(client) {
            publisher.end();
        }
        let now_ns = clients.now_ns();
        let outbox = clients.outbox(client);
        let sent = publisher.sent;
        while publisher.may_send() && outbox.len() < self.outbox_max_bytes {
            let mut since_ns = now_ns;
            if let Some(schedule) = &self.schedule {
                since_ns = schedule.due_ns(number, publisher.sent);
                if self.measured_ns.contains(&since_ns) {
                    self.lag.record(now_ns.saturating_sub(since_ns));
                }
            }
            publisher.append(outbox, since_ns);
        }
        if publisher.sent > sent {
            self.books.sent += publisher.sent - sent;
            self.moved_ns = now_ns;
        }
        publisher.is_hungry = publisher.may_send();
        publisher.is_hungry
    }

    fn wait_ns(&self, clients: &Clients, deadline_ns: u64) -> u64 {
        let idle = |number: &usize| clients.is_idle(self.plan.subscribers + number);
        if self.hungry.iter().any(idle) {
            return 0;
        }
        let due_ns = self.schedule.as_ref().and_then(Schedule::next_ns).unwrap_or(u64::MAX);
        // The turn was long perhaps; a wait that is too short only costs a turn.
        due_ns.min(deadline_ns).saturating_sub(clients.now_ns())
    }

    /// Where nothing has moved for too long, what is under way is lost, or a closed loop would stand still for ever. An
    /// open loop between two messages rests, it does not stall.
    fn relieve(&mut self, now_ns: u64) {
        let has_work = self.schedule.as_ref().is_none_or(|schedule| schedule.next_ns().is_none());
        if !has_work || now_ns.saturating_sub(self.moved_ns.max(self.stalled_ns)) < self.patience_ns() {
            return;
        }
        self.stalls_in_a_row = if self.moved_ns > self.stalled_ns { 1 } else { self.stalls_in_a_row + 1 };
        self.stalls += 1;
        self.stalled_ns = now_ns;
        if self.schedule.is_some() {
            return;
        }
        for number in 0..self.publishers.len() {
            self.publishers[number].give_up();
            self.nudge(number);
        }
    }

    fn patience_ns(&self) -> u64 {
        self.options.patience.as_nanos() as u64
    }

    /// Sends nothing new and waits for what is under way, as long as something comes.
    fn drain(&mut self, clients: &mut Clients) -> Outcome<()> {
        self.live.enter(Phase::Draining);
        let live = self.live;
        loop {
            let progress = self.progress();
            let is_done = |flow: &Flow<'_>, clients: &Clients| flow.is_complete(clients) || live.is_abandoned();
            let is_complete = clients.run_until(self, self.options.patience, is_done)?;
            self.tell(clients);
            if is_complete || self.progress() == progress {
                return Ok(());
            }
        }
    }

    fn progress(&self) -> (u64, u64) {
        (self.books.delivered, self.books.acknowledged)
    }

    fn is_complete(&self, clients: &Clients) -> bool {
        self.books.delivered >= self.expected() && self.unacknowledged() == 0 && clients.is_flushed()
    }

    fn expected(&self) -> u64 {
        (self.books.sent - self.books.rejected) * u64::from(self.plan.receivers())
    }

    fn unacknowledged(&self) -> u64 {
        let answered = self.books.acknowledged + self.books.rejected;
        if self.plan.qos == QoS::AtMostOnce { 0 } else { self.books.sent.saturating_sub(answered) }
    }

    /// A publisher that can send again stands in the list.
    #[inline]
    fn nudge(&mut self, number: usize) {
        let publisher = &mut self.publishers[number];
        if !publisher.is_hungry && publisher.wants() {
            publisher.is_hungry = true;
            self.hungry.push(number);
        }
    }

    #[inline]
    fn on_message(&mut self, subscriber: usize, payload: &[u8], now_ns: u64) {
        let is_pair = self.plan.pattern == Pattern::Pair;
        let known = read_header(payload).filter(|(run, publisher, sequence)| {
            *run == self.options.run
                && (!is_pair || *publisher == subscriber)
                && self.publishers.get(*publisher).is_some_and(|publisher| *sequence < publisher.sent)
        });
        let Some((_, number, sequence)) = known else {
            self.books.foreign += 1;
            return;
        };
        let delivery = match &mut self.books.group {
            Some(group) => group.note(subscriber, number, sequence),
            None if is_pair => self.books.census.note(number, sequence),
            None => self.books.census.note(subscriber * self.plan.publishers + number, sequence),
        };
        if delivery == Delivery::Again {
            return;
        }
        self.books.delivered += 1;
        self.moved_ns = now_ns;
        let publisher = &mut self.publishers[number];
        let since_ns = publisher.on_delivery(sequence);
        if let Delivery::First { gap } = delivery {
            // Messages keep their order, so what was passed over will not come; where it does, it is booked as late.
            for skipped in gap {
                publisher.on_delivery(skipped);
            }
        }
        let due_ns = self.schedule.as_ref().map(|schedule| schedule.due_ns(number, sequence));
        self.time(due_ns.or(since_ns), now_ns);
        self.nudge(number);
    }

    fn on_answer(&mut self, clients: &mut Clients, client: usize, answer: &Ack<'_>) {
        let Some(number) = client.checked_sub(self.plan.subscribers) else {
            return;
        };
        let publisher = &mut self.publishers[number];
        let Some((sequence, since_ns)) = publisher.on_answer(answer.packet_id) else {
            return;
        };
        self.moved_ns = clients.now_ns();
        if answer.reason.is_error() {
            publisher.give_up_one(sequence);
            self.books.rejected += 1;
            self.refuse(clients, answer.reason);
        } else {
            self.books.acknowledged += 1;
            if self.measured_ns.contains(&since_ns) {
                let is_all = self.plan.pattern == Pattern::Publish;
                let book = if is_all { &mut self.latency } else { &mut self.ack };
                book.record(clients.now_ns().saturating_sub(since_ns));
            }
        }
        self.nudge(number);
    }

    #[inline]
    fn time(&mut self, since_ns: Option<u64>, now_ns: u64) {
        if let Some(since_ns) = since_ns.filter(|since_ns| self.measured_ns.contains(since_ns)) {
            self.latency.record(now_ns.saturating_sub(since_ns));
        }
    }

    fn on_suback(&mut self, clients: &mut Clients, answer: &SubAck<'_>) {
        match answer.reasons.iter().find(|reason| reason.is_error()) {
            Some(reason) => self.refuse(clients, *reason),
            None => self.books.subscribed += 1,
        }
    }

    fn refuse(&mut self, clients: &mut Clients, reason: ReasonCode) {
        self.books.refused += 1;
        clients.refused(reason);
    }

    fn tell(&mut self, clients: &Clients) {
        if !self.cadence.is_due(clients.now_ns()) {
            return;
        }
        self.live.tell(&Snapshot {
            connected: clients.greeted as u64,
            sent: self.books.sent,
            acknowledged: self.books.acknowledged,
            delivered: self.books.delivered,
            p50_ns: self.latency.quantile_ns(0.5).unwrap_or(0),
            p99_ns: self.latency.quantile_ns(0.99).unwrap_or(0),
        });
    }

    /// Our topics keep no message.
    fn clear_retained(&mut self, clients: &mut Clients) -> Outcome<()> {
        if !self.plan.retain {
            return Ok(());
        }
        for number in 0..self.plan.publishers {
            let client = self.plan.subscribers + number;
            let topic = topic(self.options, self.plan, number);
            if client < clients.count() {
                clients.clear(client, &topic)?;
            }
        }
        clients.run_until(self, self.options.patience, |_, clients| clients.is_flushed())?;
        Ok(())
    }

    fn report(&self, clients: &Clients, measured: &Measured) -> Report {
        let span = &measured.span;
        let mut report = Report::new(name(self.plan.pattern));
        report.text("mqtt", Some(&crate::report::version_name(self.options.version).to_owned()));
        report.count("qos", self.plan.qos as u64);
        report.count("publishers", self.plan.publishers as u64);
        report.count("subscribers", self.plan.subscribers as u64);
        report.count("payload_bytes", self.plan.payload_bytes as u64);
        match self.plan.rate {
            0.0 => report.count("window", self.plan.window as u64),
            rate => report.put("rate_per_s", rate),
        }
        report.put("seconds", span.seconds);
        report.count("sent", measured.sent);
        report.put("sent_per_s", measured.sent as f64 / span.seconds);
        let messages = self.messages(measured, &mut report);
        report.put("cpu_us_per_message", span.broker_cpu_s * 1e6 / messages);
        report.put("load_us_per_message", span.own_cpu_s * 1e6 / messages);
        report.percentiles("latency", &self.latency);
        report.percentiles("ack", &self.ack);
        report.percentiles("lag", &self.lag);
        self.report_faults(clients, &mut report);
        report
    }

    /// Adds what counts in this pattern; returns how many messages the costs are divided by.
    fn messages(&self, measured: &Measured, report: &mut Report) -> f64 {
        if self.plan.qos != QoS::AtMostOnce {
            report.count("acknowledged", measured.acknowledged);
            report.put("acknowledged_per_s", measured.acknowledged as f64 / measured.span.seconds);
        }
        if self.plan.pattern != Pattern::Publish {
            report.count("delivered", measured.delivered);
            report.put("delivered_per_s", measured.delivered as f64 / measured.span.seconds);
            return measured.delivered as f64;
        }
        if self.plan.qos == QoS::AtMostOnce { measured.sent as f64 } else { measured.acknowledged as f64 }
    }

    fn report_faults(&self, clients: &Clients, report: &mut Report) {
        if self.plan.pattern != Pattern::Publish {
            report.count("expected_in_all", self.expected());
            report.count("delivered_in_all", self.books.delivered);
            report.count("lost", self.expected().saturating_sub(self.books.delivered));
            report.count("duplicated", self.books.duplicated());
            report.count("out_of_order", self.books.out_of_order());
            report.count("foreign", self.books.foreign);
        }
        if let Some(schedule) = &self.schedule {
            report.count("unsent", schedule.issued() - self.books.sent);
        }
        report.count("stalls", self.stalls);
        report.count("refused", self.books.refused);
        report.count("unacknowledged", self.unacknowledged());
        report.count("closed_by_broker", clients.closed as u64);
        report.text("first_refusal", clients.first_refusal.as_ref());
    }
}

impl Player for Flow<'_> {
    #[inline]
    fn on_packet(&mut self, clients: &mut Clients, client: usize, packet: Packet<'_>) -> Outcome<()> {
        match packet {
            Packet::Publish(publish) => {
                self.on_message(client, publish.payload, clients.now_ns());
                clients.accept(client, &publish);
            }
            Packet::PubAck(answer) | Packet::PubComp(answer) => self.on_answer(clients, client, &answer),
            Packet::PubRec(answer) if answer.reason.is_error() => self.on_answer(clients, client, &answer),
            Packet::PubRec(answer) => clients.answer(client, 0x62, answer.packet_id),
            Packet::PubRel(answer) => clients.answer(client, 0x70, answer.packet_id),
            Packet::SubAck(answer) => self.on_suback(clients, &answer),
            Packet::ConnAck(_) | Packet::PingResp => {}
            _ => self.books.refused += 1,
        }
        Ok(())
    }
}

impl Books {
    fn new(plan: &FlowOptions) -> Books {
        let is_group = plan.pattern == Pattern::Share;
        Books {
            census: Census::new(if is_group { 0 } else { plan.pairs() }),
            group: is_group.then(|| Group::new(plan.subscribers, plan.publishers)),
            subscribed: 0,
            sent: 0,
            acknowledged: 0,
            delivered: 0,
            rejected: 0,
            refused: 0,
            foreign: 0,
        }
    }

    fn duplicated(&self) -> u64 {
        self.group.as_ref().map_or(self.census.duplicated, |group| group.duplicated)
    }

    /// In a group: out of the order in which one member gets one publisher's messages.
    fn out_of_order(&self) -> u64 {
        self.group.as_ref().map_or(self.census.out_of_order, |group| group.out_of_order)
    }
}

fn name(pattern: Pattern) -> &'static str {
    match pattern {
        Pattern::Publish => "publish",
        Pattern::Pair => "flow pair",
        Pattern::Fanout => "flow fanout",
        Pattern::Fanin => "flow fanin",
        Pattern::Share => "flow share",
    }
}

/// How many messages of all this publisher sends.
fn share(plan: &FlowOptions, number: usize) -> u64 {
    let all = plan.publishers as u64;
    plan.count.map_or(u64::MAX, |count| count / all + u64::from((number as u64) < count % all))
}

fn topic(options: &Options, plan: &FlowOptions, publisher: usize) -> String {
    match plan.pattern {
        Pattern::Publish => {
            plan.topic.replace("{run}", &options.run.to_string()).replace("{client}", &publisher.to_string())
        }
        Pattern::Fanout => format!("whimbrel-bench/{}/all", options.run),
        Pattern::Pair | Pattern::Fanin | Pattern::Share => format!("whimbrel-bench/{}/{publisher}", options.run),
    }
}

fn filter(options: &Options, plan: &FlowOptions, subscriber: usize) -> String {
    match plan.pattern {
        Pattern::Fanin => format!("whimbrel-bench/{}/+", options.run),
        Pattern::Share => format!("$share/{0}/whimbrel-bench/{0}/+", options.run),
        _ => topic(options, plan, subscriber),
    }
}
