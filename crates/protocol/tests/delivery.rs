//! Exchanges of messages between two machines (MQTT 5.0 sections 4.3, 4.4, 4.6, 4.9), with the connection cut at will.
//!
//! Knows what both ends must have seen. Every rule holds in both versions and in both directions unless its name says
//! otherwise.

mod pair;

use pair::{Arrival, Pair, Side};
use proptest::prelude::*;
use whimbrel_protocol::session::{Agreed, DropReason, Offered};
use whimbrel_protocol::{Limits, QoS, Version};

const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];
const SIDES: [Side; 2] = [Side::Broker, Side::Client];
const QOS_1_AND_2: [QoS; 2] = [QoS::AtLeastOnce, QoS::ExactlyOnce];

fn limits() -> Limits {
    Limits {
        receive_maximum: u16::MAX,
        max_inflight: u16::MAX,
        max_awaiting_rel: u16::MAX,
        max_mqueue_len: 100_000,
        ..Limits::default()
    }
}

/// Runs a rule in both versions and both directions.
fn in_every_pair(limits: &Limits, rule: impl Fn(Pair, Side)) {
    for version in VERSIONS {
        for side in SIDES {
            rule(Pair::new(version, limits.clone()), side);
        }
    }
}

#[test]
fn each_qos_is_delivered_once_and_leaves_nothing_in_flight() {
    in_every_pair(&limits(), |mut pair, from| {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            assert!(matches!(pair.publish(from, qos).1, Offered::Send(_)));
        }
        pair.drive();
        assert_eq!(pair.peer(from).accepted, [0, 1, 2]);
        assert_eq!(pair.end(from).session.outbound.inflight_count(), 0);
        assert_eq!(pair.peer(from).session.inbound.awaiting_rel_count(), 0);
    });
}

#[test]
fn qos_0_carries_no_packet_identifier_and_is_dropped_while_the_client_is_away() {
    in_every_pair(&limits(), |mut pair, from| {
        assert_eq!(pair.publish(from, QoS::AtMostOnce).1, Offered::Send(0));
        pair.cut();
        let dropped = Offered::Dropped(DropReason::QoS0);
        assert_eq!(pair.publish(from, QoS::AtMostOnce).1, dropped);
    });
}

#[test]
fn no_more_messages_are_in_flight_than_the_receive_maximum() {
    let narrow = Limits { receive_maximum: 5, max_inflight: 5, ..limits() };
    in_every_pair(&narrow, |mut pair, from| {
        // 3.1.1 has no Receive Maximum: a client's window is what it chooses.
        let window = if from == Side::Client && pair.is_v311() { usize::from(u16::MAX) } else { 5 };
        pair.peer(from).holds_acks = true;
        for round in 0..40 {
            pair.publish(from, QOS_1_AND_2[round % 2]);
        }
        while pair.peer(from).seen.len() < 40 {
            pair.drive();
            assert!(pair.peer(from).held.len() <= window, "{} in flight", pair.peer(from).held.len());
            assert_eq!(pair.end(from).session.outbound.inflight_count(), pair.peer(from).held.len());
            pair.peer(from).release(1);
        }
        let expected: Vec<u32> = (0..40).collect();
        assert_eq!(pair.peer(from).accepted, expected);
    });
}

#[test]
fn the_lesser_of_both_windows_holds_towards_a_5_0_client() {
    let mut pair = Pair::new(Version::V5, Limits { max_inflight: 10, ..limits() });
    pair.cut();
    pair.connect(3);
    pair.drive();
    pair.client.holds_acks = true;
    for _ in 0..20 {
        pair.publish(Side::Broker, QoS::AtLeastOnce);
    }
    pair.drive();
    assert_eq!(pair.client.held.len(), 3);
}

#[test]
fn a_resumed_client_with_a_smaller_window_is_not_sent_more_than_it_takes() {
    let mut pair = Pair::new(Version::V5, limits());
    pair.client.holds_acks = true;
    for _ in 0..10 {
        pair.publish(Side::Broker, QoS::AtLeastOnce);
    }
    pair.drive();
    pair.cut();
    pair.connect(3);
    pair.drive();
    while pair.client.seen.len() < 20 {
        assert!((1..=3).contains(&pair.client.held.len()), "{} in flight", pair.client.held.len());
        pair.client.release(1);
        pair.drive();
    }
    let again: Vec<u32> = pair.client.seen[10..].iter().map(|arrival| arrival.number).collect();
    assert_eq!(again, (0..10).collect::<Vec<u32>>());
}

#[test]
fn packet_identifiers_wrap_around_behind_65_535_and_skip_0() {
    let mut pair = Pair::new(Version::V5, limits());
    for _ in 0..700 {
        for _ in 0..100 {
            pair.publish(Side::Broker, QoS::AtLeastOnce);
        }
        pair.drive();
    }
    let ids: Vec<u16> = pair.client.seen.iter().map(|arrival| arrival.packet_id).collect();
    let expected = (0..70_000_u32).map(|number| (number % 65_535 + 1) as u16);
    assert!(ids.into_iter().eq(expected));
}

#[test]
fn when_all_packet_identifiers_are_in_flight_the_next_message_waits_for_one() {
    let mut pair = Pair::new(Version::V5, limits());
    pair.client.holds_acks = true;
    for _ in 0..65_535 {
        assert!(matches!(pair.publish(Side::Broker, QoS::AtLeastOnce).1, Offered::Send(_)));
    }
    assert_eq!(pair.publish(Side::Broker, QoS::AtLeastOnce).1, Offered::Queued);
    pair.drive();
    assert_eq!(pair.client.seen.len(), 65_535);
    pair.client.release(1);
    pair.drive();
    let last = pair.client.seen.last().copied();
    assert_eq!(last, Some(Arrival { number: 65_535, packet_id: 1, dup: false }));
}

#[test]
fn an_identifier_in_flight_is_not_given_away_when_the_ring_comes_round_to_it() {
    let mut pair = Pair::new(Version::V5, limits());
    pair.client.holds_acks = true;
    pair.publish(Side::Broker, QoS::ExactlyOnce);
    pair.drive();
    let first = pair.client.held.pop().unwrap();
    pair.client.holds_acks = false;
    for _ in 0..65_534 {
        pair.publish(Side::Broker, QoS::AtLeastOnce);
    }
    pair.drive();
    assert_eq!(pair.broker.session.outbound.inflight_count(), 1);
    assert_eq!(pair.publish(Side::Broker, QoS::AtLeastOnce).1, Offered::Queued);
    pair.drive();
    assert_eq!(pair.client.accepted.len(), 65_535);
    pair.client.held.push(first);
    pair.client.release(1);
    pair.drive();
    assert_eq!(pair.client.accepted.len(), 65_536);
    assert_eq!(pair.broker.session.outbound.inflight_count(), 0);
}

#[test]
fn what_was_not_acknowledged_is_resent_on_resume_with_dup_in_its_order_and_with_its_identifiers() {
    in_every_pair(&limits(), |mut pair, from| {
        pair.peer(from).holds_acks = true;
        for round in 0..6 {
            pair.publish(from, QOS_1_AND_2[round % 2]);
        }
        pair.drive();
        let before = std::mem::take(&mut pair.peer(from).seen);
        pair.cut();
        pair.connect(u16::MAX);
        pair.drive();
        let again = before.iter().map(|arrival| Arrival { dup: true, ..*arrival });
        let again: Vec<Arrival> = again.collect();
        assert_eq!(pair.peer(from).seen, again);
    });
}

#[test]
fn what_waited_in_the_queue_follows_the_resent_messages_without_dup() {
    in_every_pair(&limits(), |mut pair, from| {
        pair.publish(from, QoS::AtLeastOnce);
        pair.cut();
        assert_eq!(pair.publish(from, QoS::AtLeastOnce).1, Offered::Queued);
        pair.connect(u16::MAX);
        pair.drive();
        let seen: Vec<(u32, bool)> = pair.peer(from).seen.iter().map(|seen| (seen.number, seen.dup)).collect();
        assert_eq!(seen, [(0, true), (1, false)]);
    });
}

#[test]
fn a_qos_2_message_whose_pubrec_is_lost_is_not_delivered_twice() {
    in_every_pair(&limits(), |mut pair, from| {
        pair.publish(from, QoS::ExactlyOnce);
        pair.carry(from);
        pair.cut();
        pair.connect(u16::MAX);
        pair.drive();
        assert_eq!(pair.peer(from).seen.len(), 2);
        assert_eq!(pair.peer(from).accepted, [0]);
    });
}

#[test]
fn a_qos_2_message_whose_pubcomp_is_lost_is_only_released_again() {
    in_every_pair(&limits(), |mut pair, from| {
        let to = if from == Side::Broker { Side::Client } else { Side::Broker };
        pair.publish(from, QoS::ExactlyOnce);
        for side in [from, to, from] {
            pair.carry(side);
        }
        pair.cut();
        pair.connect(u16::MAX);
        pair.drive();
        assert_eq!(pair.peer(from).seen.len(), 1);
        assert_eq!(pair.peer(from).unknown_rels, 1);
        assert_eq!(pair.end(from).session.outbound.inflight_count(), 0);
    });
}

#[test]
fn the_queue_keeps_its_bound_and_evicts_the_oldest() {
    let bounded = Limits { max_mqueue_len: 3, ..limits() };
    for version in VERSIONS {
        let mut pair = Pair::new(version, bounded.clone());
        pair.cut();
        for _ in 0..5 {
            pair.publish(Side::Broker, QoS::AtLeastOnce);
        }
        assert_eq!(pair.broker.session.outbound.queue_len(), 3);
        assert_eq!(pair.broker.dropped, [DropReason::QueueFull; 2]);
        pair.connect(u16::MAX);
        pair.drive();
        assert_eq!(pair.client.accepted, [2, 3, 4]);
    }
}

#[test]
fn a_queue_of_length_0_drops_what_cannot_be_sent() {
    let bounded = Limits { max_mqueue_len: 0, ..limits() };
    let mut pair = Pair::new(Version::V5, bounded);
    pair.cut();
    let dropped = Offered::Dropped(DropReason::QueueFull);
    assert_eq!(pair.publish(Side::Broker, QoS::AtLeastOnce).1, dropped);
}

#[test]
fn a_message_that_expires_in_the_queue_is_dropped_and_those_behind_it_go_out() {
    let mut pair = Pair::new(Version::V5, limits());
    pair.cut();
    for expiry_s in [Some(5), Some(6), None] {
        pair.publish_expiring(Side::Broker, QoS::AtLeastOnce, expiry_s);
    }
    pair.advance(5_000);
    pair.connect(u16::MAX);
    pair.drive();
    assert_eq!(pair.client.accepted, [1, 2]);
    assert_eq!(pair.broker.dropped, [DropReason::Expired]);
}

#[test]
fn a_session_that_ends_with_its_connection_keeps_no_bodies() {
    let mut pair = Pair::new(Version::V5, limits());
    let agreed = Agreed { expiry_s: 0, window: 10, awaiting_rel_max: 10 };
    pair.broker.session.attach(agreed);
    pair.publish(Side::Broker, QoS::AtLeastOnce);
    assert_eq!(pair.broker.session.outbound.inflight_count(), 1);
    pair.broker.session.attach(agreed);
    assert!(pair.broker.session.outbound.next_resend().is_none());
}

/// What may happen to a pair.
#[derive(Clone, Copy, Debug)]
enum Act {
    Publish(Side, QoS),
    Carry(Side),
    Cut,
}

fn act() -> impl Strategy<Value = Act> {
    let side = || prop::sample::select(SIDES.to_vec());
    let qos = prop::sample::select(QOS_1_AND_2.to_vec());
    prop_oneof![
        4 => (side(), qos).prop_map(|(side, qos)| Act::Publish(side, qos)),
        6 => side().prop_map(Act::Carry),
        1 => Just(Act::Cut),
    ]
}

/// Plays the acts, then drives; returns what each side published, with its QoS.
fn play(pair: &mut Pair, acts: &[Act]) -> [Vec<(u32, QoS)>; 2] {
    let mut published = [Vec::new(), Vec::new()];
    for act in acts {
        match *act {
            Act::Publish(side, qos) => published[side as usize].push((pair.publish(side, qos).0, qos)),
            Act::Carry(side) => drop(pair.carry(side)),
            Act::Cut => {
                pair.cut();
                pair.connect(u16::MAX);
            }
        }
    }
    pair.drive();
    published
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn wherever_the_connection_is_cut_qos_2_comes_once_and_qos_1_at_least_once_in_order(
        acts in prop::collection::vec(act(), 0..80),
        window in 1..8_u16,
        version in prop::sample::select(VERSIONS.to_vec()),
    ) {
        let mut pair = Pair::new(version, Limits { max_inflight: window, receive_maximum: window, ..limits() });
        let published = play(&mut pair, &acts);
        for side in SIDES {
            let mut accepted = pair.peer(side).accepted.clone();
            let of_qos_2 = |number: &u32| published[side as usize].contains(&(*number, QoS::ExactlyOnce));
            let once: Vec<u32> = accepted.iter().copied().filter(of_qos_2).collect();
            let expected = published[side as usize].iter().filter(|(_, qos)| *qos == QoS::ExactlyOnce);
            prop_assert_eq!(once, expected.map(|(number, _)| *number).collect::<Vec<_>>());
            let mut firsts = Vec::new();
            accepted.retain(|number| !firsts.contains(number) && { firsts.push(*number); true });
            prop_assert_eq!(accepted, published[side as usize].iter().map(|(number, _)| *number).collect::<Vec<_>>());
            prop_assert_eq!(pair.end(side).session.outbound.inflight_count(), 0);
            prop_assert_eq!(pair.peer(side).session.inbound.awaiting_rel_count(), 0);
        }
    }
}

#[test]
fn what_was_sent_once_does_not_expire_any_more() {
    for qos in QOS_1_AND_2 {
        let mut pair = Pair::new(Version::V5, limits());
        pair.client.holds_acks = true;
        let (number, offered) = pair.publish_expiring(Side::Broker, qos, Some(10));
        assert!(matches!(offered, Offered::Send(_)));
        pair.cut();
        pair.advance(3_600_000);
        pair.client.holds_acks = false;
        pair.connect(u16::MAX);
        pair.drive();
        assert_eq!(pair.client.accepted, [number], "{qos:?}");
        assert_eq!(pair.broker.session.outbound.inflight_count(), 0, "{qos:?}");
        assert_eq!(pair.broker.dropped, []);
    }
}
