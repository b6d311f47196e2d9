//! What a client that comes back is told before the commit of what it was told before: nothing that a crash could break.
//!
//! Knows the wire and a store whose commits stand still.

mod house;

use std::sync::Arc;

use house::moody::Moody;
use house::{House, Wire};
use whimbrel_protocol::packet::{Ack, Packet, Publish};
use whimbrel_protocol::properties::Properties;
use whimbrel_protocol::{Limits, QoS, ReasonCode, Topic, Version};
use whimbrel_storage::Store;

fn house() -> (House, Arc<Moody>) {
    let store = Arc::new(Moody::new());
    (House::start_storing(vec![Limits::default()], Arc::clone(&store) as Arc<dyn Store>), store)
}

/// CONNECT of a durable session; does not wait for CONNACK.
fn knock(house: &House, client_id: &str) -> Wire {
    Wire::connect(&house.address(), client_id, Version::V5, false)
}

fn enter(house: &House, client_id: &str) -> Wire {
    let mut wire = knock(house, client_id);
    assert_eq!(wire.read().expect("CONNACK")[3], 0);
    wire
}

fn publish(wire: &mut Wire, dup: bool) {
    let (topic, properties) = (Some(Topic::new("d").unwrap()), Properties::default());
    let packet = Publish { dup, qos: QoS::ExactlyOnce, retain: false, topic, packet_id: 7, properties, payload: b"x" };
    wire.send(&Packet::Publish(packet));
}

#[test]
fn pubrec_is_not_repeated_before_its_identifier_is_stored() {
    let (house, store) = house();
    let mut wire = enter(&house, "p");
    store.stall();
    publish(&mut wire, false);
    house.until_count("packets.publish.received", 1);
    drop(wire);
    house.until_count("connections.count", 0);
    let mut wire = knock(&house, "p");
    publish(&mut wire, true);
    house.until_count("packets.publish.inuse", 1);
    assert!(wire.read_waiting().iter().all(|packet| packet[0] >> 4 != 5), "PUBREC would promise too much");
    store.refuse(false);
    assert_eq!(wire.read_type(5).expect("PUBREC")[..4], [0x50, 2, 0, 7]);
}

#[test]
fn pubrel_is_not_repeated_before_pubrec_is_stored() {
    let (house, store) = house();
    let mut subscriber = enter(&house, "s");
    subscriber.subscribe("d", QoS::ExactlyOnce);
    subscriber.read_type(9);
    let mut publisher = enter(&house, "p");
    publish(&mut publisher, false);
    let delivery = subscriber.read_type(3).expect("PUBLISH");
    let packet_id = u16::from_be_bytes([delivery[5], delivery[6]]);
    store.stall();
    subscriber.send(&Packet::PubRec(Ack::new(packet_id, ReasonCode::SUCCESS)));
    house.until_count("packets.pubrel.sent", 1);
    drop(subscriber);
    house.until_count("connections.count", 1);
    let mut subscriber = knock(&house, "s");
    house.until_count("session.resumed", 1);
    publisher.send(&Packet::PingReq);
    assert!(publisher.read_type(13).is_some());
    assert!(subscriber.read_waiting().iter().all(|packet| packet[0] >> 4 != 6), "PUBREL would promise too much");
    store.refuse(false);
    assert_eq!(subscriber.read_type(6).expect("PUBREL")[2..4], packet_id.to_be_bytes());
}
