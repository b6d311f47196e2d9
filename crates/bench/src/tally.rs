//! Which of a known number of messages have come: how many, how often again, and whether in order.
//!
//! Pure. A bit for each message.

/// Of one receiver.
pub struct Tally {
    seen: Vec<u64>,
    next: u64,
    /// Messages that came, repeats not counted.
    pub arrived: u64,
    /// Repeats.
    pub duplicated: u64,
    /// Messages that came after a later one.
    pub out_of_order: u64,
}

impl Tally {
    /// Of so many messages, none of which has come.
    pub fn new(count: u64) -> Tally {
        let words = count.div_ceil(64) as usize;
        Tally { seen: vec![0; words], next: 0, arrived: 0, duplicated: 0, out_of_order: 0 }
    }

    /// Writes down that one of them came.
    #[inline]
    pub fn note(&mut self, sequence: u64) {
        let (word, bit) = (&mut self.seen[(sequence / 64) as usize], 1 << (sequence % 64));
        if *word & bit != 0 {
            self.duplicated += 1;
            return;
        }
        *word |= bit;
        self.arrived += 1;
        if sequence < self.next {
            self.out_of_order += 1;
        } else {
            self.next = sequence + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_and_latecomers_are_told_apart() {
        let mut tally = Tally::new(100);
        [0, 2, 99, 1, 2].into_iter().for_each(|sequence| tally.note(sequence));
        assert_eq!((tally.arrived, tally.duplicated, tally.out_of_order), (4, 1, 1));
    }
}
