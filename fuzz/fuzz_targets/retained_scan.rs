//! Topics, a filter and a budget: the visits of a scan take exactly the topics that match, each once.
//!
//! Knows the store by its public face and compares it with a plain filter over all topics. Driven by libFuzzer.
#![no_main]

use std::collections::BTreeSet;
use std::sync::Arc;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use whimbrel_protocol::message::{Origin, Publication};
use whimbrel_protocol::properties::Properties;
use whimbrel_protocol::{Filter, Message, QoS, Topic};
use whimbrel_router::{Progress, Retained};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    topics: Vec<&'a str>,
    cleared: Vec<&'a str>,
    filter: &'a str,
    budget: u8,
}

fuzz_target!(|input: Input<'_>| {
    let Ok(filter) = Filter::new(input.filter) else { return };
    let mut retained = Retained::new(usize::MAX, usize::MAX);
    let mut expected = BTreeSet::new();
    for (topics, payload) in [(&input.topics, &b"x"[..]), (&input.cleared, b"")] {
        for topic in topics.iter().filter_map(|topic| Topic::new(topic).ok()) {
            retained.store(message(topic, payload));
            expected.remove(topic.as_str());
            if filter.matches(topic) && !payload.is_empty() {
                expected.insert(topic.as_str());
            }
        }
    }
    let found = scanned(&retained, filter, usize::from(input.budget).max(1));
    let unique: BTreeSet<&str> = found.iter().map(String::as_str).collect();
    assert_eq!(unique.len(), found.len(), "a topic came twice");
    assert_eq!(unique, expected);
});

/// Visits until the end; each takes half of its budget and refuses the message behind it.
fn scanned(retained: &Retained, filter: Filter<'_>, budget: usize) -> Vec<String> {
    let (mut found, mut after) = (Vec::new(), None);
    for _ in 0..=2 * retained.len() {
        let mut left = budget.div_ceil(2);
        let progress = retained.visit(filter, after.as_deref(), budget, |message| {
            let is_taken = left > 0;
            left = left.saturating_sub(1);
            found.extend(is_taken.then(|| message.topic().as_str().to_owned()));
            is_taken
        });
        match progress {
            Progress::Done => return found,
            Progress::After(topic) => after = Some(topic),
            Progress::Unmoved => panic!("a message was taken"),
        }
    }
    panic!("the scan does not end");
}

fn message(topic: Topic<'_>, payload: &[u8]) -> Arc<Message> {
    let publication = Publication { topic, properties: Properties::default(), expiry_s: None, payload };
    let origin = Origin { client_id: "".into(), received_ms: 0 };
    Arc::new(Message::new(&publication, QoS::AtMostOnce, true, origin))
}
