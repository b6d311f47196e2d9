//! Internal subscribers: Python asked for the messages of some filters.
//!
//! Knows how many messages and bytes of a tap wait, and their bounds. A worker reserves a place before it keeps a message; when none
//! is left, the newest message is dropped and counted.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// The owner number under which taps stand in the routing table.
pub const TAPS: u16 = u16::MAX;

/// Bytes that may wait in one tap, beside its bound in messages. A message larger than that waits alone.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// One tap.
#[derive(Debug)]
pub struct Tap {
    /// Its number.
    pub id: u32,
    /// What it subscribed to.
    pub filters: Vec<String>,
    capacity: usize,
    waiting: AtomicUsize,
    waiting_bytes: AtomicUsize,
    dropped: AtomicU64,
}

impl Tap {
    /// Takes a place for one message of `size_bytes`; false when none is left, which counts as a drop.
    pub fn reserve(&self, size_bytes: usize) -> bool {
        let has_place = |waiting| (waiting < self.capacity).then_some(waiting + 1);
        let has_room = |bytes: usize| (bytes == 0 || bytes + size_bytes <= BYTES_MAX).then_some(bytes + size_bytes);
        let mut reserved = self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, has_place).is_ok();
        if reserved && self.waiting_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, has_room).is_err() {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            reserved = false;
        }
        if !reserved {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        reserved
    }

    /// Gives the places of `count` messages of `size_bytes` together back: they are with the reader.
    pub fn release(&self, count: usize, size_bytes: usize) {
        self.waiting.fetch_sub(count, Ordering::Relaxed);
        self.waiting_bytes.fetch_sub(size_bytes, Ordering::Relaxed);
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
        let (waiting, waiting_bytes, dropped) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicU64::new(0));
        let tap = Arc::new(Tap { id, filters, capacity, waiting, waiting_bytes, dropped });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_messages_find_no_place_when_their_bytes_are_too_many() {
        let tap = Taps::default().open(vec!["a".into()], 10);
        let half = BYTES_MAX / 2;
        let reserved: Vec<bool> = (0..3).map(|_| tap.reserve(half)).collect();
        assert_eq!((reserved.as_slice(), tap.take_dropped()), ([true, true, false].as_slice(), 1));
        tap.release(2, 2 * half);
        assert!(tap.reserve(2 * BYTES_MAX), "a message that is too large waits alone");
        assert!(!tap.reserve(1));
    }
}
