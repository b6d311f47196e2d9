//! Topics and filters against a matcher that is slow and obviously right (MQTT 5.0 section 4.7).
//!
//! Knows the rules of the section and nothing of the code's way to obey them. Small alphabets, so that levels collide.

use proptest::prelude::*;
use whimbrel_protocol::{Filter, Topic};

fn level_matches(filter: &[&str], topic: &[&str]) -> bool {
    match (filter, topic) {
        ([], []) | (["#"], _) => true,
        (["+", filter @ ..], [_, topic @ ..]) => level_matches(filter, topic),
        ([one, filter @ ..], [other, topic @ ..]) => one == other && level_matches(filter, topic),
        _ => false,
    }
}

fn slowly_matches(filter: &str, topic: &str) -> bool {
    let filter: Vec<&str> = filter.split('/').collect();
    let topic: Vec<&str> = topic.split('/').collect();
    let leads_with_wildcard = matches!(filter[0], "+" | "#");
    !(topic[0].starts_with('$') && leads_with_wildcard) && level_matches(&filter, &topic)
}

fn is_filter(text: &str) -> bool {
    let levels: Vec<&str> = text.split('/').collect();
    let stands_alone = |level: &&str| *level == "+" || !level.contains('+');
    let hash_is_last = match text.find('#') {
        Some(at) => at + 1 == text.len() && levels.last() == Some(&"#"),
        None => true,
    };
    !text.is_empty() && levels.iter().all(stands_alone) && hash_is_last
}

fn topic() -> impl Strategy<Value = String> {
    let level = prop::sample::select(vec!["", "a", "b", "$a", "ü"]);
    prop::collection::vec(level, 1..5)
        .prop_map(|levels| levels.join("/"))
        .prop_filter("a topic has at least one character", |topic| !topic.is_empty())
}

fn filter() -> impl Strategy<Value = String> {
    let level = prop::sample::select(vec!["", "a", "b", "$a", "ü", "+", "+"]);
    let levels = prop::collection::vec(level, 0..5);
    (levels, any::<bool>())
        .prop_map(|(mut levels, ends_with_hash)| {
            levels.extend(ends_with_hash.then_some("#"));
            levels.join("/")
        })
        .prop_filter("a filter has at least one character", |filter| !filter.is_empty())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_filter_matches_what_the_slow_matcher_says(filter in filter(), topic in topic()) {
        let matched = Filter::new(&filter).unwrap().matches(Topic::new(&topic).unwrap());
        prop_assert_eq!(matched, slowly_matches(&filter, &topic));
    }

    #[test]
    fn a_topic_as_a_filter_matches_itself_and_no_other(one in topic(), other in topic()) {
        let matched = Filter::new(&one).unwrap().matches(Topic::new(&other).unwrap());
        prop_assert_eq!(matched, one == other);
    }

    #[test]
    fn every_match_starts_with_the_literal_prefix_or_is_its_parent(filter in filter(), topic in topic()) {
        let filter = Filter::new(&filter).unwrap();
        if filter.matches(Topic::new(&topic).unwrap()) {
            let prefix = filter.literal_prefix();
            prop_assert!(topic.starts_with(prefix) || prefix.strip_suffix('/') == Some(&topic));
        }
    }

    #[test]
    fn a_filter_is_accepted_exactly_if_its_wildcards_stand_alone(text in "[a/+#$]{0,8}") {
        prop_assert_eq!(Filter::new(&text).is_ok(), is_filter(&text));
    }

    #[test]
    fn a_topic_is_accepted_exactly_if_it_has_text_and_no_wildcard(bytes in prop::collection::vec(any::<u8>(), 0..12)) {
        let text = std::str::from_utf8(&bytes);
        let is_topic = text.is_ok_and(|text| !text.is_empty() && !text.contains(['+', '#', '\0']));
        prop_assert_eq!(Topic::parse(&bytes).is_ok(), is_topic);
    }

    #[test]
    fn levels_are_counted_as_they_are_listed(topic in topic(), filter in filter()) {
        let (topic, filter) = (Topic::new(&topic).unwrap(), Filter::new(&filter).unwrap());
        prop_assert_eq!(topic.levels().count(), topic.level_count());
        prop_assert_eq!(filter.levels().count(), filter.level_count());
    }
}

#[test]
fn a_topic_or_filter_of_65_536_bytes_does_not_fit_the_wire() {
    let longest = "a".repeat(65_535);
    assert!(Topic::new(&longest).is_ok());
    assert!(Filter::new(&longest).is_ok());
    let longer = "a".repeat(65_536);
    assert!(Topic::new(&longer).is_err());
    assert!(Filter::new(&longer).is_err());
}
