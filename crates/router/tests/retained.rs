//! The retained messages: visits of all manners against a plain filter over all topics; store, replace, clear, limits.
//!
//! Knows the store by its public face. Small alphabets, and neighbours of `/` in byte order ('.', '0'), so that ranges end
//! where they should.

use std::sync::Arc;

use proptest::prelude::*;
use whimbrel_protocol::message::{Origin, Publication};
use whimbrel_protocol::properties::Properties;
use whimbrel_protocol::{Filter, Message, QoS, Topic};
use whimbrel_router::{Progress, Retained, StoreOutcome};

fn message(topic: &str, payload: &[u8]) -> Arc<Message> {
    let publication =
        Publication { topic: Topic::new(topic).unwrap(), properties: Properties::default(), expiry_s: None, payload };
    let origin = Origin { client_id: "".into(), received_ms: 0 };
    Arc::new(Message::new(&publication, QoS::AtMostOnce, true, origin))
}

fn holding(topics: &[String]) -> Retained {
    let mut retained = Retained::new(usize::MAX, usize::MAX);
    for topic in topics {
        assert_eq!(retained.store(message(topic, b"x")), StoreOutcome::Stored);
    }
    retained
}

/// How a visitor takes what it is shown.
#[derive(Clone, Copy, Debug)]
struct Manner {
    /// Topics looked at in one visit, 1 or more.
    budget: usize,
    /// Messages taken in one visit, 1 or more; the next is refused.
    taken_max: usize,
    /// Whether everything is refused in every other visit.
    is_moody: bool,
}

/// One visit from `after` on: what it took, and how far it came.
fn visit(
    retained: &Retained,
    filter: Filter<'_>,
    after: Option<&[u8]>,
    (budget, taken_max): (usize, usize),
) -> (Vec<String>, Progress) {
    let mut taken: Vec<String> = Vec::new();
    let progress = retained.visit(filter, after, budget, |message| {
        let is_taken = taken.len() < taken_max;
        taken.extend(is_taken.then(|| message.topic().as_str().into()));
        is_taken
    });
    (taken, progress)
}

/// Everything that visits of one manner take until the end.
fn visited(retained: &Retained, filter: Filter<'_>, manner: Manner) -> Vec<String> {
    let (mut found, mut after) = (Vec::new(), None);
    for round in 0..4 * (retained.len() + 1) {
        let taken_max = if manner.is_moody && round % 2 == 0 { 0 } else { manner.taken_max };
        let (taken, progress) = visit(retained, filter, after.as_deref(), (manner.budget, taken_max));
        // The parent of `a/#` comes on top: it is found by its name, not looked for.
        assert!(taken.len() <= manner.budget + 1);
        assert!(progress != Progress::Unmoved || taken.is_empty(), "what was taken would come again");
        found.extend(taken);
        match progress {
            Progress::Done => return found,
            Progress::After(topic) => after = Some(topic),
            Progress::Unmoved => {}
        }
    }
    panic!("{} goes on behind the last of {} messages", filter.as_str(), retained.len());
}

fn expected(topics: &[String], filter: Filter<'_>) -> Vec<String> {
    let matched = |topic: &&String| filter.matches(Topic::new(topic).unwrap());
    let mut expected: Vec<String> = topics.iter().filter(matched).cloned().collect();
    expected.sort_unstable();
    expected.dedup();
    expected
}

fn topic() -> impl Strategy<Value = String> {
    let level = prop::sample::select(vec!["", "a", "b", "a.", "a0", "$a", "é"]);
    prop::collection::vec(level, 1..4)
        .prop_map(|levels| levels.join("/"))
        .prop_filter("a topic has at least one character", |topic| !topic.is_empty())
}

fn filter() -> impl Strategy<Value = String> {
    let level = prop::sample::select(vec!["", "a", "b", "a.", "$a", "é", "+"]);
    (prop::collection::vec(level, 0..4), any::<bool>())
        .prop_map(|(mut levels, ends_with_hash)| {
            levels.extend(ends_with_hash.then_some("#"));
            levels.join("/")
        })
        .prop_filter("a filter has at least one character", |filter| !filter.is_empty())
}

fn manner() -> impl Strategy<Value = Manner> {
    (1..50_usize, 1..10_usize, any::<bool>()).prop_map(|(budget, taken_max, is_moody)| Manner {
        budget,
        taken_max,
        is_moody,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn visits_of_any_manner_take_exactly_the_matching_messages_once_each(
        topics in prop::collection::vec(topic(), 0..40),
        filter in filter(),
        manner in manner(),
    ) {
        let retained = holding(&topics);
        let filter = Filter::new(&filter).unwrap();
        let mut found = visited(&retained, filter, manner);
        found.sort_unstable();
        let expected = expected(&topics, filter);
        prop_assert!(expected.is_empty() || retained.may_match(filter));
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn a_visit_that_is_interrupted_by_changes_goes_on_behind_its_key(
        topics in prop::collection::vec(topic(), 1..40),
        gone in prop::collection::vec(topic(), 0..10),
        budget in 1..10_usize,
    ) {
        let mut retained = holding(&topics);
        let all = Filter::new("#").unwrap();
        let (mut found, mut progress) = visit(&retained, all, None, (budget, budget));
        for topic in &gone {
            retained.store(message(topic, b""));
        }
        while let Progress::After(topic) = progress {
            let (taken, next) = visit(&retained, all, Some(&topic), (budget, budget));
            found.extend(taken);
            progress = next;
        }
        let unique: std::collections::BTreeSet<&String> = found.iter().collect();
        prop_assert_eq!(unique.len(), found.len());
        let kept: Vec<String> = topics.iter().filter(|topic| !gone.contains(topic)).cloned().collect();
        prop_assert!(expected(&kept, all).iter().all(|topic| found.contains(topic)));
    }

    #[test]
    fn the_store_holds_the_last_message_of_each_topic(
        steps in prop::collection::vec((topic(), prop::collection::vec(any::<u8>(), 0..3)), 0..60),
    ) {
        let mut retained = Retained::new(usize::MAX, usize::MAX);
        let mut last = std::collections::BTreeMap::new();
        for (topic, payload) in &steps {
            let is_cleared = payload.is_empty();
            let outcome = if is_cleared { StoreOutcome::Cleared } else { StoreOutcome::Stored };
            prop_assert_eq!(retained.store(message(topic, payload)), outcome);
            last.insert(topic, payload);
        }
        last.retain(|_, payload| !payload.is_empty());
        prop_assert_eq!(retained.len(), last.len());
        for (topic, payload) in last {
            let kept = retained.get(Topic::new(topic).unwrap());
            prop_assert_eq!(kept.map(|message| message.payload()), Some(&payload[..]));
        }
    }
}

#[test]
fn an_empty_payload_clears_and_the_topic_can_be_stored_again() {
    let mut retained = Retained::new(10, 10_000);
    assert_eq!(retained.store(message("a", b"")), StoreOutcome::Cleared);
    assert_eq!(retained.store(message("a", b"x")), StoreOutcome::Stored);
    assert_eq!(retained.store(message("a", b"")), StoreOutcome::Cleared);
    assert!(retained.is_empty());
}

#[test]
fn over_the_count_a_new_topic_is_refused_but_a_known_one_is_replaced() {
    let mut retained = Retained::new(2, usize::MAX);
    for topic in ["a", "b"] {
        assert_eq!(retained.store(message(topic, b"1")), StoreOutcome::Stored);
    }
    assert_eq!(retained.store(message("c", b"1")), StoreOutcome::Refused);
    assert_eq!(retained.store(message("a", b"2")), StoreOutcome::Stored);
    assert_eq!(retained.get(Topic::new("a").unwrap()).unwrap().payload(), b"2");
    retained.store(message("b", b""));
    assert_eq!(retained.store(message("c", b"1")), StoreOutcome::Stored);
}

#[test]
fn over_the_bytes_a_message_is_refused_and_the_one_before_it_stays() {
    let size = message("a", b"1").size_bytes();
    let mut retained = Retained::new(usize::MAX, size + 1);
    assert_eq!(retained.store(message("a", b"1")), StoreOutcome::Stored);
    assert_eq!(retained.store(message("a", b"123")), StoreOutcome::Refused);
    assert_eq!(retained.get(Topic::new("a").unwrap()).unwrap().payload(), b"1");
    assert_eq!(retained.store(message("a", b"12")), StoreOutcome::Stored);
    assert_eq!(retained.store(message("b", b"1")), StoreOutcome::Refused);
    retained.store(message("a", b""));
    assert_eq!(retained.store(message("b", b"1")), StoreOutcome::Stored);
}
