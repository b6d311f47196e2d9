//! Retained messages (MQTT 5.0 section 3.3.1.3): the last one of each topic.
//!
//! Knows topics in order, so that a wildcard is a range scan that can stop after a budget and go on later from a key.
//! Does not know who asks. Bounded in messages and bytes: a message over the bound is refused, never an old one lost.

use std::borrow::Borrow;
use std::collections::BTreeMap;
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
    messages: BTreeMap<ByTopic, ()>,
    bytes: usize,
    messages_max: usize,
    bytes_max: usize,
}

/// A page of a scan.
#[derive(Debug, Default)]
pub struct Page {
    /// Messages whose topic matches, in the order of their topics.
    pub messages: Vec<Arc<Message>>,
    /// Where to go on; None: the end was reached.
    pub next: Option<Box<[u8]>>,
}

impl Retained {
    /// Empty; holds at most so many messages and bytes.
    pub fn new(messages_max: usize, bytes_max: usize) -> Retained {
        Retained { messages: BTreeMap::new(), bytes: 0, messages_max, bytes_max }
    }

    /// How many messages.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Stores, replaces or clears.
    pub fn store(&mut self, message: Arc<Message>) -> StoreOutcome {
        let replaced = self.remove(message.topic_bytes());
        if message.payload().is_empty() {
            return StoreOutcome::Cleared;
        }
        let full = self.messages.len() >= self.messages_max || self.bytes + message.size_bytes() > self.bytes_max;
        match (full, replaced) {
            (false, _) => {
                self.insert(message);
                StoreOutcome::Stored
            }
            (true, before) => {
                before.into_iter().for_each(|before| self.insert(before));
                StoreOutcome::Refused
            }
        }
    }

    fn insert(&mut self, message: Arc<Message>) {
        self.bytes += message.size_bytes();
        self.messages.insert(ByTopic(message), ());
    }

    fn remove(&mut self, topic: &[u8]) -> Option<Arc<Message>> {
        let (ByTopic(message), ()) = self.messages.remove_entry(topic)?;
        self.bytes -= message.size_bytes();
        Some(message)
    }

    /// The retained message of one topic.
    pub fn get(&self, topic: Topic<'_>) -> Option<&Arc<Message>> {
        self.messages.get_key_value(topic.as_str().as_bytes()).map(|(ByTopic(message), ())| message)
    }

    /// Looks at up to `budget` topics behind `after` (None: from the start) and returns those that `filter` matches.
    pub fn scan(&self, filter: Filter<'_>, after: Option<&[u8]>, budget: usize) -> Page {
        if !filter.has_wildcard() {
            let found = Topic::new(filter.as_str()).ok().and_then(|topic| self.get(topic));
            return Page { messages: found.into_iter().cloned().collect(), next: None };
        }
        let prefix = filter.literal_prefix();
        let start = after.map_or(Bound::Included(prefix.as_bytes()), Bound::Excluded);
        let mut page = Page::default();
        if after.is_none() {
            page.messages.extend(self.parent(filter, prefix).cloned());
        }
        let prefix = prefix.as_bytes();
        for (looked_at, (ByTopic(message), ())) in self.messages.range::<[u8], _>((start, Bound::Unbounded)).enumerate()
        {
            if !message.topic_bytes().starts_with(prefix) {
                return page;
            }
            if filter.matches(message.topic()) {
                page.messages.push(Arc::clone(message));
            }
            if looked_at + 1 >= budget {
                page.next = Some(message.topic_bytes().into());
                return page;
            }
        }
        page
    }
    /// `a/#` also matches `a`, which does not lie in the range of `a/`.
    fn parent(&self, filter: Filter<'_>, prefix: &str) -> Option<&Arc<Message>> {
        let parent = prefix.strip_suffix('/').filter(|_| filter.as_str().len() == prefix.len() + 1)?;
        self.get(Topic::new(parent).ok()?).filter(|message| filter.matches(message.topic()))
    }
}
