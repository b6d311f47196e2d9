//! Acknowledgements that do not come: QoS 2 messages without PUBREL, and what an MQTT 3.x client leaves unanswered.
//!
//! Knows when to look again. One reminder a session or connection, armed only where there is something to look at. What
//! has waited too long, the session knows.

use whimbrel_protocol::Version;
use whimbrel_protocol::session::Resend;

use super::Worker;
use crate::timers::Subject;

impl Worker {
    /// A connection has taken its session: both clocks start.
    pub(super) fn resume_exchanges(&mut self, slot: u32) {
        let now_ms = self.now.ms;
        let client = &self.clients[slot as usize];
        let (epoch, interval_ms) = (client.epoch, client.connection.limits().retry_interval_ms);
        let is_retried = interval_ms > 0 && client.connection.version() != Version::V5; // [MQTT-4.4.0-1] of 5.0
        let Some(seat) = self.seat_of(slot) else { return };
        seat.session.inbound.restart_clocks(now_ms);
        if is_retried {
            seat.session.outbound.keep_bodies();
            self.timers.arm(now_ms + u64::from(interval_ms), Subject::Retry(slot, epoch));
        }
        if self.seat_of(slot).is_some_and(|seat| seat.session.inbound.awaiting_rel_count() > 0) {
            self.watch_await_rel(slot);
        }
    }

    /// A QoS 2 message waits for its PUBREL.
    #[inline]
    pub(super) fn watch_await_rel(&mut self, slot: u32) {
        let client = &self.clients[slot as usize];
        let timeout_s = client.connection.limits().await_rel_timeout_s;
        let Some(seat_slot) = client.session else { return };
        let Some(seat) = self.sessions.get_mut(seat_slot).filter(|seat| timeout_s > 0 && !seat.is_rel_watched) else {
            return;
        };
        let Some(due_ms) = seat.session.inbound.next_expiry_ms(timeout_s) else { return };
        seat.is_rel_watched = true;
        self.timers.arm(due_ms, Subject::AwaitRel(seat_slot, seat.epoch));
    }

    pub(super) fn on_await_rel(&mut self, seat_slot: u32, epoch: u16) {
        let now_ms = self.now.ms;
        let Some(seat) = self.sessions.live(seat_slot, epoch) else { return };
        seat.is_rel_watched = false;
        // Time does not count while the client is away; it starts anew when the session is resumed.
        let Some(slot) = seat.client else { return };
        let timeout_s = self.clients[slot as usize].connection.limits().await_rel_timeout_s;
        seat.session.inbound.overdue_stored(now_ms, timeout_s).for_each(|stored| self.keeper.release(stored));
        let expired = seat.session.inbound.expire(now_ms, timeout_s) as u64;
        self.counts.qos2_expired += expired;
        self.counts.messages_dropped += expired;
        self.counts.dropped_expired += expired;
        self.counts.dropped_await_pubrel += expired;
        self.watch_await_rel(slot);
    }

    /// An interval has passed: what was unacknowledged at its beginning and still is goes out again.
    pub(super) fn on_retry(&mut self, slot: u32, epoch: u16) {
        let Some(client) = self.clients.get(slot as usize).filter(|client| client.epoch == epoch) else {
            return;
        };
        let interval_ms = client.connection.limits().retry_interval_ms;
        let Some(seat) = self.seat_of(slot) else { return };
        for (packet_id, resend) in seat.session.outbound.overdue() {
            // A client that does not read is not helped by more to read; its next chance is an interval away.
            if !self.clients[slot as usize].has_room() {
                break;
            }
            self.retry(slot, packet_id, &resend);
        }
        self.timers.arm(self.now.ms + u64::from(interval_ms), Subject::Retry(slot, epoch));
    }

    fn retry(&mut self, slot: u32, packet_id: u16, resend: &Resend) {
        self.counts.delivery_retried += 1;
        match resend {
            // It was sent on this connection before, so the client takes its size.
            Resend::Publish(delivery) => {
                self.send_delivery(slot, packet_id, delivery, true);
            }
            Resend::PubRel => self.send_pubrel(slot, packet_id),
        }
    }
}
