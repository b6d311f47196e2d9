//! What is due when, coarsely: keep-alives, handshakes, questions, session expiry, wills.
//!
//! Knows deadlines and keys. An entry is a reminder, not the truth: whoever is reminded looks at its present deadline and
//! arms again if that lies later. So a client that talks costs no timer operation, and there is one live entry each.
//! Entries of those who are gone meanwhile are thrown out when they may be the greater part.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Whom to remind.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Subject {
    /// A connection: slot and epoch.
    Client(u32, u16),
    /// A session: slot and epoch.
    Session(u32, u16),
    /// A listener that rests, by index.
    Listener(u16),
    /// A session whose QoS 2 messages wait for PUBREL: slot and epoch.
    AwaitRel(u32, u16),
    /// A connection whose unacknowledged messages are sent again: slot and epoch.
    Retry(u32, u16),
    /// A connection that waits for tokens: slot and epoch. One entry a wait, and none outlives it.
    Paced(u32, u16),
}

/// Fewer entries than that are never searched.
const CROWD_MIN: usize = 2048;

/// The heap of one worker.
#[derive(Default, Debug)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(u64, Subject)>>,
    /// Entries that the last search left.
    kept: usize,
}

impl Timers {
    /// Reminds at `due_ms` or a little later.
    pub(crate) fn arm(&mut self, due_ms: u64, subject: Subject) {
        self.heap.push(Reverse((due_ms, subject)));
    }

    /// The next reminder's time.
    pub(crate) fn next_ms(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse((due_ms, _))| *due_ms)
    }

    /// Reminders, those that nobody waits for any more included.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }

    /// Takes a reminder that is due: the time it was armed for, and whom to remind.
    pub(crate) fn take_due(&mut self, now_ms: u64) -> Option<(u64, Subject)> {
        if self.next_ms()? > now_ms {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }

    /// Whether half of the entries came after the last search, so that searching now costs each of them little.
    pub(crate) fn is_crowded(&self) -> bool {
        self.heap.len() > CROWD_MIN.max(2 * self.kept)
    }

    /// Throws out the reminders that nobody waits for.
    pub(crate) fn retain(&mut self, mut is_wanted: impl FnMut(u64, Subject) -> bool) {
        self.heap.retain(|Reverse((due_ms, subject))| is_wanted(*due_ms, *subject));
        self.kept = self.heap.len();
        self.heap.shrink_to(2 * self.kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reminders_come_in_order_and_not_early() {
        let mut timers = Timers::default();
        timers.arm(30, Subject::Client(1, 0));
        timers.arm(10, Subject::Session(2, 0));
        assert_eq!(timers.next_ms(), Some(10));
        assert_eq!(timers.take_due(9), None);
        assert_eq!(timers.take_due(30), Some((10, Subject::Session(2, 0))));
        assert_eq!(timers.take_due(30), Some((30, Subject::Client(1, 0))));
        assert_eq!(timers.take_due(30), None);
    }
}
