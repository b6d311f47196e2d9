//! Who wants this topic.
//!
//! Knows filters, subscribers as opaque places, and retained messages. Must not know sessions, sockets or workers'
//! loops. Process-wide: workers change it under a lock and read it through caches of their own, which a generation
//! number keeps honest.

pub mod cache;
pub mod matches;
pub mod naive;
pub mod retained;
pub mod tree;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

pub use cache::MatchCache;
pub use matches::{Audience, Group, Matches, Target};
pub use retained::{Progress, Retained, StoreOutcome};
pub use tree::{Entry, Place, Tree};

use whimbrel_protocol::{Filter, Topic};

/// The routing table and the retained store of one broker.
#[derive(Debug)]
pub struct Router {
    tree: RwLock<Tree>,
    generation: AtomicU64,
    /// Retained messages.
    pub retained: RwLock<Retained>,
}

impl Router {
    /// Empty; `retained` carries its own limits.
    pub fn new(retained: Retained) -> Router {
        Router { tree: RwLock::default(), generation: AtomicU64::new(0), retained: RwLock::new(retained) }
    }

    /// Changes with every subscribe and unsubscribe; matches found under another number are stale.
    #[inline]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Adds or replaces subscriptions, under one lock. Takes effect for every publish that starts afterwards.
    pub fn subscribe<'a>(&self, additions: impl IntoIterator<Item = (Filter<'a>, Entry)>) {
        let mut additions = additions.into_iter().peekable();
        if additions.peek().is_none() {
            return;
        }
        let mut tree = self.tree.write().unwrap_or_else(PoisonError::into_inner);
        for (filter, entry) in additions {
            tree.subscribe(filter, entry);
        }
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Removes subscriptions, under one lock.
    pub fn unsubscribe<'a>(&self, filters: impl IntoIterator<Item = Filter<'a>>, place: Place) {
        let mut filters = filters.into_iter().peekable();
        if filters.peek().is_none() {
            return;
        }
        let mut tree = self.tree.write().unwrap_or_else(PoisonError::into_inner);
        for filter in filters {
            tree.unsubscribe(filter, place);
        }
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Finds all subscribers of `topic`, seen from the worker `home`.
    pub fn find(&self, topic: Topic<'_>, home: u16) -> Matches {
        let tree = self.tree.read().unwrap_or_else(PoisonError::into_inner);
        // Under the lock the number cannot change, so it names exactly the state that is read.
        let generation = self.generation();
        let mut found = Vec::new();
        tree.collect(topic, &mut found);
        Matches::group(topic, generation, home, found)
    }

    /// How many different filters are subscribed to.
    pub fn filter_count(&self) -> usize {
        self.tree.read().unwrap_or_else(PoisonError::into_inner).filter_count()
    }
}
