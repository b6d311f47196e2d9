//! A store with a damaged byte, whatever it belonged to: the broker starts, serves, and says what it lost.

mod house;

use std::path::Path;

use house::folder::Folder;
use house::{House, Wire};
use whimbrel_protocol::packet::{Ack, Packet, Publish};
use whimbrel_protocol::properties::Properties;
use whimbrel_protocol::{QoS, ReasonCode, Topic, Version};
use whimbrel_server::Event;

const CHUNK: &[u8] = b"WHMBCHNK";
const KEYED: &[u8] = b"WHMK";
/// What the broker restores, by the names of its figures.
const FIGURES: [&str; 5] = [
    "sessions.count",
    "subscriptions.count",
    "retained.count",
    "whimbrel.deliveries.restored",
    "whimbrel.acks.restored",
];

fn publish(wire: &mut Wire, topic: &str, packet_id: u16, retain: bool) {
    let (payload, properties) = (topic.as_bytes(), Properties::default());
    let (topic, qos) = (Topic::new(topic).ok(), QoS::ExactlyOnce);
    wire.send(&Packet::Publish(Publish { dup: false, qos, retain, topic, packet_id, properties, payload }));
    wire.read_type(5).expect("PUBREC");
}

fn enter(house: &House, client_id: &str) -> Wire {
    let mut wire = Wire::connect(&house.address(), client_id, Version::V311, false);
    assert_eq!(wire.read().expect("CONNACK")[3], 0);
    wire
}

/// Sessions, subscriptions, queues, retained messages, and QoS 2 in every state, after an orderly end.
fn fill(folder: &Path) -> Vec<u64> {
    let house = House::start_in(folder, 1);
    let mut sleeper = enter(&house, "sleeper");
    sleeper.subscribe("a/#", QoS::ExactlyOnce);
    sleeper.read_type(9).expect("SUBACK");
    let mut publisher = enter(&house, "publisher");
    publish(&mut publisher, "a/sent", 1, false);
    publish(&mut publisher, "a/released", 2, false);
    publish(&mut publisher, "r/kept", 3, true);
    sleeper.read_type(3).expect("it is sent");
    let released = sleeper.read_type(3).expect("it is sent");
    let id = u16::from_be_bytes([released[14], released[15]]);
    sleeper.send(&Packet::PubRec(Ack::new(id, ReasonCode::SUCCESS)));
    sleeper.read_type(6).expect("PUBREL");
    drop(sleeper);
    house::until("it has left", || house.count("connections.count") == 1);
    (4..12).for_each(|id| publish(&mut publisher, &format!("a/{id}"), id, false));
    drop(house);
    std::fs::remove_file(folder.join("store.journal")).unwrap(); // it would mend what is damaged
    figures(&House::start_in(folder, 1))
}

fn figures(house: &House) -> Vec<u64> {
    FIGURES.iter().map(|name| house.count(name)).collect()
}

/// Where the bytes of chunks and of keyed values lie, one place in every few.
fn places(bytes: &[u8]) -> Vec<usize> {
    let starts = |magic: &'static [u8]| (0..bytes.len()).filter(move |&at| bytes[at..].starts_with(magic));
    let chunks = starts(CHUNK).flat_map(|at| (at..at + 2_000).step_by(61));
    let keyed = starts(KEYED).flat_map(|at| [at + 1, at + 6, at + 18, at + 26, at + 34]);
    chunks.chain(keyed).filter(|&at| bytes.get(at).is_some_and(|byte| *byte != 0)).collect()
}

#[test]
fn a_damaged_byte_never_prevents_the_start_and_its_loss_is_told() {
    let whole = Folder::new("whole");
    let expected = fill(whole.path());
    assert!(expected.iter().all(|&figure| figure > 0), "{expected:?}");
    let bytes = std::fs::read(whole.path().join("store.redb")).unwrap();
    let places = places(&bytes);
    assert!(places.len() > 60, "{}", places.len());
    let mut told = 0;
    for at in places {
        let damaged = Folder::new("flipped");
        std::fs::create_dir(damaged.path()).unwrap();
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x41;
        std::fs::write(damaged.path().join("store.redb"), flipped).unwrap();
        let mut house = House::start_in(damaged.path(), 1);
        assert!(enter(&house, "a new client").is_alive(), "byte {at}");
        let found = figures(&house);
        let is_told =
            house.drain().iter().any(|event| matches!(event, Event::Log { text, .. } if text.contains("damaged")));
        assert!(
            is_told || found[2..] == expected[2..],
            "byte {at}: {found:?} instead of {expected:?}, and nothing was said"
        );
        told += u32::from(is_told);
    }
    assert!(told > 20, "only {told} were told");
}
