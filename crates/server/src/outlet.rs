//! The way out: events in batches, one wake-up of the reader.
//!
//! Knows a queue and a descriptor. Bounds: notices and log lines are dropped, and counted by the caller, when
//! [`NOTICES_MAX`] events wait; questions and replies are bounded by connections and requests, tap rows by their tap.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

use crate::event::Event;

/// Waiting events beyond which notices are dropped.
pub const NOTICES_MAX: usize = 65_536;

/// The queue.
#[derive(Debug)]
pub struct Outlet {
    waiting: Mutex<Vec<Event>>,
    wake: OwnedFd,
}

impl Outlet {
    /// Empty.
    pub fn new() -> std::io::Result<Outlet> {
        let wake = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Outlet { waiting: Mutex::default(), wake })
    }

    /// Readable while something waits.
    pub fn wake_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// Adds a batch and empties it; returns how many notices had to be dropped. Wakes the reader once.
    pub fn post(&self, batch: &mut Vec<Event>) -> u64 {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let was_empty = waiting.is_empty();
        let mut dropped = 0;
        for event in batch.drain(..) {
            if waiting.len() >= NOTICES_MAX && is_notice(&event) {
                dropped += 1;
            } else {
                waiting.push(event);
            }
        }
        let wakes = was_empty && !waiting.is_empty();
        drop(waiting);
        if wakes {
            // The counter of an eventfd cannot overflow here: it is written once for each drain.
            let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
        }
        dropped
    }

    /// Takes everything.
    pub fn drain(&self) -> Vec<Event> {
        let _ = rustix::io::read(&self.wake, &mut [0; 8]);
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn is_notice(event: &Event) -> bool {
    matches!(event, Event::Connected(_) | Event::Disconnected(_) | Event::Log { .. })
}
