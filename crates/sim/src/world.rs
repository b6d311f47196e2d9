//! Broker, clients, operator and clock of one simulation, and what is checked after every step.
//!
//! Knows how to carry out one step. Does not choose it: a scenario does. The broker's notices and a tap on everything say in
//! which order it did what; [`crate::sessions`] and [`crate::books`] judge it.

use std::collections::BTreeMap;
use std::sync::Arc;

use whimbrel_protocol::message::{Origin, Publication};
use whimbrel_protocol::packet::{
    Connect, Disconnect, Packet, Publish, Subscribe, SubscriptionOptions, Unsubscribe, Will,
};
use whimbrel_protocol::properties::{Properties, Value, id, put_property};
use whimbrel_protocol::{Filter, Message, QoS, ReasonCode, Topic, Version};
use whimbrel_server::audit::Audit;
use whimbrel_server::simulation::{Beginning, EPOCH_MS, Plane};
use whimbrel_server::{Answer, Event, Interest, Options};
use whimbrel_storage::{Stepped, Store};

use crate::books::{Books, Draft, Fault, INSIDE, Record, number_of, payload};
use crate::line::{Goodbye, Line, Memory, Phase, Unsettled};
use crate::sessions::{Ended, Entry, Exit, Sessions, Span, Sub};
use crate::story::Story;
use crate::wire::Wire;

/// A question of the broker that nobody has answered.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    ticket: u64,
    line: usize,
    topics: Option<usize>, // None: about CONNECT
}

/// One client program.
#[derive(Default, Debug)]
pub struct Person {
    /// Survives its connections.
    pub memory: Memory,
    /// The connection that holds its session.
    pub current: Option<usize>,
    /// Whether it acknowledges late.
    pub is_lazy: bool,
    kicks: usize,
}

impl Person {
    /// It has no connection any more.
    pub(crate) fn leave(&mut self) {
        (self.current, self.kicks) = (None, 0);
    }
}

/// How to connect.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Number of the client.
    pub who: usize,
    /// Protocol level.
    pub version: Version,
    /// Clean start.
    pub clean_start: bool,
    /// Session Expiry Interval, MQTT 5 only; seconds.
    pub expiry_s: u32,
    /// Seconds.
    pub keep_alive_s: u16,
    /// Receive Maximum, MQTT 5 only.
    pub window: u16,
    /// Topic, QoS and delay in seconds (MQTT 5 only) of the will.
    pub will: Option<(&'static str, QoS, u32)>,
    /// Whether the sockets take little.
    pub is_narrow: bool,
    /// Who accepts.
    pub worker: usize,
}

/// Everything.
pub struct World {
    /// The broker.
    pub plane: Plane,
    /// What happened.
    pub story: Story,
    /// The clients.
    pub people: Vec<Person>,
    /// All connections so far.
    pub lines: Vec<Line>,
    /// What the broker must remember of the clients.
    pub sessions: Sessions,
    /// What became of the messages.
    pub books: Books,
    /// What the broker asked.
    pub questions: Vec<Question>,
    /// Steps so far.
    pub order: u64,
    pub(crate) options: Options,
    /// What survives a crash; None: nothing does.
    pub(crate) store: Option<Arc<Stepped>>,
    /// By topic, what was retained since the last crash: when, which message, the one from before the crash first.
    pub(crate) retained: BTreeMap<String, Vec<(Span, Option<usize>)>>,
    pub(crate) displaced: Option<usize>,
    pub(crate) routed: u64,
    pub(crate) tickets: BTreeMap<u64, usize>,
    pub(crate) ledger: Option<Box<Audit>>,
    /// Sessions that the last start found.
    pub(crate) restored: u64,
    /// Messages lost for a counted reason, and moved within their group, before the last crash.
    pub(crate) before: (u64, u64),
    /// When the store last took nothing; steps of the simulation.
    pub(crate) refused_order: Option<u64>,
    /// Whether somebody has set the wall clock.
    pub(crate) is_wall_set: bool,
    /// When the connections of the broker before were lost at the latest, as far as the store knows; milliseconds.
    pub(crate) lost_ms: u64,
    pub(crate) key: u64,
    pub(crate) interest: Interest,
    asks_entry: bool,
    pub(crate) tap: u32,
}

impl World {
    /// A broker and so many clients, none connected. `key` places the clients on workers.
    pub fn new(options: Options, key: u64, (people, interest): (usize, Interest)) -> Result<World, Fault> {
        World::over(options, key, (people, interest, None))
    }

    /// As `new`, over a store.
    pub fn over(
        options: Options,
        key: u64,
        (people, interest, store): (usize, Interest, Option<Arc<Stepped>>),
    ) -> Result<World, Fault> {
        let kept = store.clone().map(|store| store as Arc<dyn Store>);
        let plane = Plane::start(&options, key, Beginning { store: kept, ..Beginning::default() })
            .map_err(|error| format!("no descriptors: {error}"))?;
        let told = Interest(Interest::CONNECTED.0 | Interest::DISCONNECTED.0 | interest.0);
        let tap = look_on(&plane, told)?;
        Ok(World {
            plane,
            story: Story::default(),
            people: (0..people).map(|_| Person::default()).collect(),
            lines: Vec::new(),
            sessions: Sessions::default(),
            books: Books::default(),
            questions: Vec::new(),
            order: 0,
            options,
            store,
            retained: BTreeMap::new(),
            displaced: None,
            routed: 0,
            tickets: BTreeMap::new(),
            ledger: None,
            restored: 0,
            before: (0, 0),
            refused_order: None,
            is_wall_set: false,
            lost_ms: 0,
            key,
            interest: told,
            asks_entry: interest.0 & Interest::AUTHENTICATE.0 != 0,
            tap,
        })
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.plane.now_ms()
    }

    /// Adds a line to the story.
    pub fn tell(&mut self, line: std::fmt::Arguments<'_>) {
        self.story.tell(self.plane.now_ms(), line);
    }

    // --- what the broker does ---

    /// Gives a worker its turn; whether it took it.
    pub fn turn(&mut self, worker: usize) -> Result<bool, Fault> {
        let before = self.submitted();
        if !self.plane.turn(worker) {
            return Ok(false);
        }
        let is_unknown = self.is_refusing();
        self.sessions.span = if is_unknown { Span::UNKNOWN } else { Span { before, after: self.submitted() } };
        self.tell(format_args!("worker {worker} takes a turn"));
        for event in self.plane.broker().drain() {
            self.on_event(event)?;
        }
        if let Some(who) = self.displaced {
            return Err(format!("c{who} was displaced, but nobody took its place"));
        }
        self.sessions.check_turn()?;
        Ok(true)
    }

    fn on_event(&mut self, event: Event) -> Result<(), Fault> {
        match event {
            Event::Connected(notice) => self.on_connected(line_of(notice.username.as_deref())?, notice.session_present),
            Event::Disconnected(notice) => self.on_disconnected(line_of(notice.username.as_deref())?, notice.reason),
            Event::TapBatch { messages, dropped, .. } => {
                if dropped > 0 {
                    return Err(format!("the tap lost {dropped} messages"));
                }
                messages.iter().try_for_each(|message| self.on_routed(message))
            }
            Event::Authenticate(question) => {
                let line = line_of(question.username.as_deref())?;
                self.on_question(Question { ticket: question.ticket, line, topics: None });
                Ok(())
            }
            Event::Authorize(question) => {
                let (line, topics) = (line_of(question.username.as_deref())?, Some(question.topics.len()));
                self.on_question(Question { ticket: question.ticket, line, topics });
                Ok(())
            }
            Event::Audited { audit, .. } => {
                self.ledger = Some(audit);
                Ok(())
            }
            Event::Kicked { ticket, found } => self.on_kicked(ticket, found),
            Event::Published { ticket, .. } => {
                self.books.take(ticket as usize);
                Ok(())
            }
            Event::Refused { ticket, .. } if self.is_refusing() => {
                self.books.refuse(ticket as usize);
                Ok(())
            }
            Event::Refused { ticket, text } => Err(format!("message {ticket} was refused for no reason: {text}")),
            Event::Log { level, text } if level >= 40 => Err(format!("the broker logs: {text}")),
            _ => Ok(()),
        }
    }

    fn on_question(&mut self, question: Question) {
        let Question { line, .. } = question;
        let kind = if question.topics.is_some() { "may do something" } else { "may enter" };
        self.tell(format_args!("  the broker asks whether k{line} {kind}"));
        let until_ms = self.now_ms() + u64::from(self.options.question_deadline_ms);
        self.lines[line].asked_until_ms = Some(until_ms);
        self.lines[line].is_judged |= question.topics.is_some();
        self.questions.push(question);
    }

    fn on_connected(&mut self, line: usize, session_present: bool) -> Result<(), Fault> {
        let now_ms = self.now_ms();
        let entry = self.lines[line].entry;
        self.tell(format_args!("  k{line} enters as c{}, session present {session_present}", entry.who));
        if self.lines[line].phase != Phase::Opening {
            return Err(format!("k{line} entered twice"));
        }
        if !self.lines[line].is_admitted {
            return Err(format!("k{line} entered, and nobody had let it in"));
        }
        if self.displaced.take().is_some_and(|who| who != entry.who) {
            return Err(format!("k{line} entered where another client was displaced"));
        }
        let ended = self.sessions.enter(entry, session_present, now_ms)?;
        self.note_ended(ended);
        self.lines[line].phase = Phase::Entered(session_present);
        self.lines[line].since_ms = now_ms;
        self.note_life(entry, session_present);
        let is_postponed = self.is_refusing();
        self.sessions.of_mut(entry.who).into_iter().for_each(|session| session.is_postponed = is_postponed);
        let person = &mut self.people[entry.who];
        person.current = Some(line);
        if !session_present {
            person.memory.forget();
        }
        Ok(())
    }

    pub(crate) fn note_ended(&mut self, ended: Ended) {
        if ended.was_member {
            // Behind a crash messages of groups are their members' own, and end with them.
            let has_others = ended.is_exact && !self.books.has_crashed() && self.sessions.has_member(self.now_ms());
            self.books.lose_member(self.order, has_others);
        }
    }

    fn on_disconnected(&mut self, line: usize, word: &'static str) -> Result<(), Fault> {
        let now_ms = self.now_ms();
        self.tell(format_args!("  k{line} has left: {word}"));
        let Entry { who, .. } = self.lines[line].entry;
        self.check_end(line, word)?;
        let goodbye = self.lines[line].goodbye.filter(|_| word == "normal");
        let is_goodbye = goodbye.is_some_and(|goodbye| !goodbye.keeps_will);
        let expiry_s = goodbye.and_then(|goodbye| goodbye.expiry_s);
        let ended = self.sessions.exit(Exit { who, line, is_goodbye, expiry_s }, now_ms)?;
        self.note_ended(ended);
        let (has_open_questions, is_postponed) = (!self.lines[line].asked.is_empty(), self.is_refusing());
        if let Some(session) = self.sessions.of_mut(who) {
            session.is_unsure |= has_open_questions;
            session.is_postponed = is_postponed;
        }
        self.lines[line].phase = Phase::Gone(word);
        self.people[who].current = None;
        if matches!(word, "takeovered" | "discarded") {
            self.displaced = Some(who);
        }
        Ok(())
    }

    /// Whether there was a reason to end this connection.
    fn check_end(&self, line: usize, word: &'static str) -> Result<(), Fault> {
        let now_ms = self.now_ms();
        let Line { wire, goodbye, is_left_clean, keep_alive_s, since_ms, entry, .. } = &self.lines[line];
        let is_right = match word {
            "normal" => goodbye.is_some() && wire.is_sent(),
            // Who says goodbye, reads all that came and closes has done nothing that could be lost.
            "tcp_closed" => !wire.is_held() && !is_left_clean,
            "keepalive_timeout" => *keep_alive_s > 0 && now_ms >= since_ms + u64::from(*keep_alive_s) * 1500,
            "takeovered" | "discarded" => self.lines.iter().filter(|other| other.entry.who == entry.who).count() > 1,
            "kicked" => self.people[entry.who].kicks > 0,
            _ => false,
        };
        if is_right { Ok(()) } else { Err(format!("k{line} was ended for no reason: {word}")) }
    }

    fn on_kicked(&mut self, ticket: u64, found: bool) -> Result<(), Fault> {
        let who = self.tickets.remove(&ticket).ok_or("an answer to a kick that nobody asked for")?;
        let now_ms = self.now_ms();
        self.tell(format_args!("  c{who} is kicked, found {found}"));
        self.people[who].kicks -= 1;
        let held = self.sessions.of(who);
        if held.is_some_and(|session| session.line.is_some()) {
            return Err(format!("c{who} was kicked, but its connection holds the session"));
        }
        if !found && held.is_some_and(|session| session.expires_ms.is_some_and(|due_ms| now_ms < due_ms)) {
            return Err(format!("c{who} was not found by a kick, but has a session"));
        }
        let ended = self.sessions.end(who, now_ms);
        self.note_ended(ended);
        Ok(())
    }

    /// The tap saw a message: this is the moment at which it was routed.
    fn on_routed(&mut self, message: &Arc<Message>) -> Result<(), Fault> {
        self.routed += 1;
        let now_ms = self.now_ms();
        let topic = message.topic().as_str().to_owned();
        let Some(number) = number_of(message.payload()) else {
            self.tell(format_args!("  {topic} is cleared"));
            self.note_retained(&topic, None);
            return Ok(());
        };
        self.tell(format_args!("  message {number} for {topic} is routed"));
        self.books.route(number, now_ms)?;
        self.books.note_routing(number, self.sessions.span);
        let record = self.books.record(number).clone();
        let author = if record.author == INSIDE { String::new() } else { format!("c{}", record.author) };
        if (record.draft.topic, record.draft.qos, record.draft.retain) != (topic.as_str(), message.qos, message.retain)
        {
            return Err(format!("message {number} was changed on its way"));
        }
        if *message.origin.client_id != *author {
            return Err(format!("message {number} of {author} was routed as one of {}", message.origin.client_id));
        }
        if record.is_will {
            self.sessions.send_will(number, now_ms)?;
        }
        if message.retain {
            self.note_retained(&topic, Some(number));
        }
        if record.draft.qos != QoS::AtMostOnce {
            self.owe(number, &record);
        }
        Ok(())
    }

    fn owe(&mut self, number: usize, record: &Record) {
        let now_ms = self.now_ms();
        let mut has_member = false;
        // What is routed while the store takes nothing is held in memory.
        let is_mortal =
            self.is_refusing() || self.sessions.iter().any(|(_, session)| session.number == 0 && session.is_member());
        for (who, session) in self.sessions.iter() {
            if session.expires_ms.is_some_and(|due_ms| due_ms <= now_ms) {
                continue;
            }
            let holds = |sub: &&Sub| {
                let is_theirs = !(sub.no_local && record.author == who);
                sub.holds_since(record.sent_order)
                    && sub.qos > QoS::AtMostOnce
                    && is_theirs
                    && sub.matches(record.draft.topic)
            };
            match session.subs.iter().find(holds) {
                Some(sub) if sub.is_shared() => has_member = true,
                Some(_) => self.books.owe((who, session.epoch), number, session.number == 0 || self.is_refusing()),
                None => {}
            }
        }
        if has_member {
            self.books.owe_group(number, self.order, is_mortal);
        }
    }

    // --- what the operator does ---

    /// Answers a question: yes, or no.
    pub fn answer(&mut self, place: usize, is_yes: bool) {
        let Question { ticket, line, topics } = self.questions.remove(place);
        self.tell(format_args!("the operator answers {is_yes} about k{line}"));
        let broker = self.plane.broker();
        match topics {
            None => {
                self.lines[line].is_admitted |= is_yes;
                self.lines[line].is_denied |= !is_yes;
                let reason = if is_yes { ReasonCode::SUCCESS } else { ReasonCode::NOT_AUTHORIZED };
                broker.answer_authenticate(ticket, Answer::new(reason), false);
            }
            // A refused publish is another story; here they are only late.
            Some(count) => broker.answer_authorize(ticket, vec![Answer::new(ReasonCode::SUCCESS); count]),
        }
    }

    /// Ends a client and its session.
    pub fn kick(&mut self, who: usize) {
        self.tell(format_args!("the operator kicks c{who}"));
        let ticket = self.order;
        self.tickets.insert(ticket, who);
        self.people[who].kicks += 1;
        self.plane.broker().kick(ticket, &format!("c{who}"));
    }

    /// Publishes from inside.
    pub fn publish_inside(&mut self, draft: Draft) {
        let number = self.write(INSIDE, draft, false);
        let Ok(topic) = Topic::new(draft.topic) else { return };
        let payload = payload(number, draft.padding);
        let publication = Publication { topic, properties: Properties::default(), expiry_s: None, payload: &payload };
        let origin = Origin { client_id: "".into(), received_ms: EPOCH_MS + self.now_ms() };
        let message = Arc::new(Message::new(&publication, draft.qos, draft.retain, origin));
        self.tell(format_args!(
            "the operator publishes message {number} for {} with QoS {}",
            draft.topic, draft.qos as u8
        ));
        self.plane.broker().publish(number as u64, message);
    }

    fn write(&mut self, author: usize, draft: Draft, is_will: bool) -> usize {
        let sent_order = self.order;
        let (is_hasty, is_taken, is_refused, attempts) = (false, false, false, 1);
        let (routed, routed_ms, unrouted, doubtful) = (0, 0, 0, 0);
        self.books.write(Record {
            author,
            draft,
            is_will,
            is_hasty,
            sent_order,
            attempts,
            routed,
            routed_ms,
            unrouted,
            doubtful,
            is_taken,
            is_refused,
        })
    }

    // --- what the clients do ---

    /// A client opens a connection and puts its CONNECT into it.
    pub fn connect(&mut self, plan: Plan) -> Result<usize, Fault> {
        let Plan { who, version, is_narrow, .. } = plan;
        let (wire, theirs) = Wire::open(version, is_narrow).map_err(|error| format!("no descriptors: {error}"))?;
        let line = self.lines.len();
        self.plane.take_in(plan.worker, theirs);
        let is_v5 = version == Version::V5;
        let limits = &self.options.zones[0];
        let expiry_s = match (is_v5, plan.clean_start) {
            (true, _) => plan.expiry_s.min(limits.session_expiry_max_s),
            (false, true) => 0,
            (false, false) => limits.session_expiry_s,
        };
        let window = usize::from(limits.max_inflight.min(if is_v5 { plan.window } else { u16::MAX }));
        let will = plan.will.map(|(topic, qos, delay_s)| {
            let draft = Draft { topic, qos, retain: false, expiry_s: None, padding: 0 };
            (self.write(who, draft, true), if is_v5 { delay_s } else { 0 })
        });
        let entry = Entry { who, line, clean_start: plan.clean_start, expiry_s, will };
        self.tell(format_args!("c{who} connects as k{line}: {plan:?}, will {will:?}"));
        self.lines.push(Line {
            wire,
            entry,
            keep_alive_s: plan.keep_alive_s,
            since_ms: self.plane.now_ms(),
            phase: Phase::Opening,
            is_ready: false,
            is_refused: false,
            goodbye: None,
            is_left_clean: false,
            since_order: self.order,
            is_admitted: !self.asks_entry,
            is_denied: false,
            asked_until_ms: None,
            is_judged: false,
            told: None,
            window,
            send_window: 0,
            open_ids: Default::default(),
            asked: BTreeMap::new(),
            wishes: BTreeMap::new(),
            written: Vec::new(),
            held: Default::default(),
            is_narrow,
        });
        self.put_connect(line, plan);
        Ok(line)
    }

    fn put_connect(&mut self, line: usize, plan: Plan) {
        let number = self.lines[line].entry.will.map(|(number, _)| number);
        let will_payload = payload(number.unwrap_or(0), 0);
        let (mut raw, mut will_raw) = (Vec::new(), Vec::new());
        put_property(&mut raw, id::SESSION_EXPIRY_INTERVAL, Value::Number(plan.expiry_s));
        put_property(&mut raw, id::RECEIVE_MAXIMUM, Value::Number(plan.window.into()));
        put_property(&mut raw, id::TOPIC_ALIAS_MAXIMUM, Value::Number(4));
        if let Some((.., delay_s)) = plan.will {
            put_property(&mut will_raw, id::WILL_DELAY_INTERVAL, Value::Number(delay_s));
        }
        let is_v5 = plan.version == Version::V5;
        let raw = if is_v5 { raw.as_slice() } else { &[] };
        let will_raw = if is_v5 { will_raw.as_slice() } else { &[] };
        let will = plan.will.and_then(|(topic, qos, _)| {
            let (topic, properties) = (Topic::new(topic).ok()?, Properties::trusted(will_raw));
            Some(Will { topic, payload: &will_payload, qos, retain: false, properties })
        });
        self.lines[line].wire.put(&Packet::Connect(Box::new(Connect {
            version: plan.version,
            clean_start: plan.clean_start,
            keep_alive_s: plan.keep_alive_s,
            client_id: &format!("c{}", plan.who),
            will,
            username: Some(&format!("k{line}")),
            password: None,
            properties: Properties::trusted(raw),
        })));
    }

    /// The connection on which a client may do something.
    pub fn usable(&self, who: usize) -> Option<usize> {
        self.people[who].current.filter(|line| self.lines[*line].is_usable())
    }

    /// The last connection of a client that is not let in yet.
    pub fn opening(&self, who: usize) -> Option<usize> {
        let is_it = |line: &Line| line.entry.who == who && line.phase == Phase::Opening && line.is_alive();
        self.lines.iter().rposition(is_it)
    }

    /// A client publishes, if its window has room; whether it did.
    pub fn publish(&mut self, who: usize, draft: Draft) -> bool {
        let Some(line) = self.usable(who) else { return false };
        if draft.qos != QoS::AtMostOnce && self.people[who].memory.unsettled.len() >= self.lines[line].send_window {
            return false;
        }
        let draft = Draft { expiry_s: draft.expiry_s.filter(|_| self.lines[line].is_v5()), ..draft };
        let number = self.write(who, draft, false);
        let packet_id = match draft.qos {
            QoS::AtMostOnce => 0,
            _ => self.people[who].memory.packet_id(&self.lines[line].asked),
        };
        if packet_id != 0 {
            self.people[who].memory.unsettled.push(Unsettled { packet_id, number, is_released: false });
        }
        let Draft { topic, qos, .. } = draft;
        self.tell(format_args!("c{who} publishes message {number} for {topic} with QoS {} on k{line}", qos as u8));
        self.put_publish(line, (packet_id, number, false));
        true
    }

    pub(crate) fn put_publish(&mut self, line: usize, (packet_id, number, dup): (u16, usize, bool)) {
        self.lines[line].written.push(number);
        let draft = self.books.record(number).draft;
        let mut raw = Vec::new();
        if let Some(expiry_s) = draft.expiry_s {
            put_property(&mut raw, id::MESSAGE_EXPIRY_INTERVAL, Value::Number(expiry_s));
        }
        let raw = if self.lines[line].is_v5() { raw.as_slice() } else { &[] };
        self.lines[line].wire.put(&Packet::Publish(Publish {
            dup,
            qos: draft.qos,
            retain: draft.retain,
            topic: Topic::new(draft.topic).ok(),
            packet_id,
            properties: Properties::trusted(raw),
            payload: &payload(number, draft.padding),
        }));
    }

    /// A client publishes with QoS 0 behind its CONNECT, without waiting for CONNACK (section 3.1.4, non-normative).
    pub fn publish_hastily(&mut self, line: usize, draft: Draft) {
        let who = self.lines[line].entry.who;
        let number = self.write(who, Draft { qos: QoS::AtMostOnce, expiry_s: None, ..draft }, false);
        self.books.hurry(number);
        self.tell(format_args!("c{who} publishes message {number} for {} at once on k{line}", draft.topic));
        self.put_publish(line, (0, number, false));
    }

    /// A client takes the retained message of a topic away, with QoS 0.
    pub fn clear(&mut self, who: usize, topic: &'static str) -> bool {
        let Some(line) = self.usable(who) else { return false };
        self.tell(format_args!("c{who} clears {topic} on k{line}"));
        self.lines[line].wire.put(&Packet::Publish(Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: true,
            topic: Topic::new(topic).ok(),
            packet_id: 0,
            properties: Properties::default(),
            payload: &[],
        }));
        true
    }

    /// A client subscribes; `no_local` only where its version has it and the filter allows it.
    pub fn subscribe(&mut self, who: usize, (filter, qos, no_local): (&'static str, QoS, bool)) -> bool {
        let Some(line) = self.usable(who) else { return false };
        let no_local = no_local && self.lines[line].is_v5() && !filter.starts_with("$share");
        let Ok(checked) = Filter::new(filter) else { return false };
        let packet_id = self.people[who].memory.packet_id(&self.lines[line].asked);
        let order = self.order;
        let Some(session) = self.sessions.of_mut(who) else { return false };
        // Replaced: what it promised until now is not asked for again.
        let before = session.subs.iter_mut().filter(|sub| sub.filter == filter && sub.ended_order.is_none());
        before.for_each(|sub| sub.ended_order = Some(order));
        let place = session.subs.len();
        session.subs.push(Sub { filter, qos, no_local, acked_order: None, ended_order: None });
        session.wishes.push((filter, true));
        self.lines[line].wishes.insert(packet_id, (filter, true));
        self.lines[line].asked.insert(packet_id, vec![place]);
        self.tell(format_args!("c{who} subscribes to {filter} with QoS {} on k{line}", qos as u8));
        let options = SubscriptionOptions { no_local, ..SubscriptionOptions::plain(qos) };
        let filters = vec![(Ok(checked), options)];
        let properties = Properties::default();
        self.lines[line].wire.put(&Packet::Subscribe(Subscribe { packet_id, properties, filters }));
        true
    }

    /// A client unsubscribes.
    pub fn unsubscribe(&mut self, who: usize, filter: &'static str) -> bool {
        let Some(line) = self.usable(who) else { return false };
        let Ok(checked) = Filter::new(filter) else { return false };
        let packet_id = self.people[who].memory.packet_id(&self.lines[line].asked);
        let order = self.order;
        let Some(session) = self.sessions.of_mut(who) else { return false };
        let is_it = |sub: &&mut Sub| sub.filter == filter && sub.ended_order.is_none();
        session.subs.iter_mut().filter(is_it).for_each(|sub| sub.ended_order = Some(order));
        session.wishes.push((filter, false));
        self.lines[line].wishes.insert(packet_id, (filter, false));
        if filter.starts_with("$share") && !self.sessions.has_member(self.plane.now_ms()) {
            self.books.lose_member(order, false);
        }
        self.lines[line].asked.insert(packet_id, Vec::new());
        self.tell(format_args!("c{who} unsubscribes from {filter} on k{line}"));
        let properties = Properties::default();
        self.lines[line].wire.put(&Packet::Unsubscribe(Unsubscribe {
            packet_id,
            properties,
            filters: vec![Ok(checked)],
        }));
        true
    }

    /// A client says goodbye; it closes the socket when everything has left.
    pub fn disconnect(&mut self, line: usize, goodbye: Goodbye) {
        let is_v5 = self.lines[line].is_v5();
        let is_revival = self.lines[line].entry.expiry_s == 0;
        let expiry_s = goodbye.expiry_s.filter(|expiry_s| is_v5 && (!is_revival || *expiry_s == 0));
        let goodbye = Goodbye { keeps_will: goodbye.keeps_will && is_v5, expiry_s };
        self.tell(format_args!("k{line} says goodbye: {goodbye:?}"));
        let mut raw = Vec::new();
        if let Some(expiry_s) = expiry_s {
            put_property(&mut raw, id::SESSION_EXPIRY_INTERVAL, Value::Number(expiry_s));
        }
        let reason = if goodbye.keeps_will { ReasonCode::DISCONNECT_WITH_WILL } else { ReasonCode::SUCCESS };
        let properties = Properties::trusted(&raw);
        self.lines[line].wire.put(&Packet::Disconnect(Disconnect { reason, properties }));
        self.lines[line].goodbye = Some(goodbye);
    }

    /// A client closes the socket without a word.
    pub fn hang_up(&mut self, line: usize) {
        let Line { wire, goodbye, .. } = &self.lines[line];
        let is_left_clean = goodbye.is_some() && wire.is_sent() && wire.is_drained();
        self.lines[line].is_left_clean = is_left_clean;
        self.tell(format_args!("k{line} hangs up, cleanly {is_left_clean}"));
        self.lines[line].wire.close();
    }

    /// Some bytes leave a client; how many.
    pub fn push(&mut self, line: usize, max: usize) -> usize {
        let count = self.lines[line].wire.push(max);
        if count > 0 {
            self.tell(format_args!("k{line} sends {count} bytes"));
        }
        count
    }
}

impl World {
    /// How many workers there are.
    pub fn worker_count(&self) -> usize {
        usize::from(self.options.workers)
    }

    /// Whether clients may be too fast.
    pub fn is_paced(&self) -> bool {
        self.options.zones[0].max_publish_rate > 0
    }

    /// Messages that the tap saw.
    pub fn routed_count(&self) -> u64 {
        self.routed
    }

    /// The client closes a connection on which it has said everything.
    pub fn hang_up_after_goodbye(&mut self, line: usize) {
        let is_said = self.lines[line].goodbye.is_some() && self.lines[line].wire.is_sent();
        if is_said && self.lines[line].wire.is_held() {
            self.hang_up(line);
        }
    }

    /// The store holds what was published last.
    pub fn check_retained(&self) -> Result<(), Fault> {
        for topic in RETAINED_TOPICS {
            let held = self.plane.retained(topic).and_then(|payload| number_of(&payload));
            let last = self.retained.get(topic).and_then(|all| all.last()?.1);
            if held != last {
                return Err(format!("{topic} retains {held:?}, and {last:?} was published last"));
            }
        }
        Ok(())
    }

    /// Nobody looks on any more.
    pub fn close_tap(&mut self) {
        self.plane.broker().close_tap(self.tap);
    }
}

/// From now on the broker tells what it does; the number of the tap that sees everything.
pub(crate) fn look_on(plane: &Plane, interest: Interest) -> Result<u32, Fault> {
    plane.broker().set_interest(interest);
    plane.broker().open_tap(vec!["#".into()], 1 << 20).map_err(|violation| format!("{violation:?}"))
}

/// Topics of retained messages.
pub const RETAINED_TOPICS: [&str; 2] = ["r/0", "r/1"];

fn line_of(username: Option<&str>) -> Result<usize, Fault> {
    let number = username.and_then(|username| username.strip_prefix('k')?.parse().ok());
    number.ok_or_else(|| format!("a notice about {username:?}, which is no connection of ours"))
}
