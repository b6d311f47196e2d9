//! Connections that send faster than their zone allows, or whose packets cost more than a turn may take: they wait, and
//! nothing of what they send is lost.
//!
//! Knows who waits for tokens and until when, and who goes on in the next turn. A waiting connection is not read, so that its own socket holds the sender
//! back; it is parked like one whose question is unanswered. How the tokens are counted is [`crate::pace`]'s.

use rustix::event::epoll;

use super::Worker;
use super::client::{Client, End, Parked, Question};
use super::outbox::Outbox;
use crate::timers::Subject;

/// No question has it.
const NO_TICKET: u64 = u64::MAX;

impl Worker {
    /// How many bytes may be read from a connection now; None: none, and it waits.
    #[inline]
    pub(super) fn readable_bytes(&mut self, slot: u32) -> Option<usize> {
        let Some(pace) = &mut self.clients[slot as usize].pace else { return Some(usize::MAX) };
        match pace.readable_bytes(self.now.ms) {
            Ok(count) => Some(count),
            Err(wait_ms) => {
                self.wait_for_tokens(slot, &[], wait_ms);
                self.watch(slot);
                None
            }
        }
    }

    /// The connection is left alone for `wait_ms`; `rest` was read and comes first then.
    pub(super) fn wait_for_tokens(&mut self, slot: u32, rest: &[u8], wait_ms: u64) {
        self.counts.connections_paced += 1;
        let due_ms = self.now.ms + wait_ms;
        let client = &mut self.clients[slot as usize];
        let parked = Parked { ticket: NO_TICKET, due_ms, question: Question::Tokens, rest: rest.to_vec() };
        client.parked = Some(Box::new(parked));
        // Not the client's own reminder: that one keeps its place for the keep-alive, however often the client waits.
        self.timers.arm(due_ms, Subject::Paced(slot, client.epoch));
    }

    /// The connection's packets cost so much that others must have their turn before `rest` is handled.
    pub(super) fn rest_connection(&mut self, slot: u32, rest: &[u8]) {
        let due_ms = self.now.ms + 1; // Not before the next turn, whoever is reminded first.
        let Some(client) = self.clients.get_mut(slot as usize) else { return };
        client.needed = 0;
        if rest.is_empty() {
            return;
        }
        self.counts.connections_rested += 1;
        let parked = Parked { ticket: NO_TICKET, due_ms, question: Question::Tokens, rest: rest.to_vec() };
        client.parked = Some(Box::new(parked));
        let epoch = client.epoch;
        self.resting.push((slot, epoch));
        self.watch(slot);
    }

    /// Those who rested in the turn before go on.
    pub(super) fn wake_resting(&mut self) {
        for (slot, epoch) in std::mem::take(&mut self.resting) {
            let is_there = self.clients.get(slot as usize).is_some_and(|client| client.epoch == epoch);
            if !is_there || !self.is_paced(slot) {
                continue;
            }
            let parked = self.clients[slot as usize].parked.take();
            parked.into_iter().for_each(|parked| self.read_on(slot, &parked.rest));
        }
    }

    pub(super) fn is_paced(&self, slot: u32) -> bool {
        let parked = self.clients[slot as usize].parked.as_deref();
        parked.is_some_and(|parked| matches!(parked.question, Question::Tokens))
    }

    /// A connection's wait may be over.
    pub(super) fn on_tokens(&mut self, slot: u32, epoch: u16) {
        let now_ms = self.now.ms;
        let Some(client) = self.clients.get_mut(slot as usize).filter(|client| client.epoch == epoch) else {
            return;
        };
        let is_over = |parked: &mut Box<Parked>| matches!(parked.question, Question::Tokens) && parked.due_ms <= now_ms;
        if let Some(parked) = client.parked.take_if(is_over) {
            self.read_on(slot, &parked.rest);
        }
    }

    pub(super) fn read_on(&mut self, slot: u32, rest: &[u8]) {
        self.clients[slot as usize].connection.heard(self.now.ms); // It could not be heard meanwhile.
        if rest.is_empty() {
            self.arm(slot);
            self.watch(slot);
        } else {
            self.go_on(slot, rest, None);
        }
    }

    /// The peer is gone and the connection is not being read. What the client sent before it left is still taken, its
    /// goodbye among it: the rest of a socket is bounded, and there will be no more. One that is not let in yet is let go.
    pub(super) fn on_hung_up(&mut self, slot: u32, is_error: bool) {
        let client = &mut self.clients[slot as usize];
        let question = client.parked.as_deref().map(|parked| &parked.question);
        match question {
            _ if is_error || client.is_leaving => return self.end(slot, End::CLOSED),
            Some(Question::Tokens) => {}
            Some(Question::Packet | Question::Room) => return self.wait_unwatched(slot),
            Some(_) => return self.end(slot, End::CLOSED),
            None => {
                client.outbox = Outbox::default(); // Nobody reads it, and it kept the client from being read.
                return self.read(slot);
            }
        }
        client.pace = None;
        let parked = client.parked.take();
        parked.into_iter().for_each(|parked| self.read_on(slot, &parked.rest));
    }

    /// The peer takes nothing more, so the connection ends; not before what it sent until then was taken.
    pub(super) fn on_unwritable(&mut self, slot: u32) {
        let epoch = self.clients[slot as usize].epoch;
        self.on_hung_up(slot, false);
        let is_it = |client: &Client| client.epoch == epoch && !client.is_waiting();
        if self.clients.get(slot as usize).is_some_and(is_it) {
            self.end(slot, End::CLOSED);
        }
    }

    /// Leaves a client that is gone alone until somebody has answered the question about it. It is not watched meanwhile,
    /// because its end would wake this worker all the time, nor written to, because that would end it.
    fn wait_unwatched(&mut self, slot: u32) {
        let client = &mut self.clients[slot as usize];
        let _ = epoll::delete(&self.poll, client.socket.fd());
        (client.awaits_writable, client.is_writable) = (true, false);
    }
}
