//! What waits in a session, in which order it leaves, and what goes when there is too much of it.
//!
//! Knows the queue's rules through the sending half of a session alone: no connection, no encoding.

use std::sync::Arc;

use proptest::prelude::*;
use whimbrel_protocol::message::{Origin, Publication};
use whimbrel_protocol::properties::Properties;
use whimbrel_protocol::session::{Delivery, DropReason, Offered, Outbound, QueueRules};
use whimbrel_protocol::{Message, QoS, Topic};

fn delivery(topic: &str, payload: u8, qos: QoS) -> Delivery {
    let publication = Publication {
        topic: Topic::new(topic).unwrap(),
        properties: Properties::default(),
        expiry_s: None,
        payload: &[payload],
    };
    let origin = Origin { client_id: "p".into(), received_ms: 0 };
    Delivery {
        message: Arc::new(Message::new(&publication, qos, false, origin)),
        qos,
        retain: false,
        identifiers: None,
        share: 0,
    }
}

fn offer(outbound: &mut Outbound, topic: &str, payload: u8, qos: QoS) -> Offered {
    outbound.offer(qos, true, || delivery(topic, payload, qos))
}

fn queue(outbound: &mut Outbound, topic: &str, payloads: impl IntoIterator<Item = u8>) {
    for payload in payloads {
        offer(outbound, topic, payload, QoS::AtLeastOnce);
    }
}

/// Connects with a wide window and takes everything that waits.
fn drain(outbound: &mut Outbound) -> Vec<u8> {
    outbound.attach(1000, true);
    std::iter::from_fn(|| outbound.next(0)).map(|next| next.unwrap().1.message.payload()[0]).collect()
}

fn rules(rules: QueueRules) -> Option<Arc<QueueRules>> {
    Some(Arc::new(rules))
}

fn ranked(default_priority: u16) -> QueueRules {
    let priorities = [("high".into(), 255), ("middle".into(), 7)].into();
    QueueRules { priorities, default_priority, ..QueueRules::default() }
}

#[test]
fn a_full_queue_loses_its_oldest_message() {
    let mut outbound = Outbound::new(3, None);
    queue(&mut outbound, "t", 1..=3);
    assert_eq!(offer(&mut outbound, "t", 4, QoS::AtLeastOnce), Offered::QueuedAndEvicted(1));
    assert_eq!(outbound.queue_len(), 3);
    assert_eq!(drain(&mut outbound), [2, 3, 4]);
}

#[test]
fn what_waits_already_leaves_by_the_rules_of_the_next_connection() {
    let mut outbound = Outbound::new(10, None);
    queue(&mut outbound, "t", 1..=2);
    queue(&mut outbound, "high", 3..=4);
    outbound.limit(3, 0, rules(ranked(0)));
    assert_eq!(
        (outbound.queue_len(), offer(&mut outbound, "high", 5, QoS::AtLeastOnce)),
        (4, Offered::QueuedAndEvicted(2))
    );
    outbound.limit(3, 0, rules(ranked(0)));
    assert_eq!(drain(&mut outbound), [3, 4, 5]);
}

/// With a payload of so many bytes.
fn offer_large(outbound: &mut Outbound, size: usize) -> Offered {
    let mut large = delivery("t", 0, QoS::AtLeastOnce);
    let publication = Publication { payload: &vec![0; size], ..large.message.publication(0) };
    large.message = Arc::new(Message::new(&publication, QoS::AtLeastOnce, false, large.message.origin.clone()));
    outbound.offer(QoS::AtLeastOnce, true, || large)
}

#[test]
fn a_queue_of_large_messages_is_bounded_in_bytes_whether_the_client_is_there_or_not() {
    for is_connected in [false, true] {
        let mut outbound = Outbound::new(1000, None);
        outbound.limit(1000, 100_000, None);
        if is_connected {
            outbound.attach(1, false);
            outbound.offer(QoS::AtLeastOnce, true, || delivery("t", 0, QoS::AtLeastOnce));
        }
        // The bound is kept in steps of 64 KiB, rounded up: 131,072 here.
        let offered = [60_000, 60_000, 60_000].map(|size| offer_large(&mut outbound, size));
        assert_eq!(offered, [Offered::Queued, Offered::Queued, Offered::QueuedAndEvicted(1)]);
        assert!(!outbound.is_queue_full());
        assert_eq!(offer_large(&mut outbound, 500_000), Offered::QueuedAndEvicted(2), "the last one always stays");
        assert!(outbound.is_queue_full());
        assert_eq!((outbound.queue_len(), offer_large(&mut outbound, 1)), (1, Offered::QueuedAndEvicted(1)));
    }
}

#[test]
fn a_full_queue_loses_its_newest_message_where_the_zone_says_so() {
    let mut outbound = Outbound::new(3, rules(QueueRules { drops_newest: true, ..QueueRules::default() }));
    queue(&mut outbound, "t", 1..=3);
    assert_eq!(offer(&mut outbound, "t", 4, QoS::AtLeastOnce), Offered::QueuedAndEvicted(1));
    assert_eq!(outbound.queue_len(), 3);
    assert_eq!(drain(&mut outbound), [1, 2, 3]);
}

#[test]
fn a_queue_of_no_messages_takes_none() {
    let mut outbound = Outbound::new(0, None);
    assert_eq!(offer(&mut outbound, "t", 1, QoS::ExactlyOnce), Offered::Dropped(DropReason::QueueFull));
    assert_eq!(outbound.queue_len(), 0);
}

#[test]
fn higher_priorities_leave_first_and_each_keeps_its_order() {
    for (default_priority, expected) in [(0, [5, 6, 3, 4, 1, 2]), (256, [1, 2, 5, 6, 3, 4])] {
        let mut outbound = Outbound::new(10, rules(ranked(default_priority)));
        queue(&mut outbound, "other", [1]);
        queue(&mut outbound, "middle", [3]);
        queue(&mut outbound, "high", [5, 6]);
        queue(&mut outbound, "middle", [4]);
        queue(&mut outbound, "another", [2]);
        assert_eq!(drain(&mut outbound), expected);
    }
}

#[test]
fn the_lowest_priority_pays_for_a_full_queue() {
    for (drops_newest, expected) in [(false, [5, 6, 3]), (true, [5, 6, 3])] {
        let mut outbound = Outbound::new(3, rules(QueueRules { drops_newest, ..ranked(0) }));
        queue(&mut outbound, "other", [1, 2]);
        queue(&mut outbound, "middle", [3]);
        queue(&mut outbound, "high", [5, 6]);
        assert_eq!(offer(&mut outbound, "other", 9, QoS::AtLeastOnce), Offered::QueuedAndEvicted(1));
        assert_eq!(drain(&mut outbound), expected);
    }
}

#[test]
fn qos_0_waits_for_an_absent_client_only_where_the_zone_says_so() {
    let mut usual = Outbound::new(10, None);
    assert_eq!(offer(&mut usual, "t", 1, QoS::AtMostOnce), Offered::Dropped(DropReason::QoS0));
    let mut storing = Outbound::new(10, rules(QueueRules { stores_qos0: true, ..QueueRules::default() }));
    assert_eq!(offer(&mut storing, "t", 1, QoS::AtMostOnce), Offered::Queued);
    storing.attach(10, true);
    // What waits is not overtaken.
    assert_eq!(offer(&mut storing, "t", 2, QoS::AtMostOnce), Offered::Queued);
    assert_eq!(drain(&mut storing), [1, 2]);
    assert_eq!(offer(&mut storing, "t", 3, QoS::AtMostOnce), Offered::Send(0));
    assert_eq!(storing.inflight_count(), 0);
}

#[test]
fn stored_qos_0_needs_no_room_in_the_window() {
    let mut outbound = Outbound::new(10, rules(QueueRules { stores_qos0: true, ..QueueRules::default() }));
    queue(&mut outbound, "t", [1]);
    offer(&mut outbound, "t", 2, QoS::AtMostOnce);
    queue(&mut outbound, "t", [3]);
    outbound.attach(1, true);
    assert_eq!(outbound.next(0).unwrap().unwrap().0, 1);
    assert_eq!(outbound.next(0).unwrap().unwrap().0, 0);
    assert!(outbound.next(0).is_none(), "the window is full");
}

#[test]
fn a_queue_that_holds_too_many_bytes_loses_as_many_messages_as_it_must() {
    let one = delivery("t", 0, QoS::AtLeastOnce).message.size_bytes();
    for (drops_newest, left) in [(false, [2, 3]), (true, [1, 2])] {
        let all = QueueRules { max_bytes: 2 * one + 1, drops_newest, ..QueueRules::default() };
        let mut outbound = Outbound::new(10, rules(all));
        queue(&mut outbound, "t", 1..=2);
        assert_eq!(outbound.queue_bytes(), 2 * one);
        assert_eq!(offer(&mut outbound, "t", 3, QoS::AtLeastOnce), Offered::QueuedAndEvicted(1));
        assert_eq!((outbound.queue_len(), outbound.queue_bytes()), (2, 2 * one));
        assert_eq!(drain(&mut outbound), left);
        assert_eq!(outbound.queue_bytes(), 0);
    }
    let mut narrow = Outbound::new(10, rules(QueueRules { max_bytes: one + 3, ..QueueRules::default() }));
    queue(&mut narrow, "t", [1]);
    let long = "a topic that is too long for all";
    assert_eq!(offer(&mut narrow, long, 2, QoS::AtLeastOnce), Offered::QueuedAndEvicted(2));
    assert_eq!((narrow.queue_len(), narrow.queue_bytes()), (0, 0));
}

proptest! {
    /// Against a list that is searched from end to end.
    #[test]
    fn the_queue_does_what_a_list_does(
        offers in prop::collection::vec((0_u16..4, 0_u8..=255), 0..60),
        max in 1_usize..20,
        drops_newest: bool,
    ) {
        let topics = ["t0", "t1", "t2", "t3"];
        let priorities = topics[1..].iter().zip(1..).map(|(topic, priority)| ((*topic).into(), priority)).collect();
        let all = QueueRules { drops_newest, priorities, ..QueueRules::default() };
        let mut outbound = Outbound::new(max as u32, rules(all));
        let mut list: Vec<(u16, u8)> = Vec::new();
        for (priority, payload) in offers {
            queue(&mut outbound, topics[usize::from(priority)], [payload]);
            list.push((priority, payload));
            if list.len() > max {
                let lowest = list.iter().map(|(priority, _)| *priority).min().unwrap();
                let is_lowest = |(priority, _): &(u16, u8)| *priority == lowest;
                let at = if drops_newest { list.iter().rposition(is_lowest) } else { list.iter().position(is_lowest) };
                list.remove(at.unwrap());
            }
        }
        list.sort_by_key(|(priority, _)| std::cmp::Reverse(*priority)); // Stable.
        prop_assert_eq!(outbound.queue_len(), list.len());
        prop_assert_eq!(drain(&mut outbound), list.into_iter().map(|(_, payload)| payload).collect::<Vec<_>>());
    }
}
