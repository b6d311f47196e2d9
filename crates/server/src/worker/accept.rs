//! New connections.
//!
//! Knows listeners and the first reminder of a connection. Does not know MQTT.

use std::sync::Arc;

use rustix::event::epoll;
use whimbrel_protocol::connection::{Connection, Role};

use super::client::{Arrival, Client};
use super::{Token, Worker};
use crate::event::Event;
use crate::listener::Accepted;
use crate::pace::Pace;
use crate::timers::Subject;

/// Connections taken from one listener in one turn; the rest waits for the next, behind the clients that are ready.
const ACCEPTS_MAX: usize = 64;
/// The log is told of it once in so many milliseconds.
const EXHAUSTED_LOG_MS: u64 = 60_000;
/// How long listeners rest when descriptors have run out; milliseconds.
const EXHAUSTED_REST_MS: u64 = 100;

impl Worker {
    /// Watches the listeners from now on, unless the broker stops.
    pub(super) fn open_listeners(&mut self) {
        (0..self.shared.listeners.len()).for_each(|index| self.open_listener(index as u16));
    }

    fn open_listener(&mut self, index: u16) {
        if self.stop_by_ms.is_some() {
            return;
        }
        // Exclusive: one worker wakes for a connection, not all of them.
        let flags = epoll::EventFlags::IN | epoll::EventFlags::EXCLUSIVE;
        let listener = &self.shared.listeners[usize::from(index)];
        match epoll::add(&self.poll, listener.fd(), Token::Listener(index).pack(), flags) {
            // One that rested for two reasons is watched again after the first.
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => {
                let text = format!("{}: worker {} cannot accept: {error}", listener.label, self.index);
                self.events.push(Event::Log { level: 40, text });
            }
        }
    }

    /// A listener that let in too many may let in more.
    pub(super) fn wake_listener(&mut self, index: u16) {
        self.open_listener(index);
    }

    /// More connections come than the listener takes: the kernel keeps them until this worker looks again.
    fn rest_listener(&mut self, index: u16, wait_ms: u64) {
        self.counts.listeners_rested += 1;
        let _ = epoll::delete(&self.poll, self.shared.listeners[usize::from(index)].fd());
        self.timers.arm(self.now.ms + wait_ms, Subject::Listener(index));
    }

    pub(super) fn unwatch_listeners(&mut self) {
        for listener in &self.shared.listeners {
            // One that is not watched now stays so.
            let _ = epoll::delete(&self.poll, listener.fd());
        }
    }

    pub(super) fn accept(&mut self, index: u16) {
        let shared = Arc::clone(&self.shared);
        let listener = &shared.listeners[usize::from(index)];
        for _ in 0..ACCEPTS_MAX {
            match listener.accept() {
                Accepted::Client(socket, peer) => {
                    let limits = shared.zone(listener.options.zone);
                    self.welcome(Arrival { socket, peer, listener: index, limits });
                }
                Accepted::Refused => self.counts.accepts_refused += 1,
                Accepted::Empty => return,
                Accepted::TooFast(wait_ms) => return self.rest_listener(index, wait_ms),
                Accepted::Exhausted(error) => return self.rest(&listener.label, error),
            }
        }
    }

    fn rest(&mut self, label: &str, error: rustix::io::Errno) {
        self.unwatch_listeners();
        self.accept_again_ms = Some(self.now.ms + EXHAUSTED_REST_MS);
        self.counts.accepts_refused += 1;
        if self.exhausted_ms.is_some_and(|told_ms| self.now.ms < told_ms + EXHAUSTED_LOG_MS) {
            return;
        }
        self.exhausted_ms = Some(self.now.ms);
        let text = format!(
            "{label}: cannot accept connections for {EXHAUSTED_REST_MS} ms: {error}; raise the limit of open files"
        );
        self.events.push(Event::Log { level: 30, text });
    }

    pub(super) fn welcome(&mut self, arrival: Arrival) {
        let connection = Connection::new(Role::Server, Arc::clone(&arrival.limits), self.now.ms);
        self.shared.gauges.connections.add(1);
        self.seat(arrival, connection);
    }

    /// Takes a connection in and watches its socket; None if the kernel will not watch it.
    pub(super) fn seat(&mut self, arrival: Arrival, connection: Connection) -> Option<u32> {
        self.next_epoch = self.next_epoch.wrapping_add(1);
        let epoch = self.next_epoch;
        let listener = arrival.listener;
        let slot = self.clients.insert(Client::new(arrival, connection, epoch, self.now.unix_ms)) as u32;
        let client = &mut self.clients[slot as usize];
        client.pace = Pace::new(client.connection.limits(), self.now.ms);
        let token = Token::Client(slot, epoch).pack();
        if epoll::add(&self.poll, client.socket.fd(), token, epoll::EventFlags::IN).is_err() {
            self.clients.remove(slot as usize);
            self.shared.gauges.connections.take(1);
            self.shared.listeners[usize::from(listener)].release();
            return None;
        }
        self.arm(slot);
        Some(slot)
    }

    /// Makes sure that a reminder comes no later than the client's deadline.
    pub(super) fn arm(&mut self, slot: u32) {
        let Some(client) = self.clients.get_mut(slot as usize) else {
            return;
        };
        let Some(due_ms) = client.deadline_ms() else { return };
        if client.reminder_ms == 0 || due_ms < client.reminder_ms {
            client.reminder_ms = due_ms;
            self.timers.arm(due_ms, Subject::Client(slot, client.epoch));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::super::alone;
    use crate::mailbox::Mail;

    #[test]
    fn a_worker_that_stops_lets_nobody_in_any_more() {
        let listener = alone::listener();
        let address = listener.address.clone();
        let mut worker = alone::worker_of(vec![listener]);
        worker.accept_again_ms = Some(0); // Descriptors had run out a moment before.
        worker.stop(0);
        worker.fire_timers();
        worker.shared.mailboxes[0].post([Mail::Open]);
        worker.take_mail();
        let _waiting = TcpStream::connect(address).unwrap();
        worker.turn();
        assert_eq!(worker.clients.len(), 0);
    }
}
