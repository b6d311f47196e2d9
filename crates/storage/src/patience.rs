//! Whether records are let wait before they are written, because what is settled meanwhile needs no write.
//!
//! Knows what became of the groups before. Must not know records, threads, the clock.

/// Waiting pays where one slot of so many is settled before it is written.
const WORTH_WAITING: u64 = 4;
/// Groups whose fate is looked at before waiting is given up.
const JUDGED: u32 = 32;
/// Groups that were not let wait; then one is, because only that shows whether it would pay.
const RUSHED_MAX: u32 = 128;
/// So many slots are worth a commit of their own where waiting does not pay, and so many always.
const ENOUGH: std::ops::RangeInclusive<u64> = 16..=256;

/// What was seen so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pays: bool,
    /// Groups since the last verdict, or since one was let wait.
    groups: u32,
    slots: u64,
    elided: u64,
    /// Slots of the last group.
    last: u64,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience { pays: true, groups: 0, slots: 0, elided: 0, last: 0 }
    }
}

impl Patience {
    /// Whether a group is let wait, and looked at meanwhile.
    pub(crate) fn pays(&self) -> bool {
        self.pays
    }

    /// So many slots that wait are committed at once: most of what the last group had. A window that is acknowledged at once
    /// comes back in parts, and each part would pay for a commit.
    pub(crate) fn enough(&self) -> u64 {
        let is_let_wait = self.pays || self.groups >= RUSHED_MAX;
        if is_let_wait { u64::MAX } else { (self.last / 4 * 3).clamp(*ENOUGH.start(), *ENOUGH.end()) }
    }

    /// What became of a group: slots that needed no write, and slots that were written.
    pub(crate) fn note(&mut self, elided: u64, written: u64) {
        if elided + written == 0 {
            return;
        }
        self.last = elided + written;
        self.slots += elided + written;
        self.elided += elided;
        let before = self.groups;
        self.groups += 1;
        if self.pays && self.groups < JUDGED {
            return;
        }
        let did_pay = std::mem::replace(&mut self.pays, self.elided * WORTH_WAITING >= self.slots);
        if did_pay || self.pays || before >= RUSHED_MAX {
            self.groups = 0;
        }
        (self.slots, self.elided) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_gives_up_where_nothing_is_settled_in_time_and_tries_again() {
        let mut patience = Patience::default();
        (1..JUDGED).for_each(|_| patience.note(0, 100));
        assert!(patience.pays(), "too few to tell");
        patience.note(100, 0);
        assert_eq!((patience.pays(), patience.enough()), (false, 75));
        (0..RUSHED_MAX).for_each(|_| patience.note(0, 4));
        assert_eq!((patience.pays(), patience.enough()), (false, u64::MAX), "one group waits");
        patience.note(0, 4);
        assert_eq!(patience.enough(), *ENOUGH.start());
        patience.note(0, 64);
        assert_eq!(patience.enough(), 48);
        (0..RUSHED_MAX).for_each(|_| patience.note(0, 64));
        patience.note(32, 64);
        assert!(patience.pays());
    }
}
