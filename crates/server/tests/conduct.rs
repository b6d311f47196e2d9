//! What a client of each version may rely on, seen on the wire: what comes first, what is sent again and what never, what
//! a subscription gives and what takes it away.
//!
//! Knows plain packets. docs/conformance/statements.toml says which statement each test proves.

mod house;

use house::{House, Wire};
use whimbrel_protocol::decode::{Split, decode, split};
use whimbrel_protocol::packet::{Ack, Disconnect, Packet, Publish, Subscribe, SubscriptionOptions, Unsubscribe};
use whimbrel_protocol::properties::{Properties, Value, id, put_property};
use whimbrel_protocol::{Filter, Limits, QoS, ReasonCode, Topic, Version};

const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];
const SUCCESS: ReasonCode = ReasonCode::SUCCESS;

/// A PUBLISH as it came.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Got {
    topic: String,
    payload: Vec<u8>,
    qos: QoS,
    dup: bool,
    retain: bool,
    packet_id: u16,
    identifiers: Vec<u32>,
    expiry_s: Option<u32>,
}

fn got(bytes: &[u8], version: Version) -> Got {
    let Ok(Split::Frame(frame)) = split(bytes, u32::MAX) else { panic!("a whole packet") };
    let Ok(Packet::Publish(publish)) = decode(frame, version) else {
        panic!("a PUBLISH: {bytes:02X?}")
    };
    let number = |(id, value)| match value {
        Value::Number(number) if id == id::SUBSCRIPTION_IDENTIFIER => Some(number),
        _ => None,
    };
    Got {
        topic: publish.topic.map_or("", |topic| topic.as_str()).to_owned(),
        payload: publish.payload.to_vec(),
        qos: publish.qos,
        dup: publish.dup,
        retain: publish.retain,
        packet_id: publish.packet_id,
        identifiers: publish.properties.iter().filter_map(number).collect(),
        expiry_s: publish.properties.number(id::MESSAGE_EXPIRY_INTERVAL),
    }
}

fn number(id: u8, value: u32) -> Vec<u8> {
    let mut raw = Vec::new();
    put_property(&mut raw, id, Value::Number(value));
    raw
}

/// A client that does nothing of its own accord.
struct Plain {
    wire: Wire,
    version: Version,
}

impl Plain {
    /// With a session that outlives the connection.
    fn enter(house: &House, client_id: &str, version: Version, clean_start: bool) -> Plain {
        let mut wire = Wire::connect(&house.address(), client_id, version, clean_start);
        assert_eq!(wire.read().expect("CONNACK")[0], 0x20);
        Plain { wire, version }
    }

    fn enter_with(house: &House, client_id: &str, raw: &[u8]) -> Plain {
        let mut wire = Wire::connect_with(&house.address(), client_id, Version::V5, true, raw);
        assert_eq!(wire.read().expect("CONNACK")[0], 0x20);
        Plain { wire, version: Version::V5 }
    }

    fn send_subscribe(&mut self, packet_id: u16, raw: &[u8], filters: &[(&str, SubscriptionOptions)]) {
        let filters = filters.iter().map(|(text, options)| (Ok(Filter::new(text).unwrap()), *options)).collect();
        let properties = Properties::trusted(raw);
        self.wire.send(&Packet::Subscribe(Subscribe { packet_id, properties, filters }));
    }

    /// SUBACK's bytes behind its length: identifier, properties, codes.
    fn subscribe(&mut self, packet_id: u16, filters: &[(&str, QoS)]) -> Vec<u8> {
        let filters: Vec<_> = filters.iter().map(|(text, qos)| (*text, SubscriptionOptions::plain(*qos))).collect();
        self.send_subscribe(packet_id, b"", &filters);
        let bytes = self.wire.read_type(9).expect("SUBACK");
        let Ok(Split::Frame(frame)) = split(&bytes, u32::MAX) else { panic!("a whole packet") };
        match decode(frame, self.version) {
            // Words, which older versions have no place for, are another test's matter.
            Ok(Packet::SubAck(ack)) if !ack.properties.is_empty() => {
                let codes: Vec<u8> = ack.reasons.iter().map(|reason| reason.0).collect();
                suback(self.version, ack.packet_id, &codes)
            }
            _ => bytes[2..].to_vec(),
        }
    }

    fn unsubscribe(&mut self, packet_id: u16, filters: &[&str]) -> Vec<u8> {
        let filters = filters.iter().map(|text| Ok(Filter::new(text).unwrap())).collect();
        let properties = Properties::default();
        self.wire.send(&Packet::Unsubscribe(Unsubscribe { packet_id, properties, filters }));
        self.wire.read_type(11).expect("UNSUBACK")[2..].to_vec()
    }

    fn send(&mut self, topic: &str, payload: &[u8], (qos, packet_id): (QoS, u16)) {
        self.send_publish(topic, payload, (qos, packet_id), (false, b""));
    }

    fn send_publish(
        &mut self,
        topic: &str,
        payload: &[u8],
        (qos, packet_id): (QoS, u16),
        (retain, raw): (bool, &[u8]),
    ) {
        let (topic, properties) = (Topic::new(topic).ok(), Properties::trusted(raw));
        self.wire.send(&Packet::Publish(Publish { dup: false, qos, retain, topic, packet_id, properties, payload }));
    }

    /// With DUP.
    fn send_again(&mut self, topic: &str, payload: &[u8], (qos, packet_id): (QoS, u16)) {
        let (topic, properties) = (Topic::new(topic).ok(), Properties::default());
        let packet = Publish { dup: true, qos, retain: false, topic, packet_id, properties, payload };
        self.wire.send(&Packet::Publish(packet));
    }

    fn next(&mut self) -> Got {
        got(&self.wire.read_type(3).expect("a PUBLISH"), self.version)
    }

    /// Every PUBLISH that comes before the answer to a ping.
    fn so_far(&mut self) -> Vec<Got> {
        self.wire.send(&Packet::PingReq);
        let mut found = Vec::new();
        loop {
            let bytes = self.wire.read().expect("the connection lives");
            match bytes[0] >> 4 {
                13 => return found,
                3 => found.push(got(&bytes, self.version)),
                _ => {}
            }
        }
    }

    fn payloads_so_far(&mut self) -> Vec<Vec<u8>> {
        self.so_far().into_iter().map(|got| got.payload).collect()
    }

    /// The next packet, which must be of this type, behind its fixed header.
    fn expect(&mut self, kind: u8) -> Vec<u8> {
        let bytes = self.wire.read().expect("the connection lives");
        assert_eq!(bytes[0] >> 4, kind, "{bytes:02X?}");
        bytes[2..].to_vec()
    }

    /// The broker's DISCONNECT, and nothing behind it.
    fn farewell(&mut self) -> u8 {
        let code = self.wire.read_type(14).expect("DISCONNECT")[2];
        assert_eq!(self.wire.read(), None);
        code
    }
}

/// SUBACK or UNSUBACK behind its length, as a version writes it.
fn suback(version: Version, packet_id: u16, codes: &[u8]) -> Vec<u8> {
    let none: &[u8] = if version == Version::V5 { &[0] } else { &[] };
    [&packet_id.to_be_bytes(), none, codes].concat()
}

// CONNACK.

#[test]
fn connack_comes_first_and_once_however_much_waits_and_however_much_the_client_sends_at_once() {
    let house = House::start(2, Limits::default());
    for version in VERSIONS {
        let client_id = format!("{version:?}");
        let mut before = Plain::enter(&house, &client_id, version, false);
        before.subscribe(1, &[("a", QoS::AtLeastOnce)]);
        drop(before);
        house::until("the session waits", || house.count("connections.count") == 0);
        let mut publisher = house.client("p", Version::V5);
        (0..5).for_each(|number| publisher.publish("a", &[number], QoS::AtLeastOnce, false).unwrap());
        drop(publisher);
        let mut wire = Wire::connect(&house.address(), &client_id, version, false);
        wire.subscribe("b", QoS::AtMostOnce);
        let mut after = Plain { wire, version };
        after.send("b", b"own", (QoS::AtMostOnce, 0));
        after.wire.send(&Packet::PingReq);
        let mut kinds = Vec::new();
        // CONNACK, SUBACK, PINGRESP, five messages that waited and one that came.
        while kinds.len() < 9 {
            kinds.push(after.wire.read().expect("the connection lives")[0] >> 4);
        }
        assert_eq!(kinds[0], 2, "{version:?}");
        kinds.sort_unstable();
        assert_eq!(kinds, [2, 3, 3, 3, 3, 3, 3, 9, 13], "{version:?}");
        drop(after);
        house::until("the client is gone", || house.count("connections.count") == 0);
    }
}

#[test]
fn plain_identifiers_of_1_to_23_characters_are_let_in() {
    let house = House::start(1, Limits::default());
    let alphabet = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    for version in VERSIONS {
        for length in 1..=23 {
            for start in [0, 23, alphabet.len() - 23] {
                let connack = Wire::connect(&house.address(), &alphabet[start..start + length], version, true).read();
                assert_eq!(connack.expect("CONNACK")[3], 0, "{version:?} {length}");
            }
        }
    }
}

#[test]
fn a_client_that_named_no_method_reads_of_none() {
    let house = House::start(1, Limits::default());
    house.broker.set_interest(whimbrel_server::Interest::ENHANCED_AUTHENTICATE);
    let mut wire = Wire::connect(&house.address(), "c", Version::V5, true);
    let bytes = wire.read().expect("CONNACK, and no AUTH before it");
    let Ok(Split::Frame(frame)) = split(&bytes, u32::MAX) else { panic!("a whole packet") };
    let Ok(Packet::ConnAck(connack)) = decode(frame, Version::V5) else { panic!("a CONNACK") };
    assert_eq!(connack.properties.first(id::AUTHENTICATION_METHOD), None);
    assert_eq!(connack.properties.first(id::AUTHENTICATION_DATA), None);
    assert!(wire.is_alive());
}

#[test]
fn a_client_that_waits_to_be_let_in_is_refused_and_not_dismissed_when_the_broker_stops() {
    let mut house = House::start(1, Limits::default());
    house.broker.set_interest(whimbrel_server::Interest::AUTHENTICATE);
    let mut waiting = VERSIONS.map(|version| Wire::connect(&house.address(), "c", version, true));
    for _ in VERSIONS {
        house.wait_for("question", |event| matches!(event, whimbrel_server::Event::Authenticate(_)).then_some(()));
    }
    house.broker.stop(1_000);
    // Server unavailable: CONNACK has no code for a broker that stops.
    for (wire, code) in waiting.iter_mut().zip([3, 3, 0x88]) {
        assert_eq!(wire.read().expect("CONNACK")[..4][2..], [0, code]);
        assert_eq!(wire.read(), None);
    }
}

// Messages.

#[test]
fn each_qos_is_answered_with_its_own_packets_which_name_the_message() {
    let house = House::start(1, Limits::default());
    for version in VERSIONS {
        let mut watcher = Plain::enter(&house, "w", version, true);
        watcher.subscribe(1, &[("a", QoS::AtMostOnce)]);
        let mut client = Plain::enter(&house, "c", version, true);
        client.send("a", b"0", (QoS::AtMostOnce, 0));
        client.send("a", b"1", (QoS::AtLeastOnce, 258));
        assert_eq!(client.expect(4), [1, 2], "{version:?}: QoS 0 is not answered");
        // After PUBACK the identifier is another message, whatever DUP says.
        client.send_again("a", b"2", (QoS::AtLeastOnce, 258));
        assert_eq!(client.expect(4), [1, 2]);
        client.send("a", b"3", (QoS::ExactlyOnce, 258));
        assert_eq!(client.expect(5), [1, 2]);
        // Until PUBREL it is the same message.
        client.send_again("a", b"3", (QoS::ExactlyOnce, 258));
        client.send("a", b"3", (QoS::ExactlyOnce, 258));
        assert_eq!((client.expect(5), client.expect(5)), (vec![1, 2], vec![1, 2]));
        client.wire.send(&Packet::PubRel(Ack::new(258, SUCCESS)));
        assert_eq!(client.expect(7), [1, 2]);
        client.send_again("a", b"4", (QoS::ExactlyOnce, 258));
        assert_eq!(client.expect(5), [1, 2]);
        client.wire.send(&Packet::PubRel(Ack::new(258, SUCCESS)));
        assert_eq!(client.expect(7), [1, 2]);
        assert_eq!(watcher.payloads_so_far(), [b"0", b"1", b"2", b"3", b"4"], "{version:?}");
    }
}

#[test]
fn a_first_delivery_has_no_dup_whatever_the_publisher_said() {
    let house = House::start(1, Limits::default());
    for version in VERSIONS {
        let mut client = Plain::enter(&house, "c", version, true);
        client.subscribe(1, &[("a", QoS::ExactlyOnce)]);
        for (qos, packet_id) in [(QoS::AtMostOnce, 0), (QoS::AtLeastOnce, 1), (QoS::ExactlyOnce, 2)] {
            match qos {
                QoS::AtMostOnce => client.send("a", b"x", (qos, packet_id)),
                _ => client.send_again("a", b"x", (qos, packet_id)),
            }
        }
        let first: Vec<(bool, QoS)> = client.so_far().into_iter().map(|got| (got.dup, got.qos)).collect();
        let expected = [(false, QoS::AtMostOnce), (false, QoS::AtLeastOnce), (false, QoS::ExactlyOnce)];
        assert_eq!(first, expected, "{version:?}");
    }
}

#[test]
fn what_a_client_left_open_comes_again_in_its_order_with_dup_and_its_identifiers() {
    let house = House::start(1, Limits::default());
    for version in VERSIONS {
        let client_id = format!("{version:?}");
        let mut client = Plain::enter(&house, &client_id, version, false);
        client.subscribe(1, &[("a", QoS::ExactlyOnce)]);
        for packet_id in 1..=6 {
            let qos = if packet_id % 2 == 0 { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
            client.send("a", &[packet_id as u8], (qos, packet_id));
        }
        let open = client.so_far();
        assert_eq!(open.len(), 6);
        // The first is settled, the second is half way.
        client.wire.send(&Packet::PubAck(Ack::new(open[0].packet_id, SUCCESS)));
        client.wire.send(&Packet::PubRec(Ack::new(open[1].packet_id, SUCCESS)));
        assert_eq!(client.wire.read_type(6).expect("PUBREL")[2..4], open[1].packet_id.to_be_bytes());
        drop(client);
        let mut client = Plain::enter(&house, &client_id, version, false);
        assert_eq!(client.expect(6)[..2], open[1].packet_id.to_be_bytes(), "{version:?}: only released again");
        for before in &open[2..] {
            assert_eq!(client.next(), Got { dup: true, ..before.clone() }, "{version:?}");
        }
        // On this connection nothing comes a second time.
        assert_eq!(client.so_far(), []);
    }
}

#[test]
fn messages_of_one_publisher_keep_their_order_for_each_topic_and_qos() {
    let house = House::start(2, Limits::default());
    for version in VERSIONS {
        let mut subscriber = house.client(&format!("s-{version:?}"), version);
        subscriber.subscribe(&["o/#".into()], QoS::ExactlyOnce).unwrap();
        let mut publisher = house.client(&format!("p-{version:?}"), version);
        let all = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
        for number in 0..100 {
            for (topic, qos) in [("o/a", all[number % 3]), ("o/b", all[(number + 1) % 3])] {
                publisher.publish(topic, &[number as u8], qos, false).unwrap();
            }
        }
        let mut last = std::collections::BTreeMap::new();
        for _ in 0..200 {
            let message = subscriber.receive(house::PATIENCE).unwrap().expect("a message");
            let number = message.payload()[0];
            let before = last.insert((message.topic().as_str().to_owned(), message.qos as u8), number);
            assert!(before.is_none_or(|before| before < number), "{version:?}: {number} came behind {before:?}");
        }
    }
}

// Subscriptions.

#[test]
fn each_version_reads_the_identifier_and_a_code_for_each_filter_in_its_order() {
    let limits = Limits { max_topic_levels: 2, max_qos_allowed: 1, ..Limits::default() };
    let house = House::start(1, limits);
    let refused = [(Version::V31, 0), (Version::V311, 0x80), (Version::V5, 0x8F)];
    for (version, refusal) in refused {
        let mut client = Plain::enter(&house, "c", version, true);
        let filters = [("a", QoS::ExactlyOnce), ("a/b/c", QoS::AtLeastOnce), ("b", QoS::AtMostOnce)];
        assert_eq!(client.subscribe(515, &filters), suback(version, 515, &[1, refusal, 0]), "{version:?}");
        let codes: &[u8] = if version == Version::V5 { &[0x11, 0, 0x11, 0] } else { &[] };
        let removed = client.unsubscribe(65_535, &["never", "a", "a", "b"]);
        assert_eq!(removed, suback(version, 65_535, codes), "{version:?}");
        let codes: &[u8] = if version == Version::V5 { &[0x11] } else { &[] };
        assert_eq!(client.unsubscribe(1, &["never"]), suback(version, 1, codes), "{version:?}");
        house.until_count("subscriptions.count", 0);
    }
}

#[test]
fn a_subscription_that_is_replaced_again_and_again_loses_and_doubles_no_message() {
    let house = House::start(1, Limits { max_inflight: 1_000, ..Limits::default() });
    for version in VERSIONS {
        let mut client = Plain::enter(&house, "c", version, true);
        client.subscribe(1, &[("a/+", QoS::AtLeastOnce)]);
        for payload in 0..100 {
            client.send("a/b", &[payload], (QoS::AtMostOnce, 0));
            client.send_subscribe(2, b"", &[("a/+", SubscriptionOptions::plain(QoS::AtLeastOnce))]);
        }
        let expected: Vec<Vec<u8>> = (0..100).map(|payload| vec![payload]).collect();
        assert_eq!(client.payloads_so_far(), expected, "{version:?}");
        house.until_count("subscriptions.count", 1);
    }
}

#[test]
fn a_replaced_subscription_has_its_new_qos_and_its_retained_messages_again() {
    let house = House::start(1, Limits::default());
    for version in VERSIONS {
        let mut client = Plain::enter(&house, "c", version, true);
        client.send_publish("kept", b"x", (QoS::AtLeastOnce, 1), (true, b""));
        client.expect(4);
        for (filters, qos) in [(QoS::AtLeastOnce, QoS::AtLeastOnce), (QoS::AtMostOnce, QoS::AtMostOnce)] {
            client.subscribe(1, &[("kept", filters)]);
            let replayed = client.next();
            assert_eq!((replayed.qos, replayed.retain, &replayed.payload[..]), (qos, true, &b"x"[..]), "{version:?}");
            client.send("kept", b"y", (QoS::AtLeastOnce, 2));
            assert_eq!(client.next().qos, qos, "{version:?}");
        }
        house.until_count("subscriptions.count", 1);
    }
}

#[test]
fn filters_to_unsubscribe_are_compared_character_by_character() {
    let house = House::start(1, Limits::default());
    for version in VERSIONS {
        let mut client = Plain::enter(&house, "c", version, true);
        let all = ["a/b", "a/+", "a/#", "A/b", "a/b/", "/a/b"];
        client.subscribe(1, &all.map(|filter| (filter, QoS::AtMostOnce)));
        for (removed, left) in all.iter().zip((0..6).rev()) {
            client.unsubscribe(2, &["+/b", "a/b/#", "#", "a//b"]);
            client.unsubscribe(3, &[removed]);
            house.until_count("subscriptions.count", left);
        }
    }
}

#[test]
fn what_is_in_flight_when_its_subscription_ends_is_completed_and_nothing_new_comes() {
    let house = House::start(1, Limits::default());
    for version in VERSIONS {
        let mut client = Plain::enter(&house, &format!("{version:?}"), version, false);
        client.subscribe(1, &[("a", QoS::ExactlyOnce)]);
        client.send("a", b"1", (QoS::AtLeastOnce, 1));
        client.send("a", b"2", (QoS::ExactlyOnce, 2));
        let (first, second) = (client.next(), client.next());
        client.unsubscribe(3, &["a"]);
        client.send("a", b"3", (QoS::AtMostOnce, 0));
        client.wire.send(&Packet::PubRec(Ack::new(second.packet_id, SUCCESS)));
        let rel = client.wire.read_type(6).expect("PUBREL");
        assert_eq!(rel[2..4], second.packet_id.to_be_bytes());
        drop(client);
        let mut client = Plain::enter(&house, &format!("{version:?}"), version, false);
        let again = client.next();
        assert_eq!((again.packet_id, again.dup, &again.payload[..]), (first.packet_id, true, &b"1"[..]), "{version:?}");
        assert_eq!(client.expect(6)[..2], second.packet_id.to_be_bytes());
        client.wire.send(&Packet::PubAck(Ack::new(first.packet_id, SUCCESS)));
        client.wire.send(&Packet::PubComp(Ack::new(second.packet_id, SUCCESS)));
        assert_eq!(client.so_far(), []);
    }
}

#[test]
fn a_message_of_several_subscriptions_comes_once_with_all_identifiers_and_the_highest_qos() {
    let house = House::start(1, Limits::default());
    let mut client = Plain::enter(&house, "c", Version::V5, true);
    let of = SubscriptionOptions::plain;
    let subscriptions =
        [("a/b", 1, QoS::AtMostOnce), ("a/+", 268_435_455, QoS::ExactlyOnce), ("#", 1, QoS::AtLeastOnce)];
    for (filter, identifier, qos) in subscriptions {
        client.send_subscribe(1, &number(id::SUBSCRIPTION_IDENTIFIER, identifier), &[(filter, of(qos))]);
    }
    client.subscribe(2, &[("+/b", QoS::AtMostOnce)]);
    client.send("a/b", b"x", (QoS::ExactlyOnce, 1));
    let mut delivered = client.next();
    delivered.identifiers.sort_unstable();
    assert_eq!((delivered.qos, delivered.identifiers), (QoS::ExactlyOnce, vec![1, 1, 268_435_455]));
    // A filter subscribed to again without an identifier has none any more.
    client.subscribe(3, &[("a/+", QoS::AtMostOnce)]);
    client.send("a/c", b"x", (QoS::AtMostOnce, 0));
    assert_eq!(client.so_far()[0].identifiers, [1]);
}

// Retained messages.

#[test]
fn retained_messages_outlive_the_session_of_their_publisher() {
    let house = House::start(1, Limits::default());
    for version in VERSIONS {
        let mut publisher = Plain::enter(&house, "p", version, true);
        publisher.send_publish("kept", b"x", (QoS::AtLeastOnce, 1), (true, b""));
        publisher.expect(4);
        publisher.send_publish("kept", b"passing", (QoS::AtLeastOnce, 2), (false, b""));
        publisher.expect(4);
        drop(publisher);
        drop(Wire::connect_with(&house.address(), "p", version, true, b"").read());
        house::until("the session has ended", || house.count("connections.count") == 0);
        let mut client = Plain::enter(&house, "c", version, true);
        client.subscribe(1, &[("#", QoS::AtMostOnce)]);
        assert_eq!(client.payloads_so_far(), [b"x"], "{version:?}");
        client.send_publish("kept", b"", (QoS::AtMostOnce, 0), (true, b""));
        assert_eq!(client.payloads_so_far(), [b""], "passed on as any other");
        client.subscribe(1, &[("#", QoS::AtMostOnce)]);
        assert_eq!(client.so_far(), [], "cleared, and not kept itself");
    }
}

#[test]
fn a_retained_message_of_qos_0_takes_the_place_of_one_of_a_higher_qos() {
    let house = House::start(1, Limits::default());
    for version in VERSIONS {
        let mut client = Plain::enter(&house, "c", version, true);
        client.send_publish("kept", b"old", (QoS::AtLeastOnce, 1), (true, b""));
        client.send_publish("kept", b"new", (QoS::AtMostOnce, 0), (true, b""));
        client.subscribe(1, &[("kept", QoS::AtLeastOnce)]);
        let kept = client.next();
        assert_eq!((kept.qos, &kept.payload[..]), (QoS::AtMostOnce, &b"new"[..]), "{version:?}");
    }
}

// Limits of the protocol.

#[test]
fn topics_and_filters_of_65_535_bytes_are_served() {
    let house = House::start(1, Limits::default());
    let longest = "x".repeat(65_535);
    for version in VERSIONS {
        let mut client = Plain::enter(&house, "c", version, true);
        client.subscribe(1, &[(&longest, QoS::AtMostOnce)]);
        client.send(&longest, b"x", (QoS::AtMostOnce, 0));
        assert!(client.next().topic == longest, "{version:?}");
    }
    assert!(Topic::new(&"x".repeat(65_536)).is_err());
    assert!(Filter::new(&"x".repeat(65_536)).is_err());
}

#[test]
fn a_client_beyond_the_receive_maximum_that_it_was_granted_is_dismissed() {
    let house = House::start(1, Limits { receive_maximum: 2, max_awaiting_rel: 100, ..Limits::default() });
    let mut client = Plain::enter(&house, "c", Version::V5, true);
    for packet_id in 1..=3 {
        client.send("a", b"x", (QoS::ExactlyOnce, packet_id));
    }
    assert_eq!((client.expect(5)[..2].to_vec(), client.expect(5)[..2].to_vec()), (vec![0, 1], vec![0, 2]));
    assert_eq!(client.farewell(), 0x93);
}

#[test]
fn aliases_of_both_directions_end_with_their_connection() {
    let house = House::start(1, Limits::default());
    let raw = [number(id::SESSION_EXPIRY_INTERVAL, 600), number(id::TOPIC_ALIAS_MAXIMUM, 10)].concat();
    let topic = "a/topic/of/some/length";
    let alias = number(id::TOPIC_ALIAS, 1);
    let mut client = Plain::enter_with(&house, "c", &raw);
    client.subscribe(1, &[(topic, QoS::AtMostOnce)]);
    for topic in [topic, "", ""] {
        client.send_publish(topic, b"x", (QoS::AtMostOnce, 0), (false, &alias));
    }
    let topics: Vec<String> = client.so_far().into_iter().map(|got| got.topic).collect();
    assert_eq!(topics, [topic, topic, ""], "by name, by name and alias, by alias");
    drop(client);
    let mut wire = Wire::connect_with(&house.address(), "c", Version::V5, false, &raw);
    assert_eq!(wire.read().expect("CONNACK")[2], 1, "the session is there");
    let mut client = Plain { wire, version: Version::V5 };
    client.send(topic, b"x", (QoS::AtMostOnce, 0));
    assert_eq!(client.so_far()[0].topic, topic, "by name");
    client.send_publish("", b"x", (QoS::AtMostOnce, 0), (false, &alias));
    assert_eq!(client.farewell(), 0x82);
}

#[test]
fn what_waited_or_was_open_and_is_too_long_for_the_client_that_returns_is_settled() {
    let house = House::start(1, Limits::default());
    let expiry = number(id::SESSION_EXPIRY_INTERVAL, 600);
    let narrow = [number(id::MAXIMUM_PACKET_SIZE, 60), number(id::RECEIVE_MAXIMUM, 1), expiry].concat();
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let mut client = Plain::enter(&house, "c", Version::V5, true);
        client.subscribe(1, &[("a", qos)]);
        client.send("a", &[0; 100], (qos, 1));
        assert_eq!(client.next().payload.len(), 100, "open");
        drop(client);
        house::until("it is away", || house.count("connections.count") == 0);
        let mut publisher = Plain::enter(&house, "p", Version::V5, true);
        for (payload, packet_id) in [(&[0; 100][..], 1), (b"small", 2), (&[0; 100], 3), (b"last", 4)] {
            publisher.send("a", payload, (qos, packet_id));
        }
        publisher.so_far();
        drop(publisher);
        let mut wire = Wire::connect_with(&house.address(), "c", Version::V5, false, &narrow);
        assert_eq!(wire.read().expect("CONNACK")[2], 1, "the session is there");
        let mut client = Plain { wire, version: Version::V5 };
        for expected in [&b"small"[..], b"last"] {
            let delivered = client.next();
            assert_eq!(delivered.payload, expected, "{qos:?}");
            client.wire.send(&match qos {
                QoS::ExactlyOnce => Packet::PubRec(Ack::new(delivered.packet_id, SUCCESS)),
                _ => Packet::PubAck(Ack::new(delivered.packet_id, SUCCESS)),
            });
            client.wire.send(&Packet::PubComp(Ack::new(delivered.packet_id, SUCCESS)));
        }
        assert_eq!(client.so_far(), []);
        drop(client);
        house::until("it is gone", || house.count("connections.count") == 0);
    }
}

#[test]
fn a_refused_message_frees_its_place_in_the_window_and_is_never_sent_again() {
    let house = House::start(1, Limits::default());
    let raw = [number(id::SESSION_EXPIRY_INTERVAL, 600), number(id::RECEIVE_MAXIMUM, 1)].concat();
    let mut client = Plain::enter_with(&house, "c", &raw);
    client.subscribe(1, &[("a", QoS::ExactlyOnce)]);
    for (packet_id, qos) in [(1, QoS::AtLeastOnce), (2, QoS::ExactlyOnce), (3, QoS::AtLeastOnce)] {
        client.send("a", &[packet_id as u8], (qos, packet_id));
    }
    let first = client.next();
    client.wire.send(&Packet::PubAck(Ack::new(first.packet_id, ReasonCode::NOT_AUTHORIZED)));
    let second = client.next();
    client.wire.send(&Packet::PubRec(Ack::new(second.packet_id, ReasonCode::QUOTA_EXCEEDED)));
    // No PUBREL comes for what was refused; the next message does.
    let third = client.wire.read_type(3).map(|bytes| got(&bytes, Version::V5)).expect("a PUBLISH");
    assert_eq!((first.payload, second.payload, &third.payload), (vec![1], vec![2], &vec![3]));
    drop(client);
    let mut client = Plain::enter(&house, "c", Version::V5, false);
    assert_eq!(client.payloads_so_far(), [[3]]);
}

#[test]
fn a_qos_2_exchange_goes_on_though_the_message_has_expired() {
    let house = House::start(1, Limits::default());
    let mut away = Plain::enter(&house, "away", Version::V5, true);
    away.subscribe(1, &[("a", QoS::ExactlyOnce)]);
    drop(away);
    house::until("it is away", || house.count("connections.count") == 0);
    let mut client = Plain::enter(&house, "c", Version::V5, true);
    // Expired as soon as it is there.
    client.send_publish("a", b"x", (QoS::ExactlyOnce, 7), (false, &number(id::MESSAGE_EXPIRY_INTERVAL, 0)));
    assert_eq!(client.expect(5), [0, 7]);
    let mut away = Plain::enter(&house, "away", Version::V5, false);
    assert_eq!(away.so_far(), []);
    house.until_count("delivery.dropped.expired", 1);
    client.wire.send(&Packet::PubRel(Ack::new(7, SUCCESS)));
    assert_eq!(client.expect(7), [0, 7]);
}

// Shared subscriptions.

#[test]
fn a_member_of_a_group_gets_its_messages_with_the_qos_it_was_granted() {
    let house = House::start(1, Limits { max_qos_allowed: 1, ..Limits::default() });
    for (asked, granted) in [(QoS::AtMostOnce, 0), (QoS::AtLeastOnce, 1), (QoS::ExactlyOnce, 1)] {
        let mut member = Plain::enter(&house, "c", Version::V5, true);
        assert_eq!(member.subscribe(1, &[("$share/g/a", asked)]), [0, 1, 0, granted]);
        member.send("a", b"x", (QoS::AtLeastOnce, 1));
        assert_eq!(member.next().qos as u8, granted);
    }
}

#[test]
fn a_qos_2_message_of_a_group_is_completed_with_the_member_that_was_sent_it_first() {
    let house = House::start(1, Limits::default());
    for releases in [false, true] {
        let mut member = Plain::enter(&house, "first", Version::V5, true);
        member.subscribe(1, &[("$share/g/a", QoS::ExactlyOnce)]);
        member.send("a", b"x", (QoS::ExactlyOnce, 1));
        let sent = member.next();
        if releases {
            member.wire.send(&Packet::PubRec(Ack::new(sent.packet_id, SUCCESS)));
            member.wire.read_type(6).expect("PUBREL");
        }
        let mut other = Plain::enter(&house, "other", Version::V5, true);
        other.subscribe(1, &[("$share/g/a", QoS::ExactlyOnce)]);
        drop(member);
        house::until("it is away", || house.count("connections.count") == 1);
        let mut member = Plain::enter(&house, "first", Version::V5, false);
        let bytes = member.wire.read().expect("what is open");
        match releases {
            true => assert_eq!(bytes, [0x62, 2, 0, sent.packet_id as u8]),
            false => assert_eq!(got(&bytes, Version::V5), Got { dup: true, ..sent }),
        }
        assert_eq!(other.so_far(), []);
    }
}

#[test]
fn a_message_that_a_member_of_a_group_refuses_goes_to_nobody_else() {
    let house = House::start(1, Limits::default());
    for (qos, is_qos_2) in [(QoS::AtLeastOnce, false), (QoS::ExactlyOnce, true)] {
        let mut member = Plain::enter(&house, "first", Version::V5, true);
        member.subscribe(1, &[("$share/g/a", QoS::ExactlyOnce)]);
        member.send("a", b"x", (qos, 1));
        let refusal = Ack::new(member.next().packet_id, ReasonCode::UNSPECIFIED_ERROR);
        let mut other = Plain::enter(&house, "other", Version::V5, true);
        other.subscribe(1, &[("$share/g/a", QoS::ExactlyOnce)]);
        member.wire.send(&if is_qos_2 { Packet::PubRec(refusal) } else { Packet::PubAck(refusal) });
        assert_eq!(member.so_far(), []);
        let (reason, properties) = (SUCCESS, Properties::default());
        member.wire.send(&Packet::Disconnect(Disconnect { reason, properties }));
        assert_eq!(member.wire.read_type(14), None);
        assert!(house.count("whimbrel.shared.moved") == 0);
        assert_eq!(other.so_far(), []);
        let mut member = Plain::enter(&house, "first", Version::V5, false);
        assert_eq!(member.so_far(), []);
    }
}

// Matching.

#[test]
fn topics_are_compared_as_they_are_and_those_with_a_dollar_are_hidden_from_leading_wildcards() {
    let house = House::start(1, Limits::default());
    let mut publisher = Plain::enter(&house, "p", Version::V5, true);
    let composed_and_not = ["caf\u{e9}", "cafe\u{301}"];
    let topics = ["$own/x", "a/b", "A/b", "a//b", "/a/b", "a/b/", " a/b", composed_and_not[0], composed_and_not[1]];
    let table: [(&str, &[&str]); 12] = [
        ("#", &topics[1..]),
        ("+/x", &[]),
        ("+/+", &["a/b", "A/b", " a/b"]),
        ("$own/#", &["$own/x"]),
        ("$own/+", &["$own/x"]),
        ("a/b", &["a/b"]),
        ("a/b/#", &["a/b", "a/b/"]),
        ("a/b/+", &["a/b/"]),
        ("/+/b", &["/a/b"]),
        ("a/+/b", &["a//b"]),
        (composed_and_not[0], &[composed_and_not[0]]),
        (composed_and_not[1], &[composed_and_not[1]]),
    ];
    for prefix in ["", "$share/g/", "$queue/"] {
        for (filter, expected) in table {
            let mut client = Plain::enter(&house, "c", Version::V5, true);
            client.subscribe(1, &[(&format!("{prefix}{filter}"), QoS::AtMostOnce)]);
            for topic in topics {
                publisher.send_publish(topic, b"x", (QoS::AtMostOnce, 0), (false, b""));
            }
            publisher.so_far();
            let found: Vec<String> = client.so_far().into_iter().map(|got| got.topic).collect();
            assert_eq!(found, expected, "{prefix}{filter}");
        }
    }
    // Retained messages are looked for on another way.
    for topic in topics {
        publisher.send_publish(topic, b"x", (QoS::AtMostOnce, 0), (true, b""));
    }
    publisher.so_far();
    for (filter, expected) in table {
        let mut client = Plain::enter(&house, "c", Version::V5, true);
        client.subscribe(1, &[(filter, QoS::AtMostOnce)]);
        let mut found: Vec<String> = client.so_far().into_iter().map(|got| got.topic).collect();
        let mut expected = expected.to_vec();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "retained, {filter}");
    }
}
