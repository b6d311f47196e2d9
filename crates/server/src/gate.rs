//! How many connections a listener lets in a second.
//!
//! Knows a rate, a burst of one second, and the time that it is told. Shared by all workers, without a lock. Does not know
//! sockets.

use std::sync::atomic::{AtomicU64, Ordering};

/// The connections that a listener lets in: a bucket of one second's worth that all workers draw from.
///
/// Kept as the time at which the last admission is paid for; full while that lies in the past.
#[derive(Debug)]
pub(crate) struct Gate {
    step_us: u64, // between two admissions; 0: no limit
    paid_us: AtomicU64,
}

/// The burst of a gate; microseconds.
const BURST_US: u64 = 1_000_000;

impl Gate {
    /// `rate` a second; 0: no limit.
    pub(crate) fn new(rate: u32) -> Gate {
        let step_us = if rate == 0 { 0 } else { (BURST_US / u64::from(rate)).max(1) };
        Gate { step_us, paid_us: AtomicU64::new(0) }
    }

    /// Whether it ever closes.
    pub(crate) fn is_limited(&self) -> bool {
        self.step_us > 0
    }

    /// Admits one, or says after how many microseconds to ask again. `now_us`: one clock for all workers.
    pub(crate) fn enter(&self, now_us: u64) -> Result<(), u64> {
        // The burst is paid in advance, so the clock starts a burst after zero.
        let now_us = now_us + BURST_US;
        let pay = |paid_us: u64| {
            let next_us = paid_us.max(now_us - BURST_US) + self.step_us;
            (next_us <= now_us).then_some(next_us)
        };
        match self.paid_us.fetch_update(Ordering::Relaxed, Ordering::Relaxed, pay) {
            Ok(_) => Ok(()),
            Err(paid_us) => Err(paid_us + self.step_us - now_us),
        }
    }

    /// The one that was admitted last did not come.
    pub(crate) fn give_back(&self) {
        self.paid_us.fetch_sub(self.step_us, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_opens_for_a_burst_and_then_at_its_rate() {
        let gate = Gate::new(10);
        assert_eq!((0..30).filter(|_| gate.enter(7).is_ok()).count(), 10);
        assert_eq!(gate.enter(7), Err(100_000));
        assert_eq!(gate.enter(100_007), Ok(()));
        assert_eq!(gate.enter(100_007), Err(100_000));
        gate.give_back();
        assert_eq!(gate.enter(100_007), Ok(()));
        assert_eq!((0..30).filter(|_| gate.enter(900_000_000).is_ok()).count(), 10);
    }
}
