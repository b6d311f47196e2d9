//! What the broker's process has used: CPU time of all its threads, resident memory.
//!
//! Knows procfs. The nanoseconds are the scheduler's own, user and system together; for a thread that runs at the moment
//! of reading they may lag by one tick, which is under 1 % of a second's work. Without a process identifier (the broker
//! runs elsewhere) the broker's figures are NaN, which a report leaves out.

use std::fs::read_to_string;
use std::io::ErrorKind;

use rustix::time::{ClockId, clock_gettime};

use crate::failure::{Failure, Outcome};

/// The process under load.
pub struct Broker {
    pid: Option<u32>,
}

/// A moment of a run.
#[derive(Clone, Copy)]
pub struct Reading {
    at_ns: u64,
    broker_cpu_ns: Option<u64>,
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
    /// A process that we may look at, or one that we cannot see.
    pub fn new(pid: Option<u32>) -> Broker {
        Broker { pid }
    }

    /// Whether we can look at it.
    pub fn is_visible(&self) -> bool {
        self.pid.is_some()
    }

    /// Now. Cost: one small file for each thread of the broker.
    pub fn read(&self) -> Outcome<Reading> {
        Ok(Reading {
            broker_cpu_ns: self.pid.map(cpu_ns).transpose()?,
            own_cpu_ns: clock_ns(ClockId::ProcessCPUTime),
            at_ns: clock_ns(ClockId::Monotonic),
        })
    }

    /// Resident memory, without the kernel's buffers.
    pub fn rss_bytes(&self) -> Outcome<f64> {
        let Some(pid) = self.pid else {
            return Ok(f64::NAN);
        };
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = read_to_string(&path).map_err(|error| hidden(&path, &error))?;
        let kilobytes = text
            .lines()
            .find_map(|line| line.strip_prefix("Rss:")?.trim().strip_suffix(" kB")?.parse::<f64>().ok())
            .ok_or(format!("{path} has no line Rss"))?;
        Ok(kilobytes * 1024.0)
    }
}

impl Reading {
    /// From an earlier reading to this one.
    pub fn since(self, earlier: Reading) -> Span {
        let seconds = |later: u64, earlier: u64| later.saturating_sub(earlier) as f64 / 1e9;
        let of_broker = self.broker_cpu_ns.zip(earlier.broker_cpu_ns);
        Span {
            seconds: seconds(self.at_ns, earlier.at_ns),
            broker_cpu_s: of_broker.map_or(f64::NAN, |(later, earlier)| seconds(later, earlier)),
            own_cpu_s: seconds(self.own_cpu_ns, earlier.own_cpu_ns),
        }
    }
}

fn cpu_ns(pid: u32) -> Outcome<u64> {
    let tasks = format!("/proc/{pid}/task");
    let mut sum = 0;
    for task in std::fs::read_dir(&tasks).map_err(|error| hidden(&tasks, &error))? {
        match read_to_string(task?.path().join("schedstat")) {
            Ok(text) => sum += text.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0),
            Err(error) if error.kind() == ErrorKind::NotFound => {} // The thread ended while we looked.
            Err(error) => return Err(error.into()),
        }
    }
    Ok(sum)
}

fn hidden(path: &str, error: &std::io::Error) -> Failure {
    format!("{path}: {error}; --broker-pid wants a process of this machine that we may look at").into()
}

fn clock_ns(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
