//! A store that takes nothing, or is behind: who is refused, who waits, who is served on, and that all of it passes.
//!
//! Knows the wire, and a store that is in the mood that the test says; whether the disk is full is the store's own tests'.

mod house;

use std::sync::Arc;

use house::moody::Moody;
use house::{House, Wire, until};
use whimbrel_protocol::packet::{Packet, Publish, Unsubscribe};
use whimbrel_protocol::properties::Properties;
use whimbrel_protocol::{Filter, Limits, QoS, Topic, Version};
use whimbrel_server::Event;
use whimbrel_storage::Store;

struct Scene {
    house: House,
    store: Arc<Moody>,
}

impl Scene {
    fn new() -> Scene {
        let store = Arc::new(Moody::new());
        let zones = vec![Limits::default()];
        Scene { house: House::start_storing(zones, Arc::clone(&store) as Arc<dyn Store>), store }
    }

    /// Takes the line that says so, so that the worker is known to know.
    fn refuse(&mut self, is_refusing: bool) {
        self.store.refuse(is_refusing);
        let word = if is_refusing { "no room on the test's disk" } else { "takes in again" };
        self.house.wait_for("line for the log", |event| match event {
            Event::Log { level: 30, text } if text.contains(word) => Some(()),
            _ => None,
        });
    }

    /// A client that is in, with a session that outlives its connection where `is_durable`.
    fn enter(&self, client_id: &str, version: Version, is_durable: bool) -> Wire {
        let mut wire = match (is_durable, version) {
            (true, _) => Wire::connect(&self.house.address(), client_id, version, false),
            (false, _) => Wire::connect_with(&self.house.address(), client_id, version, true, &[]),
        };
        assert_eq!(wire.read().expect("CONNACK")[3], 0);
        wire
    }

    /// A durable session with the filter "d/#" at QoS 2, connected.
    fn subscriber(&self) -> Wire {
        let mut wire = self.enter("sleeper", Version::V5, true);
        wire.subscribe("d/#", QoS::ExactlyOnce);
        assert_eq!(wire.read().expect("SUBACK").last(), Some(&2));
        wire
    }
}

fn publish(wire: &mut Wire, topic: &str, (qos, retain): (QoS, bool), packet_id: u16) {
    let (topic, properties) = (Some(Topic::new(topic).unwrap()), Properties::default());
    wire.send(&Packet::Publish(Publish { dup: false, qos, retain, topic, packet_id, properties, payload: b"x" }));
}

const ONCE: (QoS, bool) = (QoS::AtLeastOnce, false);
const EXACTLY: (QoS, bool) = (QoS::ExactlyOnce, false);
const KEPT: (QoS, bool) = (QoS::AtLeastOnce, true);

/// Type and reason code of the next packet, an acknowledgement of MQTT 5.
fn acknowledged(wire: &mut Wire) -> (u8, u8) {
    let packet = wire.read().expect("the connection lives");
    (packet[0] >> 4, packet.get(4).copied().unwrap_or(0))
}

#[test]
fn what_must_be_stored_is_refused_and_all_else_served() {
    let mut scene = Scene::new();
    let mut subscriber = scene.subscriber();
    let mut plain = scene.enter("plain", Version::V5, false);
    plain.subscribe("m", QoS::ExactlyOnce);
    plain.read_type(9);
    let mut publisher = scene.enter("p", Version::V5, false);
    scene.refuse(true);
    publish(&mut publisher, "d/1", ONCE, 1);
    assert_eq!(acknowledged(&mut publisher), (4, 0x97));
    publish(&mut publisher, "d/2", EXACTLY, 2);
    assert_eq!(acknowledged(&mut publisher), (5, 0x97));
    publish(&mut publisher, "kept", KEPT, 3);
    assert_eq!(acknowledged(&mut publisher), (4, 0x97));
    scene.house.until_count("whimbrel.storage.refused", 3);
    assert_eq!(scene.house.count("whimbrel.storage.refusing"), 1);
    // Nobody of the store's is concerned, or nothing was promised.
    publish(&mut publisher, "nobody", ONCE, 4);
    assert_eq!(acknowledged(&mut publisher), (4, 0x10));
    publish(&mut publisher, "m", EXACTLY, 5);
    assert_eq!(acknowledged(&mut publisher), (5, 0));
    assert!(plain.read_type(3).is_some());
    publish(&mut publisher, "d/0", (QoS::AtMostOnce, false), 0);
    assert!(subscriber.read_type(3).unwrap().windows(3).any(|bytes| bytes == b"d/0"));
    scene.refuse(false);
    publish(&mut publisher, "d/1", ONCE, 6);
    assert_eq!(acknowledged(&mut publisher), (4, 0));
    assert!(subscriber.read_type(3).unwrap().windows(3).any(|bytes| bytes == b"d/1"));
    assert_eq!((scene.house.count("whimbrel.storage.refused"), scene.house.count("whimbrel.storage.refusing")), (3, 0));
    let audit = scene.house.audit();
    assert!(audit.lines().iter().all(|line| line.missing() == 0), "{:?}", audit.lines());
}

#[test]
fn a_publisher_that_cannot_be_told_is_not_read_until_there_is_room() {
    let mut scene = Scene::new();
    let mut subscriber = scene.subscriber();
    let mut publisher = scene.enter("p", Version::V311, false);
    scene.refuse(true);
    publish(&mut publisher, "d/1", ONCE, 1);
    publish(&mut publisher, "nobody", ONCE, 2);
    scene.house.until_count("whimbrel.storage.held_back", 1);
    assert!(publisher.read_waiting().is_empty() && subscriber.read_waiting().is_empty());
    scene.refuse(false);
    assert_eq!(publisher.read().unwrap(), [0x40, 2, 0, 1]);
    assert_eq!(publisher.read().unwrap(), [0x40, 2, 0, 2]);
    assert!(subscriber.read_type(3).is_some());
    assert_eq!(scene.house.count("whimbrel.storage.refused"), 0);
}

#[test]
fn one_that_waits_and_goes_is_let_go_of_and_its_message_is_not_lost_if_it_stays() {
    let mut scene = Scene::new();
    let mut subscriber = scene.subscriber();
    scene.refuse(true);
    let mut publisher = scene.enter("p", Version::V311, false);
    publish(&mut publisher, "d/1", ONCE, 1);
    scene.house.until_count("whimbrel.storage.held_back", 1);
    drop(publisher);
    let mut turns = scene.house.count("whimbrel.worker.turns");
    until("the worker looks after those who wait", || {
        let now = scene.house.count("whimbrel.worker.turns");
        now > std::mem::replace(&mut turns, now)
    });
    scene.refuse(false);
    scene.house.until_count("connections.count", 1);
    assert!(subscriber.is_alive());
}

#[test]
fn sessions_that_begin_or_end_in_the_store_are_refused_and_others_are_let_in() {
    let mut scene = Scene::new();
    drop(scene.subscriber());
    scene.house.until_count("connections.count", 0);
    scene.refuse(true);
    let address = scene.house.address();
    let mut codes = Vec::new();
    for (client_id, version, clean_start) in
        [("new", Version::V5, false), ("new", Version::V311, false), ("sleeper", Version::V5, true)]
    {
        let mut wire = Wire::connect(&address, client_id, version, clean_start);
        codes.push(wire.read().expect("CONNACK")[3]);
        assert!(wire.read_type(15).is_none(), "the connection ends");
    }
    assert_eq!(codes, [0x97, 3, 0x97]);
    scene.enter("plain", Version::V311, false);
    let mut resumed = Wire::connect(&address, "sleeper", Version::V5, false);
    assert_eq!(resumed.read().expect("CONNACK")[2..4], [1, 0], "what is stored is served");
    scene.refuse(false);
    let mut new = scene.enter("new", Version::V311, true);
    assert!(new.is_alive());
}

#[test]
fn a_durable_session_subscribes_to_nothing_new_and_is_told_so() {
    let mut scene = Scene::new();
    let mut five = scene.subscriber();
    let mut three = scene.enter("three", Version::V311, true);
    let mut plain = scene.enter("plain", Version::V311, false);
    scene.refuse(true);
    let granted: Vec<Option<u8>> = [&mut five, &mut three, &mut plain]
        .into_iter()
        .map(|wire| {
            wire.subscribe("more", QoS::AtLeastOnce);
            wire.read_type(9).unwrap().last().copied()
        })
        .collect();
    assert_eq!(granted, [Some(0x97), Some(0x80), Some(1)]);
    // What is taken away is a promise as well, and kept: it waits.
    let filters = vec![Ok(Filter::new("d/#").unwrap())];
    five.send(&Packet::Unsubscribe(Unsubscribe { packet_id: 9, properties: Properties::default(), filters }));
    assert!(five.is_alive(), "and holds nothing else up");
    assert!(five.read_waiting().is_empty());
    scene.refuse(false);
    assert_eq!(five.read_type(11).unwrap().last(), Some(&0));
}

#[test]
fn what_was_handed_over_before_is_acknowledged_when_there_is_room_and_in_its_order() {
    let mut scene = Scene::new();
    let mut subscriber = scene.subscriber();
    let mut publisher = scene.enter("p", Version::V5, false);
    scene.store.stall();
    publish(&mut publisher, "d/1", ONCE, 1);
    assert!(subscriber.read_type(3).is_some(), "QoS 1 is delivered before its commit");
    scene.refuse(true);
    publish(&mut publisher, "d/2", ONCE, 2);
    scene.house.until_count("whimbrel.storage.refused", 1);
    assert!(publisher.read_waiting().is_empty());
    scene.refuse(false);
    assert_eq!([acknowledged(&mut publisher), acknowledged(&mut publisher)], [(4, 0), (4, 0x97)]);
}

#[test]
fn a_message_from_inside_that_must_be_stored_is_refused_at_once() {
    let mut scene = Scene::new();
    let _subscriber = scene.subscriber();
    scene.refuse(true);
    let topic = Topic::new("d/1").unwrap();
    let publication = whimbrel_protocol::message::Publication {
        topic,
        properties: Properties::default(),
        expiry_s: None,
        payload: b"x",
    };
    let origin = whimbrel_protocol::message::Origin { client_id: Arc::from(""), received_ms: 0 };
    let message = whimbrel_protocol::Message::new(&publication, QoS::AtLeastOnce, false, origin);
    scene.house.broker.publish(7, Arc::new(message));
    let text = scene.house.wait_for("answer", |event| match event {
        Event::Refused { ticket: 7, text } => Some(*text),
        _ => None,
    });
    assert!(text.contains("cannot store"), "{text}");
}

#[test]
fn while_the_store_is_behind_durable_publishers_wait_and_others_go_on() {
    let scene = Scene::new();
    let mut subscriber = scene.subscriber();
    let mut publisher = scene.enter("p", Version::V5, false);
    let mut other = scene.enter("q", Version::V5, false);
    scene.store.press(true);
    publish(&mut publisher, "d/1", ONCE, 1);
    scene.house.until_count("whimbrel.storage.held_back", 1);
    publish(&mut other, "nobody", ONCE, 1);
    assert_eq!(acknowledged(&mut other), (4, 0x10));
    assert!(publisher.read_waiting().is_empty());
    scene.store.press(false);
    assert_eq!(acknowledged(&mut publisher), (4, 0));
    assert!(subscriber.read_type(3).is_some());
}
