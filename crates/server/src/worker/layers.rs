//! Connections whose listeners lay TLS or WebSocket over the socket.
//!
//! Knows what a turn owes to such a connection behind the packets: its layers may have something to say, or have said that
//! they are at their end. Plain connections leave at the first line.

use super::Worker;
use super::client::{Client, End};
use crate::event::Event;
use crate::socket::Peer;

/// The log is told of a failed handshake once in so many milliseconds, and the counter of each.
const FAILED_LOG_MS: u64 = 10_000;

impl Worker {
    /// After a read, and after an answer for which a read waited.
    #[inline]
    pub(super) fn settle(&mut self, slot: u32) {
        let Some(client) = self.clients.get(slot as usize).filter(|client| client.socket.plain().is_none()) else {
            return;
        };
        if client.socket.is_over() && client.parked.is_none() {
            self.end(slot, End::CLOSED); // Only now: the packets before the end are handled.
        } else if client.socket.has_waiting() {
            self.mark_dirty(slot);
        }
    }

    /// After a read, before its packets: their records are to name the client, not the proxy.
    #[inline]
    pub(super) fn note_proxied(&mut self, slot: u32) {
        let client = &mut self.clients[slot as usize];
        if client.socket.plain().is_none()
            && let Some(address) = client.socket.take_proxied()
        {
            client.peer = Peer::from(address);
        }
    }

    /// A connection ended before its layers let a byte of MQTT pass.
    pub(super) fn on_failed_handshake(&mut self, client: &Client, text: &str) {
        self.counts.handshakes_failed += 1;
        if self.failed_ms.is_some_and(|told_ms| self.now.ms < told_ms + FAILED_LOG_MS) {
            return;
        }
        self.failed_ms = Some(self.now.ms);
        let label = &self.shared.listeners[usize::from(client.listener)].label;
        let text = format!("{label}: handshake with {} failed: {text}", client.peer);
        self.events.push(Event::Log { level: 20, text });
    }
}
