//! What a session gives up for other members of its groups, and when something that waits can go on.
//!
//! Knows the sending half of a session alone; the connection is a window that opens and closes.

use std::sync::Arc;

use whimbrel_protocol::message::{Origin, Publication};
use whimbrel_protocol::properties::Properties;
use whimbrel_protocol::session::{Delivery, Offered, Outbound, Resend, Settled};
use whimbrel_protocol::{Message, QoS, ReasonCode, Topic};

const QUEUE_MAX: u32 = 100;

fn delivery(number: u32, qos: QoS, share: u32) -> Delivery {
    let payload = number.to_string();
    let topic = Topic::new("t").unwrap();
    let properties = Properties::default();
    let publication = Publication { topic, properties, expiry_s: None, payload: payload.as_bytes() };
    let origin = Origin { client_id: "p".into(), received_ms: 0 };
    let message = Arc::new(Message::new(&publication, qos, false, origin));
    Delivery { message, qos, retain: false, share, identifiers: None, stored: 0 }
}

fn offer(outbound: &mut Outbound, number: u32, qos: QoS, share: u32) -> Offered {
    let delivery = || delivery(number, qos, share);
    if share == 0 { outbound.offer(qos, true, delivery) } else { outbound.offer_shared(qos, true, delivery) }
}

fn taken(outbound: &mut Outbound, max: usize, wanted: impl FnMut(u32) -> bool) -> Vec<String> {
    let taken = outbound.take_shared(max, wanted);
    taken.iter().map(|delivery| String::from_utf8(delivery.message.payload().to_vec()).unwrap()).collect()
}

/// Five in flight and five that wait: plain and shared in turns, QoS 1 but for number 3 and number 9.
fn half_sent(keeps_bodies: bool) -> Outbound {
    let mut outbound = Outbound::new(QUEUE_MAX, None);
    outbound.attach(5, keeps_bodies);
    for number in 0..10 {
        let qos = if number % 6 == 3 { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
        let offered = offer(&mut outbound, number, qos, number % 2 * 7);
        assert_eq!(matches!(offered, Offered::Send(_)), number < 5, "{number}: {offered:?}");
    }
    outbound
}

#[test]
fn shared_messages_that_wait_or_are_unacknowledged_at_qos_1_are_given_up_in_order() {
    for keeps_bodies in [false, true] {
        let mut outbound = half_sent(keeps_bodies);
        outbound.detach();
        // 3 is QoS 2 and was sent: nobody else may get it [MQTT-4.8.2-5]. 9 is QoS 2 and was not sent.
        assert_eq!(taken(&mut outbound, usize::MAX, |_| true), ["1", "5", "7", "9"]);
        assert_eq!((outbound.inflight_count(), outbound.queue_len()), (4, 2));
        assert!(taken(&mut outbound, usize::MAX, |_| true).is_empty());
    }
}

#[test]
fn only_as_many_are_given_up_as_asked_for_and_only_of_the_groups_asked_for() {
    let mut outbound = half_sent(false);
    outbound.detach();
    assert!(taken(&mut outbound, usize::MAX, |number| number == 8).is_empty());
    assert_eq!(taken(&mut outbound, 2, |number| number == 7), ["1", "5"]);
    assert_eq!(taken(&mut outbound, 1, |_| true), ["7"]);
    assert_eq!(taken(&mut outbound, 9, |_| true), ["9"]);
    assert_eq!(outbound.queue_len(), 2);
}

#[test]
fn the_rest_is_sent_again_and_the_identifiers_of_what_was_given_up_are_free() {
    let mut outbound = half_sent(true);
    outbound.detach();
    taken(&mut outbound, usize::MAX, |_| true);
    outbound.attach(5, true);
    let again: Vec<u16> = std::iter::from_fn(|| outbound.next_resend()).map(|(packet_id, _)| packet_id).collect();
    assert_eq!(again, [1, 3, 4, 5]);
    assert_eq!(outbound.on_puback(2), Settled::Missed);
    let next = std::iter::from_fn(|| outbound.next(0)).map(|next| next.unwrap().0);
    assert_eq!(next.collect::<Vec<u16>>(), [6], "the window of five holds one more");
}

#[test]
fn what_is_acknowledged_is_given_to_nobody() {
    let mut outbound = half_sent(false);
    assert_eq!(outbound.on_puback(2), Settled::Yes);
    assert_eq!(outbound.on_pubrec(4, ReasonCode::SUCCESS), Settled::Yes);
    outbound.detach();
    assert_eq!(taken(&mut outbound, 2, |_| true), ["5", "7"]);
}

#[test]
fn what_nobody_took_waits_again_beyond_the_bound() {
    let mut outbound = Outbound::new(1, None);
    outbound.attach(5, true);
    (0..2).for_each(|number| assert!(matches!(offer(&mut outbound, number, QoS::AtLeastOnce, 7), Offered::Send(_))));
    outbound.detach();
    let all = outbound.take_shared(usize::MAX, |_| true);
    all.into_iter().for_each(|delivery| outbound.put_back(delivery));
    assert_eq!((outbound.inflight_count(), outbound.queue_len(), outbound.is_queue_full()), (0, 2, true));
}

#[test]
fn it_can_go_on_exactly_while_the_window_is_open_and_something_waits() {
    let mut outbound = Outbound::new(QUEUE_MAX, None);
    outbound.attach(2, true);
    let offered = [0, 1, 2].map(|number| offer(&mut outbound, number, QoS::AtLeastOnce, 0));
    assert_eq!(offered, [Offered::Send(1), Offered::Send(2), Offered::Queued]);
    assert!(!outbound.can_go_on(), "the window is closed");
    outbound.on_puback(1);
    assert!(outbound.can_go_on());
    assert!(outbound.next(0).is_some() && !outbound.can_go_on());
    outbound.detach();
    assert!(!outbound.can_go_on());
    // Two are to be sent again through a window of one, and nothing waits behind them.
    outbound.attach(1, true);
    assert!(matches!(outbound.next_resend(), Some((2, Resend::Publish(_)))));
    assert!(!outbound.can_go_on());
    outbound.on_puback(2);
    assert!(outbound.can_go_on());
    assert!(matches!(outbound.next_resend(), Some((3, Resend::Publish(_)))));
    outbound.on_puback(3);
    assert!(!outbound.can_go_on());
}
