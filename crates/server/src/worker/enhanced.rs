//! Enhanced authentication: each packet of a client's exchange becomes a question (MQTT 5.0 section 4.12).
//!
//! Knows where the request waits between two AUTH packets and what each answer leads to. The rules of the packets are the
//! connection's; what the data mean is the hook's. The whole exchange before CONNACK has the time of `mqtt.idle_timeout`.

use std::sync::Arc;

use whimbrel_protocol::connection::handshake::{Request, Secret};
use whimbrel_protocol::packet::Disconnect;
use whimbrel_protocol::{ReasonCode, Violation};

use super::Worker;
use super::client::{End, Parked, Question};
use super::inbound::Step;
use crate::answer::Answer;
use crate::event::{EnhancedAuthenticate, Event};
use crate::shared::Interest;

/// An answer.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Success, "continue authentication", or an error.
    pub(super) answer: Answer,
    /// Authentication Data for the client.
    pub(super) auth_data: Option<Secret>,
    pub(super) is_superuser: bool,
}

impl Outcome {
    /// Nobody answered in time.
    pub(super) const UNANSWERED: Outcome =
        Outcome { answer: Answer::new(ReasonCode::SERVER_UNAVAILABLE), auth_data: None, is_superuser: false };
}

const NO_METHOD: &str = "authentication method not supported";
const TOO_LONG: Violation =
    Violation::new(ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR, "AUTH longer than the client takes");

impl Worker {
    /// A CONNECT that names a method.
    pub(super) fn begin_exchange(&mut self, slot: u32, mut request: Box<Request>) -> Result<Step, End> {
        if !self.shared.wants(Interest::ENHANCED_AUTHENTICATE) {
            // [MQTT-4.12.0-1]
            return Err(Violation::new(ReasonCode::BAD_AUTHENTICATION_METHOD, NO_METHOD).into());
        }
        let method = request.auth_method.as_deref().unwrap_or_default();
        self.clients[slot as usize].connection.begin_authentication(method);
        let (password, auth_data) = (request.password.take(), request.auth_data.take());
        let (client_id, username) = (Arc::clone(&request.client_id), request.username.clone());
        let subject = Subject { client_id, username, password, step: 0, auth_data };
        self.ask_enhanced(slot, subject, Some(request));
        Ok(Step::ParkBehind)
    }

    pub(super) fn on_auth(&mut self, slot: u32, auth: &Disconnect<'_>) -> Result<Step, End> {
        self.counts.auth_received += 1;
        let client = &mut self.clients[slot as usize];
        let step = client.connection.on_auth(auth)?;
        let auth_data = step.bytes.map(|bytes| Secret(bytes.into()));
        let request = match client.parked.take().map(|parked| parked.question) {
            Some(Question::Challenged(request)) => Some(request),
            _ => None,
        };
        let (client_id, username) = match &request {
            Some(request) => (Arc::clone(&request.client_id), request.username.clone()),
            None => {
                let seat = self.seat_of(slot).ok_or(End::CLOSED)?;
                (Arc::clone(&seat.session.client_id), seat.username.clone())
            }
        };
        let subject = Subject { client_id, username, password: None, step: step.step, auth_data };
        self.ask_enhanced(slot, subject, request);
        Ok(Step::ParkBehind)
    }

    fn ask_enhanced(&mut self, slot: u32, subject: Subject, request: Option<Box<Request>>) {
        self.counts.client_enhanced_authenticate += 1;
        let ticket = self.ticket(slot);
        let client = &self.clients[slot as usize];
        let listener = &self.shared.listeners[usize::from(client.listener)];
        self.events.push(Event::EnhancedAuthenticate(Box::new(EnhancedAuthenticate {
            ticket,
            exchange: u64::from(self.index) << 48 | u64::from(client.epoch) << 32 | u64::from(slot),
            step: subject.step,
            is_reauthentication: request.is_none(),
            method: client.connection.authentication_method().unwrap_or_default().into(),
            auth_data: subject.auth_data,
            client_id: subject.client_id,
            username: subject.username,
            password: subject.password,
            peer: client.peer.to_string(),
            listener: listener.label.clone(),
        })));
        self.park(slot, ticket, Question::Exchange(request));
    }

    pub(super) fn on_enhanced(&mut self, ticket: u64, outcome: Outcome) {
        let slot = ticket as u32;
        let is_asked = |question: &Question| matches!(question, Question::Exchange(_));
        let Some(Parked { question: Question::Exchange(request), rest, .. }) = self.unpark(ticket, is_asked) else {
            return;
        };
        match (outcome.answer.reason, request) {
            (ReasonCode::CONTINUE_AUTHENTICATION, request) => self.challenge(slot, request, outcome.auth_data, &rest),
            (ReasonCode::SUCCESS, Some(mut request)) => {
                request.auth_data = outcome.auth_data;
                self.let_in(slot, request, outcome.is_superuser, rest);
            }
            (ReasonCode::SUCCESS, None) => self.confirm(slot, outcome, &rest),
            (_, Some(_)) => self.refuse_entry(slot, &outcome.answer),
            (reason, None) => {
                let words = outcome.answer.words.as_deref().unwrap_or("not authenticated anew");
                self.dismiss(slot, End::told("not_authorized", while_open(reason), ""), words);
            }
        }
    }

    fn challenge(&mut self, slot: u32, request: Option<Box<Request>>, auth_data: Option<Secret>, rest: &[u8]) {
        let client = &mut self.clients[slot as usize];
        let tail = client.outbox.tail(&mut self.spares);
        if !client.connection.challenge(tail, auth_data.as_ref().map(|bytes| &*bytes.0)) {
            return self.end(slot, TOO_LONG.into());
        }
        if let Some(request) = request {
            let due_ms = client.connection.deadline_ms().unwrap_or(self.now.ms);
            let question = Question::Challenged(request);
            client.parked = Some(Box::new(Parked { ticket: 0, due_ms, question, rest: Vec::new() }));
        }
        self.auth_is_out(slot, rest);
    }

    /// The client has authenticated itself anew; what it may do is asked anew, too.
    fn confirm(&mut self, slot: u32, outcome: Outcome, rest: &[u8]) {
        let client = &mut self.clients[slot as usize];
        let tail = client.outbox.tail(&mut self.spares);
        if !client.connection.settle(tail, outcome.auth_data.as_ref().map(|bytes| &*bytes.0)) {
            return self.end(slot, TOO_LONG.into());
        }
        client.is_superuser = outcome.is_superuser;
        client.verdicts = None;
        self.auth_is_out(slot, rest);
    }

    fn auth_is_out(&mut self, slot: u32, rest: &[u8]) {
        self.counts.packets_sent += 1;
        self.counts.auth_sent += 1;
        self.mark_dirty(slot);
        self.go_on(slot, rest, None);
    }
}

/// Whose packet a question is about, and what it says.
struct Subject {
    client_id: Arc<str>,
    username: Option<Box<str>>,
    password: Option<Secret>,
    step: u32,
    auth_data: Option<Secret>,
}

/// What DISCONNECT may say of a CONNACK's refusal (MQTT 5.0 section 2.4).
fn while_open(reason: ReasonCode) -> ReasonCode {
    match reason {
        ReasonCode::UNSPECIFIED_ERROR
        | ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR
        | ReasonCode::BAD_AUTHENTICATION_METHOD
        | ReasonCode::QUOTA_EXCEEDED
        | ReasonCode::SERVER_BUSY => reason,
        _ => ReasonCode::NOT_AUTHORIZED,
    }
}
