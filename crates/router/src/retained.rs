//! Retained messages (MQTT 5.0 section 3.3.1.3): the last one of each topic.
//!
//! Knows topics in order, so that a wildcard is a range scan that can stop after a budget and go on later from a key.
//! Does not know who asks. Bounded in messages and bytes: a message over the bound is refused, never an old one lost.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use whimbrel_protocol::{Filter, Message, Topic};

/// A map key that is the message's own topic, so that the text lies in memory once.
#[derive(Clone, Debug)]
struct ByTopic(Arc<Message>);

impl Borrow<[u8]> for ByTopic {
    fn borrow(&self) -> &[u8] {
        self.0.topic_bytes()
    }
}

impl PartialEq for ByTopic {
    fn eq(&self, other: &ByTopic) -> bool {
        self.0.topic_bytes() == other.0.topic_bytes()
    }
}

impl Eq for ByTopic {}

impl PartialOrd for ByTopic {
    fn partial_cmp(&self, other: &ByTopic) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByTopic {
    fn cmp(&self, other: &ByTopic) -> std::cmp::Ordering {
        self.0.topic_bytes().cmp(other.0.topic_bytes())
    }
}

/// What became of a retained PUBLISH.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StoreOutcome {
    /// It is the topic's retained message now.
    Stored,
    /// Its payload is empty: the topic has none any more [MQTT-3.3.1-6].
    Cleared,
    /// A bound would be passed; the message is delivered, but not kept.
    Refused,
}

/// The store.
#[derive(Debug)]
pub struct Retained {
    /// With the store's slot of each; 0: it is not stored.
    messages: BTreeMap<ByTopic, u64>,
    /// Those with an expiry, by its end.
    expiring: BTreeSet<(u64, ByTopic)>,
    bytes: usize,
    peak: usize,
    messages_max: usize,
    bytes_max: usize,
}

/// How far a visit has come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Progress {
    /// Every matching message was visited.
    Done,
    /// Go on behind this topic.
    After(Box<[u8]>),
    /// The first message was refused: go on from the same place.
    Unmoved,
}

impl Retained {
    /// Empty; holds at most so many messages and bytes.
    pub fn new(messages_max: usize, bytes_max: usize) -> Retained {
        Retained { messages: BTreeMap::new(), expiring: BTreeSet::new(), bytes: 0, peak: 0, messages_max, bytes_max }
    }

    /// How many messages.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// How many messages, and the most there were at the same time.
    pub fn counts(&self) -> (usize, usize) {
        (self.len(), self.peak)
    }

    /// Bytes of all messages, as the limit counts them.
    pub fn size_bytes(&self) -> usize {
        self.bytes
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Stores, replaces or clears what no disk keeps.
    pub fn store(&mut self, message: Arc<Message>) -> StoreOutcome {
        self.store_under(message, 0).0
    }

    /// Stores, replaces or clears. `slot` is the store's, 0 without one; the slot that is free now comes back, 0 if none is.
    pub fn store_under(&mut self, message: Arc<Message>, slot: u64) -> (StoreOutcome, u64) {
        let replaced = self.remove(message.topic_bytes());
        let freed = replaced.as_ref().map_or(0, |(_, slot)| *slot);
        if message.payload().is_empty() {
            return (StoreOutcome::Cleared, freed);
        }
        let full = self.messages.len() >= self.messages_max || self.bytes + message.size_bytes() > self.bytes_max;
        match (full, replaced) {
            (false, _) => {
                self.insert(message, slot);
                (StoreOutcome::Stored, freed)
            }
            (true, before) => {
                before.into_iter().for_each(|(before, its)| self.insert(before, its));
                (StoreOutcome::Refused, slot)
            }
        }
    }

    fn insert(&mut self, message: Arc<Message>, slot: u64) {
        self.bytes += message.size_bytes();
        if let Some(expires_ms) = message.expires_ms() {
            self.expiring.insert((expires_ms, ByTopic(Arc::clone(&message))));
        }
        self.messages.insert(ByTopic(message), slot);
        self.peak = self.peak.max(self.messages.len());
    }

    fn remove(&mut self, topic: &[u8]) -> Option<(Arc<Message>, u64)> {
        let (ByTopic(message), slot) = self.messages.remove_entry(topic)?;
        self.bytes -= message.size_bytes();
        if let Some(expires_ms) = message.expires_ms() {
            self.expiring.remove(&(expires_ms, ByTopic(Arc::clone(&message))));
        }
        Some((message, slot))
    }

    /// As `purge_freeing`, for what no disk keeps.
    pub fn purge(&mut self, now_ms: u64, budget: usize) -> usize {
        self.purge_freeing(now_ms, budget, drop)
    }

    /// Removes up to `budget` messages whose expiry has elapsed at `now_ms` (the clock of `Origin::received_ms`), those
    /// that were due first before others; how many went. `free` is told each one's slot.
    pub fn purge_freeing(&mut self, now_ms: u64, budget: usize, mut free: impl FnMut(u64)) -> usize {
        let mut count = 0;
        while count < budget && self.next_expiry_ms().is_some_and(|due_ms| due_ms <= now_ms) {
            let Some((_, ByTopic(message))) = self.expiring.pop_first() else { break };
            self.remove(message.topic_bytes()).into_iter().for_each(|(_, slot)| free(slot));
            count += 1;
        }
        count
    }

    /// When the next message expires; None: none will.
    pub fn next_expiry_ms(&self) -> Option<u64> {
        self.expiring.first().map(|(due_ms, _)| *due_ms)
    }

    /// The retained message of one topic.
    pub fn get(&self, topic: Topic<'_>) -> Option<&Arc<Message>> {
        self.messages.get_key_value(topic.as_str().as_bytes()).map(|(ByTopic(message), _)| message)
    }

    /// Whether a visit could find anything; exact for a filter without wildcards.
    pub fn may_match(&self, filter: Filter<'_>) -> bool {
        !self.is_empty() && (filter.has_wildcard() || self.messages.contains_key(filter.as_str().as_bytes()))
    }

    /// Looks at up to `budget` topics behind `after` (None: from the start), in their order, and shows `visit` the
    /// messages that `filter` matches; it ends early when `visit` returns false, and that message comes again.
    pub fn visit(
        &self,
        filter: Filter<'_>,
        after: Option<&[u8]>,
        budget: usize,
        mut visit: impl FnMut(&Arc<Message>) -> bool,
    ) -> Progress {
        if !filter.has_wildcard() {
            let found = Topic::new(filter.as_str()).ok().and_then(|topic| self.get(topic));
            return if found.is_none_or(visit) { Progress::Done } else { Progress::Unmoved };
        }
        let prefix = filter.literal_prefix();
        if after.is_none() && !self.parent(filter, prefix).is_none_or(&mut visit) {
            return Progress::Unmoved;
        }
        let start = match after {
            Some(after) if after >= prefix.as_bytes() => Bound::Excluded(after),
            _ => Bound::Included(prefix.as_bytes()),
        };
        let range = self.messages.range::<[u8], _>((start, Bound::Unbounded)).map(|(ByTopic(message), _)| message);
        let mut range = range.take_while(|message| message.topic_bytes().starts_with(prefix.as_bytes()));
        let mut reached = after.unwrap_or(prefix.trim_end_matches('/').as_bytes());
        for message in range.by_ref().take(budget) {
            if filter.matches(message.topic()) && !visit(message) {
                return Progress::After(reached.into());
            }
            reached = message.topic_bytes();
        }
        if range.next().is_none() { Progress::Done } else { Progress::After(reached.into()) }
    }

    /// `a/#` also matches `a`, which does not lie in the range of `a/`.
    fn parent(&self, filter: Filter<'_>, prefix: &str) -> Option<&Arc<Message>> {
        let parent = prefix.strip_suffix('/').filter(|_| filter.as_str().len() == prefix.len() + 1)?;
        self.get(Topic::new(parent).ok()?).filter(|message| filter.matches(message.topic()))
    }
}
