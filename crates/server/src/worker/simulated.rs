//! A worker whose turns somebody else gives: for the simulator.
//!
//! Knows how to let one worker act without ever blocking, and what it holds. The turn itself is the production code's; only
//! the wait before it is not: a worker that would sleep is left asleep until readiness, mail or its own deadline wakes it.

use std::os::fd::OwnedFd;
use std::time::Duration;

use super::Worker;
use super::client::Arrival;
use crate::clock::Clock;
use crate::socket::{Peer, Socket};

/// How much a worker holds. All of it is 0 when every session has ended and every reminder has passed.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Held {
    /// Connections.
    pub clients: usize,
    /// Sessions.
    pub sessions: usize,
    /// Subscriptions of those.
    pub subscriptions: usize,
    /// Connections with something to do in the next turn.
    pub dirty: usize,
    /// Sessions that are sent retained messages.
    pub replaying: usize,
    /// Absent members of groups that have messages for others, and messages of groups that ended ones have left.
    pub owing: usize,
    /// Mail that is not posted yet.
    pub outgoing: usize,
    /// Mail that is not taken yet.
    pub mail: usize,
    /// Reminders.
    pub reminders: usize,
}

/// A session as its worker knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeldSession {
    /// Whose.
    pub client_id: String,
    /// Under which the store knows it; 0: it does not.
    pub number: u32,
    /// Its filters, in order.
    pub filters: Vec<String>,
    /// The payload of its will.
    pub will: Option<Vec<u8>>,
    /// When that is due, while the client is away; milliseconds.
    pub will_due_ms: Option<u64>,
    /// When it ends, while the client is away; milliseconds.
    pub expires_ms: Option<u64>,
    /// Messages in flight to the client, and those that wait.
    pub outbound: (usize, usize),
}

impl Worker {
    /// Its sessions, by slot; times by its own clock.
    pub(crate) fn held_sessions(&self) -> Vec<HeldSession> {
        let held = (0..self.sessions.slot_end()).filter_map(|slot| self.sessions.get(slot));
        held.map(|seat| {
            let mut filters: Vec<String> =
                seat.session.subscriptions.iter().map(|(filter, _)| filter.to_owned()).collect();
            filters.sort_unstable();
            HeldSession {
                client_id: seat.session.client_id.to_string(),
                number: seat.durable,
                filters,
                will: seat.session.will.as_ref().map(|will| will.message.payload().to_vec()),
                will_due_ms: seat.away.as_ref().and_then(|away| away.will_due_ms),
                expires_ms: seat.away.as_ref().and_then(|away| away.expires_ms),
                outbound: (seat.session.outbound.inflight_count(), seat.session.outbound.queue_len()),
            }
        })
        .collect()
    }

    /// From now on the clock is `clock`.
    pub(crate) fn set_clock(&mut self, clock: Clock) {
        self.clock = clock;
        self.read_clocks();
    }

    /// How long it would wait now; None: until something happens. Announces sleep, as before a real wait.
    pub(crate) fn would_wait(&self) -> Option<Duration> {
        self.patience()
    }

    /// Looks for readiness without waiting; whether there is some.
    pub(crate) fn look(&mut self) -> bool {
        self.wait(Some(Duration::ZERO));
        !self.ready.is_empty()
    }

    /// Acts on what `look` found.
    pub(crate) fn act_now(&mut self) {
        self.act();
    }

    /// A connection, as if listener 0 had accepted it in this worker.
    pub(crate) fn take_in(&mut self, socket: OwnedFd) {
        self.read_clocks(); // Accepting is a part of a turn.
        let listener = &self.shared.listeners[0];
        listener.admit();
        let limits = self.shared.zone(listener.options.zone);
        let Some(socket) = listener.layering.lay_over(Socket::new(socket), &Peer::Local) else { return };
        self.welcome(Arrival { socket, peer: Peer::Local, listener: 0, limits });
    }

    /// What it holds now.
    pub(crate) fn held(&self) -> Held {
        Held {
            clients: self.clients.len(),
            sessions: self.sessions.len(),
            subscriptions: self.sessions.iter().map(|seat| seat.session.subscriptions.len()).sum(),
            dirty: self.dirty.len(),
            replaying: self.replaying.len(),
            owing: self.owing.len() + self.estates.len(),
            outgoing: self.outgoing.iter().map(Vec::len).sum(),
            mail: self.shared.mailboxes[usize::from(self.index)].len(),
            reminders: self.timers.len(),
        }
    }
}
