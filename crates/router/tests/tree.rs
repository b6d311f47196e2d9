//! The tree against its naive twin, under random changes; pruning; the cache in front of the table.
//!
//! Knows both by their public face. Alphabets are small, so that filters collide, overlap and share their beginnings, and
//! places are many enough to pass the size at which a list of subscribers becomes a hash table.

use proptest::prelude::*;
use whimbrel_protocol::packet::SubscriptionOptions;
use whimbrel_protocol::{Filter, QoS, Topic};
use whimbrel_router::naive::NaiveTree;
use whimbrel_router::{Entry, MatchCache, Place, Retained, Router, Tree};

/// Places to draw from; a list becomes a crowd beyond 16.
const PLACES: u32 = 24;

fn place(number: u32) -> Place {
    Place { owner: (number % 3) as u16, slot: number / 3, epoch: 1 }
}

fn entry(number: u32, identifier: u32) -> Entry {
    Entry {
        place: place(number),
        options: SubscriptionOptions::plain(QoS::from_bits(identifier as u8 % 3).unwrap()),
        identifier,
        durable: 0,
    }
}

/// A change to both trees, or a question to both.
#[derive(Clone, Debug)]
enum Step {
    Subscribe(String, u32, u32),
    Unsubscribe(String, u32),
    Crowd(String),
    Disperse(String),
    Collect(String),
    Watch(String),
}

#[derive(Default)]
struct Twins {
    tree: Tree,
    naive: NaiveTree,
    peak: usize,
}

impl Twins {
    fn step(&mut self, step: &Step) {
        match step {
            Step::Subscribe(filter, number, identifier) => self.subscribe(filter, entry(*number, *identifier)),
            Step::Unsubscribe(filter, number) => self.unsubscribe(filter, *number),
            Step::Crowd(filter) => (0..PLACES).for_each(|number| self.subscribe(filter, entry(number, number))),
            Step::Disperse(filter) => (0..PLACES).for_each(|number| self.unsubscribe(filter, number)),
            Step::Watch(prefix) => {
                let levels = prefix.split('/');
                assert_eq!(self.tree.is_watched(levels), self.naive.is_watched(prefix), "{prefix}");
            }
            Step::Collect(topic) => assert_eq!(self.collected(topic), self.expected(topic), "{topic}"),
        }
        assert_eq!(self.tree.filter_count(), self.naive.filter_count());
        assert_eq!(self.tree.filter_peak(), self.peak);
    }

    fn subscribe(&mut self, filter: &str, entry: Entry) {
        let filter = Filter::new(filter).unwrap();
        assert_eq!(self.tree.subscribe(filter, entry), self.naive.subscribe(filter, entry));
        self.peak = self.peak.max(self.naive.filter_count());
    }

    fn unsubscribe(&mut self, filter: &str, number: u32) {
        let filter = Filter::new(filter).unwrap();
        let there = self.naive.unsubscribe(filter, place(number));
        assert_eq!(self.tree.unsubscribe(filter, place(number)), there);
    }

    fn collected(&self, topic: &str) -> Vec<Row> {
        let mut found = Vec::new();
        self.tree.collect(Topic::new(topic).unwrap(), &mut found);
        rows(&found)
    }

    fn expected(&self, topic: &str) -> Vec<Row> {
        let mut found = Vec::new();
        self.naive.collect(Topic::new(topic).unwrap(), &mut found);
        rows(&found)
    }
}

type Row = (Place, u32, u8);

fn rows(found: &[Entry]) -> Vec<Row> {
    let row = |entry: &Entry| (entry.place, entry.identifier, entry.options.bits());
    let mut rows: Vec<Row> = found.iter().map(row).collect();
    rows.sort_unstable();
    rows
}

fn topic() -> impl Strategy<Value = String> {
    let level = prop::sample::select(vec!["", "a", "b", "$a"]);
    prop::collection::vec(level, 1..6)
        .prop_map(|levels| levels.join("/"))
        .prop_filter("a topic has at least one character", |topic| !topic.is_empty())
}

fn filter() -> impl Strategy<Value = String> {
    let level = prop::sample::select(vec!["", "a", "b", "$a", "+"]);
    (prop::collection::vec(level, 0..5), any::<bool>())
        .prop_map(|(mut levels, ends_with_hash)| {
            levels.extend(ends_with_hash.then_some("#"));
            levels.join("/")
        })
        .prop_filter("a filter has at least one character", |filter| !filter.is_empty())
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (filter(), 0..PLACES, 0..9_u32).prop_map(|(filter, number, id)| Step::Subscribe(filter, number, id)),
        4 => (filter(), 0..PLACES).prop_map(|(filter, number)| Step::Unsubscribe(filter, number)),
        1 => filter().prop_map(Step::Crowd),
        1 => filter().prop_map(Step::Disperse),
        6 => topic().prop_map(Step::Collect),
        3 => topic().prop_map(Step::Watch),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_tree_says_what_its_naive_twin_says(steps in prop::collection::vec(step(), 1..120)) {
        let mut twins = Twins::default();
        steps.iter().for_each(|step| twins.step(step));
    }

    #[test]
    fn a_tree_without_subscriptions_has_no_node_but_its_root(
        filters in prop::collection::vec((filter(), 0..PLACES), 1..60),
        order in any::<u64>(),
    ) {
        let mut tree = Tree::default();
        for (filter, number) in &filters {
            tree.subscribe(Filter::new(filter).unwrap(), entry(*number, 0));
        }
        let mut filters: Vec<_> = filters.into_iter().enumerate().collect();
        filters.sort_by_key(|(index, _)| (*index as u64 + 1).wrapping_mul(order | 1));
        for (_, (filter, number)) in &filters {
            tree.unsubscribe(Filter::new(filter).unwrap(), place(*number));
        }
        prop_assert_eq!((tree.node_count(), tree.filter_count()), (1, 0));
    }

    #[test]
    fn a_cached_match_is_what_a_fresh_lookup_finds_after_every_change(steps in prop::collection::vec(step(), 1..40)) {
        let router = Router::new(Retained::new(0, 0));
        let mut cache = MatchCache::new(0);
        for step in &steps {
            change(&router, step);
            for topic in ["a", "a/b", "$a", "/a"] {
                let topic = Topic::new(topic).unwrap();
                let (cached, fresh) = (cache.find(&router, topic), router.find(topic, 0));
                prop_assert_eq!(&cached.home, &fresh.home);
                prop_assert_eq!(cached.len(), fresh.len());
                prop_assert_eq!(cached.generation, router.generation());
            }
        }
    }
}

fn change(router: &Router, step: &Step) {
    match step {
        Step::Subscribe(filter, number, identifier) => {
            router.subscribe([(Filter::new(filter).unwrap(), entry(*number, *identifier))]);
        }
        Step::Unsubscribe(filter, number) => router.unsubscribe([Filter::new(filter).unwrap()], place(*number)),
        _ => {}
    }
}

#[test]
fn a_topic_that_keeps_coming_costs_at_most_two_lookups_until_the_table_changes() {
    let router = Router::new(Retained::new(0, 0));
    let mut cache = MatchCache::new(0);
    let topic = Topic::new("a").unwrap();
    for _ in 0..10 {
        assert!(cache.find(&router, topic).is_empty());
    }
    assert!(cache.misses <= 2, "{} lookups", cache.misses);
    router.subscribe([(Filter::new("a").unwrap(), entry(0, 0))]);
    for _ in 0..10 {
        assert_eq!(cache.find(&router, topic).len(), 1);
    }
    assert!((2..=4).contains(&cache.misses), "{} lookups", cache.misses);
}

#[test]
fn the_cache_forgets_and_goes_on_when_it_is_full() {
    let router = Router::new(Retained::new(0, 0));
    router.subscribe([(Filter::new("+").unwrap(), entry(0, 0))]);
    let mut cache = MatchCache::new(0);
    for number in 0..40_000 {
        let topic = number.to_string();
        for _ in 0..3 {
            assert_eq!(cache.find(&router, Topic::new(&topic).unwrap()).len(), 1);
        }
    }
    assert!(cache.misses <= 80_000, "{} lookups", cache.misses);
}

#[test]
fn a_filter_of_65_535_bytes_of_levels_is_matched_and_pruned() {
    let deep = "/".repeat(65_535);
    let mut tree = Tree::default();
    tree.subscribe(Filter::new(&deep).unwrap(), entry(0, 0));
    assert_eq!(tree.node_count(), 2, "filters that do not part need one node each");
    let mut found = Vec::new();
    tree.collect(Topic::new(&deep).unwrap(), &mut found);
    assert_eq!(found.len(), 1);
    tree.unsubscribe(Filter::new(&deep).unwrap(), place(0));
    assert_eq!(tree.node_count(), 1);
}

#[test]
fn neither_nodes_nor_steps_grow_with_the_depth_of_filters_that_are_made_to_match_everywhere() {
    let mut tree = Tree::default();
    let ends = ["/e"; 100].concat();
    let filter = |number: u32| {
        let levels: Vec<&str> = (0..12).map(|at| if number >> at & 1 == 0 { "w" } else { "+" }).collect();
        levels.join("/") + &ends
    };
    for number in 0..4096 {
        tree.subscribe(Filter::new(&filter(number)).unwrap(), entry(0, number));
    }
    assert!(tree.node_count() <= 2 * 4096, "{} nodes", tree.node_count());
    let topic = filter(0);
    let (matching, missing) = (topic.as_str(), [&topic[..topic.len() - 1], "n"].concat());
    for (topic, count) in [(matching, 4096), (&*missing, 0)] {
        let mut found = Vec::new();
        let steps = tree.collect(Topic::new(topic).unwrap(), &mut found);
        assert_eq!(found.len(), count);
        assert!(steps < 100_000, "{steps} steps");
    }
}

#[test]
fn a_table_that_was_large_gives_its_memory_back_while_somebody_stays() {
    let mut tree = Tree::default();
    tree.subscribe(Filter::new("stays/+").unwrap(), entry(0, 0));
    let filters: Vec<String> = (0..50_000).map(|number| format!("goes/{number}/+/x")).collect();
    for round in 0..2 {
        for filter in &filters {
            tree.subscribe(Filter::new(filter).unwrap(), entry(1, round));
        }
        tree.subscribe(Filter::new("stays/#").unwrap(), entry(0, 0));
        for filter in &filters {
            assert!(tree.unsubscribe(Filter::new(filter).unwrap(), place(1)));
        }
        assert!(tree.capacity() <= 2048, "room for {} nodes", tree.capacity());
        let mut found = Vec::new();
        tree.collect(Topic::new("stays/here").unwrap(), &mut found);
        assert_eq!(found.len(), 2);
    }
}

#[test]
fn somebody_watches_where_a_filter_could_match_one_level_further_down() {
    let table = [
        ("a/b/c", "a/b", true),
        ("a/b", "a/b", false),
        ("a/#", "a/b", true),
        ("a/b/#", "a/b", true),
        ("a/+/c/d", "a/b", true),
        ("b/#", "a/b", false),
        ("+/b", "a/b", false),
        ("#", "$SYS/b", false),
        ("+/#", "$SYS/b", false),
        ("$SYS/+/x", "$SYS/b", true),
    ];
    for (filter, prefix, expected) in table {
        let mut tree = Tree::default();
        tree.subscribe(Filter::new(filter).unwrap(), entry(0, 0));
        assert_eq!(tree.is_watched(prefix.split('/')), expected, "{filter} under {prefix}");
        tree.unsubscribe(Filter::new(filter).unwrap(), place(0));
        assert!(!tree.is_watched(prefix.split('/')));
        assert_eq!(tree.filter_peak(), 1);
    }
}

#[test]
fn the_same_filter_again_replaces_its_options_before_and_after_the_crowd() {
    let mut tree = Tree::default();
    let filter = Filter::new("a").unwrap();
    for count in [1, 10, PLACES] {
        for number in 0..count {
            tree.subscribe(filter, entry(number, 1));
            assert!(!tree.subscribe(filter, entry(number, 2)));
        }
        let mut found = Vec::new();
        tree.collect(Topic::new("a").unwrap(), &mut found);
        assert_eq!(found.len(), count as usize);
        assert!(found.iter().all(|entry| entry.identifier == 2));
    }
}
