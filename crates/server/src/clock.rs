//! The time that messages are stamped with: Unix time as it was at the start, going on with a clock that never jumps.
//!
//! Knows the process's two clocks. A wall clock that is set (a device that boots in 1970, a correction by hours) must
//! neither expire messages early nor keep them for ever, so their stamps follow the monotonic clock; whoever shows a
//! stamp turns it into today's Unix time with [`unix_of`], which also mends those taken before the clock was set.

#[cfg(feature = "simulation")]
use std::{cell::Cell, rc::Rc};

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The clocks of one turn.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Now {
    /// Monotonic, for deadlines; each worker's begins at its own zero.
    pub(crate) ms: u64,
    /// Unix time, for records.
    pub(crate) unix_ms: u64,
    /// For messages and their expiry.
    pub(crate) steady_ms: u64,
}

/// Where a worker reads the time.
#[derive(Debug)]
pub(crate) enum Clock {
    /// The kernel's clocks; the worker's own began then.
    Kernel(Instant),
    /// One that stands still until somebody sets it.
    #[cfg(feature = "simulation")]
    Set(Rc<Cell<Now>>),
}

impl Default for Clock {
    fn default() -> Clock {
        Clock::Kernel(Instant::now())
    }
}

impl Clock {
    pub(crate) fn read(&self) -> Now {
        match self {
            Clock::Kernel(started) => {
                let now = Instant::now();
                let ms = now.saturating_duration_since(*started).as_millis() as u64;
                Now { ms, unix_ms: unix_ms(), steady_ms: steady_at(now) }
            }
            #[cfg(feature = "simulation")]
            Clock::Set(now) => now.get(),
        }
    }

    /// Whether sleeping helps: others go on meanwhile.
    pub(crate) fn passes(&self) -> bool {
        matches!(self, Clock::Kernel(_))
    }
}

/// Where the steady clock began.
#[derive(Clone, Copy, Debug)]
struct Start {
    unix_ms: u64,
    instant: Instant,
}

impl Start {
    fn steady_ms(self, now: Instant) -> u64 {
        self.unix_ms + now.saturating_duration_since(self.instant).as_millis() as u64
    }
}

fn start() -> Start {
    static START: OnceLock<Start> = OnceLock::new();
    *START.get_or_init(|| Start { unix_ms: unix_ms(), instant: Instant::now() })
}

/// Unix time; milliseconds. A clock before 1970 says 1970.
pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// The steady clock; milliseconds.
pub fn steady_ms() -> u64 {
    steady_at(Instant::now())
}

/// The steady clock at an instant that was read before.
pub fn steady_at(now: Instant) -> u64 {
    start().steady_ms(now)
}

/// When a stamp of the steady clock was, by the wall clock of now; Unix time in milliseconds.
pub fn unix_of(stamp_ms: u64) -> u64 {
    corrected(stamp_ms, steady_ms(), unix_ms())
}

fn corrected(stamp_ms: u64, steady_now_ms: u64, unix_now_ms: u64) -> u64 {
    stamp_ms.saturating_add_signed(unix_now_ms.wrapping_sub(steady_now_ms) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_steady_clock_goes_on_from_its_start_whatever_the_wall_clock_does() {
        let start = Start { unix_ms: 1_000, instant: Instant::now() };
        assert_eq!(start.steady_ms(start.instant), 1_000);
        assert_eq!(start.steady_ms(start.instant + Duration::from_secs(7)), 8_000);
    }

    #[test]
    fn a_stamp_is_shown_by_the_wall_clock_of_now() {
        let table = [
            // Stamp, steady now, wall clock now: when it was.
            (5_000, 9_000, 9_000, 5_000),
            (5_000, 9_000, 1_000_009_000, 1_000_005_000),
            (1_000_005_000, 1_000_009_000, 9_000, 5_000),
            (5_000, 9_000, 1_000, 0),
        ];
        for (stamp_ms, steady_ms, unix_ms, was_ms) in table {
            assert_eq!(corrected(stamp_ms, steady_ms, unix_ms), was_ms);
        }
    }

    #[test]
    fn it_agrees_with_the_wall_clock_while_that_is_not_set() {
        let (before_ms, stamp_ms) = (unix_ms(), steady_ms());
        let shown_ms = unix_of(stamp_ms);
        assert!(shown_ms.abs_diff(before_ms) < 5_000, "{before_ms} and {shown_ms}");
    }
}
