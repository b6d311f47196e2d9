//! Topic aliases towards clients, through a running broker: who gets them, and that every message still has its topic.
//!
//! The table of aliases itself is tested beside its code, in the protocol crate.

mod house;

use house::{House, Wire};
use whimbrel_protocol::decode::{Split, decode, split};
use whimbrel_protocol::packet::Packet;
use whimbrel_protocol::properties::{Value, id, put_property};
use whimbrel_protocol::{Limits, QoS, Version};

const TOPIC: &str = "plant/line/4/temperature";

fn subscriber(house: &House, client_id: &str, alias_max: u32, packet_max: Option<u32>) -> Wire {
    let mut raw = Vec::new();
    put_property(&mut raw, id::TOPIC_ALIAS_MAXIMUM, Value::Number(alias_max));
    packet_max.into_iter().for_each(|max| put_property(&mut raw, id::MAXIMUM_PACKET_SIZE, Value::Number(max)));
    let mut wire = Wire::connect_with(&house.address(), client_id, Version::V5, true, &raw);
    wire.read_type(2).expect("CONNACK");
    wire.subscribe("plant/#", QoS::AtLeastOnce);
    wire.read_type(9).expect("SUBACK");
    wire
}

/// Topic as it stands in the packet, alias, payload.
fn publish_of(bytes: &[u8]) -> (Option<String>, Option<u32>, Vec<u8>) {
    let Ok(Split::Frame(frame)) = split(bytes, u32::MAX) else { panic!("a whole packet") };
    let Ok(Packet::Publish(publish)) = decode(frame, Version::V5) else { panic!("a PUBLISH") };
    let topic = publish.topic.map(|topic| topic.as_str().to_owned());
    (topic, publish.properties.number(id::TOPIC_ALIAS), publish.payload.to_vec())
}

fn received(wire: &mut Wire, count: usize) -> Vec<(Option<String>, Option<u32>, Vec<u8>)> {
    (0..count).map(|_| publish_of(&wire.read_type(3).expect("PUBLISH"))).collect()
}

#[test]
fn a_client_that_takes_aliases_gets_one_for_a_topic_that_repeats_and_others_get_none() {
    let house = House::start(1, Limits::default());
    let mut taker = subscriber(&house, "taker", 10, None);
    let mut other = subscriber(&house, "other", 0, None);
    let mut publisher = house.client("p", Version::V311);
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::AtMostOnce] {
        publisher.publish(TOPIC, b"21.5", qos, false).unwrap();
    }
    let whole = Some(TOPIC.to_owned());
    let payload = b"21.5".to_vec();
    let expected =
        [(whole.clone(), None, payload.clone()), (whole.clone(), Some(1), payload.clone()), (None, Some(1), payload)];
    assert_eq!(received(&mut taker, 3), expected);
    assert!(received(&mut other, 3).iter().all(|(topic, alias, _)| *topic == whole && alias.is_none()));
}

#[test]
fn aliases_stay_within_what_client_and_settings_allow() {
    for (granted, allowed) in [(2, 16), (16, 2), (0, 16), (16, 0)] {
        let house = House::start(1, Limits { max_topic_alias_out: allowed, ..Limits::default() });
        let mut taker = subscriber(&house, "taker", granted, None);
        let mut publisher = house.client("p", Version::V5);
        for number in 0..50 {
            let topic = format!("plant/line/{}", number / 5);
            publisher.publish(&topic, topic.as_bytes(), QoS::AtMostOnce, false).unwrap();
        }
        let mut known = std::collections::HashMap::new();
        for (topic, alias, payload) in received(&mut taker, 50) {
            assert!(alias.is_none_or(|alias| (1..=granted.min(u32::from(allowed))).contains(&alias)));
            if let (Some(topic), Some(alias)) = (&topic, alias) {
                known.insert(alias, topic.clone());
            }
            let meant = topic.unwrap_or_else(|| known[&alias.expect("a topic or an alias")].clone());
            assert_eq!(meant.as_bytes(), payload);
        }
        assert_eq!(known.len() as u32, granted.min(u32::from(allowed)));
    }
}

#[test]
fn an_alias_that_would_make_the_packet_too_long_is_not_set() {
    let house = House::start(1, Limits::default());
    // First byte, length, topic, property length.
    let exact = 1 + 1 + 2 + TOPIC.len() as u32 + 1 + 4;
    let mut taker = subscriber(&house, "taker", 10, Some(exact));
    let mut publisher = house.client("p", Version::V5);
    for _ in 0..4 {
        publisher.publish(TOPIC, b"21.5", QoS::AtMostOnce, false).unwrap();
    }
    for (topic, alias, _) in received(&mut taker, 4) {
        assert_eq!((topic.as_deref(), alias), (Some(TOPIC), None));
    }
}
