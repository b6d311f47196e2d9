//! No Local with overlapping subscriptions, through a running broker.
//!
//! How subscriptions combine is a table in the router's tests; here the worker obeys it.

mod house;

use house::{House, Wire};
use whimbrel_protocol::decode::{Split, decode, split};
use whimbrel_protocol::packet::{Packet, Publish, Subscribe, SubscriptionOptions};
use whimbrel_protocol::properties::{Properties, Value, id, put_property};
use whimbrel_protocol::{Filter, Limits, QoS, Topic, Version};

fn subscribe(wire: &mut Wire, filter: &str, identifier: u32, options: SubscriptionOptions) {
    let mut raw = Vec::new();
    put_property(&mut raw, id::SUBSCRIPTION_IDENTIFIER, Value::Number(identifier));
    let filters = vec![(Ok(Filter::new(filter).unwrap()), options)];
    wire.send(&Packet::Subscribe(Subscribe { packet_id: 1, properties: Properties::trusted(&raw), filters }));
    wire.read_type(9).expect("SUBACK");
}

fn publish(wire: &mut Wire, payload: &[u8]) {
    wire.send(&Packet::Publish(Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: Some(Topic::new("a/b").unwrap()),
        packet_id: 9,
        properties: Properties::default(),
        payload,
    }));
}

/// QoS, subscription identifiers, payload of the next PUBLISH.
fn received(wire: &mut Wire) -> (QoS, Vec<u32>, Vec<u8>) {
    let bytes = wire.read_type(3).expect("PUBLISH");
    let Ok(Split::Frame(frame)) = split(&bytes, u32::MAX) else { panic!("a whole packet") };
    let Ok(Packet::Publish(publish)) = decode(frame, Version::V5) else { panic!("a PUBLISH") };
    let identifiers = publish.properties.iter().filter_map(|(found, value)| match value {
        Value::Number(number) if found == id::SUBSCRIPTION_IDENTIFIER => Some(number),
        _ => None,
    });
    (publish.qos, identifiers.collect(), publish.payload.to_vec())
}

#[test]
fn for_ones_own_messages_only_the_subscriptions_without_no_local_count() {
    let house = House::start(1, Limits::default());
    let mut both = Wire::connect(&house.address(), "both", Version::V5, true);
    both.read_type(2).expect("CONNACK");
    let no_local = SubscriptionOptions { no_local: true, ..SubscriptionOptions::plain(QoS::AtLeastOnce) };
    subscribe(&mut both, "a/#", 7, no_local);
    publish(&mut both, b"none");
    subscribe(&mut both, "a/b", 8, SubscriptionOptions::plain(QoS::AtMostOnce));
    publish(&mut both, b"own");
    assert_eq!(received(&mut both), (QoS::AtMostOnce, vec![8], b"own".to_vec()));
    house.client("other", Version::V5).publish("a/b", b"foreign", QoS::AtLeastOnce, false).unwrap();
    assert_eq!(received(&mut both), (QoS::AtLeastOnce, vec![7, 8], b"foreign".to_vec()));
    house.until_count("delivery.dropped.no_local", 1);
}
