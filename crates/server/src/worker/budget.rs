//! What one client and its session may hold in all.
//!
//! Knows the sum of what is bounded one by one elsewhere. A client above its zone's budget is disconnected, which frees all
//! of it but the queue; the queue keeps within the budget by itself.

use super::Worker;
use super::client::End;

impl Worker {
    /// Ends the connection if it holds too much; one branch where the zone has no budget.
    #[inline]
    pub(super) fn check_budget(&mut self, slot: u32) {
        let Some(client) = self.clients.get(slot as usize) else { return };
        let budget_bytes = client.connection.limits().force_shutdown_bytes as usize;
        if budget_bytes > 0 && self.held_bytes(slot) > budget_bytes {
            self.counts.clients_shut_down += 1;
            self.end(slot, End::OVER_BUDGET);
        }
    }

    fn held_bytes(&self, slot: u32) -> usize {
        let client = &self.clients[slot as usize];
        let seat = client.session.and_then(|seat| self.sessions.get(seat));
        let queued = seat.map_or(0, |seat| seat.session.outbound.queue_bytes());
        let unhandled = client.parked.as_ref().map_or(0, |parked| parked.rest.len());
        client.outbox.len() + client.partial.capacity() + unhandled + queued + client.connection.alias_bytes()
    }
}
