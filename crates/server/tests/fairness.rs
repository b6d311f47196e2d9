//! A connection whose packets cost much: it has its turn, then others have theirs, and nothing of it is lost.
//!
//! Knows filters that are made to match everywhere. How long others wait is judged by `tests/abuse`.

mod house;

use house::{House, PATIENCE, Wire};
use whimbrel_protocol::encode::encode;
use whimbrel_protocol::packet::{Packet, Publish};
use whimbrel_protocol::properties::Properties;
use whimbrel_protocol::{Limits, QoS, Topic, Version};

const LEVELS: u32 = 11;
const MESSAGES: u16 = 300;

/// Every way to write LEVELS levels with `+`, each with the same last level.
fn filters() -> Vec<String> {
    let levels = |number: u32| (0..LEVELS).map(move |at| if number >> at & 1 == 0 { "w/" } else { "+/" });
    (0..1 << LEVELS).map(|number| levels(number).collect::<String>() + "+").collect()
}

fn publish(bytes: &mut Vec<u8>, number: u16) {
    let topic = format!("{}{number}", "w/".repeat(LEVELS as usize));
    encode(
        bytes,
        Version::V311,
        &Packet::Publish(Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: false,
            topic: Some(Topic::new(&topic).unwrap()),
            packet_id: number + 1,
            properties: Properties::default(),
            payload: &number.to_be_bytes(),
        }),
    );
}

#[test]
fn what_costs_more_than_a_turn_goes_on_in_the_next_ones_and_nothing_is_lost() {
    let house = House::start(1, Limits::default());
    let mut subscriber = house.client("subscriber", Version::V5);
    subscriber.subscribe(&filters(), QoS::AtLeastOnce).unwrap();
    let mut burst = Vec::new();
    (0..MESSAGES).for_each(|number| publish(&mut burst, number));
    let mut publisher = Wire::connect(&house.address(), "publisher", Version::V311, true);
    publisher.read_type(2).unwrap();
    std::io::Write::write_all(&mut publisher.stream, &burst).unwrap();
    for number in 0..MESSAGES {
        let message = subscriber.receive(PATIENCE).unwrap().expect("every message arrives");
        assert_eq!(message.payload(), number.to_be_bytes());
    }
    for number in 0..MESSAGES {
        let ack = publisher.read_type(4).expect("every message is acknowledged");
        assert_eq!(ack[2..4], (number + 1).to_be_bytes());
    }
    let many: Vec<String> = (0..20_000).map(|number| format!("many/{number}")).collect();
    subscriber.subscribe(&many, QoS::AtLeastOnce).unwrap();
    subscriber.subscribe(&["short".into()], QoS::AtLeastOnce).expect("a short packet behind a long one is heard");
    assert!(house.count("whimbrel.connections.rested") >= 2, "it took turns");
    assert!(publisher.is_alive());
}
