//! What was acknowledged is there after a crash, and what was finished does not come back.
//!
//! Knows the broker through its front and plain sockets. A crash is a copy of the store's files, taken while the broker runs,
//! on which another broker starts: what a killed process leaves behind.

mod house;

use house::folder::Folder;
use house::{House, Wire};
use whimbrel_protocol::packet::{Ack, Disconnect, Packet, Publish};
use whimbrel_protocol::properties::Properties;
use whimbrel_protocol::{Limits, QoS, ReasonCode, Topic, Version};

const SUBACK: u8 = 9;
const PUBLISH: u8 = 3;

/// A client with a session that lasts; whether it was there before.
fn enter(house: &House, client_id: &str) -> (Wire, bool) {
    let mut wire = Wire::connect(&house.address(), client_id, Version::V311, false);
    let connack = wire.read().expect("it is let in");
    assert_eq!((connack[0], connack[3]), (0x20, 0));
    (wire, connack[2] == 1)
}

fn publish(wire: &mut Wire, topic: &str, (qos, packet_id): (QoS, u16), (retain, dup): (bool, bool)) {
    let (payload, properties) = (topic.as_bytes(), Properties::default());
    let topic = Topic::new(topic).ok();
    wire.send(&Packet::Publish(Publish { dup, qos, retain, topic, packet_id, properties, payload }));
}

fn leave(wire: &mut Wire) {
    wire.send(&Packet::Disconnect(Disconnect { reason: ReasonCode::SUCCESS, properties: Properties::default() }));
}

/// Packet type and identifier of an acknowledgement.
fn ack(frame: &[u8]) -> (u8, u16) {
    (frame[0] >> 4, u16::from_be_bytes([frame[2], frame[3]]))
}

fn identifier(publish: &[u8]) -> u16 {
    let topic_len = usize::from(u16::from_be_bytes([publish[2], publish[3]]));
    u16::from_be_bytes([publish[4 + topic_len], publish[5 + topic_len]])
}

/// The number in the topic "a/7".
fn number_of(publish: &[u8]) -> u16 {
    let topic_len = usize::from(u16::from_be_bytes([publish[2], publish[3]]));
    std::str::from_utf8(&publish[6..4 + topic_len]).unwrap().parse().unwrap()
}

#[test]
fn what_waits_for_an_absent_client_survives_a_crash_and_comes_once() {
    for workers in [1, 2] {
        let folder = Folder::new(&format!("queue-{workers}"));
        let house = House::start_in(folder.path(), workers);
        let (mut sleeper, _) = enter(&house, "sleeper");
        sleeper.subscribe("a/#", QoS::ExactlyOnce);
        assert!(sleeper.read_type(SUBACK).is_some());
        leave(&mut sleeper);
        let (mut publisher, _) = enter(&house, "publisher");
        for number in 1..=20 {
            let qos = if number % 2 == 0 { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
            publish(&mut publisher, &format!("a/{number}"), (qos, number), (false, false));
            let acknowledged = publisher.read().expect("it is acknowledged");
            assert_eq!(ack(&acknowledged), (if number % 2 == 0 { 4 } else { 5 }, number));
        }
        let crashed = folder.crash(&format!("queue-crashed-{workers}"));
        let mut house = House::start_in(crashed.path(), workers);
        house.until_count("whimbrel.deliveries.restored", 20);
        house.until_count("whimbrel.acks.restored", 0);
        assert!(house.audit().lines().iter().all(|line| line.missing() == 0));
        let (mut sleeper, is_present) = enter(&house, "sleeper");
        assert!(is_present);
        let mut came = [Vec::new(), Vec::new()];
        for _ in 1..=20 {
            let frame = sleeper.read_type(PUBLISH).expect("it comes");
            let (id, number) = (identifier(&frame), number_of(&frame));
            match frame[0] >> 1 & 3 {
                1 => sleeper.send(&Packet::PubAck(Ack::new(id, ReasonCode::SUCCESS))),
                _ => sleeper.send(&Packet::PubRec(Ack::new(id, ReasonCode::SUCCESS))),
            }
            came[usize::from(number % 2)].push(number);
        }
        // In the order of each QoS; what waits for the store lets others pass.
        assert_eq!(came, [(2..=20).step_by(2).collect::<Vec<u16>>(), (1..=19).step_by(2).collect()]);
        let released: Vec<u16> = (0..10).map(|_| ack(&sleeper.read_type(6).expect("PUBREL")).1).collect();
        for id in released {
            sleeper.send(&Packet::PubComp(Ack::new(id, ReasonCode::SUCCESS)));
        }
        assert!(sleeper.is_alive());
        drop(house);
        let house = House::start_in(crashed.path(), workers);
        house.until_count("whimbrel.deliveries.restored", 0);
        let (mut sleeper, is_present) = enter(&house, "sleeper");
        assert!(is_present && sleeper.is_alive());
    }
}

#[test]
fn a_qos_2_delivery_in_flight_comes_again_under_its_identifier() {
    let folder = Folder::new("inflight");
    let house = House::start_in(folder.path(), 1);
    let (mut receiver, _) = enter(&house, "receiver");
    receiver.subscribe("a/#", QoS::ExactlyOnce);
    receiver.read_type(SUBACK);
    let (mut publisher, _) = enter(&house, "publisher");
    for number in 1..=3 {
        publish(&mut publisher, &format!("a/{number}"), (QoS::ExactlyOnce, number), (false, false));
        publisher.read_type(5);
    }
    let ids: Vec<u16> = (0..3).map(|_| identifier(&receiver.read_type(PUBLISH).expect("it comes"))).collect();
    receiver.send(&Packet::PubRec(Ack::new(ids[0], ReasonCode::SUCCESS)));
    assert_eq!(ack(&receiver.read_type(6).unwrap()), (6, ids[0]));
    let crashed = folder.crash("inflight-crashed");
    let house = House::start_in(crashed.path(), 1);
    house.until_count("whimbrel.acks.restored", 3);
    let (mut receiver, is_present) = enter(&house, "receiver");
    assert!(is_present);
    assert_eq!(ack(&receiver.read().unwrap()), (6, ids[0]), "PUBREL again, and not the message");
    for id in &ids[1..] {
        let frame = receiver.read_type(PUBLISH).expect("it comes again");
        assert_eq!((identifier(&frame), frame[0] & 8), (*id, 8), "with its identifier and DUP");
    }
}

#[test]
fn a_qos_2_message_that_was_taken_before_the_crash_is_not_routed_again() {
    let folder = Folder::new("inbound");
    let house = House::start_in(folder.path(), 1);
    let (mut receiver, _) = enter(&house, "receiver");
    receiver.subscribe("a", QoS::AtLeastOnce);
    receiver.read_type(SUBACK);
    leave(&mut receiver);
    let (mut publisher, _) = enter(&house, "publisher");
    publish(&mut publisher, "a", (QoS::ExactlyOnce, 7), (false, false));
    publisher.read_type(5);
    let crashed = folder.crash("inbound-crashed");
    let house = House::start_in(crashed.path(), 1);
    let (mut publisher, is_present) = enter(&house, "publisher");
    assert!(is_present);
    publish(&mut publisher, "a", (QoS::ExactlyOnce, 7), (false, true));
    assert_eq!(ack(&publisher.read_type(5).unwrap()), (5, 7));
    publisher.send(&Packet::PubRel(Ack::new(7, ReasonCode::SUCCESS)));
    assert_eq!(ack(&publisher.read_type(7).unwrap()), (7, 7));
    assert_eq!((house.count("packets.publish.inuse"), house.count("messages.publish")), (1, 0));
    let (mut receiver, _) = enter(&house, "receiver");
    assert!(receiver.read_type(PUBLISH).is_some());
    receiver.send(&Packet::PubAck(Ack::new(1, ReasonCode::SUCCESS)));
    assert!(receiver.is_alive());
    house.until_count("messages.acked", 1);
}

#[test]
fn retained_messages_survive_and_cleared_ones_do_not() {
    let folder = Folder::new("retained");
    let house = House::start_in(folder.path(), 2);
    let (mut publisher, _) = enter(&house, "publisher");
    for (number, topic) in [(1, "r/kept"), (2, "r/cleared"), (3, "r/kept")] {
        publish(&mut publisher, topic, (QoS::AtLeastOnce, number), (true, false));
        publisher.read_type(4);
    }
    let topic = Topic::new("r/cleared").ok();
    let (dup, qos, retain, packet_id) = (false, QoS::AtLeastOnce, true, 4);
    let cleared = Publish { dup, qos, retain, topic, packet_id, properties: Properties::default(), payload: b"" };
    publisher.send(&Packet::Publish(cleared));
    publisher.read_type(4);
    let crashed = folder.crash("retained-crashed");
    let house = House::start_in(crashed.path(), 2);
    assert_eq!(house.count("retained.count"), 1);
    let (mut reader, _) = enter(&house, "reader");
    reader.subscribe("r/#", QoS::AtMostOnce);
    let frame = reader.read_type(PUBLISH).unwrap();
    assert!(frame[4..].starts_with(b"r/kept"));
}

#[test]
fn a_session_that_was_ended_does_not_come_back() {
    let folder = Folder::new("ended");
    let mut house = House::start_in(folder.path(), 1);
    for client_id in ["kept", "anew", "kicked"] {
        let (mut wire, _) = enter(&house, client_id);
        wire.subscribe("a/+", QoS::AtLeastOnce);
        wire.read_type(SUBACK);
    }
    let mut anew = Wire::connect(&house.address(), "anew", Version::V311, true);
    assert!(anew.read().is_some());
    assert!(house.kick("kicked"));
    let (mut kept, _) = enter(&house, "kept");
    kept.subscribe("b", QoS::AtLeastOnce); // Behind this SUBACK everything before it is stored.
    kept.read_type(SUBACK);
    let crashed = folder.crash("ended-crashed");
    let mut house = House::start_in(crashed.path(), 1);
    let records = house.clients(10);
    assert_eq!((house.count("sessions.count"), house.count("subscriptions.count")), (1, 2), "{records:?}");
}

#[test]
fn the_store_tells_what_it_holds_and_what_it_did() {
    let folder = Folder::new("figures");
    let house = House::start_in(folder.path(), 1);
    let (mut sleeper, _) = enter(&house, "sleeper");
    sleeper.subscribe("a/#", QoS::AtLeastOnce);
    sleeper.read_type(SUBACK);
    leave(&mut sleeper);
    let (mut publisher, _) = enter(&house, "publisher");
    for number in 1..=50 {
        publish(&mut publisher, &format!("a/{number}"), (QoS::AtLeastOnce, number), (false, false));
        publisher.read_type(4);
    }
    for (name, least) in [("written", 50), ("commits", 2), ("chunks", 1), ("bytes", 50), ("commit_us", 1)] {
        house::until(name, || house.count(&format!("whimbrel.storage.{name}")) >= least);
    }
    assert_eq!(house.count("whimbrel.storage.live"), 50);
    assert!(house.count("whimbrel.storage.commit_max_us") >= house.count("whimbrel.storage.commit_us"));
    for name in ["whimbrel.storage.refusing", "whimbrel.storage.pressed", "whimbrel.storage.failures"] {
        assert_eq!(house.count(name), 0);
    }
    house.until_count("whimbrel.storage.waiting_bytes", 0);
    // Nothing happens for a while: the engine gets what the journal held.
    house::until("it is carried over", || house.count("whimbrel.storage.carried") > 0);
    house.until_count("whimbrel.storage.journal_bytes", 0);
    // All but one are taken: what is dead shows as a share, and goes with its chunks.
    let (mut sleeper, _) = enter(&house, "sleeper");
    for _ in 1..50 {
        let id = identifier(&sleeper.read_type(PUBLISH).expect("it comes"));
        sleeper.send(&Packet::PubAck(Ack::new(id, ReasonCode::SUCCESS)));
    }
    house.until_count("whimbrel.storage.live", 1);
    house::until("chunks are given back", || house.count("whimbrel.storage.reclaimed") > 0);
    assert!(house.count("whimbrel.storage.dead_ppm") <= 1_000_000);
    for (name, most) in [("whimbrel.storage.elided", 50), ("whimbrel.store.pages", 50)] {
        assert!(house.count(name) <= most, "{name}");
    }
    for name in ["storage.refused", "storage.unstored", "storage.held_back"] {
        assert_eq!(house.count(&format!("whimbrel.{name}")), 0, "{name}");
    }
    assert_eq!(house.count("delivery.dropped.unreadable"), 0);
    // Said once for each: "whimbrel.storage.refused", "whimbrel.storage.unstored", "whimbrel.storage.held_back",
    // "whimbrel.storage.written", "whimbrel.storage.commits", "whimbrel.storage.chunks", "whimbrel.storage.bytes",
    // "whimbrel.storage.commit_us".
}

#[test]
fn a_queue_that_is_longer_than_is_allowed_now_drops_its_oldest_at_the_start() {
    let folder = Folder::new("longer");
    let house = House::start_in(folder.path(), 1);
    let (mut sleeper, _) = enter(&house, "sleeper");
    sleeper.subscribe("a/#", QoS::AtLeastOnce);
    assert!(sleeper.read_type(SUBACK).is_some());
    leave(&mut sleeper);
    let (mut publisher, _) = enter(&house, "publisher");
    for number in 1..=60 {
        publish(&mut publisher, &format!("a/{number}"), (QoS::AtLeastOnce, number), (false, false));
        publisher.read().expect("it is acknowledged");
    }
    let crashed = folder.crash("longer-crashed");
    let limits = Limits { max_mqueue_len: 10, max_inflight: 5, ..Limits::default() };
    let mut house = House::start_keeping(1, limits, crashed.path().to_owned());
    // Five may have been in flight when the broker died.
    house.until_count("delivery.dropped.queue_full", 45);
    house.until_count("whimbrel.deliveries.restored", 60);
    assert!(house.audit().lines().iter().all(|line| line.missing() == 0));
    house.until_count("whimbrel.storage.live", 15);
    let (mut sleeper, _) = enter(&house, "sleeper");
    for number in 46..=60 {
        let frame = sleeper.read_type(PUBLISH).expect("it comes");
        assert_eq!(number_of(&frame), number);
        sleeper.send(&Packet::PubAck(Ack::new(identifier(&frame), ReasonCode::SUCCESS)));
    }
}

/// The numbers in what comes, which is answered with `type` 4 (PUBACK) or not at all.
fn hear(wire: &mut Wire, count: usize, is_answered: bool) -> Vec<(u16, u16)> {
    let mut came = Vec::new();
    while came.len() < count {
        let frame = wire.read_type(PUBLISH).expect("it comes");
        came.push((identifier(&frame), number_of(&frame)));
        if is_answered {
            wire.send(&Packet::PubAck(Ack::new(identifier(&frame), ReasonCode::SUCCESS)));
        }
    }
    came
}

/// A broker with "a/1" to "a/COUNT" retained at QoS 2.
fn with_retained(folder: &Folder, count: u16) -> House {
    let house = House::start_in(folder.path(), 1);
    let (mut publisher, _) = enter(&house, "publisher");
    for number in 1..=count {
        publish(&mut publisher, &format!("a/{number}"), (QoS::ExactlyOnce, number), (true, false));
        publisher.read().expect("PUBREC");
    }
    house
}

#[test]
fn retained_messages_that_a_subscription_was_still_to_be_sent_come_after_a_crash() {
    let folder = Folder::new("replay");
    let house = with_retained(&folder, 100);
    let (mut reader, _) = enter(&house, "reader");
    reader.subscribe("a/#", QoS::AtLeastOnce);
    assert!(reader.read_type(SUBACK).is_some(), "what was sent may come before it");
    let crashed = folder.crash("replay-crashed");
    let house = House::start_in(crashed.path(), 1);
    let (mut reader, is_present) = enter(&house, "reader");
    assert!(is_present);
    let mut numbers: Vec<u16> = hear(&mut reader, 100, true).into_iter().map(|(_, number)| number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=100).collect::<Vec<_>>());
    // When all are acknowledged nothing is owed any more.
    house.until_count("whimbrel.acks.completed", 100);
    assert!(reader.is_alive());
    let commits = house.count("whimbrel.storage.commits");
    reader.subscribe("b", QoS::AtLeastOnce);
    assert!(reader.read_type(SUBACK).is_some());
    assert!(house.count("whimbrel.storage.commits") > commits);
    let again = crashed.crash("replay-again");
    let house = House::start_in(again.path(), 1);
    let (mut reader, _) = enter(&house, "reader");
    assert!(reader.is_alive());
    assert_eq!(house.count("messages.sent"), 0);
}

#[test]
fn a_replay_at_qos_2_goes_on_behind_what_was_sent() {
    let folder = Folder::new("replay-2");
    let house = with_retained(&folder, 100);
    let (mut reader, _) = enter(&house, "reader");
    reader.subscribe("a/#", QoS::ExactlyOnce);
    let before = hear(&mut reader, 32, false);
    let crashed = folder.crash("replay-2-crashed");
    let house = House::start_in(crashed.path(), 1);
    let (mut reader, _) = enter(&house, "reader");
    assert_eq!(hear(&mut reader, 32, false), before, "the same under the same identifiers");
    for (id, _) in &before {
        reader.send(&Packet::PubRec(Ack::new(*id, ReasonCode::SUCCESS)));
    }
    let mut numbers: Vec<u16> = before.into_iter().map(|(_, number)| number).collect();
    while numbers.len() < 100 {
        let frame = reader.read().expect("it comes");
        match frame[0] >> 4 {
            PUBLISH => {
                numbers.push(number_of(&frame));
                reader.send(&Packet::PubRec(Ack::new(identifier(&frame), ReasonCode::SUCCESS)));
            }
            6 => reader.send(&Packet::PubComp(Ack::new(ack(&frame).1, ReasonCode::SUCCESS))),
            other => assert_ne!(other, SUBACK),
        }
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=100).collect::<Vec<_>>(), "each once");
    assert!(reader.is_alive());
    assert_eq!(house.count("messages.delivered"), 68);
}
