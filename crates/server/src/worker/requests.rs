//! Mail: from other workers and from Python.
//!
//! Knows what each piece of mail asks for and which event answers it.

use std::sync::Arc;

use whimbrel_protocol::ReasonCode;
use whimbrel_protocol::properties::carrier;

use super::client::End;
use super::enhanced::Outcome;
use super::{Worker, shortage};
use crate::answer::Answer;
use crate::audit::Audit;
use crate::event::{ClientRecord, Event};
use crate::mailbox::{Backlog, Mail};

/// An answer of Python: 0 is a yes, and every success code that is none here is a mistake, which must not let anybody in.
/// Nor must a code leave in a packet that cannot carry it: it fits all of `carriers` [MQTT-3.4.2-1], [MQTT-3.9.3-2].
fn verdict(answer: Answer, carriers: &[u16]) -> Answer {
    let is_verdict = answer.reason == ReasonCode::SUCCESS || answer.reason.is_error();
    let fits = carriers.iter().all(|carrier| answer.reason.fits(*carrier));
    if is_verdict && fits { answer } else { Answer { reason: ReasonCode::UNSPECIFIED_ERROR, ..answer } }
}

/// Sessions that a request for congested connections looks at.
const LOOKED_AT_MAX: u32 = 65_536;
/// What answers to an authorize question become.
const OF_AUTHORIZE: &[u16] = &[carrier::PUBACK, carrier::PUBREC, carrier::SUBACK];

impl Worker {
    pub(super) fn take_mail(&mut self) {
        let mut mail = std::mem::take(&mut self.mail);
        self.shared.mailboxes[usize::from(self.index)].take(&mut mail);
        for piece in mail.drain(..) {
            self.on_mail(piece);
        }
        self.mail = mail;
    }

    fn on_mail(&mut self, mail: Mail) {
        match mail {
            Mail::Deliver(message, targets, stored) => self.deliver_mail(&message, &targets, stored),
            Mail::Share(parcel) => self.deliver_parcel(&parcel),
            Mail::Adopt(handoff) => self.adopt(*handoff),
            Mail::Publish { ticket, message } if self.must_refuse_message(&message) => {
                self.events.push(Event::Refused { ticket, text: shortage::TOLD });
            }
            Mail::Publish { ticket, message } => {
                self.keeper.begin();
                self.counts.routed_inside += 1;
                let receivers = self.route_message(&message, None) as u64;
                self.post_held(Event::Published { ticket, receivers });
                self.keeper.begin();
            }
            Mail::Authenticated { ticket, answer, is_superuser, is_anonymous } => {
                let answer = verdict(answer, &[carrier::CONNACK]);
                self.on_authenticated(ticket, &answer, (is_superuser, is_anonymous));
            }
            Mail::EnhancedAuthenticated { ticket, answer, auth_data, is_superuser } => {
                let goes_on = answer.reason == ReasonCode::CONTINUE_AUTHENTICATION;
                let answer = if goes_on { answer } else { verdict(answer, &[carrier::CONNACK]) };
                self.on_enhanced(ticket, Outcome { answer, auth_data, is_superuser });
            }
            Mail::Authorized { ticket, answers } => {
                let answers: Vec<Answer> = answers.into_iter().map(|answer| verdict(answer, OF_AUTHORIZE)).collect();
                let no_answer = [Answer::new(ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR)];
                self.on_authorized(ticket, if answers.is_empty() { &no_answer } else { &answers });
            }
            Mail::Clients { ticket, from, limit } => self.page_clients(ticket, from, limit),
            Mail::Congested { ticket, from, limit, backlog } => self.page_congested(ticket, (from, limit), backlog),
            Mail::Audit { ticket, audit } => self.audit(ticket, audit),
            Mail::Kick { ticket, client_id } => self.kick(ticket, &client_id),
            Mail::ChangeRows { ticket, seen, changes } => self.change_rows(ticket, seen, changes),
            Mail::Open => {
                self.attend_restored();
                self.open_listeners();
            }
            Mail::Stop { grace_ms } => self.stop(grace_ms),
        }
    }

    fn page_clients(&mut self, ticket: u64, from: u32, limit: usize) {
        let mut records = Vec::new();
        let end = self.sessions.slot_end();
        let mut slot = from;
        while slot < end && records.len() < limit {
            records.extend(self.record_of_seat(slot));
            slot += 1;
        }
        self.end_page(ticket, slot, records);
    }

    /// Looks at so many sessions at most, so that a crowd takes several requests.
    fn page_congested(&mut self, ticket: u64, (from, limit): (u32, usize), backlog: Backlog) {
        let mut records = Vec::new();
        let end = self.sessions.slot_end().min(from.saturating_add(LOOKED_AT_MAX));
        let mut slot = from;
        while slot < end && records.len() < limit {
            records.extend(self.congested(slot, backlog).and_then(|client| self.record_of(client)));
            slot += 1;
        }
        self.end_page(ticket, slot, records);
    }

    /// The connection of a session for which so much waits.
    fn congested(&self, slot: u32, backlog: Backlog) -> Option<u32> {
        let seat = self.sessions.get(slot)?;
        let client = seat.client?;
        let unsent = self.clients[client as usize].outbox.len();
        (unsent >= backlog.bytes || seat.session.outbound.queue_len() >= backlog.messages).then_some(client)
    }

    fn end_page(&mut self, ticket: u64, slot: u32, records: Vec<ClientRecord>) {
        let end = self.sessions.slot_end();
        let next = if slot < end { (u64::from(self.index), u64::from(slot)) } else { (u64::from(self.index) + 1, 0) };
        let is_last = next.0 >= self.shared.mailboxes.len() as u64;
        let next_cursor = (!is_last).then_some(next.0 << 32 | next.1);
        self.events.push(Event::ClientPage { ticket, records, next_cursor });
    }

    fn record_of_seat(&self, slot: u32) -> Option<ClientRecord> {
        let seat = self.sessions.get(slot)?;
        if let Some(client) = seat.client {
            return self.record_of(client);
        }
        let last_seen = seat.away.as_ref()?.last_seen.clone()?;
        let outbound = &seat.session.outbound;
        Some(ClientRecord { inflight: outbound.inflight_count(), mqueue_len: outbound.queue_len(), ..last_seen })
    }

    /// Adds this worker's part at one moment between two messages, and asks the next worker for its own.
    fn audit(&mut self, ticket: u64, mut audit: Box<Audit>) {
        audit.counts.add(&self.counts);
        let held = self.sessions.iter().map(|seat| &seat.session.outbound);
        held.for_each(|outbound| audit.add_held(outbound.queue_len(), outbound.inflight_count()));
        audit.add_held(self.estates.len(), 0);
        match self.shared.mailboxes.get(usize::from(self.index) + 1) {
            Some(next) => next.post([Mail::Audit { ticket, audit }]),
            None => self.events.push(Event::Audited { ticket, audit }),
        }
    }

    fn kick(&mut self, ticket: u64, client_id: &Arc<str>) {
        let found = self.sessions.find(client_id);
        self.keeper.begin();
        if let Some(seat) = found {
            if let Some(client) = self.sessions.get(seat).and_then(|seat| seat.client) {
                self.end(client, End::KICKED);
            }
            // The connection's end may have ended the session already.
            if self.sessions.find(client_id) == Some(seat) {
                self.counts.session_terminated += 1;
                self.remove_session(seat);
            }
        }
        let event = Event::Kicked { ticket, found: found.is_some() };
        match self.shortage.is_refusing() {
            true => self.events.push(event), // It is gone from here, and whoever asked must not wait for room.
            false => self.post_held(event),
        }
        self.keeper.begin();
    }

    /// Says goodbye to everybody; what the sockets do not take at once has `grace_ms`.
    pub(super) fn stop(&mut self, grace_ms: u64) {
        if self.stop_by_ms.is_some() {
            return;
        }
        self.unwatch_listeners();
        self.stop_by_ms = Some(self.now.ms + grace_ms);
        let slots: Vec<u32> = self.clients.iter().map(|(slot, _)| slot as u32).collect();
        for slot in slots {
            self.take_leave(slot);
        }
    }
}
