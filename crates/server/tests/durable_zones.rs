//! Zones in which nothing is durable, beside one in which everything is: whose acknowledgements wait, whose sessions are stored.
//!
//! Knows the wire and a store whose commits stand still.

mod house;

use std::sync::Arc;

use house::moody::Moody;
use house::{House, Wire, until};
use whimbrel_protocol::packet::{Ack, Packet, Publish};
use whimbrel_protocol::properties::Properties;
use whimbrel_protocol::{Limits, QoS, ReasonCode, Topic, Version};
use whimbrel_server::Event;
use whimbrel_storage::{Record, Slot, Space, Store, Visitor};

const DURABLE: usize = 0;
const FAST: usize = 1;

fn house() -> (House, Arc<Moody>) {
    let store = Arc::new(Moody::new());
    let fast = Limits { is_durable: false, ..Limits::default() };
    (House::start_storing(vec![Limits::default(), fast], Arc::clone(&store) as Arc<dyn Store>), store)
}

/// CONNECT with a session that outlives its connection; CONNACK has come, and says whether it was there.
fn enter(house: &House, zone: usize, client_id: &str, clean_start: bool) -> (Wire, bool) {
    let mut wire = Wire::connect(&house.address_of(zone), client_id, Version::V5, clean_start);
    let connack = wire.read().expect("CONNACK");
    assert_eq!(connack[3], 0);
    (wire, connack[2] == 1)
}

fn publish(wire: &mut Wire, qos: QoS, packet_id: u16) {
    let (topic, properties) = (Some(Topic::new("d").unwrap()), Properties::default());
    let packet = Publish { dup: false, qos, retain: false, topic, packet_id, properties, payload: b"x" };
    wire.send(&Packet::Publish(packet));
}

/// Sessions by name, and how many messages wait for somebody.
#[derive(Default)]
struct Stored(Vec<String>, usize);

impl Visitor for Stored {
    fn record(&mut self, _: &Record<'_>, live: &[Slot]) {
        self.1 += live.len();
    }

    fn keyed(&mut self, space: Space, key: &[u8], _: &[u8]) {
        if space == Space::SESSION {
            self.0.push(String::from_utf8_lossy(key).into_owned());
        }
    }
}

fn stored(store: &Moody) -> (Vec<String>, usize) {
    let mut found = Stored::default();
    store.replay(&mut found).unwrap();
    (found.0, found.1)
}

#[test]
fn acknowledgements_wait_in_the_one_zone_and_not_in_the_other() {
    let (house, store) = house();
    let (mut sleeper, _) = enter(&house, DURABLE, "sleeper", true);
    sleeper.subscribe("d", QoS::AtLeastOnce);
    sleeper.read_type(9);
    drop(sleeper);
    house.until_count("connections.count", 0);
    let (mut slow, _) = enter(&house, DURABLE, "slow", true);
    let (mut fast, _) = enter(&house, FAST, "fast", true);
    store.stall();
    for (packet_id, qos, kind) in [(1, QoS::AtLeastOnce, 4), (2, QoS::ExactlyOnce, 5)] {
        publish(&mut slow, qos, packet_id);
        publish(&mut fast, qos, packet_id);
        assert_eq!(fast.read().expect("an acknowledgement")[0] >> 4, kind);
    }
    assert!(slow.read_waiting().is_empty(), "one worker handled its messages before the other's");
    store.refuse(false);
    assert_eq!([slow.read().unwrap()[0] >> 4, slow.read().unwrap()[0] >> 4], [4, 5]);
    let (sessions, records) = stored(&store);
    assert_eq!(sessions, ["sleeper", "slow"]);
    assert_eq!(records, 4 + 1, "all messages for the sleeper, and one identifier of a durable publisher");
}

#[test]
fn a_session_that_comes_back_through_such_a_zone_is_stored_no_more() {
    let (house, store) = house();
    let (mut wire, _) = enter(&house, DURABLE, "c", true);
    wire.subscribe("d", QoS::AtLeastOnce);
    wire.read_type(9);
    drop(wire);
    house.until_count("connections.count", 0);
    let (mut publisher, _) = enter(&house, FAST, "p", true);
    publish(&mut publisher, QoS::AtLeastOnce, 1);
    until("the message is stored", || stored(&store) == (vec!["c".to_owned()], 1));
    let (mut wire, was_there) = enter(&house, FAST, "c", false);
    assert!(was_there, "it keeps what it has");
    assert_eq!(stored(&store).0, Vec::<String>::new());
    for packet_id in [1, 2] {
        let delivery = wire.read_type(3).expect("PUBLISH");
        let ack = Ack::new(u16::from_be_bytes([delivery[5], delivery[6]]), ReasonCode::SUCCESS);
        wire.send(&Packet::PubAck(ack));
        until("nothing is stored for it", || stored(&store) == (Vec::new(), 0));
        if packet_id == 1 {
            publish(&mut publisher, QoS::AtLeastOnce, 2);
        }
    }
}

#[test]
fn a_full_disk_is_no_matter_where_nothing_is_promised() {
    let (mut house, store) = house();
    let (mut sleeper, _) = enter(&house, DURABLE, "sleeper", true);
    sleeper.subscribe("d", QoS::AtLeastOnce);
    sleeper.read_type(9);
    store.refuse(true);
    house.wait_for("line for the log", |event| matches!(event, Event::Log { .. }).then_some(()));
    let (mut fast, _) = enter(&house, FAST, "fast", true);
    publish(&mut fast, QoS::AtLeastOnce, 1);
    assert_eq!(fast.read().unwrap()[..2], [0x40, 2]);
    assert!(sleeper.read_type(3).is_some());
    assert_eq!(house.count("whimbrel.storage.refused"), 0);
}

#[test]
fn whoever_kicks_a_durable_session_hears_of_it_when_the_store_has_forgotten_it() {
    let (mut house, store) = house();
    let (mut durable, _) = enter(&house, DURABLE, "durable", true);
    let (_fast, _) = enter(&house, FAST, "fast", true);
    store.stall();
    assert!(house.kick("fast"), "nothing of it is stored");
    let ticket = house.ticket();
    house.broker.kick(ticket, "durable");
    // The client is told at once, and what is asked later is answered earlier.
    assert!(durable.read().is_some_and(|frame| frame[0] >> 4 == 14));
    house.audit();
    let is_answer = |event: &Event| matches!(event, Event::Kicked { ticket: of, .. } if *of == ticket);
    assert!(!house.drain().iter().any(is_answer));
    store.refuse(false);
    let found = house.wait_for("answer", |event| match event {
        Event::Kicked { ticket: of, found } if *of == ticket => Some(*found),
        _ => None,
    });
    assert!(found && stored(&store).0.is_empty());
}
