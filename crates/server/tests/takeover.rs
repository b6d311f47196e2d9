//! One client identifier, one connection: however many ask for it at the same time, on whatever worker they arrive.
//!
//! Knows what the clients see on the wire, and compares it with the broker's records and counters.

mod house;

use house::{House, Wire};
use whimbrel_protocol::packet::{Ack, Packet};
use whimbrel_protocol::properties::{Value, id, put_property};
use whimbrel_protocol::{Limits, QoS, ReasonCode, Version};

const THREADS: usize = 8;
const ROUNDS: usize = 40;
const IDS: usize = 5;
/// Whether these are the bytes of a DISCONNECT with 0x8E; the reason in words follows.
fn is_taken_over(frame: &[u8]) -> bool {
    frame[0] == 0xE0 && frame[2] == 0x8E
}

/// Connects again and again under all identifiers; every other time with the old session. Keeps every connection.
fn hammer(address: &str, thread: usize) -> Vec<(usize, Wire)> {
    let connect = |round: usize| {
        let number = (thread + round) % IDS;
        let mut wire = Wire::connect(address, &format!("c{number}"), Version::V5, round.is_multiple_of(2));
        let connack = wire.read().expect("every client is let in before it is displaced");
        assert_eq!((connack[0], connack[3]), (0x20, 0));
        (number, wire)
    };
    (0..ROUNDS).map(connect).collect()
}

fn hammered(address: &str) -> Vec<(usize, Wire)> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || hammer(address, thread))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

/// Looks at every connection: it was told and closed, or it lives. Returns how many live under each identifier.
fn living(wires: &mut [(usize, Wire)]) -> [usize; IDS] {
    let mut living = [0; IDS];
    for (number, wire) in wires {
        let is_told = wire.read_waiting().iter().any(|frame| is_taken_over(frame));
        assert_eq!(wire.is_alive(), !is_told, "a connection of c{number} was told {is_told}");
        living[*number] += usize::from(!is_told);
    }
    living
}

fn one_of_many_survives(workers: u16) {
    let mut house = House::start(workers, Limits::default());
    let mut wires = hammered(&house.address());
    assert_eq!(living(&mut wires), [1; IDS]);
    house.until_count("connections.count", IDS as u64);
    house.until_count("sessions.count", IDS as u64);
    house.until_count("client.connected", (THREADS * ROUNDS) as u64);
    house.until_count("client.disconnected", (THREADS * ROUNDS - IDS) as u64);
    let mut ids: Vec<String> = house.clients(2).iter().map(|record| record.client_id.to_string()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["c0", "c1", "c2", "c3", "c4"]);
    assert!(house.clients(100).iter().all(|record| record.is_connected));
}

#[test]
fn of_many_connections_with_one_identifier_the_last_survives_on_one_worker() {
    one_of_many_survives(1);
}

#[test]
fn of_many_connections_with_one_identifier_the_last_survives_across_four_workers() {
    one_of_many_survives(4);
}

#[test]
fn a_session_that_is_taken_over_goes_on_with_its_subscriptions_and_its_unacknowledged_messages() {
    let house = House::start(4, Limits::default());
    for number in 0..8 {
        let id = format!("c{number}");
        let mut first = Wire::connect(&house.address(), &id, Version::V5, true);
        first.subscribe("news", QoS::AtLeastOnce);
        first.read_type(9).unwrap();
        let mut publisher = house.client("publisher", Version::V5);
        publisher.publish("news", b"x", QoS::AtLeastOnce, false).unwrap();
        let once = first.read_type(3).unwrap();
        let mut second = Wire::connect(&house.address(), &id, Version::V5, false);
        assert_eq!(second.read().unwrap()[2..4], [1, 0], "session present, success");
        let again = second.read_type(3).unwrap();
        assert_eq!((again[0], &again[1..]), (once[0] | 0x08, &once[1..]));
        second.send(&Packet::PubAck(Ack::new(1, ReasonCode::SUCCESS)));
        assert!(second.is_alive());
        assert!(first.read_type(14).is_some_and(|frame| is_taken_over(&frame)));
        assert_eq!(first.read(), None);
    }
}

#[test]
fn a_3_1_1_client_that_is_taken_over_is_closed_without_a_word() {
    let house = House::start(4, Limits::default());
    let mut first = Wire::connect(&house.address(), "c", Version::V311, true);
    first.read_type(2).unwrap();
    let mut second = Wire::connect(&house.address(), "c", Version::V311, true);
    second.read_type(2).unwrap();
    assert_eq!(first.read(), None);
    assert!(second.is_alive());
}

#[test]
fn each_session_that_is_displaced_is_counted_as_what_became_of_it() {
    // Expiry of the old session, clean start of the new one: taken over, resumed, discarded, terminated.
    let table =
        [(600, false, [1, 1, 0, 0]), (600, true, [0, 0, 1, 0]), (0, true, [0, 0, 1, 0]), (0, false, [0, 0, 0, 1])];
    for (expiry_s, clean_start, expected) in table {
        let house = House::start(1, Limits::default());
        let mut raw = Vec::new();
        put_property(&mut raw, id::SESSION_EXPIRY_INTERVAL, Value::Number(expiry_s));
        let mut old = Wire::connect_with(&house.address(), "c", Version::V5, true, &raw);
        old.read().unwrap();
        let mut new = Wire::connect(&house.address(), "c", Version::V5, clean_start);
        new.read().unwrap();
        house.until_count("client.connected", 2);
        let names = ["session.takeovered", "session.resumed", "session.discarded", "session.terminated"];
        assert_eq!(names.map(|name| house.count(name)), expected, "expiry {expiry_s}, clean start {clean_start}");
        assert!(is_taken_over(&old.read().unwrap()));
    }
}
