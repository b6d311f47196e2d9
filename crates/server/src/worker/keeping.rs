//! How many sessions may outlive their connection: the memory that clients leave behind when they go.
//!
//! Knows the count of the whole broker and who is told what beyond it. Sessions count from CONNECT on, connected or not:
//! each may be left behind at any moment, and what CONNACK promised is kept. MQTT 5 has words for "not this time" (Session
//! Expiry Interval 0 in CONNACK), so the client is let in; MQTT 3.1.1 has none, and a client that wrongly believes that its
//! messages wait loses them, so it is refused and may try again.

use whimbrel_protocol::connection::handshake::Request;
use whimbrel_protocol::{Limits, Version};

use super::Worker;
use super::sessions::Seat;

impl Worker {
    /// Whether a client that cannot be told asks for one session too many.
    pub(super) fn must_refuse_session(&mut self, request: &Request, limits: &Limits) -> bool {
        if request.version == Version::V5 || request.session_expiry_s == 0 {
            return false;
        }
        let held = self.sessions.find(&request.client_id).and_then(|seat| self.sessions.get(seat));
        let is_kept = held.is_some_and(|seat| seat.is_kept);
        let is_refused = !is_kept && self.shared.gauges.persistent.now() >= u64::from(limits.max_sessions);
        self.counts.sessions_refused += u64::from(is_refused);
        is_refused
    }

    /// Counts the session a client enters, or lets it end with its connection, of which CONNACK tells.
    pub(super) fn keep_or_not(&mut self, slot: u32, request: &mut Request, limits: &Limits) {
        let Some(seat) = self.sessions.get_mut(slot) else { return };
        if request.session_expiry_s == 0 {
            if std::mem::take(&mut seat.is_kept) {
                self.shared.gauges.persistent.take(1);
            }
            return;
        }
        if seat.is_kept {
            return;
        }
        // MQTT 3.1.1 was asked about before; another worker may have been as quick, and then there is one too many.
        let max = if request.version == Version::V5 { u64::from(limits.max_sessions) } else { u64::MAX };
        seat.is_kept = self.shared.gauges.persistent.add_below(max);
        if !seat.is_kept {
            self.counts.sessions_refused += 1;
            request.session_expiry_s = 0;
        }
    }

    /// The session has ended.
    pub(super) fn let_go(&mut self, seat: &mut Seat) {
        if std::mem::take(&mut seat.is_kept) {
            self.shared.gauges.persistent.take(1);
        }
    }
}
