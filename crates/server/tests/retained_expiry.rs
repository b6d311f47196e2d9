//! Expired retained messages leave a running broker's store, though nobody asks for them.

mod house;

use house::{House, Wire};
use whimbrel_protocol::packet::{Packet, Publish};
use whimbrel_protocol::properties::{Properties, Value, id, put_property};
use whimbrel_protocol::{Limits, QoS, Topic, Version};

fn retain(wire: &mut Wire, topic: &str, expiry_s: Option<u32>) {
    let mut raw = Vec::new();
    expiry_s.into_iter().for_each(|expiry_s| {
        put_property(&mut raw, id::MESSAGE_EXPIRY_INTERVAL, Value::Number(expiry_s));
    });
    wire.send(&Packet::Publish(Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: true,
        topic: Some(Topic::new(topic).unwrap()),
        packet_id: 0,
        properties: Properties::trusted(&raw),
        payload: b"x",
    }));
}

#[test]
fn more_messages_than_one_step_takes_leave_when_their_time_is_over() {
    for workers in [1, 2] {
        let house = House::start(workers, Limits::default());
        let mut wire = Wire::connect(&house.address(), "p", Version::V5, true);
        wire.read_type(2).expect("CONNACK");
        retain(&mut wire, "for/ever", None);
        retain(&mut wire, "later", Some(600));
        for number in 0..600 {
            retain(&mut wire, &format!("soon/{number}"), Some(1));
        }
        assert!(wire.is_alive());
        house.until_count("whimbrel.retained.expired", 600);
        house.until_count("messages.retained", 2);
    }
}
