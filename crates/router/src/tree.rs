//! The filters, level by level.
//!
//! Knows which places subscribed to which filter. All edges of the tree lie in one hash table keyed by (node, level), so
//! that a node costs no table of its own; the hash is keyed with random numbers, because levels come from strangers.
//! Neither matching nor changing recurses: the depth of a filter is the client's choice.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use indexmap::IndexMap;
use smallvec::SmallVec;
use whimbrel_protocol::packet::SubscriptionOptions;
use whimbrel_protocol::{Filter, Topic};

/// Where a subscriber lives: which owner (a worker, or the taps), which slot there, and which life of that slot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Place {
    /// Worker, or the number that the server gives to taps.
    pub owner: u16,
    /// Which of the owner's.
    pub slot: u32,
    /// Tells a slot's present life from the one before.
    pub epoch: u16,
}

/// One subscription.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Whose.
    pub place: Place,
    /// How.
    pub options: SubscriptionOptions,
    /// Subscription Identifier; 0: none.
    pub identifier: u32,
}

#[derive(Debug)]
enum Subscribers {
    Few(SmallVec<[Entry; 1]>),
    Crowd(Box<IndexMap<Place, Entry>>),
}

/// Beyond this, a list is searched by hash instead of from its start.
const FEW_MAX: usize = 16;

#[derive(Debug)]
struct Node {
    level: Box<str>,
    subscribers: Subscribers,
    parent: u32,
    children: u32, // how many
    plus: u32,     // child for "+", 0: none (the root is nobody's child)
    hash: u32,     // child for "#", 0: none
}

const ROOT: u32 = 0;

/// The table.
#[derive(Debug)]
pub struct Tree {
    nodes: Vec<Node>,
    free: Vec<u32>,
    edges: HashTable<u32>,
    hasher: RandomState,
    filters: usize,
    filters_peak: usize,
}

impl Default for Tree {
    fn default() -> Tree {
        Tree {
            nodes: vec![Node::new("", ROOT)],
            free: Vec::new(),
            edges: HashTable::new(),
            hasher: RandomState::new(),
            filters: 0,
            filters_peak: 0,
        }
    }
}

impl Node {
    fn new(level: &str, parent: u32) -> Node {
        let subscribers = Subscribers::Few(SmallVec::new());
        Node { level: level.into(), subscribers, parent, children: 0, plus: 0, hash: 0 }
    }
}

impl Tree {
    /// Adds or replaces a subscription; whether it is new. Cost: the filter's levels.
    pub fn subscribe(&mut self, filter: Filter<'_>, entry: Entry) -> bool {
        let mut node = ROOT;
        for level in filter.levels() {
            node = match self.child(node, level) {
                Some(child) => child,
                None => self.add_child(node, level),
            };
        }
        let subscribers = &mut self.nodes[node as usize].subscribers;
        self.filters += usize::from(subscribers.is_empty());
        self.filters_peak = self.filters_peak.max(self.filters);
        subscribers.insert(entry)
    }

    /// Removes a subscription and the nodes that only it needed; whether it existed.
    pub fn unsubscribe(&mut self, filter: Filter<'_>, place: Place) -> bool {
        let mut node = ROOT;
        for level in filter.levels() {
            match self.child(node, level) {
                Some(child) => node = child,
                None => return false,
            }
        }
        let subscribers = &mut self.nodes[node as usize].subscribers;
        if !subscribers.remove(place) {
            return false;
        }
        self.filters -= usize::from(subscribers.is_empty());
        self.prune(node);
        true
    }

    /// Appends every subscription whose filter matches (section 4.7). Cost: the nodes on matching paths.
    pub fn collect(&self, topic: Topic<'_>, found: &mut Vec<Entry>) {
        let mut paths: SmallVec<[u32; 16]> = SmallVec::from_slice(&[ROOT]);
        let mut next: SmallVec<[u32; 16]> = SmallVec::new();
        for (depth, level) in topic.levels().enumerate() {
            // No wildcard in the first level matches a topic that begins with $ [MQTT-4.7.2-1].
            let wildcards = depth > 0 || !topic.is_reserved();
            let hash = self.hasher.hash_one(level);
            for node in paths.drain(..) {
                if wildcards {
                    self.collect_from(self.node(node).hash, found);
                }
                next.extend(self.literal_child(node, level, hash));
                next.extend(present(self.node(node).plus).filter(|_| wildcards));
            }
            std::mem::swap(&mut paths, &mut next);
        }
        for node in paths {
            found.extend(self.node(node).subscribers.iter());
            // `a/#` matches `a` as well.
            self.collect_from(self.node(node).hash, found);
        }
    }

    /// How many different filters have a subscriber.
    pub fn filter_count(&self) -> usize {
        self.filters
    }

    /// The most different filters that had a subscriber at the same time.
    pub fn filter_peak(&self) -> usize {
        self.filters_peak
    }

    /// Whether a filter has a subscriber that could match a topic under these levels, with at least one level more. Cost:
    /// the nodes on matching paths.
    pub fn is_watched<'a>(&self, levels: impl IntoIterator<Item = &'a str>) -> bool {
        let mut paths: SmallVec<[u32; 16]> = SmallVec::from_slice(&[ROOT]);
        for (depth, level) in levels.into_iter().enumerate() {
            let wildcards = depth > 0 || !level.starts_with('$');
            if wildcards && paths.iter().any(|node| self.node(*node).hash != 0) {
                return true;
            }
            let hash = self.hasher.hash_one(level);
            let plus = |node: u32| present(self.node(node).plus).filter(|_| wildcards);
            let below = |node: &u32| self.literal_child(*node, level, hash).into_iter().chain(plus(*node));
            paths = paths.iter().flat_map(below).collect();
        }
        // A node without children has a subscriber, but its filter ends here.
        paths.iter().any(|node| self.node(*node).children > 0)
    }

    /// How many nodes are in use, the root included; for tests of pruning.
    pub fn node_count(&self) -> usize {
        self.nodes.len() - self.free.len()
    }

    fn collect_from(&self, node: u32, found: &mut Vec<Entry>) {
        if let Some(node) = present(node) {
            found.extend(self.node(node).subscribers.iter());
        }
    }

    fn node(&self, node: u32) -> &Node {
        &self.nodes[node as usize]
    }

    fn child(&self, node: u32, level: &str) -> Option<u32> {
        match level {
            "+" => present(self.node(node).plus),
            "#" => present(self.node(node).hash),
            level => self.literal_child(node, level, self.hasher.hash_one(level)),
        }
    }

    fn literal_child(&self, node: u32, level: &str, hash: u64) -> Option<u32> {
        let is_it = |child: &u32| self.node(*child).parent == node && *self.node(*child).level == *level;
        self.edges.find(edge_hash(hash, node), is_it).copied()
    }

    fn add_child(&mut self, node: u32, level: &str) -> u32 {
        let child = self.allocate(Node::new(level, node));
        let parent = &mut self.nodes[node as usize];
        parent.children += 1;
        match level {
            "+" => parent.plus = child,
            "#" => parent.hash = child,
            level => {
                let hash = edge_hash(self.hasher.hash_one(level), node);
                let (nodes, hasher) = (&self.nodes, &self.hasher);
                self.edges.insert_unique(hash, child, |child| {
                    let child = &nodes[*child as usize];
                    edge_hash(hasher.hash_one(&*child.level), child.parent)
                });
            }
        }
        child
    }

    fn allocate(&mut self, node: Node) -> u32 {
        match self.free.pop() {
            Some(place) => {
                self.nodes[place as usize] = node;
                place
            }
            None => {
                self.nodes.push(node);
                (self.nodes.len() - 1) as u32
            }
        }
    }

    fn prune(&mut self, mut node: u32) {
        while node != ROOT && self.node(node).children == 0 && self.node(node).subscribers.is_empty() {
            let parent = self.node(node).parent;
            self.detach(node, parent);
            self.nodes[node as usize] = Node::new("", ROOT);
            self.free.push(node);
            node = parent;
        }
    }

    fn detach(&mut self, node: u32, parent: u32) {
        let above = &mut self.nodes[parent as usize];
        above.children -= 1;
        if above.plus == node {
            above.plus = 0;
        } else if above.hash == node {
            above.hash = 0;
        } else {
            let hash = edge_hash(self.hasher.hash_one(&*self.node(node).level), parent);
            if let Ok(edge) = self.edges.find_entry(hash, |child| *child == node) {
                edge.remove();
            }
        }
    }
}

fn present(node: u32) -> Option<u32> {
    (node != 0).then_some(node)
}

/// Mixes the parent in; without the random key of the level's hash nobody can aim at one bucket.
fn edge_hash(level_hash: u64, parent: u32) -> u64 {
    (level_hash ^ u64::from(parent)).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29)
}

impl Subscribers {
    fn is_empty(&self) -> bool {
        match self {
            Subscribers::Few(few) => few.is_empty(),
            Subscribers::Crowd(crowd) => crowd.is_empty(),
        }
    }

    fn iter(&self) -> impl Iterator<Item = Entry> {
        let (few, crowd) = match self {
            Subscribers::Few(few) => (Some(few.iter()), None),
            Subscribers::Crowd(crowd) => (None, Some(crowd.values())),
        };
        few.into_iter().flatten().chain(crowd.into_iter().flatten()).copied()
    }

    fn insert(&mut self, entry: Entry) -> bool {
        let few = match self {
            Subscribers::Few(few) => few,
            Subscribers::Crowd(crowd) => return crowd.insert(entry.place, entry).is_none(),
        };
        if let Some(known) = few.iter_mut().find(|known| known.place == entry.place) {
            *known = entry;
            return false;
        }
        few.push(entry);
        if few.len() > FEW_MAX {
            *self = Subscribers::Crowd(Box::new(few.iter().map(|entry| (entry.place, *entry)).collect()));
        }
        true
    }

    fn remove(&mut self, place: Place) -> bool {
        match self {
            Subscribers::Few(few) => {
                let found = few.iter().position(|known| known.place == place);
                found.map(|at| few.swap_remove(at)).is_some()
            }
            Subscribers::Crowd(crowd) => crowd.swap_remove(&place).is_some(),
        }
    }
}
