//! A QoS 2 message that comes again is the one that was taken before, whatever anybody would say about it now.
//!
//! Knows wire and questions of one broker.

mod house;

use house::{House, Wire};
use whimbrel_protocol::packet::{Ack, Packet, Publish};
use whimbrel_protocol::properties::Properties;
use whimbrel_protocol::{Limits, QoS, ReasonCode, Topic, Version};
use whimbrel_server::{Event, Interest};

fn publish(wire: &mut Wire, dup: bool) {
    let (topic, properties) = (Topic::new("t").ok(), Properties::default());
    let qos = QoS::ExactlyOnce;
    wire.send(&Packet::Publish(Publish { dup, qos, retain: false, topic, packet_id: 7, properties, payload: b"x" }));
}

#[test]
fn a_message_that_was_taken_is_not_judged_again_when_it_comes_again() {
    let mut house = House::start(1, Limits::default());
    let mut wire = Wire::connect(&house.address(), "c", Version::V5, true);
    wire.read_type(2).unwrap();
    publish(&mut wire, false);
    assert_eq!(wire.read_type(5).unwrap()[..5], [0x50, 3, 0, 7, 0x10], "nobody subscribed, but it was taken");
    // From now on somebody is asked, and would say no.
    house.broker.set_interest(Interest::AUTHORIZE);
    publish(&mut wire, true);
    assert_eq!(wire.read_type(5).unwrap(), [0x50, 2, 0, 7], "an error would free the identifier");
    wire.send(&Packet::PubRel(Ack::new(7, ReasonCode::SUCCESS)));
    assert_eq!(wire.read_type(7).unwrap(), [0x70, 2, 0, 7], "it was in flight");
    assert!(house.drain().iter().all(|event| !matches!(event, Event::Authorize(_))), "nobody was asked");
    assert_eq!((house.count("messages.publish"), house.count("packets.publish.inuse")), (1, 1));
}
