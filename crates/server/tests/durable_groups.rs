//! Messages of groups over a crash: they are still the group's, go to whoever is there, and come once.
//!
//! Knows the broker through its front and plain sockets. A crash is a copy of the store's files, taken while the broker runs,
//! on which another broker starts: what a killed process leaves behind.

mod house;

use house::folder::Folder;
use house::{House, Wire, until};
use whimbrel_protocol::packet::{Ack, Disconnect, Packet, Publish};
use whimbrel_protocol::properties::Properties;
use whimbrel_protocol::{QoS, ReasonCode, Topic, Version};

const GROUP: &str = "$share/g/a/+";
const SUBACK: u8 = 9;
const PUBLISH: u8 = 3;
const PUBREL: u8 = 6;

/// A client with a session that lasts.
fn enter(house: &House, client_id: &str, clean_start: bool) -> Wire {
    let mut wire = Wire::connect(&house.address(), client_id, Version::V5, clean_start);
    let connack = wire.read().expect("it is let in");
    assert_eq!((connack[0], connack[3]), (0x20, 0));
    wire
}

fn join(house: &House, client_id: &str) -> Wire {
    let mut wire = enter(house, client_id, false);
    wire.subscribe(GROUP, QoS::ExactlyOnce);
    assert!(wire.read_type(SUBACK).is_some());
    wire
}

fn leave(house: &House, mut wire: Wire) {
    let before = house.count("client.disconnected");
    wire.send(&Packet::Disconnect(Disconnect { reason: ReasonCode::SUCCESS, properties: Properties::default() }));
    until("it has left", || house.count("client.disconnected") > before);
}

/// Publishes "a/1" to "a/COUNT", odd ones at QoS 2, and waits for each acknowledgement.
fn publish(house: &House, count: u16) {
    let mut publisher = enter(house, "publisher", true);
    for number in 1..=count {
        let qos = if number % 2 == 0 { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
        let topic = format!("a/{number}");
        publisher.send(&Packet::Publish(Publish {
            dup: false,
            qos,
            retain: false,
            topic: Topic::new(&topic).ok(),
            packet_id: number,
            properties: Properties::default(),
            payload: topic.as_bytes(),
        }));
        let acknowledged = publisher.read().expect("it is acknowledged");
        assert_eq!(acknowledged[0] >> 4, if number % 2 == 0 { 4 } else { 5 });
        if number % 2 == 1 {
            publisher.send(&Packet::PubRel(Ack::new(number, ReasonCode::SUCCESS)));
            assert_eq!(publisher.read().expect("PUBCOMP")[0] >> 4, 7);
        }
    }
    leave(house, publisher);
}

/// Takes `count` messages and finishes each; their numbers, sorted.
fn take(wire: &mut Wire, count: usize) -> Vec<u16> {
    let (mut came, mut open) = (Vec::new(), 0);
    while came.len() < count || open > 0 {
        let frame = wire.read().expect("it comes");
        match frame[0] >> 4 {
            PUBLISH => open += receive(wire, &frame, &mut came),
            PUBREL => {
                let id = u16::from_be_bytes([frame[2], frame[3]]);
                wire.send(&Packet::PubComp(Ack::new(id, ReasonCode::SUCCESS)));
                open -= 1;
            }
            other => panic!("a packet of type {other}"),
        }
    }
    came.sort_unstable();
    came
}

/// Answers a PUBLISH; how many PUBREL will follow.
fn receive(wire: &mut Wire, frame: &[u8], came: &mut Vec<u16>) -> u32 {
    let topic_len = usize::from(u16::from_be_bytes([frame[2], frame[3]]));
    let id = u16::from_be_bytes([frame[4 + topic_len], frame[5 + topic_len]]);
    came.push(std::str::from_utf8(&frame[6..4 + topic_len]).unwrap().parse().unwrap());
    let ack = Ack::new(id, ReasonCode::SUCCESS);
    let is_once = frame[0] >> 1 & 3 == 1;
    wire.send(&if is_once { Packet::PubAck(ack) } else { Packet::PubRec(ack) });
    u32::from(!is_once)
}

fn is_balanced(house: &mut House) -> bool {
    house.audit().lines().iter().all(|line| line.missing() == 0)
}

#[test]
fn what_waits_for_one_member_goes_to_another_one_after_a_crash() {
    for workers in [1, 2] {
        let folder = Folder::new(&format!("other-{workers}"));
        let house = House::start_in(folder.path(), workers);
        let absent = join(&house, "absent");
        leave(&house, absent);
        publish(&house, 20);
        let crashed = folder.crash(&format!("other-crashed-{workers}"));
        let mut house = House::start_in(crashed.path(), workers);
        house.until_count("whimbrel.deliveries.restored", 20);
        let mut other = join(&house, "other");
        assert_eq!(take(&mut other, 20), (1..=20).collect::<Vec<_>>());
        assert!(is_balanced(&mut house));
        house.until_count("whimbrel.storage.live", 0);
        let again = crashed.crash(&format!("other-again-{workers}"));
        // Neither the one nor the other gets any of it a second time, now or after a second crash.
        assert!(enter(&house, "absent", false).is_alive());
        assert_eq!(house.count("messages.sent"), 20);
        drop(house);
        let house = House::start_in(again.path(), workers);
        assert!(enter(&house, "absent", false).is_alive());
        house.until_count("messages.sent", 0);
    }
}

#[test]
fn what_waited_for_a_member_whose_session_ends_after_a_crash_is_the_others() {
    for workers in [1, 2] {
        let folder = Folder::new(&format!("ends-{workers}"));
        let house = House::start_in(folder.path(), workers);
        for client_id in ["first", "second"] {
            let member = join(&house, client_id);
            leave(&house, member);
        }
        publish(&house, 200);
        let crashed = folder.crash(&format!("ends-crashed-{workers}"));
        let mut house = House::start_in(crashed.path(), workers);
        house.until_count("whimbrel.deliveries.restored", 200);
        let ended = enter(&house, "first", true);
        // Before the other one has all of it, perhaps.
        let again = crashed.crash(&format!("ends-again-{workers}"));
        let mut second = enter(&house, "second", false);
        assert_eq!(take(&mut second, 200), (1..=200).collect::<Vec<_>>());
        assert!(is_balanced(&mut house));
        drop((ended, second, house));
        let mut house = House::start_in(again.path(), workers);
        house.until_count("whimbrel.deliveries.restored", 200);
        let mut second = enter(&house, "second", false);
        assert_eq!(take(&mut second, 200), (1..=200).collect::<Vec<_>>());
        assert!(is_balanced(&mut house));
    }
}

#[test]
fn a_group_keeps_its_number_and_a_new_one_gets_another() {
    let folder = Folder::new("number");
    let house = House::start_in(folder.path(), 1);
    let absent = join(&house, "absent");
    leave(&house, absent);
    publish(&house, 2);
    let crashed = folder.crash("number-crashed");
    let house = House::start_in(crashed.path(), 1);
    let mut stranger = enter(&house, "stranger", false);
    stranger.subscribe("$share/h/a/+", QoS::ExactlyOnce);
    assert!(stranger.read_type(SUBACK).is_some());
    let looks = house.count("whimbrel.worker.turns");
    until("the absent member's messages were looked at", || house.count("whimbrel.worker.turns") > looks + 5);
    assert!(stranger.read_waiting().is_empty() && stranger.is_alive());
    let mut absent = enter(&house, "absent", false);
    assert_eq!(take(&mut absent, 2), [1, 2]);
}

#[test]
fn messages_of_a_group_wait_for_absent_members_without_their_bodies() {
    let folder = Folder::new("bodies");
    let mut house = House::start_in(folder.path(), 1);
    let absent = join(&house, "absent");
    leave(&house, absent);
    publish(&house, 200);
    assert_eq!(house.count("whimbrel.store.pages"), 0);
    let mut absent = enter(&house, "absent", false);
    assert_eq!(take(&mut absent, 200), (1..=200).collect::<Vec<_>>());
    assert!(house.count("whimbrel.store.pages") > 0, "they were read back");
    assert!(is_balanced(&mut house));
}
