//! From CONNECT to CONNACK: decide who may enter, find the owner, open or resume the session.
//!
//! Knows the order: limits, authentication (a question or the listener's default), owner worker, takeover, CONNACK. The
//! owner is one thread for each client identifier, so a takeover is two events in a row, never a race.

use std::sync::Arc;

use rustix::event::epoll;
use whimbrel_protocol::connection::Phase;
use whimbrel_protocol::connection::handshake::Request;
use whimbrel_protocol::packet::Connect;
use whimbrel_protocol::session::{Agreed, Session, Will};
use whimbrel_protocol::{Limits, ReasonCode, Version};

use super::client::{Arrival, Client, End, Parked, Question};
use super::enhanced::Outcome;
use super::inbound::Step;
use super::{Handoff, Worker};
use crate::answer::Answer;
use crate::event::{Action, Authenticate, Authorize, Connected, Event};
use crate::mailbox::Mail;
use crate::shared::Interest;

impl Worker {
    pub(super) fn on_connect(&mut self, slot: u32, connect: &Connect<'_>) -> Result<Step, End> {
        self.counts.connect_received += 1;
        self.counts.client_connect += 1;
        let client = &self.clients[slot as usize];
        let assigned = || self.shared.assign_client_id();
        let request = Request::new(connect, client.connection.limits(), assigned, self.now.steady_ms)?;
        let request = Box::new(request);
        if request.auth_method.is_some() {
            return self.begin_exchange(slot, request);
        }
        self.counts.client_authenticate += 1;
        if self.shared.wants(Interest::AUTHENTICATE) {
            self.ask_authenticate(slot, request);
            return Ok(Step::ParkBehind);
        }
        if !self.is_anonymous_allowed(slot) {
            self.counts.client_auth_failure += 1;
            return Err(End::refused(ReasonCode::NOT_AUTHORIZED));
        }
        self.counts.client_auth_success += 1;
        self.counts.client_auth_anonymous += 1;
        if self.asks_about_will(&request, false) {
            self.ask_will(slot, request);
            return Ok(Step::ParkBehind);
        }
        Ok(self.admit(slot, request, false))
    }

    fn is_anonymous_allowed(&self, slot: u32) -> bool {
        let listener = self.clients[slot as usize].listener;
        self.shared.listeners[usize::from(listener)].options.is_anonymous_allowed
    }

    fn ask_authenticate(&mut self, slot: u32, request: Box<Request>) {
        let ticket = self.ticket(slot);
        let client = &mut self.clients[slot as usize];
        let listener = &self.shared.listeners[usize::from(client.listener)];
        self.events.push(Event::Authenticate(Box::new(Authenticate {
            ticket,
            client_id: Arc::clone(&request.client_id),
            username: request.username.clone(),
            password: request.password.clone(),
            peer: client.peer.to_string(),
            listener: listener.label.clone(),
            protocol_version: request.version as u8,
            keep_alive_s: request.keep_alive_s,
            clean_start: request.clean_start,
            is_anonymous_allowed: listener.options.is_anonymous_allowed,
        })));
        self.park(slot, ticket, Question::Entry(request));
    }

    /// Whether a client that may enter must be asked about once more: a will is a publish like any other.
    fn asks_about_will(&self, request: &Request, is_superuser: bool) -> bool {
        request.will.is_some() && !is_superuser && self.shared.wants(Interest::AUTHORIZE)
    }

    fn ask_will(&mut self, slot: u32, request: Box<Request>) {
        let Some(will) = &request.will else { return };
        let ticket = self.ticket(slot);
        self.counts.client_check_acl += 1;
        self.events.push(Event::Authorize(Box::new(Authorize {
            ticket,
            client_id: Arc::clone(&request.client_id),
            username: request.username.clone(),
            peer: self.clients[slot as usize].peer.to_string(),
            action: Action::Publish,
            topics: vec![will.topic().as_str().into()],
            qos: will.qos as u8,
            retain: will.retain,
        })));
        self.park(slot, ticket, Question::Will(request));
    }

    /// The connection waits for an answer and is not read until it comes.
    pub(super) fn park(&mut self, slot: u32, ticket: u64, question: Question) {
        let due_ms = self.now.ms + self.shared.question_deadline_ms();
        let parked = Parked { ticket, due_ms, question, rest: Vec::new() };
        self.clients[slot as usize].parked = Some(Box::new(parked));
        self.arm(slot);
    }

    /// A number for a question: the worker, a running number, the client's slot.
    pub(super) fn ticket(&mut self, slot: u32) -> u64 {
        self.next_ticket = (self.next_ticket + 1) & 0xFF_FFFF;
        u64::from(self.index) << 56 | u64::from(self.next_ticket) << 32 | u64::from(slot)
    }

    /// The worker that asked.
    pub(crate) fn of_ticket(ticket: u64) -> u16 {
        (ticket >> 56) as u16
    }

    pub(super) fn on_authenticated(
        &mut self,
        ticket: u64,
        answer: &Answer,
        (is_superuser, is_anonymous): (bool, bool),
    ) {
        let slot = ticket as u32;
        let is_asked = |question: &Question| matches!(question, Question::Entry(_));
        let Some(Parked { question: Question::Entry(request), rest, .. }) = self.unpark(ticket, is_asked) else {
            return;
        };
        let is_success = answer.reason == ReasonCode::SUCCESS;
        self.counts.client_auth_success += u64::from(is_success);
        self.counts.client_auth_failure += u64::from(!is_success);
        self.counts.client_auth_anonymous += u64::from(is_success && is_anonymous);
        if !is_success {
            self.refuse_entry(slot, answer);
        } else {
            self.let_in(slot, request, is_superuser, rest);
        }
    }

    /// Somebody vouched for the client; its will may still have to be asked about.
    pub(super) fn let_in(&mut self, slot: u32, request: Box<Request>, is_superuser: bool, rest: Vec<u8>) {
        if self.asks_about_will(&request, is_superuser) {
            self.ask_will(slot, request);
            self.keep_unread(slot, &rest);
        } else {
            self.admit_with(slot, request, is_superuser, rest);
        }
    }

    /// A hook refused the client, in its own words.
    pub(super) fn refuse_entry(&mut self, slot: u32, answer: &Answer) {
        self.dismiss(slot, End::refused(answer.reason), answer.told());
    }

    /// An answer came (`answers`: one for each topic, not empty): the client enters, or its packet is handled again.
    pub(super) fn on_authorized(&mut self, ticket: u64, answers: &[Answer]) {
        let slot = ticket as u32;
        let is_asked = |question: &Question| matches!(question, Question::Will(_) | Question::Packet);
        let Some(parked) = self.unpark(ticket, is_asked) else { return };
        if matches!(parked.question, Question::Will(_)) {
            self.count_verdict(answers[0].reason);
        }
        match (parked.question, answers[0].reason) {
            (Question::Will(request), ReasonCode::SUCCESS) => self.admit_with(slot, request, false, parked.rest),
            (Question::Will(_), _) => self.refuse_entry(slot, &answers[0]),
            (_, _) => self.go_on(slot, &parked.rest, Some(answers)),
        }
    }

    /// Takes the client out of its waiting state if it waits for this ticket and for such an answer.
    pub(super) fn unpark(&mut self, ticket: u64, is_asked: impl FnOnce(&Question) -> bool) -> Option<Parked> {
        let client = self.clients.get_mut(ticket as u32 as usize)?;
        let parked = client.parked.take_if(|parked| parked.ticket == ticket && is_asked(&parked.question))?;
        client.connection.heard(self.now.ms); // What the client sent meanwhile could not be read.
        Some(*parked)
    }

    /// Nobody answered in time: the operator's back end is ill, the client may try again.
    pub(super) fn expire_question(&mut self, slot: u32) {
        self.counts.questions_expired += 1;
        let Some(parked) = &self.clients[slot as usize].parked else { return };
        let ticket = parked.ticket;
        match parked.question {
            Question::Entry(_) => {
                self.on_authenticated(ticket, &Answer::new(ReasonCode::SERVER_UNAVAILABLE), (false, false));
            }
            Question::Will(_) => self.on_authorized(ticket, &[Answer::new(ReasonCode::SERVER_UNAVAILABLE)]),
            Question::Exchange(_) => self.on_enhanced(ticket, Outcome::UNANSWERED),
            Question::Challenged(_) => self.end(slot, End::IDLE),
            Question::Packet => {
                self.on_authorized(ticket, &[Answer::new(ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR)]);
            }
            Question::Tokens | Question::Room => {} // Nobody was asked.
        }
    }

    fn admit_with(&mut self, slot: u32, mut request: Box<Request>, is_superuser: bool, rest: Vec<u8>) {
        let owner = self.shared.owner_of(&request.client_id);
        if owner == self.index {
            self.enter(slot, &mut request, is_superuser);
            self.go_on(slot, &rest, None);
        } else {
            self.hand_over(slot, request, is_superuser, rest);
        }
    }

    fn admit(&mut self, slot: u32, mut request: Box<Request>, is_superuser: bool) -> Step {
        if self.shared.owner_of(&request.client_id) == self.index {
            self.enter(slot, &mut request, is_superuser);
            return Step::Next;
        }
        Step::HandOver(request, is_superuser)
    }

    /// Sends the connection to the worker that owns its session.
    pub(super) fn hand_over(&mut self, slot: u32, request: Box<Request>, is_superuser: bool, rest: Vec<u8>) {
        let owner = self.shared.owner_of(&request.client_id);
        let client = self.clients.remove(slot as usize);
        let _ = epoll::delete(&self.poll, client.socket.fd());
        let limits = Arc::clone(client.connection.limits());
        let Client { socket, peer, listener, connection, pace, .. } = client;
        let arrival = Arrival { socket, peer, listener, limits };
        let handoff = Handoff { arrival, connection, request, rest, pace, is_superuser };
        self.outgoing[usize::from(owner)].push(Mail::Adopt(Box::new(handoff)));
    }

    pub(super) fn adopt(&mut self, mut handoff: Handoff) {
        let mut connection = handoff.connection;
        connection.rebase(self.now.ms); // Each worker's clock starts at its own zero.
        let Some(slot) = self.seat(handoff.arrival, connection) else { return };
        // What it sent before counts; a client must not get a second burst by belonging here.
        let pace = handoff.pace.map(|mut pace| {
            pace.rebase(self.now.ms);
            pace
        });
        self.clients[slot as usize].pace = pace;
        self.enter(slot, &mut handoff.request, handoff.is_superuser);
        if self.stop_by_ms.is_some() && self.clients.contains(slot as usize) {
            return self.take_leave(slot); // It was on its way when everybody else was told.
        }
        self.go_on(slot, &handoff.rest, None);
    }

    /// The client is let in: session, CONNACK, what was in flight.
    fn enter(&mut self, slot: u32, request: &mut Request, is_superuser: bool) {
        let limits = Arc::clone(self.clients[slot as usize].connection.limits());
        if self.is_flapping(&request.client_id) {
            return self.end(slot, End::refused(ReasonCode::BANNED));
        }
        if self.is_will_refused(request, is_superuser) {
            return self.end(slot, End::refused(ReasonCode::NOT_AUTHORIZED));
        }
        if self.must_refuse_session(request, &limits) {
            return self.end(slot, End::refused(ReasonCode::QUOTA_EXCEEDED));
        }
        if self.must_refuse_unstorable(request, &limits) {
            return self.end(slot, End::STORE_REFUSES);
        }
        self.keeper.begin();
        let (seat, session_present) = self.open_session(request, &limits);
        self.keep_or_not(seat, request, &limits);
        self.attach(slot, seat, request, is_superuser);
        self.keep_session(slot, seat, !session_present);
        self.keeper.begin();
        self.resume_exchanges(slot);
        let mut connack = Vec::new();
        request.put_accepted(&mut connack, &limits, session_present);
        if connack.len() > request.max_packet_bytes as usize {
            // Without CONNACK there is no connection, and this client takes none that says what was agreed on.
            return self.end(slot, End::CLOSED);
        }
        self.clients[slot as usize].outbox.tail(&mut self.spares).extend_from_slice(&connack);
        self.counts.packets_sent += 1;
        self.counts.connack_sent += 1;
        self.counts.client_connack += 1;
        self.counts.client_connected += 1;
        self.mark_dirty(slot); // A resumed session's messages follow at the end of the turn.
        self.arm(slot);
        self.go_on_replaying(seat);
        self.notice_connected(slot, request, session_present);
        // At once, not at the end of the turn: there is one CONNACK a connection, so nothing is saved by gathering, and
        // clients that come in crowds go on while this worker reads the next one.
        self.flush(slot);
        if self.clients.contains(slot as usize) {
            self.publish_present(slot, request);
        }
    }

    pub(super) fn attach(&mut self, slot: u32, seat_slot: u32, request: &Request, is_superuser: bool) {
        let client = &mut self.clients[slot as usize];
        client.session = Some(seat_slot);
        client.is_superuser = is_superuser;
        client.connection.open(request.keep_alive_s, request.max_packet_bytes, self.now.ms);
        client.connection.grant_aliases(request.topic_alias_max);
        let limits = client.connection.limits();
        let agreed = Agreed::new(request, limits);
        let Some(seat) = self.sessions.get_mut(seat_slot) else {
            return;
        };
        seat.client = Some(slot);
        seat.username = request.username.clone();
        seat.clean_start = request.clean_start;
        seat.is_expiry_asked = request.session_expiry_asked_s.is_some_and(|asked_s| asked_s > 0);
        seat.away = None;
        seat.session.limit(limits);
        seat.session.attach(agreed);
        seat.session.will = request
            .will
            .as_ref()
            .map(|message| Box::new(Will { message: Arc::clone(message), delay_s: request.will_delay_s }));
        self.set_online(seat_slot, true);
    }

    /// The session for a request: an old one ends or moves on first. Returns its slot and whether it was there before.
    fn open_session(&mut self, request: &Request, limits: &Limits) -> (u32, bool) {
        let before = self.sessions.find(&request.client_id);
        let is_displaced = before.is_some_and(|seat| self.displace(seat, request.clean_start));
        match self.sessions.find(&request.client_id) {
            Some(seat) if !request.clean_start => {
                self.counts.session_takeovered += u64::from(is_displaced);
                self.counts.session_resumed += 1;
                (seat, true)
            }
            old => {
                if let Some(seat) = old {
                    self.counts.session_discarded += 1;
                    self.remove_session(seat);
                }
                (self.create_session(request, limits), false)
            }
        }
    }

    /// The connection that holds the session, if there is one, gives it up [MQTT-3.1.4-3].
    fn displace(&mut self, seat: u32, clean_start: bool) -> bool {
        let Some(client) = self.sessions.get(seat).and_then(|seat| seat.client) else {
            return false;
        };
        self.end(client, if clean_start { End::DISCARDED } else { End::TAKEN_OVER });
        true
    }

    fn create_session(&mut self, request: &Request, limits: &Limits) -> u32 {
        self.counts.session_created += 1;
        self.shared.gauges.sessions.add(1);
        self.sessions.insert(Session::new(Arc::clone(&request.client_id), limits))
    }

    fn notice_connected(&mut self, slot: u32, request: &Request, session_present: bool) {
        if !self.shared.wants(Interest::CONNECTED) {
            return;
        }
        let client = &self.clients[slot as usize];
        self.events.push(Event::Connected(Box::new(Connected {
            client_id: Arc::clone(&request.client_id),
            username: request.username.clone(),
            peer: client.peer.to_string(),
            listener: self.shared.listeners[usize::from(client.listener)].label.clone(),
            protocol_version: request.version as u8,
            keep_alive_s: request.keep_alive_s,
            clean_start: request.clean_start,
            session_present,
            timestamp_ms: self.now.unix_ms,
        })));
    }

    /// Tells a client in CONNACK that it may not enter.
    pub(super) fn put_refusal(&mut self, slot: u32, reason: ReasonCode, what: &str) {
        let client = &mut self.clients[slot as usize];
        let version = match client.connection.phase() {
            // Refused before its version was known: 3.1.1 is what anybody can read [MQTT-3.1.2-2].
            Phase::Opening => Version::V311,
            _ => client.connection.version(),
        };
        if !client.connection.put_refused(client.outbox.tail(&mut self.spares), version, reason, what) {
            return;
        }
        self.counts.packets_sent += 1;
        self.counts.connack_sent += 1;
        self.counts.client_connack += 1;
        self.counts.connack_error += 1;
        let is_credential = matches!(reason, ReasonCode::NOT_AUTHORIZED | ReasonCode::BAD_USER_NAME_OR_PASSWORD);
        self.counts.connack_auth_error += u64::from(is_credential);
    }
}
