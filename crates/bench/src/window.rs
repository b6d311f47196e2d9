//! What is under way and not settled: since when, and how often it must still be settled.
//!
//! Pure. Sequences count from 0 without a gap. Memory: one slot from the oldest unsettled on; who pushes keeps the bound.

use std::collections::VecDeque;

struct Slot {
    since_ns: u64,
    left: u32,
}

/// Sequences under way, oldest first.
#[derive(Default)]
pub struct Window {
    base: u64,
    slots: VecDeque<Slot>,
}

impl Window {
    /// The next sequence, to be settled `times`, at least once.
    pub fn push(&mut self, since_ns: u64, times: u32) {
        self.slots.push_back(Slot { since_ns, left: times });
    }

    /// From the oldest unsettled to the newest.
    pub fn len(&self) -> u64 {
        self.slots.len() as u64
    }

    /// Settles a sequence once; since when it was under way, None where it is not.
    #[inline]
    pub fn settle(&mut self, sequence: u64) -> Option<u64> {
        let slot = self.slots.get_mut(sequence.checked_sub(self.base)? as usize)?;
        slot.left = slot.left.checked_sub(1)?;
        let since_ns = slot.since_ns;
        while self.slots.front().is_some_and(|slot| slot.left == 0) {
            self.slots.pop_front();
            self.base += 1;
        }
        Some(since_ns)
    }

    /// Nothing of what is under way will be settled.
    pub fn give_up(&mut self) {
        self.base += self.slots.len() as u64;
        self.slots.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_when_the_oldest_is_settled_as_often_as_it_must_be() {
        let mut window = Window::default();
        (0..4).for_each(|sequence| window.push(sequence * 10, 2));
        for sequence in [1, 1, 2, 0] {
            assert_eq!(window.settle(sequence), Some(sequence * 10));
        }
        assert_eq!(window.len(), 4, "0 is still missing once");
        window.settle(0);
        assert_eq!(window.len(), 2, "0 and 1 are done, 2 is not");
    }

    #[test]
    fn what_was_settled_or_given_up_cannot_be_settled_again() {
        let mut window = Window::default();
        window.push(0, 1);
        window.push(0, 1);
        assert_eq!((window.settle(1), window.settle(1)), (Some(0), None));
        window.give_up();
        window.push(7, 1);
        assert_eq!((window.settle(0), window.settle(2), window.settle(9)), (None, Some(7), None));
    }
}
