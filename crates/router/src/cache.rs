//! Matches that one worker has looked up, for as long as the table does not change.
//!
//! Knows topics and generations. Not shared between threads. Bounded in topics and in targets; when a bound is reached,
//! everything is forgotten, which costs one lookup for each topic still in use.

use std::collections::HashMap;
use std::rc::Rc;

use whimbrel_protocol::Topic;

use crate::Router;
use crate::matches::Matches;

/// Topics remembered at most.
const TOPICS_MAX: usize = 16_384;
/// Targets remembered at most, over all topics.
const TARGETS_MAX: usize = 1 << 20;

/// The memory.
#[derive(Debug)]
pub struct MatchCache {
    home: u16,
    known: HashMap<Box<str>, Rc<Matches>>,
    generation: u64,
    targets: usize,
    /// Lookups that had to ask the router.
    pub misses: u64,
}

impl MatchCache {
    /// For the worker `home`.
    pub fn new(home: u16) -> MatchCache {
        MatchCache { home, known: HashMap::new(), generation: 0, targets: 0, misses: 0 }
    }

    /// The matches of `topic` in the router's present state.
    pub fn find(&mut self, router: &Router, topic: Topic<'_>) -> Rc<Matches> {
        if self.generation != router.generation() {
            self.clear();
        }
        if let Some(matches) = self.known.get(topic.as_str()) {
            return Rc::clone(matches);
        }
        self.misses += 1;
        let matches = Rc::new(router.find(topic, self.home));
        self.remember(&matches);
        matches
    }

    fn remember(&mut self, matches: &Rc<Matches>) {
        if self.known.len() >= TOPICS_MAX || self.targets + matches.len() > TARGETS_MAX {
            self.clear();
        }
        // The table may have changed since the check above: the newer state is the one to go by.
        if self.generation != matches.generation {
            self.clear();
            self.generation = matches.generation;
        }
        self.targets += matches.len();
        self.known.insert(matches.topic.clone(), Rc::clone(matches));
    }

    fn clear(&mut self) {
        self.known.clear();
        self.targets = 0;
    }
}
