//! Retained messages whose time is over leave the store, also where nobody asks for them.
//!
//! Knows when the next one is due. Each worker that stores a message with an expiry looks again when it is due, at most
//! once a second, and removes a bounded number in a turn: the lock is never held long, and a broker without such messages
//! never wakes. A removed copy is counted as `whimbrel.retained.expired`, not as a dropped message: what became of the
//! publish itself was counted when it was routed.

use std::sync::PoisonError;

use super::Worker;

/// Messages removed in one turn.
const STEP_MESSAGES: usize = 256;
/// Between two looks, unless a step left something behind.
const PAUSE_MS: u64 = 1_000;

impl Worker {
    /// Looks again when the steady clock says `due_ms`; an earlier look stays as it is.
    pub(super) fn sweep_by(&mut self, due_ms: u64) {
        let wait_ms = due_ms.saturating_sub(self.now.steady_ms);
        let at_ms = self.now.ms + wait_ms;
        self.sweep_at_ms = Some(self.sweep_at_ms.map_or(at_ms, |before_ms| before_ms.min(at_ms)));
    }

    pub(super) fn sweep_if_due(&mut self) {
        if self.sweep_at_ms.is_none_or(|due_ms| due_ms > self.now.ms) {
            return;
        }
        self.sweep_at_ms = None;
        let steady_ms = self.now.steady_ms;
        let mut retained = self.shared.router.retained.write().unwrap_or_else(PoisonError::into_inner);
        let before = retained.size_bytes();
        self.counts.retained_expired += retained.purge(steady_ms, STEP_MESSAGES) as u64;
        self.counts.memory_released += (before - retained.size_bytes()) as u64;
        let next_ms = retained.next_expiry_ms();
        drop(retained);
        if let Some(next_ms) = next_ms {
            let is_behind = next_ms <= steady_ms;
            self.sweep_by(if is_behind { steady_ms } else { next_ms.max(steady_ms + PAUSE_MS) });
        }
    }
}
