//! The filters, by what they have in common at their start.
//!
//! Knows which places subscribed to which filter. A node stands for all levels up to where filters part, so there are fewer
//! nodes than twice the filters: neither the memory of a filter nor the way to it is a matter of how deep it is, only of
//! its bytes. All edges of the tree lie in one hash table keyed by (node, first level behind it), so that a node costs no
//! table of its own; the hash is keyed with random numbers, because levels come from strangers. Neither matching nor
//! changing recurses: the depth of a filter is the client's choice.

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
    /// The levels between the parent and here.
    label: Box<str>,
    subscribers: Subscribers,
    parent: u32,
    children: u32, // how many
    sum: u32,      // of the children's numbers, by exclusive or: where there is one child, it is that one
    plus: u32,     // child whose label begins with the level "+", 0: none (the root is nobody's child)
    hash: u32,     // child whose label is "#", 0: none
}

const ROOT: u32 = 0;
/// A table of fewer nodes is never made smaller.
const NODES_KEPT: usize = 1024;
/// Bytes of a label that count as one step of a walk.
const STEP_BYTES: usize = 16;

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
            nodes: vec![Node::new("".into(), ROOT)],
            free: Vec::new(),
            edges: HashTable::new(),
            hasher: RandomState::new(),
            filters: 0,
            filters_peak: 0,
        }
    }
}

impl Node {
    fn new(label: Box<str>, parent: u32) -> Node {
        let subscribers = Subscribers::Few(SmallVec::new());
        Node { label, subscribers, parent, children: 0, sum: 0, plus: 0, hash: 0 }
    }
}

/// How far a label goes along with a topic.
enum Walk {
    /// It ends where this byte of the topic begins (one behind its end: the topic is over, too).
    To(usize),
    /// It ends with `#`: whatever follows matches.
    Whole,
    /// The topic is over, the label is not.
    Short,
    /// They part.
    Parted,
}

impl Tree {
    /// Adds or replaces a subscription; whether it is new. Cost: the filter's bytes.
    pub fn subscribe(&mut self, filter: Filter<'_>, entry: Entry) -> bool {
        let node = self.place_of(filter.as_str());
        let subscribers = &mut self.nodes[node as usize].subscribers;
        self.filters += usize::from(subscribers.is_empty());
        self.filters_peak = self.filters_peak.max(self.filters);
        subscribers.insert(entry)
    }

    /// Removes a subscription and the nodes that only it needed; whether it existed.
    pub fn unsubscribe(&mut self, filter: Filter<'_>, place: Place) -> bool {
        let Some(node) = self.find(filter.as_str()) else { return false };
        let subscribers = &mut self.nodes[node as usize].subscribers;
        if !subscribers.remove(place) {
            return false;
        }
        self.filters -= usize::from(subscribers.is_empty());
        self.prune(node);
        true
    }

    /// Appends every subscription whose filter matches (section 4.7). Returns the steps that it took: about one for each
    /// node on a path that matches up to there, and for each subscription found.
    pub fn collect(&self, topic: Topic<'_>, found: &mut Vec<Entry>) -> usize {
        let topic_text = topic.as_str();
        let mut steps = 0;
        let mut paths: SmallVec<[(u32, u32); 16]> = SmallVec::from_slice(&[(ROOT, 0)]);
        while let Some((node, at)) = paths.pop() {
            let at = at as usize;
            // No wildcard in the first level matches a topic that begins with $ [MQTT-4.7.2-1].
            let wildcards = at > 0 || !topic.is_reserved();
            if wildcards {
                self.collect_from(self.node(node).hash, found);
            }
            if at > topic_text.len() {
                self.collect_from(node, found);
                continue;
            }
            let plus = present(self.node(node).plus).filter(|_| wildcards);
            for child in plus.into_iter().chain(self.literal_child(node, first_level(&topic_text[at..]))) {
                let label = &*self.node(child).label;
                steps += 1 + label.len() / STEP_BYTES;
                match walk(label, topic_text, at) {
                    Walk::To(next) => paths.push((child, next as u32)),
                    Walk::Whole => self.collect_from(child, found),
                    Walk::Short | Walk::Parted => {}
                }
            }
        }
        steps + found.len()
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
        let prefix = levels.into_iter().collect::<Vec<_>>().join("/");
        let mut paths: SmallVec<[(u32, usize); 16]> = SmallVec::from_slice(&[(ROOT, 0)]);
        while let Some((node, at)) = paths.pop() {
            let wildcards = at > 0 || !prefix.starts_with('$');
            if at > prefix.len() {
                // A node without children has a subscriber, but its filter ends here.
                if self.node(node).children > 0 {
                    return true;
                }
                continue;
            }
            if wildcards && self.node(node).hash != 0 {
                return true;
            }
            let plus = present(self.node(node).plus).filter(|_| wildcards);
            for child in plus.into_iter().chain(self.literal_child(node, first_level(&prefix[at..]))) {
                match walk(&self.node(child).label, &prefix, at) {
                    Walk::To(next) => paths.push((child, next)),
                    Walk::Whole | Walk::Short => return true,
                    Walk::Parted => {}
                }
            }
        }
        false
    }

    /// How many nodes are in use, the root included; for tests of pruning.
    pub fn node_count(&self) -> usize {
        self.nodes.len() - self.free.len()
    }

    /// How many nodes there is room for; for tests of giving back.
    pub fn capacity(&self) -> usize {
        self.nodes.capacity()
    }

    fn collect_from(&self, node: u32, found: &mut Vec<Entry>) {
        if let Some(node) = present(node) {
            found.extend(self.node(node).subscribers.iter());
        }
    }

    fn node(&self, node: u32) -> &Node {
        &self.nodes[node as usize]
    }

    /// The node of a filter, made where it is missing.
    fn place_of(&mut self, filter: &str) -> u32 {
        let (mut node, mut at) = (ROOT, 0);
        while at <= filter.len() {
            let rest = &filter[at..];
            let Some(child) = self.child(node, first_level(rest)) else {
                let child = self.allocate(Node::new(rest.into(), node));
                self.attach(child);
                return child;
            };
            let common = common_bytes(&self.node(child).label, rest);
            node = if common < self.node(child).label.len() { self.split(child, common) } else { child };
            at += common + 1;
        }
        node
    }

    /// The node of a filter, if there is one.
    fn find(&self, filter: &str) -> Option<u32> {
        let (mut node, mut at) = (ROOT, 0);
        while at <= filter.len() {
            node = self.child(node, first_level(&filter[at..]))?;
            let label = &*self.node(node).label;
            if common_bytes(label, &filter[at..]) < label.len() {
                return None;
            }
            at += label.len() + 1;
        }
        Some(node)
    }

    /// The child whose label begins with this level of a filter.
    fn child(&self, node: u32, level: &str) -> Option<u32> {
        match level {
            "+" => present(self.node(node).plus),
            "#" => present(self.node(node).hash),
            level => self.literal_child(node, level),
        }
    }

    /// The child whose label begins with this level of a topic.
    fn literal_child(&self, node: u32, level: &str) -> Option<u32> {
        if self.node(node).children == 0 {
            return None;
        }
        let is_it = |child: &u32| {
            let child = self.node(*child);
            child.parent == node && first_level(&child.label) == level
        };
        self.edges.find(edge_hash(self.hasher.hash_one(level), node), is_it).copied()
    }

    /// Puts a new node between a child and its parent, for the first `common` bytes of the child's label.
    fn split(&mut self, child: u32, common: usize) -> u32 {
        self.detach(child);
        let (parent, label) = (self.node(child).parent, self.take_label(child));
        let middle = self.allocate(Node::new(label[..common].into(), parent));
        self.attach(middle);
        self.relabel(child, middle, label[common + 1..].into());
        middle
    }

    /// Takes a node without subscribers out of the way between its parent and its only child.
    fn merge(&mut self, node: u32) {
        let child = self.node(node).sum;
        self.detach(child);
        self.detach(node);
        let label = [&*self.node(node).label, &*self.node(child).label].join("/");
        let parent = self.node(node).parent;
        self.release(node);
        self.relabel(child, parent, label.into());
    }

    /// Gives a detached node its new place.
    fn relabel(&mut self, node: u32, parent: u32, label: Box<str>) {
        (self.nodes[node as usize].parent, self.nodes[node as usize].label) = (parent, label);
        self.attach(node);
    }

    fn take_label(&mut self, node: u32) -> Box<str> {
        std::mem::take(&mut self.nodes[node as usize].label)
    }

    /// Enters a node among its parent's children.
    fn attach(&mut self, node: u32) {
        let (parent, level) = (self.node(node).parent, Level::of(&self.node(node).label));
        let above = &mut self.nodes[parent as usize];
        above.children += 1;
        above.sum ^= node;
        match level {
            Level::Plus => above.plus = node,
            Level::Hash => above.hash = node,
            Level::Literal => {
                let (nodes, hasher) = (&self.nodes, &self.hasher);
                let hash = |child: &u32| hash_of(hasher, &nodes[*child as usize]);
                self.edges.insert_unique(hash(&node), node, hash);
            }
        }
    }

    /// Takes a node out from among its parent's children.
    fn detach(&mut self, node: u32) {
        let (parent, level) = (self.node(node).parent, Level::of(&self.node(node).label));
        let above = &mut self.nodes[parent as usize];
        above.children -= 1;
        above.sum ^= node;
        match level {
            Level::Plus => above.plus = 0,
            Level::Hash => above.hash = 0,
            Level::Literal => {
                let hash = hash_of(&self.hasher, self.node(node));
                if let Ok(edge) = self.edges.find_entry(hash, |child| *child == node) {
                    edge.remove();
                }
            }
        }
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

    fn release(&mut self, node: u32) {
        self.nodes[node as usize] = Node::new("".into(), ROOT);
        self.free.push(node);
    }

    /// Takes away what a node without subscribers was for, so that every node but the root has a subscriber or parts ways.
    fn prune(&mut self, mut node: u32) {
        if node != ROOT && self.is_idle(node, 0) {
            let parent = self.node(node).parent;
            self.detach(node);
            self.release(node);
            node = parent;
        }
        if node != ROOT && self.is_idle(node, 1) {
            self.merge(node);
        }
        if self.nodes.len() > NODES_KEPT && self.node_count() * 8 < self.nodes.len() {
            self.compact();
        }
    }

    fn is_idle(&self, node: u32, children: u32) -> bool {
        self.node(node).children == children && self.node(node).subscribers.is_empty()
    }

    /// Moves the nodes together, so that a table that was large once gives its memory back. Cost: an eighth of what was
    /// there, after seven eighths have gone.
    fn compact(&mut self) {
        let old = std::mem::take(&mut self.nodes);
        let mut numbers = vec![0_u32; old.len()];
        std::mem::take(&mut self.free).into_iter().for_each(|free| numbers[free as usize] = u32::MAX);
        let mut next = 0..;
        let used = numbers.iter_mut().filter(|number| **number != u32::MAX);
        used.zip(&mut next).for_each(|(number, new)| *number = new);
        let in_use = old.into_iter().zip(&numbers).filter(|(_, number)| **number != u32::MAX);
        let moved = in_use.map(|(node, _)| Node {
            parent: numbers[node.parent as usize],
            children: 0,
            sum: 0,
            plus: 0,
            hash: 0,
            ..node
        });
        self.nodes = moved.collect();
        self.nodes.shrink_to_fit();
        self.edges = HashTable::new();
        (1..self.nodes.len()).for_each(|node| self.attach(node as u32));
    }
}

/// What a label begins with.
enum Level {
    Plus,
    Hash,
    Literal,
}

impl Level {
    fn of(label: &str) -> Level {
        match first_level(label) {
            "+" => Level::Plus,
            "#" => Level::Hash,
            _ => Level::Literal,
        }
    }
}

fn present(node: u32) -> Option<u32> {
    (node != 0).then_some(node)
}

fn first_level(text: &str) -> &str {
    text.split_once('/').map_or(text, |(level, _)| level)
}

/// How many bytes of a label, in whole levels, begin a filter's rest, too; their first levels are the same.
fn common_bytes(label: &str, rest: &str) -> usize {
    let same = label.split('/').zip(rest.split('/')).take_while(|(one, other)| one == other);
    same.map(|(level, _)| level.len() + 1).sum::<usize>() - 1
}

/// Goes along a label and a topic, level by level, from byte `at` of the topic.
fn walk(label: &str, topic: &str, mut at: usize) -> Walk {
    for level in label.split('/') {
        if level == "#" {
            return Walk::Whole;
        }
        if at > topic.len() {
            return Walk::Short;
        }
        let name = first_level(&topic[at..]);
        if level != "+" && level != name {
            return Walk::Parted;
        }
        at += name.len() + 1;
    }
    Walk::To(at)
}

fn hash_of(hasher: &RandomState, node: &Node) -> u64 {
    edge_hash(hasher.hash_one(first_level(&node.label)), node.parent)
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
            Subscribers::Crowd(crowd) => {
                let is_removed = crowd.swap_remove(&place).is_some();
                if crowd.capacity() > 8 * crowd.len() + FEW_MAX {
                    crowd.shrink_to(2 * crowd.len());
                }
                is_removed
            }
        }
    }
}
