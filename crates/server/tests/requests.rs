//! What the front of the data plane asks of its workers: pages of clients, kicks, taps, an orderly end.
//!
//! Knows calls and the events that answer them, with one worker and with several.

mod house;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use house::{House, PATIENCE, Wire, loopback, until};
use whimbrel_protocol::{Limits, Message, QoS, ReasonCode, Version};
use whimbrel_server::client::{Client, ClientError};
use whimbrel_server::{Backlog, Event, ListenerKind, ListenerOptions};

const WORKERS: [u16; 2] = [1, 4];

/// How the broker ends a client's connection.
fn farewell(client: &mut Client) -> Option<ReasonCode> {
    match client.receive(PATIENCE) {
        Err(ClientError::Refused(reason)) => Some(reason),
        Err(ClientError::Closed) => None,
        Err(error) => panic!("an end of another kind: {error}"),
        Ok(message) => panic!("{message:?} instead of an end"),
    }
}

// Pages of clients.

#[test]
fn pages_of_any_size_cover_every_client_exactly_once() {
    for workers in WORKERS {
        let mut house = House::start(workers, Limits::default());
        let connected: Vec<Client> = (0..60).map(|number| house.client(&format!("c{number}"), Version::V5)).collect();
        let expected: BTreeSet<String> = (0..60).map(|number| format!("c{number}")).collect();
        for limit in [1, 7, 60, 1000] {
            let records = house.clients(limit);
            let ids: BTreeSet<String> = records.iter().map(|record| record.client_id.to_string()).collect();
            assert_eq!((records.len(), &ids), (60, &expected), "in pages of {limit} from {workers} workers");
        }
        drop(connected);
        until("all are gone", || house.count("sessions.count") == 0);
        assert!(house.clients(10).is_empty());
    }
}

#[test]
fn a_cursor_behind_the_last_worker_names_an_empty_last_page() {
    let mut house = House::start(1, Limits::default());
    house.broker.request_clients(99, 7 << 32, 10);
    let page = house.wait_for("page", |event| match event {
        Event::ClientPage { ticket: 99, records, next_cursor } => Some((records.len(), *next_cursor)),
        _ => None,
    });
    assert_eq!(page, (0, None));
}

#[test]
fn a_client_that_is_away_stays_on_the_pages_while_its_session_lives() {
    let mut house = House::start(4, Limits::default());
    let mut wire = Wire::connect(&house.address(), "away", Version::V5, true);
    wire.read_type(2).unwrap();
    drop(wire);
    house.until_count("client.disconnected", 1);
    let records = house.clients(10);
    assert_eq!(records.len(), 1);
    assert_eq!((&*records[0].client_id, records[0].is_connected), ("away", false));
    assert!(records[0].disconnected_at_ms >= records[0].connected_at_ms);
}

// Kicks.

#[test]
fn a_kicked_client_is_told_and_its_session_ends() {
    for workers in WORKERS {
        let mut house = House::start(workers, Limits::default());
        let mut modern = house.client("modern", Version::V5);
        let mut old = house.client("old", Version::V311);
        assert!(house.kick("modern"));
        assert!(house.kick("old"));
        assert_eq!(farewell(&mut modern), Some(ReasonCode::ADMINISTRATIVE_ACTION));
        assert_eq!(farewell(&mut old), None);
        house.until_count("sessions.count", 0);
        assert!(!house.kick("modern"));
        assert!(!house.kick("never seen"));
    }
}

#[test]
fn a_kick_ends_the_session_of_a_client_that_is_away() {
    let mut house = House::start(4, Limits::default());
    let mut wire = Wire::connect(&house.address(), "away", Version::V5, true);
    wire.subscribe("a", QoS::AtLeastOnce);
    wire.read_type(9).unwrap();
    drop(wire);
    house.until_count("client.disconnected", 1);
    assert_eq!(house.count("subscriptions.count"), 1);
    assert!(house.kick("away"));
    house.until_count("subscriptions.count", 0);
    assert_eq!((house.count("sessions.count"), house.count("topics.count")), (0, 0));
}

// Taps.

fn batches(events: Vec<Event>) -> (Vec<Arc<Message>>, u64) {
    let (mut rows, mut lost) = (Vec::new(), 0);
    for event in events {
        if let Event::TapBatch { messages, dropped, .. } = event {
            rows.extend(messages);
            lost += dropped;
        }
    }
    (rows, lost)
}

fn payloads(messages: &[Arc<Message>]) -> Vec<u8> {
    messages.iter().map(|message| message.payload()[0]).collect()
}

#[test]
fn a_tap_holds_its_capacity_and_says_how_many_it_lost() {
    for workers in WORKERS {
        let mut house = House::start(workers, Limits::default());
        house.broker.open_tap(vec!["a/#".into()], 10).unwrap();
        let mut publisher = house.client("p", Version::V5);
        for number in 0..25 {
            publisher.publish("a/b", &[number], QoS::AtLeastOnce, false).unwrap();
        }
        house.until_count("whimbrel.taps.dropped", 15);
        let (rows, lost_before) = batches(house.drain());
        assert_eq!(payloads(&rows), (0..10).collect::<Vec<u8>>());
        publisher.publish("a/b", &[99], QoS::AtLeastOnce, false).unwrap();
        let (row, lost) = house.wait_for("batch", |event| match event {
            Event::TapBatch { messages, dropped, .. } => Some((messages[0].payload()[0], *dropped)),
            _ => None,
        });
        assert_eq!((row, lost_before + lost), (99, 15));
    }
}

#[test]
fn a_tap_that_is_closed_gets_nothing_more_and_leaves_no_filter() {
    let mut house = House::start(1, Limits::default());
    let tap = house.broker.open_tap(vec!["a".into(), "b".into()], 10).unwrap();
    assert_eq!(house.count("topics.count"), 2);
    house.broker.close_tap(tap);
    house.broker.close_tap(tap);
    assert_eq!(house.count("topics.count"), 0);
    let mut publisher = house.client("p", Version::V5);
    publisher.publish("a", b"x", QoS::AtLeastOnce, false).unwrap();
    house.until_count("messages.dropped.no_subscribers", 1);
    assert!(batches(house.drain()).0.is_empty());
}

#[test]
fn a_tap_on_an_invalid_filter_is_not_opened() {
    let house = House::start(1, Limits::default());
    let refused = house.broker.open_tap(vec!["a".into(), "b#".into()], 10).unwrap_err();
    assert_eq!(refused.reason, ReasonCode::TOPIC_FILTER_INVALID);
    assert_eq!(house.count("topics.count"), 0);
}

// The end.

#[test]
fn stop_tells_every_client_that_can_be_told_and_ends_with_stopped() {
    for workers in WORKERS {
        let mut house = House::start(workers, Limits::default());
        let mut modern: Vec<Client> = (0..20).map(|number| house.client(&format!("m{number}"), Version::V5)).collect();
        let mut old = house.client("old", Version::V311);
        house.broker.stop(5_000);
        for client in &mut modern {
            assert_eq!(farewell(client), Some(ReasonCode::SERVER_SHUTTING_DOWN));
        }
        assert_eq!(farewell(&mut old), None);
        house.wait_for("end", |event| matches!(event, Event::Stopped).then_some(()));
        house.broker.join();
        assert!(house.drain().is_empty(), "something came behind `Stopped`");
        assert_eq!(house.count("connections.count"), 0);
    }
}

#[test]
fn stop_does_not_wait_longer_than_its_grace_for_a_client_that_reads_nothing() {
    let mut house = House::start(1, Limits::default());
    let mut deaf = Wire::connect(&house.address(), "deaf", Version::V5, true);
    deaf.subscribe("flood", QoS::AtMostOnce);
    deaf.read_type(9).unwrap();
    let mut publisher = house.client("p", Version::V5);
    let payload = vec![0; 100_000];
    while house.count("delivery.dropped.qos0_msg") == 0 {
        publisher.publish("flood", &payload, QoS::AtLeastOnce, false).unwrap();
    }
    let asked = Instant::now();
    house.broker.stop(300);
    house.wait_for("end", |event| matches!(event, Event::Stopped).then_some(()));
    assert!(asked.elapsed() >= Duration::from_millis(299), "the deaf client was given no time");
    house.broker.join();
}

#[test]
fn a_unix_listener_serves_clients_and_takes_its_file_away() {
    let path = std::env::temp_dir().join(format!("whimbrel-test-{}.sock", std::process::id()));
    let listener = ListenerOptions { kind: ListenerKind::Unix { path: path.clone() }, ..loopback() };
    let house = House::start_with(2, Limits::default(), listener);
    let mut options = whimbrel_server::client::ClientOptions {
        address: format!("unix:{}", path.display()),
        client_id: "c".into(),
        username: None,
        password: None,
        version: Version::V5,
        keep_alive_s: 0,
        timeout: PATIENCE,
    };
    let mut client = Client::connect(options.clone()).unwrap_or_else(|error| panic!("{error}"));
    client.subscribe(&["a".into()], QoS::AtLeastOnce).unwrap();
    options.client_id = "p".into();
    let mut publisher = Client::connect(options).unwrap_or_else(|error| panic!("{error}"));
    publisher.publish("a", b"x", QoS::AtLeastOnce, false).unwrap();
    assert_eq!(client.receive(PATIENCE).unwrap().unwrap().payload(), b"x");
    drop(house);
    assert!(!path.exists());
}

#[test]
fn congested_connections_are_found_by_what_waits_for_them_and_by_nothing_else() {
    let limits = Limits { max_outbox_bytes: 64 * 1024, max_inflight: 1, ..Limits::default() };
    let mut house = House::start(2, limits);
    let mut lines: Vec<Wire> = ["full", "queued", "idle"].map(|name| wire(&house, name)).into_iter().collect();
    for (line, (filter, qos)) in lines.iter_mut().zip([("big", QoS::AtMostOnce), ("small", QoS::AtLeastOnce)]) {
        line.subscribe(filter, qos);
        line.read_type(9).unwrap();
    }
    let backlog = Backlog { bytes: 50 * 1024, messages: 3 };
    assert!(congested(&mut house, backlog).is_empty());
    let mut publisher = house.client("p", Version::V5);
    // As much as its socket takes, and its outbox behind that.
    until("its socket is full", || {
        publisher.publish("big", &vec![0; 60 * 1024], QoS::AtLeastOnce, false).unwrap();
        house.count("delivery.dropped.qos0_msg") > 0
    });
    assert_eq!(congested(&mut house, backlog), ["full"]);
    (0..4).for_each(|_| publisher.publish("small", b"x", QoS::AtLeastOnce, false).unwrap());
    until("they wait", || congested(&mut house, backlog) == ["full", "queued"]);
    drop(lines.remove(0));
    until("it is gone", || congested(&mut house, backlog) == ["queued"]);
}

fn wire(house: &House, client_id: &str) -> Wire {
    Wire::connect_with(&house.address(), client_id, Version::V5, true, &[])
}

/// Their client identifiers, in order.
fn congested(house: &mut House, backlog: Backlog) -> Vec<String> {
    let (mut found, mut cursor) = (Vec::new(), Some(0));
    while let Some(from) = cursor {
        let asked = house.ticket();
        house.broker.request_congested(asked, from, backlog, 1);
        cursor = house.wait_for("page", |event| match event {
            Event::ClientPage { ticket, records, next_cursor } if *ticket == asked => {
                found.extend(records.iter().map(|record| record.client_id.to_string()));
                Some(*next_cursor)
            }
            _ => None,
        });
    }
    found.sort();
    found
}
