//! What is sent again on the same connection because nobody answered (MQTT 3.1.1 section 4.4).
//!
//! Knows intervals as calls: each call of `overdue` is one. No clock, no connection.

use std::sync::Arc;

use whimbrel_protocol::message::{Origin, Publication};
use whimbrel_protocol::properties::Properties;
use whimbrel_protocol::session::{Delivery, Offered, Outbound, Resend};
use whimbrel_protocol::{Message, QoS, ReasonCode, Topic};

fn connected() -> Outbound {
    let mut outbound = Outbound::new(10, None);
    outbound.attach(10, false);
    outbound.keep_bodies();
    outbound
}

fn send(outbound: &mut Outbound, qos: QoS) -> u16 {
    let (topic, properties) = (Topic::new("t").unwrap(), Properties::default());
    let publication = Publication { topic, properties, expiry_s: None, payload: b"" };
    let origin = Origin { client_id: "p".into(), received_ms: 0 };
    let message = Arc::new(Message::new(&publication, qos, false, origin));
    match outbound.offer(qos, true, || Delivery { message, qos, retain: false, share: 0, identifiers: None, stored: 0 })
    {
        Offered::Send(packet_id) => packet_id,
        other => panic!("{other:?}"),
    }
}

fn overdue(outbound: &mut Outbound) -> Vec<(u16, char)> {
    let letter = |resend: &Resend| if matches!(resend, Resend::PubRel) { 'R' } else { 'P' };
    outbound.overdue().iter().map(|(packet_id, resend)| (*packet_id, letter(resend))).collect()
}

#[test]
fn a_message_is_overdue_when_it_was_in_flight_for_a_whole_interval() {
    let mut outbound = connected();
    send(&mut outbound, QoS::AtLeastOnce);
    assert_eq!(overdue(&mut outbound), []);
    send(&mut outbound, QoS::ExactlyOnce);
    assert_eq!(overdue(&mut outbound), [(1, 'P')]);
    assert_eq!(overdue(&mut outbound), [(1, 'P'), (2, 'P')]);
    assert_eq!(outbound.inflight_count(), 2);
}

#[test]
fn an_acknowledgement_ends_it_and_those_behind_keep_their_time() {
    let mut outbound = connected();
    assert_eq!([1, 2, 3].map(|_| send(&mut outbound, QoS::AtLeastOnce)), [1, 2, 3]);
    overdue(&mut outbound);
    outbound.on_puback(1);
    outbound.on_puback(2);
    send(&mut outbound, QoS::AtLeastOnce);
    assert_eq!(overdue(&mut outbound), [(3, 'P')]);
    outbound.on_puback(3);
    outbound.on_puback(4);
    assert_eq!(overdue(&mut outbound), []);
}

#[test]
fn after_pubrec_it_is_pubrel_that_comes_again_and_not_before_an_interval() {
    let mut outbound = connected();
    send(&mut outbound, QoS::ExactlyOnce);
    overdue(&mut outbound);
    outbound.on_pubrec(1, ReasonCode::SUCCESS);
    assert_eq!(overdue(&mut outbound), []);
    assert_eq!(overdue(&mut outbound), [(1, 'R')]);
    outbound.on_pubcomp(1);
    assert_eq!(overdue(&mut outbound), []);
}

#[test]
fn what_the_connection_was_not_sent_yet_is_not_overdue() {
    let mut outbound = Outbound::new(10, None);
    outbound.attach(10, true);
    assert_eq!([1, 2].map(|_| send(&mut outbound, QoS::AtLeastOnce)), [1, 2]);
    overdue(&mut outbound);
    outbound.detach();
    outbound.attach(1, true);
    assert_eq!(overdue(&mut outbound), []);
    assert!(outbound.next_resend().is_some());
    assert_eq!(overdue(&mut outbound), []);
    assert_eq!(overdue(&mut outbound), [(1, 'P')]);
}
