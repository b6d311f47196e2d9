//! Internal subscribers: Python asked for the messages of some filters.
//!
//! Knows how many messages of a tap wait, and its bound. A worker reserves a place before it keeps a message; when none
//! is left, the newest message is dropped and counted.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// The owner number under which taps stand in the routing table.
pub const TAPS: u16 = u16::MAX;

/// One tap.
#[derive(Debug)]
pub struct Tap {
    /// Its number.
    pub id: u32,
    /// What it subscribed to.
    pub filters: Vec<String>,
    capacity: usize,
    waiting: AtomicUsize,
    dropped: AtomicU64,
}

impl Tap {
    /// Takes a place for one message; false when none is left, which counts as a drop.
    pub fn reserve(&self) -> bool {
        let has_place = |waiting| (waiting < self.capacity).then_some(waiting + 1);
        let reserved = self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, has_place).is_ok();
        if !reserved {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        reserved
    }

    /// Gives `count` places back: the messages are with the reader.
    pub fn release(&self, count: usize) {
        self.waiting.fetch_sub(count, Ordering::Relaxed);
    }

    /// Drops since the call before.
    pub fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }
}

/// All taps.
#[derive(Debug, Default)]
pub struct Taps {
    open: RwLock<HashMap<u32, Arc<Tap>>>,
    next: AtomicU64,
}

impl Taps {
    /// Adds a tap that may have `capacity` messages waiting.
    pub fn open(&self, filters: Vec<String>, capacity: usize) -> Arc<Tap> {
        let id = self.next.fetch_add(1, Ordering::Relaxed) as u32;
        let (waiting, dropped) = (AtomicUsize::new(0), AtomicU64::new(0));
        let tap = Arc::new(Tap { id, filters, capacity, waiting, dropped });
        self.open.write().unwrap_or_else(PoisonError::into_inner).insert(id, Arc::clone(&tap));
        tap
    }

    /// Takes a tap away.
    pub fn close(&self, id: u32) -> Option<Arc<Tap>> {
        self.open.write().unwrap_or_else(PoisonError::into_inner).remove(&id)
    }

    /// Finds a tap.
    pub fn get(&self, id: u32) -> Option<Arc<Tap>> {
        self.open.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }
}
