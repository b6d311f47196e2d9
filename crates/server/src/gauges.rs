//! Statistics: how many there are now, and the most there were at the same time since the start.
//!
//! Knows numbers that change with connections, sessions and subscriptions, never with messages. Exact: each change is one
//! atomic addition on shared memory, and its result is compared with the peak, so no peak is missed between two readers.
//! Does not know who reads; what the router counts itself stands beside these in [`read`].

use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::shared::Shared;

/// One number and its peak. On a cache line of its own, because every worker writes it.
#[derive(Default, Debug)]
#[repr(align(64))]
pub(crate) struct Gauge {
    now: AtomicU64,
    peak: AtomicU64,
}

impl Gauge {
    /// So many came.
    pub(crate) fn add(&self, count: u64) {
        let now = self.now.fetch_add(count, Ordering::Relaxed) + count;
        self.reach(now);
    }

    /// So many went.
    pub(crate) fn take(&self, count: u64) {
        self.now.fetch_sub(count, Ordering::Relaxed);
    }

    /// One comes, unless there are `max` already; whether it did.
    pub(crate) fn add_below(&self, max: u64) -> bool {
        let more = |now: u64| (now < max).then_some(now + 1);
        let before = self.now.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        before.is_ok_and(|before| {
            self.reach(before + 1);
            true
        })
    }

    /// How many there are.
    pub(crate) fn now(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    /// How many there are, and the most there were: never less than a number that this has returned.
    fn read(&self) -> (u64, u64) {
        let now = self.now();
        // Whoever made it so many may be about to say so; the reader must not be told otherwise.
        self.reach(now);
        (now, self.peak.load(Ordering::Relaxed))
    }

    fn reach(&self, now: u64) {
        if now > self.peak.load(Ordering::Relaxed) {
            self.peak.fetch_max(now, Ordering::Relaxed);
        }
    }
}

/// What the workers count together.
#[derive(Default, Debug)]
pub(crate) struct Gauges {
    pub(crate) connections: Gauge,
    pub(crate) sessions: Gauge,
    /// Sessions that may outlive their connection.
    pub(crate) persistent: Gauge,
    /// Of sessions, shared ones included.
    pub(crate) subscriptions: Gauge,
    /// Those of them that are not shared.
    pub(crate) subscribers: Gauge,
}

/// Every statistic by its EMQ X 4 name.
pub(crate) fn read(shared: &Shared) -> Vec<(&'static str, u64)> {
    let Gauges { connections, sessions, persistent, subscriptions, subscribers } = &shared.gauges;
    let (sessions, subscriptions) = (sessions.read(), subscriptions.read());
    let wide = |(now, peak): (usize, usize)| (now as u64, peak as u64);
    let topics = wide(shared.router.filter_counts());
    let retained = shared.router.retained.read().unwrap_or_else(PoisonError::into_inner).counts();
    let rows = [
        (["connections.count", "connections.max"], connections.read()),
        (["channels.count", "channels.max"], sessions),
        (["sessions.count", "sessions.max"], sessions),
        (["sessions.persistent.count", "sessions.persistent.max"], persistent.read()),
        (["topics.count", "topics.max"], topics),
        (["suboptions.count", "suboptions.max"], subscriptions),
        (["subscribers.count", "subscribers.max"], subscribers.read()),
        (["subscriptions.count", "subscriptions.max"], subscriptions),
        (["subscriptions.shared.count", "subscriptions.shared.max"], wide(shared.router.member_counts())),
        (["routes.count", "routes.max"], topics),
        (["retained.count", "retained.max"], wide(retained)),
    ];
    rows.into_iter().flat_map(|([count, max], (now, peak))| [(count, now), (max, peak)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_stays_when_the_number_falls() {
        let gauge = Gauge::default();
        gauge.add(3);
        gauge.take(2);
        gauge.add(1);
        assert_eq!(gauge.read(), (2, 3));
    }

    #[test]
    fn one_too_many_leaves_neither_number_nor_peak_behind() {
        let gauge = Gauge::default();
        assert!(gauge.add_below(2) && gauge.add_below(2) && !gauge.add_below(2));
        assert_eq!(gauge.read(), (2, 2));
    }

    #[test]
    fn no_reader_sees_a_peak_below_a_number_that_it_has_seen() {
        let gauge = Gauge::default();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        gauge.add(1);
                        gauge.take(1);
                    }
                });
            }
            let mut highest = 0;
            for _ in 0..20_000 {
                let (now, peak) = gauge.read();
                highest = highest.max(now);
                assert!((highest..=3).contains(&peak), "{peak} after {highest}");
            }
        });
    }
}
