//! The largest packet that the limits allow, to many subscribers at once: shared in memory, whole on every wire.
//!
//! Knows sizes and contents. One byte more is refused.

mod house;

use house::{House, PATIENCE};
use whimbrel_protocol::{Limits, QoS, ReasonCode, Version};
use whimbrel_server::client::{Client, ClientError};

/// Fixed header 4, topic 2 + 3, packet identifier 2, properties 1.
const HEAD_BYTES: usize = 12;
const PAYLOAD_BYTES: usize = (1 << 20) - HEAD_BYTES;

/// Bytes that show when a part is missing, doubled or out of place.
fn pattern(seed: u32, bytes: usize) -> Vec<u8> {
    let words = (0..).map(|index: u32| (index ^ seed).wrapping_mul(0x9E37_79B9).to_be_bytes());
    words.flatten().take(bytes).collect()
}

fn subscribers(house: &House) -> Vec<Client> {
    let subscriber = |number: usize| {
        let version = if number.is_multiple_of(2) { Version::V5 } else { Version::V311 };
        let mut client = house.client(&format!("s{number}"), version);
        client.subscribe(&["big".into()], QoS::AtLeastOnce).unwrap();
        client
    };
    (0..6).map(subscriber).collect()
}

#[test]
fn the_largest_payload_reaches_every_subscriber_unchanged() {
    for workers in [1, 4] {
        let house = House::start(workers, Limits::default());
        let mut subscribers = subscribers(&house);
        let mut publisher = house.client("p", Version::V5);
        for seed in 0..3 {
            let payload = pattern(seed, PAYLOAD_BYTES);
            publisher.publish("big", &payload, QoS::AtLeastOnce, false).unwrap();
            for client in &mut subscribers {
                let message = client.receive(PATIENCE).unwrap().expect("a message");
                assert!(message.payload() == payload, "round {seed} on {workers} workers");
            }
        }
    }
}

#[test]
fn payloads_around_the_size_that_is_shared_arrive_in_order_between_small_ones() {
    let house = House::start(4, Limits::default());
    let mut subscribers = subscribers(&house);
    let mut publisher = house.client("p", Version::V311);
    let sizes = [0, 1, 16_383, 16_384, 16_385, 2, 40_000, 300_000, 3];
    for (seed, bytes) in (0..).zip(sizes) {
        publisher.publish("big", &pattern(seed, bytes), QoS::AtLeastOnce, false).unwrap();
    }
    for client in &mut subscribers {
        for (seed, bytes) in (0..).zip(sizes) {
            let message = client.receive(PATIENCE).unwrap().expect("a message");
            assert!(message.payload() == pattern(seed, bytes), "{bytes} bytes");
        }
    }
}

#[test]
fn one_byte_more_than_the_limit_is_refused() {
    let house = House::start(1, Limits::default());
    let mut publisher = house.client("p", Version::V5);
    match publisher.publish("big", &pattern(0, PAYLOAD_BYTES + 1), QoS::AtLeastOnce, false) {
        // The broker closes while the rest is on its way: the client may learn it from its write.
        Err(ClientError::Refused(ReasonCode::PACKET_TOO_LARGE) | ClientError::Io(_)) => {}
        other => panic!("{other:?} instead of a refusal"),
    }
    house.until_count("client.disconnected", 1);
}
