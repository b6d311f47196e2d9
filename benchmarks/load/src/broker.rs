//! What the broker's process has used: CPU time of all its threads, resident memory.
//!
//! Knows procfs. The nanoseconds are the scheduler's own, user and system together; for a thread that runs at the moment
//! of reading they may lag by one tick, which is under 1 % of a second's work.

use std::fs::read_to_string;
use std::io::ErrorKind;

use rustix::time::{ClockId, clock_gettime};

use crate::failure::Outcome;

/// The process under load.
pub struct Broker {
    pid: u32,
}

/// A moment of a run.
#[derive(Clone, Copy)]
pub struct Reading {
    at_ns: u64,
    broker_cpu_ns: u64,
    own_cpu_ns: u64,
}

/// What lies between two readings, in seconds.
pub struct Span {
    /// Elapsed.
    pub seconds: f64,
    /// The broker's CPU time.
    pub broker_cpu_s: f64,
    /// The load generator's CPU time.
    pub own_cpu_s: f64,
}

impl Broker {
    /// A process that we may look at.
    pub fn new(pid: u32) -> Broker {
        Broker { pid }
    }

    /// Now. Cost: one small file for each thread of the broker.
    pub fn read(&self) -> Outcome<Reading> {
        Ok(Reading {
            broker_cpu_ns: self.cpu_ns()?,
            own_cpu_ns: clock_ns(ClockId::ProcessCPUTime),
            at_ns: clock_ns(ClockId::Monotonic),
        })
    }

    /// Resident memory, without the kernel's buffers.
    pub fn rss_bytes(&self) -> Outcome<f64> {
        let path = format!("/proc/{}/smaps_rollup", self.pid);
        let text = read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        let kilobytes = text
            .lines()
            .find_map(|line| line.strip_prefix("Rss:")?.trim().strip_suffix(" kB")?.parse::<f64>().ok())
            .ok_or(format!("{path} has no line Rss"))?;
        Ok(kilobytes * 1024.0)
    }

    fn cpu_ns(&self) -> Outcome<u64> {
        let tasks = format!("/proc/{}/task", self.pid);
        let mut sum = 0;
        for task in std::fs::read_dir(&tasks).map_err(|error| format!("{tasks}: {error}"))? {
            match read_to_string(task?.path().join("schedstat")) {
                Ok(text) => sum += text.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0),
                Err(error) if error.kind() == ErrorKind::NotFound => {} // The thread ended while we looked.
                Err(error) => return Err(error.into()),
            }
        }
        Ok(sum)
    }
}

impl Reading {
    /// From an earlier reading to this one.
    pub fn since(self, earlier: Reading) -> Span {
        let seconds = |later: u64, earlier: u64| later.saturating_sub(earlier) as f64 / 1e9;
        Span {
            seconds: seconds(self.at_ns, earlier.at_ns),
            broker_cpu_s: seconds(self.broker_cpu_ns, earlier.broker_cpu_ns),
            own_cpu_s: seconds(self.own_cpu_ns, earlier.own_cpu_ns),
        }
    }
}

fn clock_ns(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
