//! Token buckets: how much of something may happen in a second.
//!
//! Knows rates, a burst of one second, and the time that it is told. Does not know what is counted or who waits. A
//! connection's buckets belong to its worker's thread.

use whimbrel_protocol::Limits;

/// Tokens are counted in thousandths, so that a rate a second is a whole number a millisecond.
const WHOLE: u64 = 1000;
/// A client that ran out of bytes waits for so many milliseconds' worth, instead of being read byte by byte.
const BYTES_PAUSE_MS: u64 = 100;

/// One rate of one connection.
#[derive(Debug)]
struct Bucket {
    rate: u64, // a second; 0: no limit
    tokens: u64,
    filled_ms: u64,
}

impl Bucket {
    fn new(rate: u32, now_ms: u64) -> Bucket {
        let rate = u64::from(rate);
        Bucket { rate, tokens: rate * WHOLE, filled_ms: now_ms }
    }

    fn available(&mut self, now_ms: u64) -> u64 {
        if self.rate == 0 {
            return u64::MAX;
        }
        let elapsed_ms = now_ms.saturating_sub(self.filled_ms);
        self.filled_ms = now_ms;
        let full = self.rate * WHOLE;
        self.tokens = elapsed_ms.saturating_mul(self.rate).saturating_add(self.tokens).min(full);
        self.tokens / WHOLE
    }

    fn take(&mut self, count: u64) {
        self.tokens = self.tokens.saturating_sub(count.saturating_mul(WHOLE));
    }

    /// Milliseconds until `count` tokens are there; at least 1.
    fn wait_ms(&self, count: u64) -> u64 {
        let missing = (count * WHOLE).saturating_sub(self.tokens);
        missing.div_ceil(self.rate.max(1)).max(1)
    }
}

/// What one connection may do in a second. Boxed: most connections have none.
#[derive(Debug)]
pub(crate) struct Pace {
    publishes: Bucket,
    bytes: Bucket,
}

impl Pace {
    /// None where the zone sets no rate.
    pub(crate) fn new(limits: &Limits, now_ms: u64) -> Option<Box<Pace>> {
        if limits.max_publish_rate == 0 && limits.max_bytes_rate == 0 {
            return None;
        }
        let publishes = Bucket::new(limits.max_publish_rate, now_ms);
        Some(Box::new(Pace { publishes, bytes: Bucket::new(limits.max_bytes_rate, now_ms) }))
    }

    /// Moves to a worker whose clock says `now_ms` at this moment.
    pub(crate) fn rebase(&mut self, now_ms: u64) {
        (self.publishes.filled_ms, self.bytes.filled_ms) = (now_ms, now_ms);
    }

    /// Takes the token of one PUBLISH; the error says for how many milliseconds the connection is left alone.
    pub(crate) fn take_publish(&mut self, now_ms: u64) -> Result<(), u64> {
        if self.publishes.available(now_ms) == 0 {
            return Err(self.publishes.wait_ms(1));
        }
        self.publishes.take(1);
        Ok(())
    }

    /// How many bytes may be read now; the error says for how many milliseconds the connection is left alone.
    pub(crate) fn readable_bytes(&mut self, now_ms: u64) -> Result<usize, u64> {
        match self.bytes.available(now_ms) {
            0 => Err(self.bytes.wait_ms((self.bytes.rate * BYTES_PAUSE_MS / 1000).max(1))),
            count => Ok(usize::try_from(count).unwrap_or(usize::MAX)),
        }
    }

    /// So many bytes were read.
    pub(crate) fn took_bytes(&mut self, count: usize) {
        self.bytes.take(count as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(max_publish_rate: u32, max_bytes_rate: u32) -> Box<Pace> {
        Pace::new(&Limits { max_publish_rate, max_bytes_rate, ..Limits::default() }, 5_000).unwrap()
    }

    #[test]
    fn a_zone_without_rates_has_no_pace() {
        assert!(Pace::new(&Limits::default(), 0).is_none());
    }

    #[test]
    fn a_second_s_worth_may_come_at_once_and_then_one_by_one() {
        let mut pace = pace(10, 0);
        assert_eq!((0..20).filter(|_| pace.take_publish(5_000).is_ok()).count(), 10);
        assert_eq!(pace.take_publish(5_000), Err(100));
        assert_eq!(pace.take_publish(5_099), Err(1));
        assert_eq!(pace.take_publish(5_100), Ok(()));
        assert_eq!(pace.take_publish(5_150), Err(50));
        assert_eq!(pace.readable_bytes(5_150), Ok(usize::MAX));
        // However long it was silent, not more than one second's worth.
        assert_eq!((0..20).filter(|_| pace.take_publish(1_000_000).is_ok()).count(), 10);
    }

    #[test]
    fn over_any_time_a_busy_connection_gets_its_rate_and_one_burst() {
        for rate in [1, 3, 7, 999, 1000, 70_000] {
            let mut pace = pace(rate, 0);
            let mut taken = 0;
            for now_ms in 5_000..15_000 {
                while pace.take_publish(now_ms).is_ok() {
                    taken += 1;
                }
            }
            let expected = rate * 11;
            assert!((expected - rate.div_ceil(1000)..=expected).contains(&taken), "{taken} at {rate}");
        }
    }

    #[test]
    fn bytes_are_read_up_to_the_rate_and_then_in_tenths_of_a_second() {
        let mut pace = pace(0, 1_000);
        assert_eq!(pace.readable_bytes(5_000), Ok(1_000));
        pace.took_bytes(1_000);
        assert_eq!(pace.readable_bytes(5_000), Err(100));
        assert_eq!(pace.readable_bytes(5_100), Ok(100));
        pace.took_bytes(60);
        assert_eq!(pace.readable_bytes(5_100), Ok(40));
        assert_eq!(pace.take_publish(5_100), Ok(()));
    }
}
