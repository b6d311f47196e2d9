//! Who received what: duplicates and order, for each subscriber and publisher.
//!
//! Pure. Sequences count from 0. Memory: one number for each pair, and one entry for each message that is missing now.

use std::collections::HashSet;

/// What a delivery was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Delivery {
    /// In its turn, or behind a gap.
    First,
    /// Into a gap: out of order.
    Late,
    /// Not for the first time.
    Again,
}

/// The book of one run.
pub struct Census {
    next: Vec<u64>,
    publishers: usize,
    missing: HashSet<(usize, u64)>,
    /// Messages that came after a later one of the same publisher.
    pub out_of_order: u64,
    /// Messages that came more than once.
    pub duplicated: u64,
}

impl Census {
    /// Everybody may hear everybody; nothing has come yet.
    pub fn new(subscribers: usize, publishers: usize) -> Census {
        Census {
            next: vec![0; subscribers * publishers],
            publishers,
            missing: HashSet::new(),
            out_of_order: 0,
            duplicated: 0,
        }
    }

    /// Writes down that `subscriber` received message `sequence` of `publisher`.
    pub fn note(&mut self, subscriber: usize, publisher: usize, sequence: u64) -> Delivery {
        let pair = subscriber * self.publishers + publisher;
        let next = self.next[pair];
        if sequence >= next {
            self.missing.extend((next..sequence).map(|skipped| (pair, skipped)));
            self.next[pair] = sequence + 1;
            Delivery::First
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
        let mut census = Census::new(2, 3);
        let came = [0, 3, 1, 1, 3].map(|sequence| census.note(1, 2, sequence));
        assert_eq!(came, [Delivery::First, Delivery::First, Delivery::Late, Delivery::Again, Delivery::Again]);
        assert_eq!((census.out_of_order, census.duplicated), (1, 2));
    }
}
