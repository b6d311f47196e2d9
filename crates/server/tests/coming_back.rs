//! A broker that ends and begins again on the same folder: exchanges at QoS 2 go on where they were.
//!
//! Knows what clients see on the wire before and after. What an end without warning does is shown by `make crash`.

mod house;

use std::path::PathBuf;

use house::{House, Wire};
use whimbrel_protocol::packet::{Ack, Packet, Publish};
use whimbrel_protocol::properties::Properties;
use whimbrel_protocol::{Limits, QoS, ReasonCode, Topic, Version};

/// A folder that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("whimbrel-back-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Scratch(path)
    }

    fn house(&self) -> House {
        House::start_keeping(1, Limits::default(), self.0.clone())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A durable session of MQTT 3.1.1, and whether it was present.
fn enter(house: &House, client_id: &str) -> (Wire, bool) {
    let mut wire = Wire::connect(&house.address(), client_id, Version::V311, false);
    let connack = wire.read_type(2).expect("CONNACK");
    (wire, connack[2] == 1)
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
    let scratch = Scratch::new("retained");
    let house = scratch.house();
    publish(&mut enter(&house, "publisher").0, true);
    let (mut wire, _) = enter(&house, "receiver");
    wire.subscribe("t", QoS::ExactlyOnce);
    let (sent, _) = identifier(&wire.read_type(3).expect("the retained message"));
    drop((wire, house));
    let house = scratch.house();
    let (mut wire, is_present) = enter(&house, "receiver");
    assert!(is_present);
    assert_eq!(identifier(&wire.read_type(3).expect("what was not acknowledged")), (sent, true));
}

#[test]
fn a_message_of_qos_2_that_went_on_to_another_member_of_its_group_stays_with_that_one() {
    let scratch = Scratch::new("group");
    let house = scratch.house();
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
    let house = scratch.house();
    let (mut first, _) = enter(&house, "first");
    let (mut second, _) = enter(&house, "second");
    assert_eq!(identifier(&second.read_type(3).expect("what was not acknowledged")), (sent, true));
    assert!(first.is_alive());
    assert!(first.read_waiting().is_empty());
    first.send(&Packet::PingReq);
    assert_eq!(first.read().map(|frame| frame[0] >> 4), Some(13), "nothing but the answer to a ping");
}
