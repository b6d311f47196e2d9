//! The limits of a zone and a listener, as clients meet them on the wire.
//!
//! Knows what a client is told and what it gets. Times are lower bounds only: a busy machine is later, never earlier.

mod house;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use house::{House, PATIENCE, Wire, loopback, until};
use whimbrel_protocol::encode::encode;
use whimbrel_protocol::packet::{Ack, Connect, Disconnect, Packet, Publish};
use whimbrel_protocol::properties::{Properties, Value, id, put_property};
use whimbrel_protocol::session::QueueRules;
use whimbrel_protocol::{Limits, QoS, ReasonCode, Topic, Version};
use whimbrel_server::client::{Client, ClientOptions};
use whimbrel_server::{Event, Flapping, ListenerKind, ListenerOptions};

fn subscriber(house: &House, filter: &str, qos: QoS) -> Client {
    let mut client = house.client("subscriber", Version::V5);
    client.subscribe(&[filter.into()], qos).unwrap();
    client
}

/// CONNECT, then `count` messages of QoS 0 with their numbers in front of `size` bytes, in one piece.
fn burst(count: u32, size: usize) -> Vec<u8> {
    let connect = Connect {
        version: Version::V311,
        clean_start: true,
        keep_alive_s: 0,
        client_id: "fast",
        will: None,
        username: None,
        password: None,
        properties: Properties::default(),
    };
    let mut bytes = Vec::new();
    encode(&mut bytes, Version::V311, &Packet::Connect(Box::new(connect)));
    for number in 0..count {
        let mut payload = vec![0; size.max(4)];
        payload[..4].copy_from_slice(&number.to_be_bytes());
        let (topic, properties) = (Some(Topic::new("fast").unwrap()), Properties::default());
        let publish = Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: false,
            topic,
            packet_id: 0,
            properties,
            payload: &payload,
        };
        encode(&mut bytes, Version::V311, &Packet::Publish(publish));
    }
    bytes
}

fn assert_all_arrive(subscriber: &mut Client, count: u32) {
    for number in 0..count {
        let message = subscriber.receive(PATIENCE).unwrap().expect("nothing of a paced client is dropped");
        assert_eq!(message.payload()[..4], number.to_be_bytes());
    }
}

#[test]
fn a_client_that_publishes_faster_than_its_rate_waits_and_loses_nothing() {
    let house = House::start(1, Limits { max_publish_rate: 100, ..Limits::default() });
    let mut subscriber = subscriber(&house, "fast", QoS::AtMostOnce);
    let mut stream = TcpStream::connect(house.address()).unwrap();
    let begin = Instant::now();
    stream.write_all(&burst(150, 4)).unwrap();
    assert_all_arrive(&mut subscriber, 150);
    // One second's worth at once, the other 50 at 100 a second.
    assert!(begin.elapsed() >= Duration::from_millis(490), "{:?}", begin.elapsed());
    assert!(house.count("whimbrel.connections.paced") > 0);
    assert_eq!(house.count("connections.count"), 2);
}

#[test]
fn a_client_that_sends_more_bytes_than_its_rate_waits_and_loses_nothing() {
    let house = House::start(2, Limits { max_bytes_rate: 200_000, ..Limits::default() });
    let mut subscriber = subscriber(&house, "fast", QoS::AtMostOnce);
    let mut stream = TcpStream::connect(house.address()).unwrap();
    let begin = Instant::now();
    // Packets large enough to be gathered in a buffer of their own.
    stream.write_all(&burst(6, 50_000)).unwrap();
    assert_all_arrive(&mut subscriber, 6);
    assert!(begin.elapsed() >= Duration::from_millis(490), "{:?}", begin.elapsed());
    assert!(house.count("whimbrel.connections.paced") > 0);
}

#[test]
fn what_a_paced_client_sent_before_it_left_still_arrives() {
    let path = std::env::temp_dir().join(format!("whimbrel-paced-{}.sock", std::process::id()));
    let kind = ListenerKind::Unix { path: path.clone() };
    let limits = Limits { max_publish_rate: 50, ..Limits::default() };
    let house = House::start_with(1, limits, ListenerOptions { kind, ..loopback() });
    let mut subscriber = Client::connect(ClientOptions {
        address: format!("unix:{}", path.display()),
        client_id: "subscriber".into(),
        username: None,
        password: None,
        version: Version::V5,
        keep_alive_s: 0,
        timeout: PATIENCE,
    })
    .unwrap_or_else(|error| panic!("{error}"));
    subscriber.subscribe(&["fast".into()], QoS::AtMostOnce).unwrap();
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(&burst(80, 4)).unwrap();
    stream.read_exact(&mut [0; 4]).unwrap(); // A socket that is closed with CONNACK unread would be reset.
    drop(stream);
    assert_all_arrive(&mut subscriber, 80);
    house.until_count("connections.count", 1);
}

#[test]
fn an_mqtt_3_client_is_sent_again_what_it_leaves_unanswered() {
    let house = House::start(1, Limits { retry_interval_ms: 50, ..Limits::default() });
    let mut deaf = Wire::connect(&house.address(), "deaf", Version::V311, true);
    deaf.read_type(2).unwrap();
    deaf.subscribe("t", QoS::ExactlyOnce);
    deaf.read_type(9).unwrap();
    house.client("p", Version::V311).publish("t", b"1", QoS::ExactlyOnce, false).unwrap();
    assert_eq!(deaf.read().unwrap()[0], 0x34);
    for _ in 0..2 {
        assert_eq!(deaf.read().unwrap()[0], 0x3C, "the same message with DUP");
    }
    deaf.send(&Packet::PubRec(Ack::new(1, ReasonCode::SUCCESS)));
    deaf.read_type(6).unwrap();
    assert_eq!(deaf.read().unwrap(), [0x62, 2, 0, 1], "PUBREL again");
    deaf.send(&Packet::PubComp(Ack::new(1, ReasonCode::SUCCESS)));
    assert!(deaf.is_alive());
    assert!(house.count("whimbrel.delivery.retried") >= 3);
    assert_eq!(house.count("messages.delivered"), 1);
}

#[test]
fn an_mqtt_5_client_is_never_sent_anything_twice_on_one_connection() {
    let house = House::start(1, Limits { retry_interval_ms: 10, ..Limits::default() });
    let mut deaf = Wire::connect(&house.address(), "deaf", Version::V5, true);
    deaf.subscribe("t", QoS::AtLeastOnce);
    deaf.read_type(9).unwrap();
    let mut other = Wire::connect(&house.address(), "other", Version::V311, true);
    other.subscribe("t", QoS::AtLeastOnce);
    other.read_type(9).unwrap();
    house.client("p", Version::V5).publish("t", b"1", QoS::AtLeastOnce, false).unwrap();
    until("the MQTT 3.1.1 client was sent it again", || house.count("whimbrel.delivery.retried") >= 3);
    let publishes = deaf.read_waiting().into_iter().filter(|frame| frame[0] >> 4 == 3);
    assert_eq!(publishes.count(), 1);
}

#[test]
fn a_qos_2_identifier_without_pubrel_is_freed_after_its_time_and_counted() {
    for version in [Version::V311, Version::V5] {
        let house = House::start(1, Limits { await_rel_timeout_s: 1, ..Limits::default() });
        let mut wire = Wire::connect(&house.address(), "c", version, true);
        let (topic, properties) = (Some(Topic::new("t").unwrap()), Properties::default());
        let (qos, packet_id, payload) = (QoS::ExactlyOnce, 7, &b"1"[..]);
        let begin = Instant::now();
        wire.send(&Packet::Publish(Publish { dup: false, qos, retain: false, topic, packet_id, properties, payload }));
        wire.read_type(5).unwrap();
        house.until_count("messages.dropped.await_pubrel_timeout", 1);
        assert!(begin.elapsed() >= Duration::from_secs(1));
        assert_eq!(house.count("messages.qos2.expired"), 1);
        wire.send(&Packet::PubRel(Ack::new(7, ReasonCode::SUCCESS)));
        wire.read_type(7).unwrap();
        house.until_count("packets.pubrel.missed", 1);
    }
}

/// The Session Expiry Interval of a CONNACK, which here comes first where there is one.
fn told_expiry(connack: &[u8]) -> Option<&[u8]> {
    (connack[5] == 0x11).then(|| &connack[6..10])
}

#[test]
fn beyond_the_sessions_that_may_be_kept_nobody_is_promised_one() {
    for workers in [1, 3] {
        let house = House::start(workers, Limits { max_sessions: 2, ..Limits::default() });
        let mut kept: Vec<Wire> = ["a", "b"].map(|id| Wire::connect(&house.address(), id, Version::V5, true)).into();
        for wire in &mut kept {
            assert_eq!(told_expiry(&wire.read().unwrap()), None);
        }
        drop(kept);
        house.until_count("connections.count", 0);
        assert_eq!(house.count("sessions.count"), 2);

        let mut third = Wire::connect(&house.address(), "c", Version::V5, true);
        let connack = third.read().unwrap();
        assert_eq!((connack[3], told_expiry(&connack)), (0, Some(&[0, 0, 0, 0][..])));
        let mut old = Wire::connect(&house.address(), "d", Version::V311, false);
        assert_eq!(old.read().unwrap(), [0x20, 2, 0, 3], "what cannot be told is refused");
        house.until_count("whimbrel.sessions.refused", 2);
        drop((third, old));
        house.until_count("sessions.count", 2);

        // Who has a session keeps it, in either version, and one that ends makes room.
        let mut back = Wire::connect(&house.address(), "a", Version::V311, false);
        assert_eq!(back.read().unwrap(), [0x20, 2, 1, 0]);
        let mut anew = Wire::connect(&house.address(), "a", Version::V311, true);
        assert_eq!(anew.read().unwrap(), [0x20, 2, 0, 0]);
        let mut next = Wire::connect(&house.address(), "d", Version::V311, false);
        assert_eq!(next.read().unwrap(), [0x20, 2, 0, 0]);
        let mut too_many = Wire::connect(&house.address(), "e", Version::V311, false);
        assert_eq!(too_many.read().unwrap(), [0x20, 2, 0, 3]);
    }
}

#[test]
fn a_client_that_was_granted_no_session_may_still_name_one_in_its_goodbye() {
    let capped = Limits { session_expiry_max_s: 0, ..Limits::default() };
    let full = Limits { max_sessions: 0, ..Limits::default() };
    for limits in [capped, full] {
        let house = House::start(1, limits);
        for (asked_s, reason) in [(600, None), (0, Some(0x82))] {
            let mut raw = Vec::new();
            put_property(&mut raw, id::SESSION_EXPIRY_INTERVAL, Value::Number(asked_s));
            let mut wire = Wire::connect_with(&house.address(), "c", Version::V5, true, &raw);
            wire.read().unwrap();
            raw.clear();
            put_property(&mut raw, id::SESSION_EXPIRY_INTERVAL, Value::Number(600));
            let properties = Properties::trusted(&raw);
            wire.send(&Packet::Disconnect(Disconnect { reason: ReasonCode::SUCCESS, properties }));
            // Only who asked for none in CONNECT must not ask for one now (section 3.14.2.2.2).
            assert_eq!(wire.read().map(|farewell| farewell[2]), reason);
            house.until_count("sessions.count", 0);
        }
    }
}

#[test]
fn connections_above_a_listener_s_rate_wait_and_all_are_served() {
    for workers in [1, 3] {
        let listener = ListenerOptions { max_conn_rate: 20, ..loopback() };
        let house = House::start_with(workers, Limits::default(), listener);
        let begin = Instant::now();
        let connect = |number: u32| Wire::connect(&house.address(), &format!("c{number}"), Version::V311, true);
        let mut wires: Vec<Wire> = (0..30).map(connect).collect();
        for wire in &mut wires {
            assert_eq!(wire.read().unwrap(), [0x20, 2, 0, 0]);
        }
        // A burst of 20, the others at 20 a second.
        assert!(begin.elapsed() >= Duration::from_millis(490), "{:?}", begin.elapsed());
        assert!(house.count("whimbrel.listeners.rested") > 0);
        assert_eq!(house.count("whimbrel.listeners.refused"), 0);
    }
}

#[test]
fn a_zone_without_wildcards_says_so_in_connack_and_in_suback() {
    let house = House::start(1, Limits { is_wildcard_available: false, ..Limits::default() });
    for (version, refused) in [(Version::V5, 0xA2), (Version::V311, 0x80)] {
        let mut wire = Wire::connect(&house.address(), "c", version, true);
        let connack = wire.read().unwrap();
        assert_eq!(connack.windows(2).any(|pair| pair == [0x28, 0]), version == Version::V5);
        for (filter, code) in [("a/#", refused), ("+/b", refused), ("a/b", 1)] {
            wire.subscribe(filter, QoS::AtLeastOnce);
            assert_eq!(wire.read_type(9).unwrap().last(), Some(&code), "{filter}");
        }
        assert!(wire.is_alive());
    }
    assert_eq!(house.count("packets.subscribe.error"), 4);
}

const BUDGET: u32 = 200_000;

fn budgeted() -> House {
    let queue_rules = Some(Arc::new(QueueRules { max_bytes: BUDGET as usize, ..QueueRules::default() }));
    House::start(
        1,
        Limits { force_shutdown_bytes: BUDGET, queue_rules, max_outbox_bytes: 100_000, ..Limits::default() },
    )
}

#[test]
fn a_client_whose_queue_outgrows_its_budget_is_disconnected_and_the_queue_stays_in_bounds() {
    let mut house = budgeted();
    let mut slow = Wire::connect(&house.address(), "slow", Version::V5, true);
    slow.subscribe("t", QoS::AtLeastOnce);
    slow.read_type(9).unwrap();
    let mut publisher = house.client("p", Version::V5);
    // Its window takes 32, the rest waits.
    while house.count("whimbrel.clients.shut_down") == 0 {
        publisher.publish("t", &[0; 5_000], QoS::AtLeastOnce, false).unwrap();
        assert!(house.count("messages.publish") < 200);
    }
    let farewell = std::iter::from_fn(|| slow.read()).last().unwrap();
    assert_eq!((farewell[0], farewell[2]), (0xE0, 0x97));
    assert!(house.count("delivery.dropped.queue_full") <= 1, "while it was connected, nothing was dropped");
    (0..100).for_each(|_| publisher.publish("t", &[0; 5_000], QoS::AtLeastOnce, false).unwrap());
    assert!(house.count("delivery.dropped.queue_full") > 0);
    let kept = house.clients(10).into_iter().find(|record| &*record.client_id == "slow").unwrap();
    assert!((30..40).contains(&kept.mqueue_len), "{kept:?}");
}

#[test]
fn a_packet_and_aliases_that_outgrow_the_budget_end_the_connection() {
    let house = budgeted();
    let mut half = Wire::connect(&house.address(), "half", Version::V311, true);
    half.read_type(2).unwrap();
    half.stream.write_all(&[0x30, 0x80, 0x80, 0x20]).unwrap(); // 512 KiB are to come.
    let _ = half.stream.write_all(&[0; 250_000]);
    assert_eq!(half.read(), None);
    house.until_count("whimbrel.clients.shut_down", 1);

    let mut named = Wire::connect(&house.address(), "named", Version::V5, true);
    named.read_type(2).unwrap();
    let topic = "t".repeat(50_000);
    for alias in 1..=5 {
        let mut raw = Vec::new();
        put_property(&mut raw, id::TOPIC_ALIAS, Value::Number(alias));
        let (topic, properties) = (Some(Topic::new(&topic).unwrap()), Properties::trusted(&raw));
        let (qos, packet_id, payload) = (QoS::AtMostOnce, 0, &b""[..]);
        named.send(&Packet::Publish(Publish { dup: false, qos, retain: false, topic, packet_id, properties, payload }));
    }
    let farewell = named.read().unwrap();
    assert_eq!((farewell[0], farewell[2]), (0xE0, 0x97));
    house.until_count("whimbrel.clients.shut_down", 2);
}

#[test]
fn a_client_that_comes_and_goes_too_often_is_refused_and_the_log_says_so() {
    let rule = Flapping { max_count: 3, window_ms: 60_000, ban_ms: 60_000 };
    let mut house = House::start_watching(2, Limits::default(), loopback(), Some(rule));
    for round in 1..=3 {
        drop(house.client("nervous", Version::V5));
        house.until_count("client.disconnected", round);
    }
    for (version, code) in [(Version::V5, 0x8A), (Version::V311, 5)] {
        let mut wire = Wire::connect(&house.address(), "nervous", version, true);
        assert_eq!(wire.read().unwrap()[3], code);
        assert_eq!(wire.read(), None);
    }
    house.client("calm", Version::V5);
    house.until_count("whimbrel.flapping.refused", 2);
    assert_eq!(house.count("whimbrel.flapping.banned"), 1);
    house.wait_for("log line", |event| match event {
        Event::Log { level: 30, text } => text.contains("\"nervous\"").then_some(()),
        _ => None,
    });
}

/// How many messages wait for `client_id`, which is away, after `count` more were published.
fn waiting_after(house: &mut House, client_id: &str, count: u32) -> usize {
    let mut publisher = house.client("p", Version::V5);
    (0..count).for_each(|_| publisher.publish("t", b"1", QoS::AtLeastOnce, false).unwrap());
    let records = house.clients(10);
    records.iter().find(|record| &*record.client_id == client_id).map_or(0, |record| record.mqueue_len)
}

#[test]
fn a_session_that_was_kept_goes_by_the_limits_of_its_last_connection() {
    let mut house = House::start(1, Limits { max_mqueue_len: 2, ..Limits::default() });
    let mut wire = Wire::connect(&house.address(), "c", Version::V5, true);
    wire.subscribe("t", QoS::AtLeastOnce);
    wire.read_type(9).unwrap();
    drop(wire);
    house.until_count("connections.count", 0);
    assert_eq!(waiting_after(&mut house, "c", 5), 2);

    house.broker.reload(&[Limits { max_mqueue_len: 4, ..Limits::default() }], 5_000);
    let mut back = Wire::connect(&house.address(), "c", Version::V5, false);
    (0..2).for_each(|_| drop(back.read_type(3).unwrap()));
    for packet_id in [1, 2] {
        back.send(&Packet::PubAck(Ack::new(packet_id, ReasonCode::SUCCESS)));
    }
    assert!(back.is_alive());
    drop(back);
    house.until_count("client.disconnected", 3);
    assert_eq!(waiting_after(&mut house, "c", 9), 4);
}

#[test]
fn the_stop_of_the_broker_is_no_client_s_coming_and_going() {
    let flapping = Flapping { max_count: 2, window_ms: 60_000, ban_ms: 60_000 };
    let mut house = House::start_watching(1, Limits::default(), loopback(), Some(flapping));
    let mut first = house.client("c", Version::V5);
    first.disconnect().unwrap();
    house.until_count("client.disconnected", 1);
    let _second = house.client("c", Version::V5);
    house.broker.stop(1_000);
    house.wait_for("end", |event| matches!(event, Event::Stopped).then_some(()));
    assert_eq!(house.count("whimbrel.flapping.banned"), 0);
}

#[test]
fn a_burst_to_a_client_that_reads_is_not_dropped_for_a_small_outbox() {
    let house = House::start(1, Limits { max_outbox_bytes: 64 * 1024, ..Limits::default() });
    let mut subscriber = subscriber(&house, "fast", QoS::AtMostOnce);
    let mut publisher = TcpStream::connect(house.address()).unwrap();
    // As much as one turn of the worker reads.
    publisher.write_all(&burst(200, 1_000)).unwrap();
    house.until_count("messages.received", 200);
    assert_eq!(house.count("delivery.dropped"), 0);
    assert_all_arrive(&mut subscriber, 200);
}
