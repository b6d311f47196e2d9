//! Who wants this topic.
//!
//! Knows filters, subscribers as opaque places, and retained messages. Must not know sessions, sockets or workers'
//! loops. Process-wide: workers change it under a lock and read it through caches of their own, which a generation
//! number keeps honest.

pub mod cache;
pub mod matches;
pub mod naive;
pub mod retained;
pub mod share;
pub mod tree;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

pub use cache::MatchCache;
pub use matches::{Audience, Group, Matches, Target};
pub use retained::{Progress, Retained, StoreOutcome};
pub use share::{Member, Presence, SHARES, Share, Shares};
pub use tree::{Entry, Place, Tree};

use whimbrel_protocol::{Filter, Strategy, Topic};

/// What one lock guards.
#[derive(Default, Debug)]
struct Table {
    tree: Tree,
    shares: Shares,
}

/// The routing table and the retained store of one broker.
#[derive(Debug)]
pub struct Router {
    table: RwLock<Table>,
    generation: AtomicU64,
    /// Retained messages.
    pub retained: RwLock<Retained>,
}

impl Router {
    /// Empty; `retained` carries its own limits.
    pub fn new(retained: Retained) -> Router {
        Router { table: RwLock::default(), generation: AtomicU64::new(0), retained: RwLock::new(retained) }
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
        let tree = &mut self.table.write().unwrap_or_else(PoisonError::into_inner).tree;
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
        let tree = &mut self.table.write().unwrap_or_else(PoisonError::into_inner).tree;
        for filter in filters {
            tree.unsubscribe(filter, place);
        }
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Finds all subscribers of `topic`, seen from the worker `home`.
    pub fn find(&self, topic: Topic<'_>, home: u16) -> Matches {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        // Under the lock the number cannot change, so it names exactly the state that is read.
        let generation = self.generation();
        let mut found = Vec::new();
        let steps = table.tree.collect(topic, &mut found);
        let shared = table.shares.take_from(&mut found);
        Matches { shared, steps, ..Matches::group(topic, generation, home, found) }
    }

    /// How many different filters are subscribed to.
    pub fn filter_count(&self) -> usize {
        self.table.read().unwrap_or_else(PoisonError::into_inner).tree.filter_count()
    }

    /// Adds a member to the group that `whole` (`$share/group/filter`) names, or replaces its options. `filter` is the
    /// part that topics are compared with, `strategy` that of a group that does not exist yet. Takes effect for every
    /// publish that starts afterwards; what was found before stays true, because a group's members are not part of it.
    pub fn join(&self, (whole, filter): (Filter<'_>, Filter<'_>), member: Member, strategy: Strategy) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let (share, is_new) = table.shares.join(whole, member, strategy);
        if is_new {
            table.tree.subscribe(filter, share.entry());
            self.generation.fetch_add(1, Ordering::Release);
        }
    }

    /// Groups, each by its whole name and a number that it had before a restart, and the highest number that anything names.
    /// Before the first member joins.
    pub fn reserve_groups<'a>(&self, groups: impl IntoIterator<Item = (&'a str, u32)>, highest: u32) {
        let shares = &mut self.table.write().unwrap_or_else(PoisonError::into_inner).shares;
        groups.into_iter().for_each(|(whole, number)| shares.reserve(whole, number));
        shares.avoid(highest);
    }

    /// Takes a member out; the group goes with its last one.
    pub fn leave(&self, (whole, filter): (Filter<'_>, Filter<'_>), place: Place) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(empty) = table.shares.leave(whole, place) {
            table.tree.unsubscribe(filter, empty.entry().place);
            self.generation.fetch_add(1, Ordering::Release);
        }
    }

    /// The group that `whole` names.
    pub fn share(&self, whole: Filter<'_>) -> Option<Arc<Share>> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).shares.named(whole)
    }

    /// The group of this number.
    pub fn share_numbered(&self, number: u32) -> Option<Arc<Share>> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).shares.numbered(number)
    }

    /// How many memberships all groups have.
    pub fn member_count(&self) -> usize {
        self.member_counts().0
    }

    /// How many memberships all groups have, and the most they had at the same time.
    pub fn member_counts(&self) -> (usize, usize) {
        self.table.read().unwrap_or_else(PoisonError::into_inner).shares.member_counts()
    }

    /// How many different filters are subscribed to, and the most that were at the same time.
    pub fn filter_counts(&self) -> (usize, usize) {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        (table.tree.filter_count(), table.tree.filter_peak())
    }

    /// Whether anybody would get a message under `prefix` ("a/b", for topics "a/b/..."): for those who make messages only
    /// where somebody wants them.
    pub fn is_watched(&self, prefix: &str) -> bool {
        self.table.read().unwrap_or_else(PoisonError::into_inner).tree.is_watched(prefix.split('/'))
    }
}
