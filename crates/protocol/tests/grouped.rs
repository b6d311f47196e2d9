//! Messages of groups that wait for one member: without their bodies while the store has them, each group by itself.
//!
//! Knows what a session holds, and plays the store.

use std::collections::HashMap;
use std::sync::Arc;

use whimbrel_protocol::message::{Origin, Publication};
use whimbrel_protocol::properties::Properties;
use whimbrel_protocol::session::{Delivery, Offered, Outbound, Released};
use whimbrel_protocol::{Message, QoS, Topic};

const PAYLOAD: [u8; 100] = [7; 100];

fn message() -> Arc<Message> {
    let topic = Topic::new("t").unwrap();
    let publication = Publication { topic, properties: Properties::default(), expiry_s: None, payload: &PAYLOAD };
    Arc::new(Message::new(&publication, QoS::AtLeastOnce, false, Origin { client_id: "p".into(), received_ms: 0 }))
}

fn delivery(message: &Arc<Message>, share: u32, stored: u64) -> Delivery {
    let message = Arc::clone(message);
    Delivery { message, qos: QoS::AtLeastOnce, retain: false, share, identifiers: None, stored }
}

/// A durable session without a connection that has these messages: group (0: none) and slot.
fn sleeper(messages: &[(u32, u64)]) -> Outbound {
    let mut outbound = Outbound::new(10_000, None);
    outbound.keep(Released::default());
    outbound.keep_groups();
    let message = message();
    for (share, slot) in messages {
        let offered = outbound.offer_shared(QoS::AtLeastOnce, false, || delivery(&message, *share, *slot));
        assert_eq!(offered, Offered::Queued);
    }
    assert_eq!(Arc::strong_count(&message), 1, "the store has the bodies");
    outbound
}

/// Reads page after page and sends; the slots in the order in which they leave.
fn drain(outbound: &mut Outbound) -> Vec<(u32, u64)> {
    let mut left = Vec::new();
    loop {
        while let Some(Ok((packet_id, delivery))) = outbound.next(0) {
            outbound.on_puback(packet_id);
            left.push((delivery.share, delivery.stored));
        }
        if !outbound.wants_page() {
            return left;
        }
        let mut slots = Vec::new();
        let priority = outbound.ask(&mut slots);
        for slot in slots {
            assert_eq!(outbound.first_stub(priority), Some(slot));
            outbound.fill(priority, delivery(&message(), 99, slot));
        }
        outbound.note_answer();
    }
}

#[test]
fn each_group_keeps_its_order_and_its_number() {
    let mut outbound = sleeper(&[(5, 1), (0, 2), (4, 3), (5, 4), (0, 5), (4, 6)]);
    assert_eq!((outbound.queue_len(), outbound.queue_bytes()), (6, 6 * message().size_bytes()));
    outbound.attach(10, true);
    let mut by_group: HashMap<u32, Vec<u64>> = HashMap::new();
    drain(&mut outbound).into_iter().for_each(|(share, slot)| by_group.entry(share).or_default().push(slot));
    assert_eq!(by_group[&5], [1, 4]);
    assert_eq!(by_group[&4], [3, 6]);
    assert_eq!(outbound.queue_len() + outbound.queue_bytes(), 0);
}

#[test]
fn what_other_members_may_have_is_named_by_group_and_taken_only_while_it_is_there() {
    let mut outbound = sleeper(&[(5, 1), (4, 2), (5, 3), (0, 4)]);
    let mut slots = Vec::new();
    outbound.ask_shared(10, |share| share == 5, &mut slots);
    assert_eq!(slots, [1, 3]);
    let mut again = Vec::new();
    outbound.ask_shared(10, |_| true, &mut again);
    assert!(again.is_empty(), "one page at a time");
    assert_eq!((outbound.take_shared_stub(3), outbound.take_shared_stub(1)), (None, Some(5)));
    outbound.note_answer();
    assert_eq!((outbound.queue_len(), outbound.has_grouped()), (3, true));
    let lines = outbound.take_lines(|share| share == 4);
    assert_eq!((lines.len(), lines[0].0, lines[0].1.len(), outbound.queue_len()), (1, 4, 1, 2));
    outbound.attach(10, true);
    assert_eq!(drain(&mut outbound).iter().map(|(_, slot)| *slot).max(), Some(4));
    assert_eq!(outbound.queue_bytes(), 0);
}

#[test]
fn a_slow_member_holds_a_bounded_number_of_bodies_and_a_leaving_one_none() {
    let mut outbound = Outbound::new(100_000, None);
    outbound.keep(Released::default());
    outbound.keep_groups();
    outbound.attach(1, true);
    let bodies: Vec<Arc<Message>> = (0..10_000).map(|_| message()).collect();
    let held = |bodies: &[Arc<Message>]| bodies.iter().filter(|body| Arc::strong_count(body) > 1).count();
    for (slot, body) in (1..).zip(&bodies) {
        outbound.offer_shared(QoS::AtLeastOnce, true, || delivery(body, 5, slot));
    }
    assert!((1_000..3_000).contains(&held(&bodies)), "{} bodies", held(&bodies));
    outbound.detach();
    assert_eq!(held(&bodies), 1, "the one in flight");
    outbound.attach(100, true);
    outbound.next_resend();
    outbound.on_puback(1);
    let left: Vec<u64> = drain(&mut outbound).into_iter().map(|(_, slot)| slot).collect();
    assert_eq!(left, (2..=10_000).collect::<Vec<_>>());
}

#[test]
fn too_many_push_out_the_oldest_whose_body_lies_in_the_store() {
    let released = Released::default();
    let mut outbound = Outbound::new(3, None);
    outbound.keep(released.clone());
    outbound.keep_groups();
    for slot in 1..=5 {
        outbound.offer_shared(QoS::AtLeastOnce, false, || delivery(&message(), 5, slot));
    }
    let mut gone = Vec::new();
    released.drain(|slot| gone.push(slot));
    assert_eq!((gone, outbound.queue_len()), (vec![1, 2], 3));
}

#[test]
fn a_session_that_is_not_durable_keeps_the_bodies() {
    let mut outbound = Outbound::new(10, None);
    outbound.keep(Released::default());
    let message = message();
    outbound.offer_shared(QoS::AtLeastOnce, false, || delivery(&message, 5, 1));
    assert_eq!(Arc::strong_count(&message), 2, "its record is another session's");
    outbound.detach();
    assert_eq!(Arc::strong_count(&message), 2);
}
