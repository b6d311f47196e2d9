//! Matches that one worker has looked up, for as long as the table does not change.
//!
//! Knows topics and generations. Not shared between threads. A topic is remembered when it comes the second time, so that
//! topics used once (a million retained messages) cost a lookup each and no memory. Bounded in topics and in bytes; when
//! a bound is reached, everything is forgotten, which costs one lookup for each topic still in use.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{BuildHasher, Hash, Hasher};
use std::rc::Rc;

use whimbrel_protocol::Topic;

use crate::Router;
use crate::matches::Matches;

/// Topics remembered at most.
const TOPICS_MAX: usize = 16_384;
/// Bytes of matches remembered at most, over all topics.
const BYTES_MAX: usize = 64 << 20;
/// Room for so many topics is not worth giving back.
const TOPICS_KEPT: usize = 128;
/// A longer topic is looked up each time; bytes.
const TOPIC_LEN_MAX: usize = 1024;
/// Places for fingerprints of topics that came once; a power of two.
const ONCE_PLACES: usize = 4096;

/// A set member that is its matches' own topic, so that the text lies in memory once.
#[derive(Debug)]
struct ByTopic(Rc<Matches>);

impl Borrow<str> for ByTopic {
    fn borrow(&self) -> &str {
        &self.0.topic
    }
}

impl Hash for ByTopic {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.topic.hash(state);
    }
}

impl PartialEq for ByTopic {
    fn eq(&self, other: &ByTopic) -> bool {
        self.0.topic == other.0.topic
    }
}

impl Eq for ByTopic {}

/// The memory.
#[derive(Debug)]
pub struct MatchCache {
    home: u16,
    known: HashSet<ByTopic>,
    once: Box<[u32]>,
    generation: u64,
    bytes: usize,
    /// Lookups that had to ask the router.
    pub misses: u64,
}

impl MatchCache {
    /// For the worker `home`.
    pub fn new(home: u16) -> MatchCache {
        let once = vec![0; ONCE_PLACES].into_boxed_slice();
        MatchCache { home, known: HashSet::new(), once, generation: 0, bytes: 0, misses: 0 }
    }

    /// The matches of `topic` in the router's present state.
    pub fn find(&mut self, router: &Router, topic: Topic<'_>) -> Rc<Matches> {
        if self.generation != router.generation() {
            self.clear();
        }
        if let Some(ByTopic(matches)) = self.known.get(topic.as_str()) {
            return Rc::clone(matches);
        }
        self.misses += 1;
        let matches = Rc::new(router.find(topic, self.home));
        if topic.as_str().len() <= TOPIC_LEN_MAX && self.came_before(topic) {
            self.remember(&matches);
        }
        matches
    }

    /// Whether it holds much that the table's changes have made useless.
    #[inline]
    pub fn is_stale_and_large(&self, router: &Router) -> bool {
        self.known.capacity() > TOPICS_KEPT && self.generation != router.generation()
    }

    /// Forgets what the table's changes have made useless, and the room for it.
    pub fn forget_stale(&mut self, router: &Router) {
        if self.is_stale_and_large(router) {
            self.clear();
            self.known.shrink_to(TOPICS_KEPT / 2);
        }
    }

    /// Whether the topic came lately, judged by a fingerprint: a wrong yes only remembers it one time too early.
    fn came_before(&mut self, topic: Topic<'_>) -> bool {
        let hash = self.known.hasher().hash_one(topic.as_str());
        let fingerprint = (hash >> 32) as u32;
        let place = &mut self.once[hash as usize % ONCE_PLACES];
        std::mem::replace(place, fingerprint) == fingerprint
    }

    fn remember(&mut self, matches: &Rc<Matches>) {
        let bytes = matches.size_bytes();
        if bytes > BYTES_MAX {
            return;
        }
        if self.known.len() >= TOPICS_MAX || self.bytes + bytes > BYTES_MAX {
            self.clear();
        }
        // The table may have changed since the check above: the newer state is the one to go by.
        if self.generation != matches.generation {
            self.clear();
            self.generation = matches.generation;
        }
        self.bytes += bytes;
        self.known.insert(ByTopic(Rc::clone(matches)));
    }

    fn clear(&mut self) {
        self.known.clear();
        self.bytes = 0;
    }
}
