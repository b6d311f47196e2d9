//! Clients that come and go too often are refused for a while.
//!
//! Knows which ends count and who is told. The counting is [`crate::flapping`]'s.

use std::sync::Arc;

use super::Worker;
use super::client::End;
use crate::event::Event;

impl Worker {
    /// A connection that had a session has ended.
    pub(super) fn note_end(&mut self, seat: u32, end: End) {
        let Some(rule) = self.shared.flapping else { return };
        let Some(seat) = self.sessions.get(seat).filter(|_| end.word != End::SHUTDOWN.word) else { return };
        let client_id = Arc::clone(&seat.session.client_id);
        if !self.flaps.note(&rule, &client_id, self.now.ms) {
            return;
        }
        self.counts.flapping_banned += 1;
        let text = format!(
            "client {client_id:?} is refused for {} s: {} of its connections ended within {} s (flapping.max_count)",
            rule.ban_ms.div_ceil(1000),
            rule.max_count,
            rule.window_ms.div_ceil(1000)
        );
        self.events.push(Event::Log { level: 30, text });
    }

    /// Whether a client may not enter yet.
    pub(super) fn is_flapping(&mut self, client_id: &str) -> bool {
        let is_refused = self.shared.flapping.is_some() && self.flaps.is_refused(client_id, self.now.ms);
        self.counts.flapping_refused += u64::from(is_refused);
        is_refused
    }
}
