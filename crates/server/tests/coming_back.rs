//! A broker that ends and begins again on the same folder: exchanges at QoS 2 go on where they were.
//!
//! Knows what clients see on the wire before and after. What an end without warning does is shown by `make crash`.

mod house;

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;

use house::folder::Folder;
use house::moody::Moody;
use house::{House, Wire};
use whimbrel_protocol::packet::{Ack, Packet, Publish};
use whimbrel_protocol::properties::Properties;
use whimbrel_protocol::{Limits, QoS, ReasonCode, Topic, Version};
use whimbrel_storage::Kind;

/// A durable session of MQTT 3.1.1, and whether it was present.
fn enter(house: &House, client_id: &str) -> (Wire, bool) {
    let mut wire = Wire::connect(&house.address(), client_id, Version::V311, false);
    let connack = wire.read_type(2).expect("CONNACK");
    (wire, connack[2] == 1)
}

/// A durable session that leaves "x" to "t" at QoS 2; does not wait for CONNACK.
fn with_will(house: &House, client_id: &str) -> Wire {
    let mut body = b"\x00\x04MQTT\x04\x14\x00\x00\x00".to_vec();
    body.push(client_id.len() as u8);
    body.extend_from_slice(client_id.as_bytes());
    body.extend_from_slice(b"\x00\x01t\x00\x01x");
    let mut stream = TcpStream::connect(house.address()).unwrap();
    stream.set_read_timeout(Some(house::PATIENCE)).unwrap();
    stream.write_all(&[0x10, body.len() as u8]).unwrap();
    stream.write_all(&body).unwrap();
    Wire::over(stream, Version::V311)
}

fn publish(wire: &mut Wire, retain: bool) {
    wire.send(&Packet::Publish(Publish {
        dup: false,
        qos: QoS::ExactlyOnce,
        retain,
        topic: Topic::new("t").ok(),
        packet_id: 1,
        properties: Properties::default(),
        payload: b"x",
    }));
    wire.read_type(5).expect("PUBREC");
    wire.send(&Packet::PubRel(Ack::new(1, ReasonCode::SUCCESS)));
    wire.read_type(7).expect("PUBCOMP");
}

/// The identifier of a PUBLISH to "t", and whether it is a repetition.
fn identifier(frame: &[u8]) -> (u16, bool) {
    (u16::from_be_bytes([frame[5], frame[6]]), frame[0] & 8 != 0)
}

#[test]
fn a_retained_message_of_qos_2_keeps_its_identifier() {
    let scratch = Folder::new("retained");
    let house = House::start_in(scratch.path(), 1);
    publish(&mut enter(&house, "publisher").0, true);
    let (mut wire, _) = enter(&house, "receiver");
    wire.subscribe("t", QoS::ExactlyOnce);
    let (sent, _) = identifier(&wire.read_type(3).expect("the retained message"));
    drop((wire, house));
    let house = House::start_in(scratch.path(), 1);
    let (mut wire, is_present) = enter(&house, "receiver");
    assert!(is_present);
    assert_eq!(identifier(&wire.read_type(3).expect("what was not acknowledged")), (sent, true));
}

#[test]
fn the_identifier_of_a_message_is_never_stored_without_the_message() {
    let store = Arc::new(Moody::new());
    let house = House::start_storing(vec![Limits::default()], Arc::<Moody>::clone(&store));
    let (mut receiver, _) = enter(&house, "receiver");
    receiver.subscribe("t", QoS::ExactlyOnce);
    receiver.read_type(9).expect("SUBACK");
    publish(&mut enter(&house, "publisher").0, true);
    let seen = store.seen();
    let received: Vec<_> = seen.iter().filter(|kinds| kinds.contains(&Kind::Received)).collect();
    assert!(!received.is_empty());
    assert!(received.iter().all(|kinds| kinds.contains(&Kind::Message)), "{received:?}");
}

#[test]
fn a_will_that_is_due_at_the_start_comes_to_all_who_wait_for_it() {
    let scratch = Folder::new("will");
    let house = House::start_in(scratch.path(), 2);
    let names: Vec<String> = (0..8).map(|number| format!("waits{number}")).collect();
    for name in &names {
        let (mut wire, _) = enter(&house, name);
        wire.subscribe("t", QoS::ExactlyOnce);
        wire.read_type(9).expect("SUBACK");
    }
    house.until_count("connections.count", 0);
    let mut wires: Vec<Wire> = (0..8).map(|number| with_will(&house, &format!("dies{number}"))).collect();
    wires.iter_mut().for_each(|wire| drop(wire.read_type(2).expect("CONNACK")));
    // Nobody is told, and the store is left as it is.
    let copy = scratch.crash("will-copy");
    let house = House::start_in(copy.path(), 2);
    for name in &names {
        let (mut wire, is_present) = enter(&house, name);
        assert!(is_present);
        (0..8).for_each(|_| drop(wire.read_type(3).expect("a will")));
    }
}

#[test]
fn a_message_of_qos_2_that_went_on_to_another_member_of_its_group_stays_with_that_one() {
    let scratch = Folder::new("group");
    let house = House::start_in(scratch.path(), 1);
    let (mut first, _) = enter(&house, "first");
    first.subscribe("$share/g/t", QoS::ExactlyOnce);
    first.read_type(9).expect("SUBACK");
    drop(first);
    house.until_count("connections.count", 0);
    publish(&mut enter(&house, "publisher").0, false);
    let (mut second, _) = enter(&house, "second");
    second.subscribe("$share/g/t", QoS::ExactlyOnce);
    let (sent, _) = identifier(&second.read_type(3).expect("what waited for the first member"));
    drop((second, house));
    let house = House::start_in(scratch.path(), 1);
    let (mut first, _) = enter(&house, "first");
    let (mut second, _) = enter(&house, "second");
    assert_eq!(identifier(&second.read_type(3).expect("what was not acknowledged")), (sent, true));
    assert!(first.is_alive());
    assert!(first.read_waiting().is_empty());
    first.send(&Packet::PingReq);
    assert_eq!(first.read().map(|frame| frame[0] >> 4), Some(13), "nothing but the answer to a ping");
}
