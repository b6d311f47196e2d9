//! What a worker keeps for later, given back when the storm is over.
//!
//! Knows tables that grew with a crowd that has left, spare buffers, and matches that nobody may use any more. Looks at
//! them a second after they were found too large, at most once a second, and never where nothing changed since. Counts,
//! roughly, the bytes that were freed (`whimbrel.memory.released`), so that whoever has the allocator in its hands knows
//! when it is worth asking it for pages. Does not know the allocator.

use super::Worker;
use super::client::Client;
use super::sessions::Seat;

/// From the first sign to the look; milliseconds.
const PAUSE_MS: u64 = 1_000;
/// A table with room for fewer is never made smaller.
const PLACES_KEPT: usize = 1024;
/// A subscription in the session's list and in the table of all filters, without the text of the filter.
const SUBSCRIPTION_BYTES: usize = 192;
/// What TLS and WebSocket hold for a connection.
const LAYERS_BYTES: usize = 16 * 1024;
/// A message that waits for an acknowledgement or for room, without what is in it.
const MESSAGE_BYTES: usize = 64;

impl Worker {
    /// A connection has ended.
    pub(super) fn note_ended(&mut self, client: &Client) {
        let layers = if client.socket.plain().is_none() { LAYERS_BYTES } else { 0 };
        let bytes = size_of::<Client>() + client.outbox.len() + client.partial.len() + layers;
        self.counts.memory_released += bytes as u64;
    }

    /// A session has ended.
    pub(super) fn note_removed(&mut self, seat: &Seat) {
        let session = &seat.session;
        let filters = session.subscriptions.iter().map(|(filter, _)| filter_bytes(filter)).sum::<u64>();
        let will = session.will.as_ref().map_or(0, |will| will.message.size_bytes());
        let messages = session.outbound.inflight_count() + session.outbound.queue_len();
        let bytes = size_of::<Seat>() + will + session.outbound.queue_bytes() + MESSAGE_BYTES * messages;
        self.counts.memory_released += filters + bytes as u64;
    }

    /// At the end of a turn: whether something is to be given back.
    #[inline]
    pub(super) fn tidy_later(&mut self) {
        if self.tidy_at_ms.is_none() && self.has_outgrown() && self.tidied != self.extent() {
            self.tidy_at_ms = Some(self.now.ms + PAUSE_MS);
        }
    }

    pub(super) fn tidy_if_due(&mut self) {
        if self.tidy_at_ms.is_none_or(|due_ms| due_ms > self.now.ms) {
            return;
        }
        self.tidy_at_ms = None;
        if is_outgrown(self.clients.len(), self.clients.capacity()) {
            self.clients.shrink_to_fit();
        }
        self.sessions.shrink();
        self.spares.shrink();
        self.cache.forget_stale(&self.shared.router);
        self.dirty.shrink_to(PLACES_KEPT);
        self.tidied = self.extent();
    }

    fn has_outgrown(&self) -> bool {
        is_outgrown(self.clients.len(), self.clients.capacity())
            || is_outgrown(self.sessions.len(), self.sessions.slot_end() as usize)
            || self.spares.is_rich()
            || self.cache.is_stale_and_large(&self.shared.router)
    }

    /// Tells whether anything came or went since the last look.
    fn extent(&self) -> (usize, usize, u64) {
        (self.clients.len(), self.sessions.len(), self.counts.bytes_sent)
    }
}

/// What a subscription to this filter held, roughly.
pub(super) fn filter_bytes(filter: &str) -> u64 {
    (2 * filter.len() + SUBSCRIPTION_BYTES) as u64
}

/// Whether a table was made for a crowd that has left.
pub(super) fn is_outgrown(len: usize, capacity: usize) -> bool {
    capacity > PLACES_KEPT && len < capacity / 4
}
