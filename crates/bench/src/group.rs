//! The book of a shared subscription: which message reached the group, and in which order each member saw a publisher's.
//!
//! Pure. A message is for one member, whichever; gaps are normal and order across members is nobody's promise, so only a
//! member's own order is judged. What every member has passed over will not come. Memory: a bit for each message from the oldest that is missing on, up to
//! [`SPAN_MAX_WORDS`]; what is older than that would be taken for a repeat if it came after all.

use std::collections::VecDeque;

use crate::census::Delivery;

/// Of each publisher; 1,048,576 messages.
const SPAN_MAX_WORDS: usize = 1 << 14;

/// The book of one run.
pub struct Group {
    seen: Vec<Seen>,
    /// Of each publisher, then member: the lowest sequence that is still in order.
    next: Vec<u64>,
    members: usize,
    /// Messages that a member got after a later one of the same publisher.
    pub out_of_order: u64,
    /// Messages that the group got more than once.
    pub duplicated: u64,
}

/// Sequences from `base` on, a bit each.
#[derive(Clone, Default)]
struct Seen {
    base: u64,
    words: VecDeque<u64>,
}

impl Group {
    /// Nothing has come yet.
    pub fn new(members: usize, publishers: usize) -> Group {
        Group {
            seen: vec![Seen::default(); publishers],
            next: vec![0; members * publishers],
            members,
            out_of_order: 0,
            duplicated: 0,
        }
    }

    /// Writes down that a member got message `sequence` of a publisher.
    #[inline]
    pub fn note(&mut self, member: usize, publisher: usize, sequence: u64) -> Delivery {
        if !self.seen[publisher].mark(sequence) {
            self.duplicated += 1;
            return Delivery::Again;
        }
        let next = &mut self.next[publisher * self.members..][..self.members];
        let passed = next[member];
        if sequence < passed {
            self.out_of_order += 1;
            return Delivery::Late;
        }
        next[member] = sequence + 1;
        let all_passed = next.iter().min().map_or(passed, |lowest| *lowest);
        Delivery::First { gap: passed.min(all_passed)..all_passed }
    }
}

impl Seen {
    /// Whether it is the first time.
    fn mark(&mut self, sequence: u64) -> bool {
        let Some(at) = sequence.checked_sub(self.base) else {
            return false;
        };
        let (mut word, bit) = ((at / 64) as usize, 1 << (at % 64));
        while word >= SPAN_MAX_WORDS {
            self.words.pop_front();
            self.base += 64;
            word -= 1;
        }
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let is_first = self.words[word] & bit == 0;
        self.words[word] |= bit;
        while self.words.front() == Some(&u64::MAX) {
            self.words.pop_front();
            self.base += 64;
        }
        is_first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_for_one_member_and_once() {
        let mut group = Group::new(2, 1);
        assert!([group.note(0, 0, 0), group.note(1, 0, 1)].iter().all(|came| matches!(came, Delivery::First { .. })));
        assert_eq!([group.note(1, 0, 0), group.note(1, 0, 1)], [Delivery::Again, Delivery::Again]);
        assert_eq!((group.duplicated, group.out_of_order), (2, 0));
    }

    #[test]
    fn order_is_that_of_one_member_and_one_publisher() {
        let mut group = Group::new(2, 2);
        group.note(0, 0, 5);
        group.note(1, 0, 4);
        group.note(0, 1, 3);
        assert_eq!(group.out_of_order, 0, "another member, another publisher");
        assert_eq!(group.note(0, 0, 2), Delivery::Late);
        assert_eq!((group.out_of_order, group.duplicated), (1, 0));
    }

    #[test]
    fn what_every_member_has_passed_over_is_a_gap() {
        let mut group = Group::new(2, 1);
        assert_eq!(group.note(0, 0, 4), Delivery::First { gap: 0..0 }, "the other one may get 0 to 3");
        assert_eq!(group.note(1, 0, 3), Delivery::First { gap: 0..4 }, "nobody gets 0 to 2 in order any more");
    }

    #[test]
    fn what_was_seen_in_full_is_forgotten_and_still_known() {
        let mut group = Group::new(1, 1);
        (0..200).for_each(|sequence| assert_ne!(group.note(0, 0, sequence), Delivery::Again));
        assert_eq!((group.seen[0].base, group.seen[0].words.len()), (192, 1));
        assert_eq!(group.note(0, 0, 3), Delivery::Again);
    }

    #[test]
    fn the_book_does_not_grow_without_bound() {
        let mut group = Group::new(1, 1);
        let far = 10 * 64 * SPAN_MAX_WORDS as u64;
        let first = |came: Delivery| assert!(matches!(came, Delivery::First { .. }));
        (0..far).step_by(2).for_each(|sequence| first(group.note(0, 0, sequence)));
        assert!(group.seen[0].words.len() <= SPAN_MAX_WORDS);
        assert_eq!(group.note(0, 0, far - 3), Delivery::Late, "what is in the book is known");
    }
}
