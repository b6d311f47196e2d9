//! When each message of an open loop is due, whatever the broker does.
//!
//! Pure: nanoseconds of the run's clock come as arguments. Message k of all belongs to publisher k modulo their number, so
//! the time that a message was due follows from its publisher and sequence, and nobody has to remember it.

/// A steady rate, divided among the publishers in turns.
pub struct Schedule {
    origin_ns: u64,
    interval_ns: f64,
    publishers: u64,
    issued: u64,
    limit: u64,
}

impl Schedule {
    /// `rate` messages a second from `origin_ns` on, `limit` of them.
    pub fn new(origin_ns: u64, rate: f64, publishers: usize, limit: u64) -> Schedule {
        Schedule { origin_ns, interval_ns: 1e9 / rate, publishers: publishers as u64, issued: 0, limit }
    }

    /// The publisher of the next message that is due by now; ask until None.
    pub fn take_due(&mut self, now_ns: u64) -> Option<usize> {
        if self.next_ns()? > now_ns {
            return None;
        }
        self.issued += 1;
        Some(((self.issued - 1) % self.publishers) as usize)
    }

    /// How many fell due.
    pub fn issued(&self) -> u64 {
        self.issued
    }

    /// When the next message is due; None after the last.
    pub fn next_ns(&self) -> Option<u64> {
        (self.issued < self.limit).then(|| self.time_of(self.issued))
    }

    /// When message `sequence` of a publisher was due.
    pub fn due_ns(&self, publisher: usize, sequence: u64) -> u64 {
        self.time_of(sequence * self.publishers + publisher as u64)
    }

    fn time_of(&self, message: u64) -> u64 {
        self.origin_ns + (message as f64 * self.interval_ns) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publishers_take_turns_at_the_rate() {
        let mut schedule = Schedule::new(1_000, 1e6, 3, u64::MAX);
        let due: Vec<usize> = std::iter::from_fn(|| schedule.take_due(5_000)).collect();
        assert_eq!(due, [0, 1, 2, 0, 1], "one each microsecond, the first at once");
        assert_eq!(schedule.next_ns(), Some(6_000));
        assert_eq!((schedule.due_ns(0, 0), schedule.due_ns(2, 0), schedule.due_ns(1, 1)), (1_000, 3_000, 5_000));
    }

    #[test]
    fn a_pause_moves_no_message_to_a_later_time() {
        let mut schedule = Schedule::new(0, 1e3, 1, u64::MAX);
        schedule.take_due(0);
        let late: Vec<usize> = std::iter::from_fn(|| schedule.take_due(10_000_000)).collect();
        assert_eq!(late.len(), 10, "all that were due while nobody asked");
        assert_eq!(schedule.due_ns(0, 1), 1_000_000);
    }

    #[test]
    fn it_ends_with_the_last_message() {
        let mut schedule = Schedule::new(0, 1e9, 2, 3);
        assert_eq!(std::iter::from_fn(|| schedule.take_due(u64::MAX)).count(), 3);
        assert_eq!(schedule.next_ns(), None);
    }
}
