//! What a worker does while the store takes nothing (no room, read-only, I/O errors) or is behind.
//!
//! Knows what needs the store, and who is told what. A promise that cannot be kept is not made: MQTT 5 is told so (0x97 in
//! PUBACK, PUBREC, SUBACK and CONNACK), and so is MQTT 3.x in SUBACK (0x80) and CONNACK (3). A PUBLISH of MQTT 3.x has no answer
//! that says no, and a connection that is closed comes back at once with the same message: it is not read until there is
//! room, so its own socket holds it back and nothing is lost. What was handed to the store before stays there until it can
//! be written; all that needs no store is served on. While the store is merely behind, whoever wants something stored is
//! not read for a moment, whatever its version. Must not know how the store recovers.

use std::collections::HashSet;

use whimbrel_protocol::connection::handshake::Request;
use whimbrel_protocol::packet::Publish;
use whimbrel_protocol::{Limits, Message, QoS, ReasonCode, Topic, Version};
use whimbrel_router::Matches;
use whimbrel_storage::State;

use super::Worker;
use super::client::{Client, Parked, Question};
use super::inbound::Step;
use crate::answer::Answer;
use crate::event::Event;

/// What clients are told.
pub(super) const TOLD: &str = "the broker cannot store this at the moment; try again later";
/// No question has it.
const NO_TICKET: u64 = u64::MAX;
/// Beyond every clock of this process: only the store's recovery ends the wait.
const NEVER_MS: u64 = u64::MAX >> 1;
/// How often those who wait are thought of where the store does not wake us.
const LOOK_MS: u64 = 20;
/// Connections that go on in one turn, so that they do not fill the store anew at once.
const WOKEN_MAX: usize = 32;

/// What a worker knows of the store's state, as of this turn.
#[derive(Default, Debug)]
pub(super) struct Shortage {
    is_refusing: bool,
    is_pressed: bool,
    /// Since when it refuses; monotonic milliseconds.
    since_ms: u64,
    /// Connections that are not read: slot and epoch.
    waiting: Vec<(u32, u16)>,
    look_at_ms: Option<u64>,
    /// Sessions whose state is to be written when there is room, once each however often it changes: slot and epoch.
    postponed: HashSet<(u32, u16)>,
}

impl Shortage {
    /// Whether not everything can be stored now.
    #[inline]
    pub(super) fn is_short(&self) -> bool {
        self.is_refusing | self.is_pressed
    }

    /// Whether nothing can be stored now.
    #[inline]
    pub(super) fn is_refusing(&self) -> bool {
        self.is_refusing
    }

    /// When to look again; None: the store wakes us.
    pub(super) fn look_at_ms(&self) -> Option<u64> {
        self.look_at_ms
    }

    /// Whether what the store knows of a session is written later; then it is remembered.
    pub(super) fn postpones(&mut self, seat_slot: u32, epoch: u16) -> bool {
        if self.is_refusing {
            self.postponed.insert((seat_slot, epoch));
        }
        self.is_refusing
    }
}

impl Worker {
    /// Whether the store began or ended to refuse since the last look.
    pub(super) fn has_store_turned(&self) -> bool {
        let durable = self.shared.durable.as_ref();
        durable.is_some_and(|durable| durable.store.is_refusing() != self.shortage.is_refusing)
    }

    /// Once a turn, before anything is read.
    #[inline]
    pub(super) fn look_at_store(&mut self) {
        let Some(durable) = &self.shared.durable else { return };
        let (is_refusing, is_pressed) = (durable.store.is_refusing(), durable.store.is_pressed());
        let has_turned = is_refusing != self.shortage.is_refusing;
        (self.shortage.is_refusing, self.shortage.is_pressed) = (is_refusing, is_pressed);
        if has_turned {
            self.on_store_turned();
        }
        if !self.shortage.waiting.is_empty() && (has_turned || !self.shortage.is_short()) {
            self.wake_held_back();
        }
        self.shortage.look_at_ms = (!self.shortage.waiting.is_empty()).then_some(self.now.ms + LOOK_MS);
    }

    /// The one place where the end and the return of storing are noticed.
    #[cold]
    fn on_store_turned(&mut self) {
        let Some(durable) = &self.shared.durable else { return };
        let state = durable.store.state();
        if self.shortage.is_refusing {
            self.shortage.since_ms = self.now.ms;
        } else {
            for (slot, epoch) in std::mem::take(&mut self.shortage.postponed) {
                self.put_postponed(slot, epoch);
            }
        }
        if self.index != 0 {
            return; // Every worker hears of it, and one says it.
        }
        let refusal = if let State::Refusing(why) = &state { Some(why.clone()) } else { None };
        refusal.iter().for_each(|why| self.take_back_rows(why));
        self.events.push(Event::StoreTurned { refusal, timestamp_ms: self.now.unix_ms });
        let text = match state {
            State::Refusing(why) => format!(
                "store: {why}; meanwhile publishes that must be stored are refused (MQTT 5) or wait (MQTT 3.x), new durable \
                 sessions and their subscriptions are refused, and all else is served"
            ),
            _ => {
                let seconds = (self.now.ms - self.shortage.since_ms) as f64 / 1000.0;
                format!("store: takes in again what must be stored; it did not for {seconds:.1} s")
            }
        };
        self.events.push(Event::Log { level: 30, text });
    }

    fn put_postponed(&mut self, slot: u32, epoch: u16) {
        let Some(seat) = self.sessions.live(slot, epoch) else { return };
        if seat.client.is_some() {
            self.put_session(slot, 0);
        } else {
            self.put_absent(slot); // since when it is, not since there is room
        }
    }

    /// A PUBLISH may need what the store cannot give now. None: it does not; else it was refused, or comes again.
    #[cold]
    pub(super) fn hold_off(&mut self, slot: u32, publish: &Publish<'_>, topic: Topic<'_>) -> Option<Step> {
        // Where nothing is promised nothing is refused; but the store must not fill up for it either.
        let is_promised = self.clients[slot as usize].connection.limits().is_durable;
        if (self.shortage.is_refusing && !is_promised) || !self.needs_store(slot, publish, topic) {
            return None;
        }
        let is_told = self.clients[slot as usize].connection.version() == Version::V5;
        if self.shortage.is_refusing && is_told {
            self.counts.storage_refused += 1;
            self.count_received(publish.qos);
            self.refuse_publish(slot, publish, &Answer::in_words(ReasonCode::QUOTA_EXCEEDED, TOLD));
            return Some(Step::Next);
        }
        self.counts.storage_held_back += 1;
        let client = &mut self.clients[slot as usize];
        let (epoch, rest) = (client.epoch, Vec::new());
        let parked = Parked { ticket: NO_TICKET, due_ms: NEVER_MS, question: Question::Room, rest };
        client.parked = Some(Box::new(parked));
        self.shortage.waiting.push((slot, epoch));
        self.shortage.look_at_ms = Some(self.now.ms + LOOK_MS);
        Some(Step::ParkBefore)
    }

    /// Whether the acknowledgement of a PUBLISH promises something that a crash must not break.
    fn needs_store(&mut self, slot: u32, publish: &Publish<'_>, topic: Topic<'_>) -> bool {
        if publish.qos == QoS::AtMostOnce {
            return false;
        }
        let is_exactly_once = publish.qos == QoS::ExactlyOnce;
        let Some(seat) = self.seat_of(slot) else { return false };
        if is_exactly_once && seat.session.inbound.holds(publish.packet_id) {
            return false; // Routed before; this one is only answered.
        }
        let is_remembered = is_exactly_once && seat.durable != 0;
        publish.retain || is_remembered || has_durable(&self.matches_for(slot, topic))
    }

    /// Whether a message from inside would have to be stored and cannot be.
    pub(super) fn must_refuse_message(&mut self, message: &Message) -> bool {
        if !self.shortage.is_refusing || message.qos == QoS::AtMostOnce {
            return false;
        }
        let topic = message.publication(self.now.steady_ms).topic;
        let needs_store = message.retain || has_durable(&self.cache.find(&self.shared.router, topic));
        self.counts.storage_refused += u64::from(needs_store);
        needs_store
    }

    /// Whether a CONNECT begins or ends a durable session, of which the store cannot be told now.
    pub(super) fn must_refuse_unstorable(&mut self, request: &Request, limits: &Limits) -> bool {
        if !self.shortage.is_refusing {
            return false;
        }
        let held = self.sessions.find(&request.client_id).and_then(|seat| self.sessions.get(seat));
        let is_durable = held.is_some_and(|seat| seat.durable != 0);
        // One that ends with its connection ends when this one takes over.
        let is_resumed = held.is_some_and(|seat| seat.session.expiry_s > 0) && !request.clean_start;
        let is_kept = request.session_expiry_s > 0 && limits.is_durable;
        let is_refused = if is_resumed { is_durable && !is_kept } else { is_durable || is_kept };
        self.counts.storage_refused += u64::from(is_refused);
        is_refused
    }

    /// Some of those who waited go on; those who are gone are forgotten.
    fn wake_held_back(&mut self) {
        let clients = &self.clients;
        let is_held_back =
            |client: &Client| client.parked.as_deref().is_some_and(|parked| matches!(parked.question, Question::Room));
        let is_there = |slot: u32, epoch: u16| {
            clients.get(slot as usize).is_some_and(|client| client.epoch == epoch && is_held_back(client))
        };
        self.shortage.waiting.retain(|(slot, epoch)| is_there(*slot, *epoch));
        let count = self.shortage.waiting.len().min(WOKEN_MAX);
        let woken: Vec<(u32, u16)> = self.shortage.waiting.drain(..count).collect();
        for (slot, epoch) in woken {
            let client = self.clients.get_mut(slot as usize).filter(|client| client.epoch == epoch);
            let parked = client.and_then(|client| client.parked.take());
            if let Some(parked) = parked {
                self.read_on(slot, &parked.rest);
                self.arm(slot);
            }
        }
    }
}

fn has_durable(matches: &Matches) -> bool {
    matches.has_durable || matches.shared.iter().any(|share| share.has_durable())
}
