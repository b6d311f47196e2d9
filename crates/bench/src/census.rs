//! Who received what: duplicates and order, for each pair of a publisher and a subscriber that hears it.
//!
//! Pure. Sequences count from 0. Memory: one number for each pair, and one entry for each message that is missing now, up
//! to [`MISSING_MAX`]. A message that is missed while the book is full would be taken for a repeat if it came after all.

use std::collections::HashSet;
use std::ops::Range;

/// Gaps remembered at once; about 32 MiB.
const MISSING_MAX: usize = 1 << 20;

/// What a delivery was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Delivery {
    /// In its turn, or behind a gap.
    First {
        /// What was passed over, mostly empty; of a group perhaps with what has come.
        gap: Range<u64>,
    },
    /// Into a gap: out of order.
    Late,
    /// Not for the first time.
    Again,
}

/// The book of one run.
pub struct Census {
    next: Vec<u64>,
    missing: HashSet<(usize, u64)>,
    /// Messages that came after a later one of the same publisher.
    pub out_of_order: u64,
    /// Messages that came more than once.
    pub duplicated: u64,
}

impl Census {
    /// Nothing has come yet.
    pub fn new(pairs: usize) -> Census {
        Census { next: vec![0; pairs], missing: HashSet::new(), out_of_order: 0, duplicated: 0 }
    }

    /// Writes down that message `sequence` came between this pair.
    #[inline]
    pub fn note(&mut self, pair: usize, sequence: u64) -> Delivery {
        let next = self.next[pair];
        if sequence >= next {
            let room = MISSING_MAX - self.missing.len();
            self.missing.extend((next..sequence).take(room).map(|skipped| (pair, skipped)));
            self.next[pair] = sequence + 1;
            Delivery::First { gap: next..sequence }
        } else if self.missing.remove(&(pair, sequence)) {
            self.out_of_order += 1;
            Delivery::Late
        } else {
            self.duplicated += 1;
            Delivery::Again
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_latecomers_and_repeats_are_told_apart() {
        let mut census = Census::new(6);
        let came = [0, 3, 1, 1, 3].map(|sequence| census.note(5, sequence));
        let first = |gap| Delivery::First { gap };
        assert_eq!(came, [first(0..0), first(1..3), Delivery::Late, Delivery::Again, Delivery::Again]);
        assert_eq!((census.out_of_order, census.duplicated), (1, 2));
    }

    #[test]
    fn pairs_have_nothing_to_do_with_each_other() {
        let mut census = Census::new(2);
        census.note(0, 4);
        assert_eq!(census.note(1, 0), Delivery::First { gap: 0..0 });
        assert_eq!((census.out_of_order, census.duplicated), (0, 0));
    }

    #[test]
    fn the_book_does_not_grow_without_bound() {
        let mut census = Census::new(1);
        census.note(0, 10 * MISSING_MAX as u64);
        assert_eq!(census.missing.len(), MISSING_MAX);
        assert_eq!(census.note(0, 3), Delivery::Late, "what is in the book is known");
    }
}
