//! Retained messages that expire: who goes when, in steps, on a clock that the test holds.
//!
//! Knows [`Retained`] alone. What a worker does with it is tested on a running broker, in the server's tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use whimbrel_protocol::message::{Origin, Publication};
use whimbrel_protocol::properties::Properties;
use whimbrel_protocol::{Message, QoS, Topic};
use whimbrel_router::Retained;

fn message(topic: &str, payload: &[u8], expiry_s: Option<u32>, received_ms: u64) -> Arc<Message> {
    let topic = Topic::new(topic).unwrap();
    let publication = Publication { topic, properties: Properties::default(), expiry_s, payload };
    let origin = Origin { client_id: "".into(), received_ms };
    Arc::new(Message::new(&publication, QoS::AtMostOnce, true, origin))
}

fn has(retained: &Retained, topic: &str) -> bool {
    retained.get(Topic::new(topic).unwrap()).is_some()
}

#[test]
fn a_message_goes_when_its_interval_is_over_and_not_before() {
    let mut retained = Retained::new(10, 10_000);
    retained.store(message("short", b"x", Some(2), 500));
    retained.store(message("long", b"x", Some(60), 500));
    retained.store(message("for/ever", b"x", None, 0));
    assert_eq!(retained.next_expiry_ms(), Some(2_500));
    assert_eq!(retained.purge(2_499, 9), 0);
    assert_eq!(retained.purge(2_500, 9), 1);
    assert_eq!((has(&retained, "short"), has(&retained, "long"), has(&retained, "for/ever")), (false, true, true));
    assert_eq!(retained.purge(u64::MAX, 9), 1);
    assert_eq!((retained.len(), retained.next_expiry_ms()), (1, None));
}

#[test]
fn a_step_takes_those_that_were_due_first_and_no_more_than_its_budget() {
    let mut retained = Retained::new(100, 100_000);
    for number in 0..10 {
        retained.store(message(&format!("t/{number}"), b"x", Some(10 - number), 0));
    }
    assert_eq!(retained.purge(20_000, 4), 4);
    assert_eq!((has(&retained, "t/5"), has(&retained, "t/6"), retained.len()), (true, false, 6));
}

#[test]
fn what_is_replaced_or_cleared_is_not_removed_later() {
    let mut retained = Retained::new(10, 10_000);
    retained.store(message("a", b"1", Some(1), 0));
    retained.store(message("a", b"2", None, 0));
    retained.store(message("b", b"1", Some(1), 0));
    retained.store(message("b", b"", None, 0));
    assert_eq!((retained.next_expiry_ms(), retained.purge(u64::MAX, 9)), (None, 0));
    assert!(has(&retained, "a"));
}

#[test]
fn a_refused_message_leaves_the_expiry_of_the_one_before_in_force() {
    let mut retained = Retained::new(10, 500);
    retained.store(message("a", b"1", Some(1), 0));
    retained.store(message("a", &[0; 600], None, 0));
    assert_eq!((retained.next_expiry_ms(), retained.purge(1_000, 9), retained.len()), (Some(1_000), 1, 0));
}

proptest! {
    /// Against a map that is searched from end to end.
    #[test]
    fn every_message_is_there_exactly_as_long_as_it_lives(
        steps in prop::collection::vec((0..5_u8, prop::option::of(0..6_u32), any::<bool>(), 0..3_000_u64), 1..60),
    ) {
        let (mut retained, mut model, mut now_ms) = (Retained::new(100, 100_000), BTreeMap::new(), 0);
        for (topic, expiry_s, is_clear, wait_ms) in steps {
            let topic = format!("t/{topic}");
            retained.store(message(&topic, if is_clear { b"" } else { b"x" }, expiry_s, now_ms));
            if is_clear {
                model.remove(&topic);
            } else {
                model.insert(topic, expiry_s.map(|expiry_s| now_ms + u64::from(expiry_s) * 1000));
            }
            now_ms += wait_ms;
            while retained.purge(now_ms, 2) > 0 {}
            model.retain(|_, due_ms| due_ms.is_none_or(|due_ms| due_ms > now_ms));
            prop_assert_eq!(retained.len(), model.len());
            prop_assert!(model.keys().all(|topic| has(&retained, topic)));
            prop_assert_eq!(retained.next_expiry_ms(), model.values().flatten().min().copied());
        }
    }
}
