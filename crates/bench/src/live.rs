//! What another thread sees of a run, and how it stops it. Plain atomics: nobody waits for anybody.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

/// Where a run stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Phase {
    /// Clients connect and subscribe.
    Connecting,
    /// Load is made, not yet measured.
    Warming,
    /// Load is made and measured.
    Measuring,
    /// Nothing new is sent; what is under way may still come.
    Draining,
    /// The end.
    Over,
}

impl Phase {
    const ALL: [Phase; 5] = [Phase::Connecting, Phase::Warming, Phase::Measuring, Phase::Draining, Phase::Over];

    /// In lower case.
    pub fn name(self) -> &'static str {
        ["connecting", "warming", "measuring", "draining", "over"][self as usize]
    }
}

/// A moment of a run. Counts are of the whole run, warming included.
#[derive(Clone, Copy, Debug, Default)]
pub struct Snapshot {
    /// Clients let in.
    pub connected: u64,
    /// Messages (or SUBSCRIBEs, or CONNECTs) written.
    pub sent: u64,
    /// Answered: PUBACK, PUBCOMP, SUBACK, CONNACK.
    pub acknowledged: u64,
    /// Messages that reached a subscriber, repeats not counted.
    pub delivered: u64,
    /// Median so far, nanoseconds; 0: nothing measured yet.
    pub p50_ns: u64,
    /// 99th percentile so far.
    pub p99_ns: u64,
}

/// When a watcher is told the next time: ten times a second at most.
#[derive(Default, Debug)]
pub(crate) struct Cadence {
    told_ns: u64,
}

impl Cadence {
    const EVERY_NS: u64 = 100_000_000;

    /// Whether it is time; then it counts from `now_ns` on.
    pub(crate) fn is_due(&mut self, now_ns: u64) -> bool {
        let is_due = now_ns.saturating_sub(self.told_ns) >= Cadence::EVERY_NS;
        if is_due {
            self.told_ns = now_ns;
        }
        is_due
    }
}

/// Shared between the run and whoever watches it.
#[derive(Default)]
pub struct Live {
    phase: AtomicU8,
    stops: AtomicU8,
    numbers: [AtomicU64; 6],
}

impl Live {
    /// Asks the run to send nothing more and to report; asked twice, it does not wait for what is under way either.
    pub fn stop(&self) {
        // Saturating: who asks 256 times is not back at the start.
        let _ = self.stops.fetch_update(Relaxed, Relaxed, |stops| stops.checked_add(1));
    }

    /// Whether somebody asked.
    pub fn is_stopping(&self) -> bool {
        self.stops.load(Relaxed) > 0
    }

    /// Whether somebody asked twice.
    pub fn is_abandoned(&self) -> bool {
        self.stops.load(Relaxed) > 1
    }

    /// Where the run stands.
    pub fn phase(&self) -> Phase {
        Phase::ALL[usize::from(self.phase.load(Relaxed))]
    }

    /// The counts; they are of about the same moment.
    pub fn snapshot(&self) -> Snapshot {
        let [connected, sent, acknowledged, delivered, p50_ns, p99_ns] =
            std::array::from_fn(|index| self.numbers[index].load(Relaxed));
        Snapshot { connected, sent, acknowledged, delivered, p50_ns, p99_ns }
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Relaxed);
    }

    pub(crate) fn tell(&self, now: &Snapshot) {
        let values = [now.connected, now.sent, now.acknowledged, now.delivered, now.p50_ns, now.p99_ns];
        self.numbers.iter().zip(values).for_each(|(number, value)| number.store(value, Relaxed));
    }
}
