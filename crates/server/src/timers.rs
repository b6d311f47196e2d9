//! What is due when, coarsely: keep-alives, handshakes, questions, session expiry, wills.
//!
//! Knows deadlines and keys. An entry is a reminder, not the truth: whoever is reminded looks at its present deadline and
//! arms again if that lies later. So a client that talks costs no timer operation, and there is one live entry each.

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

/// The heap of one worker.
#[derive(Default, Debug)]
pub(crate) struct Timers(BinaryHeap<Reverse<(u64, Subject)>>);

impl Timers {
    /// Reminds at `due_ms` or a little later.
    pub(crate) fn arm(&mut self, due_ms: u64, subject: Subject) {
        self.0.push(Reverse((due_ms, subject)));
    }

    /// The next reminder's time.
    pub(crate) fn next_ms(&self) -> Option<u64> {
        self.0.peek().map(|Reverse((due_ms, _))| *due_ms)
    }

    /// Reminders, those that nobody waits for any more included.
    #[cfg(feature = "simulation")]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Takes a reminder that is due: the time it was armed for, and whom to remind.
    pub(crate) fn take_due(&mut self, now_ms: u64) -> Option<(u64, Subject)> {
        if self.next_ms()? > now_ms {
            return None;
        }
        self.0.pop().map(|Reverse(entry)| entry)
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
