//! Statements of the specification that only whole packets of a running broker can prove: what is passed on unchanged,
//! which retained messages a subscription gets, which answer names what.
//!
//! Knows plain packets. docs/conformance/statements.toml says which statement each test proves.

mod house;

use std::io::{Read, Write};
use std::net::TcpStream;

use house::{House, Wire};
use whimbrel_protocol::decode::{Split, decode, split};
use whimbrel_protocol::encode::encode;
use whimbrel_protocol::packet::{Ack, Connect, Packet, Publish, Subscribe, SubscriptionOptions, Unsubscribe};
use whimbrel_protocol::properties::{Properties, Value, id, put_property};
use whimbrel_protocol::{Filter, Limits, QoS, ReasonCode, Topic, Version};

fn entered(house: &House, client_id: &str) -> Wire {
    let mut wire = Wire::connect_with(&house.address(), client_id, Version::V5, true, b"");
    wire.read_type(2).expect("CONNACK");
    wire
}

fn publication<'a>(topic: &'a str, raw: &'a [u8], payload: &'a [u8], retain: bool) -> Publish<'a> {
    let (topic, properties) = (Some(Topic::new(topic).unwrap()), Properties::trusted(raw));
    Publish { dup: false, qos: QoS::AtMostOnce, retain, topic, packet_id: 0, properties, payload }
}

fn publish(wire: &mut Wire, topic: &str, payload: &[u8], retain: bool) {
    wire.send(&Packet::Publish(publication(topic, b"", payload, retain)));
}

/// Sends SUBSCRIBE with this identifier; the identifier and the codes of SUBACK.
fn subscribed(wire: &mut Wire, packet_id: u16, filters: &[(&str, SubscriptionOptions)]) -> (u16, Vec<u8>) {
    let filters = filters.iter().map(|(text, options)| (Ok(Filter::new(text).unwrap()), *options)).collect();
    wire.send(&Packet::Subscribe(Subscribe { packet_id, properties: Properties::default(), filters }));
    answered(&wire.read_type(9).expect("SUBACK"))
}

fn unsubscribed(wire: &mut Wire, packet_id: u16, filters: &[&str]) -> (u16, Vec<u8>) {
    let filters = filters.iter().map(|text| Ok(Filter::new(text).unwrap())).collect();
    wire.send(&Packet::Unsubscribe(Unsubscribe { packet_id, properties: Properties::default(), filters }));
    answered(&wire.read_type(11).expect("UNSUBACK"))
}

fn answered(bytes: &[u8]) -> (u16, Vec<u8>) {
    let Ok(Split::Frame(frame)) = split(bytes, u32::MAX) else { panic!("a whole packet") };
    match decode(frame, Version::V5) {
        Ok(Packet::SubAck(ack) | Packet::UnsubAck(ack)) => {
            (ack.packet_id, ack.reasons.iter().map(|reason| reason.0).collect())
        }
        other => panic!("{other:?}"),
    }
}

/// Topic, payload and retain flag of everything that comes before the answer to a ping.
fn delivered(wire: &mut Wire) -> Vec<(String, Vec<u8>, bool)> {
    wire.send(&Packet::PingReq);
    let mut found = Vec::new();
    loop {
        let bytes = wire.read().expect("the connection lives");
        let Ok(Split::Frame(frame)) = split(&bytes, u32::MAX) else { panic!("a whole packet") };
        match decode(frame, Version::V5) {
            Ok(Packet::PingResp) => return found,
            Ok(Packet::Publish(publish)) => {
                let topic = publish.topic.map_or("", |topic| topic.as_str()).to_owned();
                found.push((topic, publish.payload.to_vec(), publish.retain));
            }
            other => panic!("{other:?}"),
        }
    }
}

fn plain() -> SubscriptionOptions {
    SubscriptionOptions::plain(QoS::AtLeastOnce)
}

fn one(topic: &str, payload: &[u8], retain: bool) -> Vec<(String, Vec<u8>, bool)> {
    vec![(topic.to_owned(), payload.to_vec(), retain)]
}

#[test]
fn retain_handling_says_when_retained_messages_are_sent() {
    let house = House::start(1, Limits::default());
    let mut wire = entered(&house, "c");
    publish(&mut wire, "a", b"kept", true);
    for (retain_handling, first, again) in [(0, true, true), (1, true, false), (2, false, false)] {
        let options = SubscriptionOptions { retain_handling, ..plain() };
        for is_sent in [first, again] {
            subscribed(&mut wire, 1, &[("a", options)]);
            let expected = if is_sent { one("a", b"kept", true) } else { Vec::new() };
            assert_eq!(delivered(&mut wire), expected, "retain handling {retain_handling}");
        }
        unsubscribed(&mut wire, 2, &["a"]);
    }
}

#[test]
fn the_retain_flag_is_passed_on_only_where_the_subscription_asks_for_it() {
    let house = House::start(1, Limits::default());
    for (version, retain_as_published) in [(Version::V5, true), (Version::V5, false), (Version::V311, false)] {
        let mut wire = Wire::connect_with(&house.address(), "c", version, true, b"");
        wire.read_type(2).expect("CONNACK");
        let filters = vec![(Ok(Filter::new("b").unwrap()), SubscriptionOptions { retain_as_published, ..plain() })];
        wire.send(&Packet::Subscribe(Subscribe { packet_id: 1, properties: Properties::default(), filters }));
        wire.read_type(9).expect("SUBACK");
        for retain in [true, false] {
            publish(&mut wire, "b", b"x", retain);
            let first = wire.read_type(3).expect("PUBLISH")[0];
            assert_eq!(first & 1 != 0, retain && retain_as_published, "{version:?}");
        }
        publish(&mut wire, "b", b"", true);
        wire.read_type(3).expect("PUBLISH");
    }
}

#[test]
fn a_publish_without_retain_leaves_the_retained_message_alone() {
    let house = House::start(1, Limits::default());
    let mut wire = entered(&house, "c");
    publish(&mut wire, "a", b"kept", true);
    publish(&mut wire, "a", b"passing", false);
    publish(&mut wire, "a", b"", false);
    subscribed(&mut wire, 1, &[("a", plain())]);
    assert_eq!(delivered(&mut wire), one("a", b"kept", true));
}

#[test]
fn properties_are_passed_on_as_they_came_in_their_order() {
    let house = House::start(1, Limits::default());
    let mut wire = entered(&house, "c");
    subscribed(&mut wire, 1, &[("a", plain())]);
    let mut raw = Vec::new();
    put_property(&mut raw, id::USER_PROPERTY, Value::Pair("z", "1"));
    put_property(&mut raw, id::PAYLOAD_FORMAT_INDICATOR, Value::Number(1));
    put_property(&mut raw, id::CONTENT_TYPE, Value::Text("text/plain"));
    put_property(&mut raw, id::USER_PROPERTY, Value::Pair("a", "2"));
    put_property(&mut raw, id::RESPONSE_TOPIC, Value::Text("answers/é"));
    put_property(&mut raw, id::CORRELATION_DATA, Value::Binary(b"\x00\xFF"));
    put_property(&mut raw, id::USER_PROPERTY, Value::Pair("z", "1"));
    wire.send(&Packet::Publish(publication("a", &raw, b"x", false)));
    let bytes = wire.read_type(3).expect("PUBLISH");
    let Ok(Split::Frame(frame)) = split(&bytes, u32::MAX) else { panic!("a whole packet") };
    let Ok(Packet::Publish(publish)) = decode(frame, Version::V5) else { panic!("a PUBLISH") };
    assert_eq!(publish.properties.raw(), raw);
}

#[test]
fn the_expiry_interval_is_passed_on_less_the_time_waited() {
    let house = House::start(1, Limits::default());
    let mut wire = entered(&house, "c");
    let mut raw = Vec::new();
    put_property(&mut raw, id::MESSAGE_EXPIRY_INTERVAL, Value::Number(600));
    wire.send(&Packet::Publish(publication("a", &raw, b"x", true)));
    let mut left = || {
        subscribed(&mut wire, 1, &[("a", plain())]);
        let bytes = wire.read_type(3).expect("PUBLISH");
        let Ok(Split::Frame(frame)) = split(&bytes, u32::MAX) else { panic!("a whole packet") };
        let Ok(Packet::Publish(publish)) = decode(frame, Version::V5) else { panic!("a PUBLISH") };
        publish.properties.number(id::MESSAGE_EXPIRY_INTERVAL).expect("an expiry interval")
    };
    assert!((580..=600).contains(&left()));
    house::until("a second is taken off", || left() < 600);
}

#[test]
fn suback_and_unsuback_name_their_request_and_answer_each_filter_in_its_order() {
    let house = House::start(1, Limits { max_topic_levels: 2, ..Limits::default() });
    let mut wire = entered(&house, "c");
    let of = SubscriptionOptions::plain;
    let filters =
        [("a", of(QoS::ExactlyOnce)), ("a/b/c", of(QoS::AtMostOnce)), ("b", of(QoS::AtMostOnce)), ("c", plain())];
    assert_eq!(subscribed(&mut wire, 500, &filters), (500, vec![2, 0x8F, 0, 1]));
    assert_eq!(unsubscribed(&mut wire, 65_535, &["never", "b", "b", "a"]), (65_535, vec![0x11, 0, 0x11, 0]));
    assert_eq!(unsubscribed(&mut wire, 7, &["never"]), (7, vec![0x11]));
    for topic in ["a", "b", "c"] {
        publish(&mut wire, topic, b"x", false);
    }
    assert_eq!(delivered(&mut wire), one("c", b"x", false));
}

#[test]
fn the_same_filter_again_replaces_the_subscription() {
    let house = House::start(1, Limits::default());
    let mut wire = entered(&house, "c");
    let silent = SubscriptionOptions { no_local: true, ..plain() };
    subscribed(&mut wire, 1, &[("a", silent)]);
    subscribed(&mut wire, 2, &[("a", plain())]);
    publish(&mut wire, "a", b"x", false);
    assert_eq!(delivered(&mut wire), one("a", b"x", false));
}

#[test]
fn clean_start_forgets_the_session_and_says_so() {
    let house = House::start(1, Limits::default());
    for version in [Version::V5, Version::V311, Version::V31] {
        let mut before = Wire::connect(&house.address(), "c", version, false);
        before.read_type(2).expect("CONNACK");
        before.subscribe("a", QoS::AtMostOnce);
        before.read_type(9).expect("SUBACK");
        let mut after = Wire::connect(&house.address(), "c", version, true);
        assert_eq!(after.read_type(2).expect("CONNACK")[2..4], [0, 0]);
        publish(&mut after, "a", b"x", false);
        after.send(&Packet::PingReq);
        assert_eq!(after.read().expect("PINGRESP")[0] >> 4, 13);
        house.until_count("subscriptions.count", 0);
    }
}

#[test]
fn a_message_that_a_client_cannot_take_is_settled_as_if_it_had_been_sent() {
    let house = House::start(1, Limits::default());
    let mut raw = Vec::new();
    put_property(&mut raw, id::MAXIMUM_PACKET_SIZE, Value::Number(60));
    put_property(&mut raw, id::RECEIVE_MAXIMUM, Value::Number(1));
    let mut narrow = Wire::connect_with(&house.address(), "narrow", Version::V5, true, &raw);
    narrow.read_type(2).expect("CONNACK");
    subscribed(&mut narrow, 1, &[("a", plain())]);
    let mut publisher = house.client("p", Version::V5);
    publisher.publish("a", &[0; 100], QoS::AtLeastOnce, false).unwrap();
    publisher.publish("a", b"small", QoS::AtLeastOnce, false).unwrap();
    assert_eq!(delivered(&mut narrow), one("a", b"small", false));
    house.until_count("delivery.dropped.too_large", 1);
}

#[test]
fn a_full_window_holds_back_nothing_but_publishes() {
    let house = House::start(1, Limits::default());
    let mut raw = Vec::new();
    put_property(&mut raw, id::RECEIVE_MAXIMUM, Value::Number(1));
    let mut wire = Wire::connect_with(&house.address(), "c", Version::V5, true, &raw);
    wire.read_type(2).expect("CONNACK");
    subscribed(&mut wire, 1, &[("a", plain())]);
    let mut publisher = house.client("p", Version::V5);
    for payload in [b"1", b"2"] {
        publisher.publish("a", payload, QoS::AtLeastOnce, false).unwrap();
    }
    assert_eq!(delivered(&mut wire), one("a", b"1", false));
    assert_eq!(unsubscribed(&mut wire, 2, &["never"]).0, 2);
    wire.send(&Packet::PubAck(Ack::new(1, ReasonCode::SUCCESS)));
    assert_eq!(delivered(&mut wire), one("a", b"2", false));
}

#[test]
fn an_assigned_identifier_is_told_and_belongs_to_one_client() {
    let house = House::start(2, Limits::default());
    let assigned = |_| {
        let mut wire = Wire::connect_with(&house.address(), "", Version::V5, true, b"");
        let bytes = wire.read_type(2).expect("CONNACK");
        let Ok(Split::Frame(frame)) = split(&bytes, u32::MAX) else { panic!("a whole packet") };
        let Ok(Packet::ConnAck(connack)) = decode(frame, Version::V5) else { panic!("a CONNACK") };
        (connack.properties.text(id::ASSIGNED_CLIENT_IDENTIFIER).expect("an identifier").to_owned(), wire)
    };
    let mut clients: Vec<(String, Wire)> = (0..20).map(assigned).collect();
    let names: std::collections::BTreeSet<&String> = clients.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), 20);
    assert!(clients.iter_mut().all(|(_, wire)| wire.is_alive()));
}

#[test]
fn behind_a_refused_connect_nothing_is_processed() {
    let house = House::start(1, Limits { max_clientid_len: 3, ..Limits::default() });
    for version in [Version::V5, Version::V311] {
        let mut bytes = Vec::new();
        let connect = Connect {
            version,
            clean_start: true,
            keep_alive_s: 0,
            client_id: "long",
            will: None,
            username: None,
            password: None,
            properties: Properties::default(),
        };
        encode(&mut bytes, version, &Packet::Connect(Box::new(connect)));
        encode(&mut bytes, version, &Packet::Publish(publication("a", b"", b"x", true)));
        let mut stream = TcpStream::connect(house.address()).unwrap();
        stream.write_all(&bytes).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let code = if version == Version::V5 { 0x85 } else { 2 };
        assert_eq!((answer[0], answer[2], answer[3]), (0x20, 0, code));
    }
    assert_eq!((house.count("messages.received"), house.count("messages.retained")), (0, 0));
}

#[test]
fn an_unknown_level_is_answered_with_1_and_the_end() {
    let house = House::start(1, Limits::default());
    let mut stream = TcpStream::connect(house.address()).unwrap();
    stream.write_all(b"\x10\x0D\x00\x04MQTT\x06\x02\x00\x3C\x00\x01c").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, b"\x20\x02\x00\x01");
}
