//! A retained message that is published while a client subscribes: it comes with the subscription or behind it.
//!
//! Knows two clients on two workers. Many filters in one SUBSCRIBE make the moment long enough to be met.

mod house;

use std::collections::BTreeSet;

use house::{House, Wire};
use whimbrel_protocol::decode::{Split, decode, split};
use whimbrel_protocol::encode::encode;
use whimbrel_protocol::packet::{Packet, Publish, Subscribe, SubscriptionOptions};
use whimbrel_protocol::properties::Properties;
use whimbrel_protocol::{Filter, Limits, QoS, Topic, Version};

const TOPICS: usize = 900;
const ROUNDS: usize = 20;

/// Two clients whose sessions have different owners.
fn apart(house: &mut House) -> [Wire; 2] {
    let mut connect = |number: usize| {
        let id = format!("c{number}");
        let mut wire = Wire::connect(&house.address(), &id, Version::V311, true);
        wire.read().unwrap();
        let record = house.clients(100).into_iter().find(|record| *record.client_id == *id);
        (record.unwrap().worker, wire)
    };
    let (owner, first) = connect(0);
    let second = (1..).map(&mut connect).find(|(worker, _)| *worker != owner).unwrap().1;
    [first, second]
}

fn publishes(topics: &[String]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for topic in topics {
        let (topic, properties) = (Some(Topic::new(topic).unwrap()), Properties::default());
        let (qos, packet_id, payload) = (QoS::AtMostOnce, 0, &b"x"[..]);
        let publish = Publish { dup: false, qos, retain: true, topic, packet_id, properties, payload };
        encode(&mut bytes, Version::V311, &Packet::Publish(publish));
    }
    bytes
}

fn topic_of(frame: &[u8]) -> Option<String> {
    let Ok(Split::Frame(whole)) = split(frame, u32::MAX) else { panic!("frames are whole") };
    match decode(whole, Version::V311) {
        Ok(Packet::Publish(publish)) => publish.topic.map(|topic| topic.as_str().into()),
        _ => None,
    }
}

#[test]
fn what_is_retained_while_a_client_subscribes_reaches_it() {
    for round in 0..ROUNDS {
        let mut house = House::start(2, Limits::default());
        let [mut subscriber, mut publisher] = apart(&mut house);
        let topics: Vec<String> = (0..TOPICS).map(|number| format!("{round}/{number}")).collect();
        let filters = topics.iter().map(|topic| (Filter::new(topic), SubscriptionOptions::plain(QoS::AtMostOnce)));
        let filters =
            filters.map(|(filter, options)| (filter.map_err(|violation| violation.reason), options)).collect();
        let subscribe = Packet::Subscribe(Subscribe { packet_id: 1, properties: Properties::default(), filters });
        let bytes = publishes(&topics);
        std::thread::scope(|scope| {
            scope.spawn(|| std::io::Write::write_all(&mut publisher.stream, &bytes).unwrap());
            subscriber.send(&subscribe);
        });
        assert!(publisher.is_alive(), "everything is published");
        assert_eq!(house.count("messages.retained"), TOPICS as u64);
        let mut missing: BTreeSet<String> = topics.into_iter().collect();
        let mut is_subscribed = false;
        while !is_subscribed || !missing.is_empty() {
            let frame = subscriber.read().unwrap();
            is_subscribed |= frame[0] >> 4 == 9;
            if let Some(topic) = topic_of(&frame) {
                missing.remove(&topic);
            }
        }
    }
}
