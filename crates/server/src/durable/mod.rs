//! What of the broker survives a crash: the store, the numbers of its sessions, what a start finds in it.
//!
//! Knows which records the workers write and reads them back. Must not know sockets, routing or when an acknowledgement is
//! sent; that is the workers' part (`worker/durable.rs`).

mod bodies;
mod record;
mod restore;
#[cfg(test)]
mod scale;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use whimbrel_protocol::session::QueueRules;
use whimbrel_storage::{Failure, Store};

pub(crate) use bodies::Publishers;
pub(crate) use record::{SessionRecord, key_of_subscription, packet_id_body, sent_body, stored, subscription_value};
pub(crate) use record::{packet_id, sent, subscription, subscription_key};
pub(crate) use restore::{Kept, KeptSession, read_back};

/// The store as all workers share it.
pub(crate) struct Durable {
    pub(crate) store: Arc<dyn Store>,
    next_number: AtomicU32,
}

impl std::fmt::Debug for Durable {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Durable({:?})", self.store.statistics())
    }
}

impl Durable {
    /// Reads back what `store` holds, with the priorities of `rules`. Waits for the disk.
    pub(crate) fn open(store: Arc<dyn Store>, rules: Option<Arc<QueueRules>>) -> Result<(Durable, Kept), Failure> {
        let kept = read_back(&*store, rules)?;
        let next_number = AtomicU32::new(kept.highest_number + 1);
        Ok((Durable { store, next_number }, kept))
    }

    /// The store's figures as counters; shares are in millionths. All 0 where there is no store.
    pub(crate) fn figures(durable: Option<&Durable>) -> [(&'static str, u64); 16] {
        let store = durable.map(|durable| &durable.store);
        let figures = store.map(|store| store.statistics()).unwrap_or_default();
        [
            ("whimbrel.storage.refusing", u64::from(store.is_some_and(|store| store.is_refusing()))),
            ("whimbrel.storage.pressed", u64::from(store.is_some_and(|store| store.is_pressed()))),
            ("whimbrel.storage.commits", figures.commits),
            ("whimbrel.storage.failures", figures.failures),
            ("whimbrel.storage.written", figures.written),
            ("whimbrel.storage.elided", figures.elided),
            ("whimbrel.storage.reclaimed", figures.reclaimed),
            ("whimbrel.storage.chunks", figures.chunks),
            ("whimbrel.storage.bytes", figures.bytes),
            ("whimbrel.storage.live", figures.live),
            ("whimbrel.storage.dead_ppm", (figures.dead_share() * 1e6) as u64),
            ("whimbrel.storage.waiting_bytes", figures.waiting_bytes),
            ("whimbrel.storage.journal_bytes", figures.journal_bytes),
            ("whimbrel.storage.carried", figures.carried),
            ("whimbrel.storage.commit_us", figures.commit_us),
            ("whimbrel.storage.commit_max_us", figures.commit_max_us),
        ]
    }

    /// A number for a session that begins; None after four thousand million of them, and then it is not durable.
    pub(crate) fn number(&self) -> Option<u32> {
        let next = |number: u32| number.checked_add(1);
        self.next_number.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).ok()
    }
}

impl Drop for Durable {
    fn drop(&mut self) {
        self.store.close();
    }
}
