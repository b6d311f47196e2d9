//! The broker says once a minute that it is alive, so that a start after a crash knows how long its clients have been gone.
//!
//! Knows when the next time is, and the kept clock (`durable/mark.rs`). The first worker says it, all read it. A session that
//! was connected at a crash expires from the last moment at which that can have been: nothing expires early, and a broker
//! that crashes daily lets go of who never comes back. While the disk is full it cannot be said; a crash in that time counts
//! it as an absence.

use super::Worker;
use crate::durable::Mark;

/// From one sign to the next; milliseconds.
const PERIOD_MS: u64 = 60_000;
/// How long after a sign of life the broker may have been alive: until the next one, however long its commit takes.
const GRACE_MS: u64 = 2 * PERIOD_MS;
/// The wall clock was set if it goes by so much more or less than the steady one; milliseconds.
const JUMP_MS: u64 = 1_000;

/// A worker's part of it.
#[derive(Default, Debug)]
pub(super) struct Marking {
    /// The kept clock is so far ahead of the steady one; milliseconds.
    ahead_ms: i64,
    /// When a connection that the broker had at its end was lost at the latest, by the kept clock.
    lost_ms: u64,
    /// When the next sign is due; None: another worker gives it, or there is no store.
    pub(super) due_ms: Option<u64>,
    /// The wall clock was so far ahead of the steady one at the last sign; milliseconds.
    wall_ahead_ms: i64,
}

impl Worker {
    /// At the start: the kept clock goes on.
    pub(super) fn begin_marks(&mut self) {
        let Some(durable) = self.shared.durable.as_ref() else { return };
        let kept_ms = Mark::kept_at(durable.mark, self.now.unix_ms);
        self.marking.ahead_ms = kept_ms as i64 - self.now.steady_ms as i64;
        self.marking.lost_ms = durable.mark.map_or(kept_ms, |mark| kept_ms.min(mark.kept_ms + GRACE_MS));
        self.marking.due_ms = (self.index == 0).then_some(self.now.ms);
    }

    /// The kept clock; milliseconds, never 0.
    pub(super) fn kept_ms(&self) -> u64 {
        (self.now.steady_ms as i64 + self.marking.ahead_ms).max(1) as u64
    }

    /// When a connection that the broker had at its last end was lost at the latest, by the same clock.
    pub(super) fn lost_ms(&self) -> u64 {
        self.marking.lost_ms.max(1)
    }

    /// Gives the sign if it is due, or the wall clock was set: what comes behind that is told apart from what was before.
    pub(super) fn mark_if_due(&mut self) {
        let Some(due_ms) = self.marking.due_ms else { return };
        let wall_ahead_ms = self.now.unix_ms as i64 - self.now.steady_ms as i64;
        if due_ms <= self.now.ms || wall_ahead_ms.abs_diff(self.marking.wall_ahead_ms) > JUMP_MS {
            self.marking.wall_ahead_ms = wall_ahead_ms;
            self.mark();
        }
    }

    /// Gives it.
    pub(super) fn mark(&mut self) {
        if self.marking.due_ms.is_none() {
            return;
        }
        self.marking.due_ms = Some(self.now.ms + PERIOD_MS);
        let mark = Mark { kept_ms: self.kept_ms(), unix_ms: self.now.unix_ms };
        if !self.shortage.is_refusing() {
            self.keeper.put_mark(mark);
        }
    }
}
