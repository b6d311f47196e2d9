//! Every metric: one event with real packets, and exactly the numbers that it moves.
//!
//! Each test brings a broker into a state, notes all metrics, lets one event happen, and compares all metrics with what the
//! event should have moved: a number too many fails as well as one too few. Beside the numbers, the ledger must be even.
//! The last test compares the names in these files with those that there are.

mod house;
mod scene;

use house::{Wire, loopback};
use scene::{Scene, publish, publish_with};
use whimbrel_protocol::packet::{
    Ack, Connect, Disconnect, Packet, Publish, Subscribe, SubscriptionOptions, Unsubscribe,
};
use whimbrel_protocol::properties::{Properties, Value, id, put_property};
use whimbrel_protocol::{Filter, Limits, QoS, ReasonCode, Topic, Version};
use whimbrel_server::{Answer, Event, Interest};

const OK: ReasonCode = ReasonCode::SUCCESS;

/// What a client's way in moves, without a question.
const ENTRY: &[(&str, u64)] = &[
    ("packets.received", 1),
    ("packets.connect.received", 1),
    ("client.connect", 1),
    ("client.authenticate", 1),
    ("packets.sent", 1),
    ("packets.connack.sent", 1),
    ("client.connack", 1),
];
const ANONYMOUS: &[(&str, u64)] =
    &[("client.auth.success", 1), ("client.auth.anonymous", 1), ("client.auth.success.anonymous", 1)];
/// What a refusal in CONNACK moves.
const REFUSED: &[(&str, u64)] = &[("packets.connack.error", 1), ("packets.connack.auth_error", 1)];
/// What a delivery moves that is sent at once to a session of the same worker.
const DELIVERED: &[(&str, u64)] = &[
    ("messages.delivered", 1),
    ("whimbrel.deliveries.wanted", 1),
    ("whimbrel.deliveries.made", 1),
    ("packets.sent", 1),
    ("packets.publish.sent", 1),
    ("messages.sent", 1),
];
/// What a client's PUBLISH moves on its way to the routing table.
const ROUTED: &[(&str, u64)] = &[
    ("packets.received", 1),
    ("packets.publish.received", 1),
    ("messages.received", 1),
    ("messages.publish", 1),
    ("whimbrel.routed.clients", 1),
];
const UNWANTED: &[(&str, u64)] = &[("messages.dropped", 1), ("messages.dropped.no_subscribers", 1)];
/// What a PUBLISH from inside moves, before its deliveries.
const FROM_INSIDE: &[(&str, u64)] = &[("messages.publish", 1), ("whimbrel.routed.inside", 1)];
/// What a delivery moves that is dropped at once.
const DROPPED: &[(&str, u64)] =
    &[("delivery.dropped", 1), ("whimbrel.deliveries.wanted", 1), ("whimbrel.deliveries.made", 1)];
const ENDED: &[(&str, u64)] = &[("client.disconnected", 1), ("session.terminated", 1)];

fn ack(packet_id: u16) -> Ack<'static> {
    Ack::new(packet_id, OK)
}

fn answered(code: u8) -> Answer {
    Answer::new(ReasonCode(code))
}

fn goodbye() -> Packet<'static> {
    Packet::Disconnect(Disconnect { reason: OK, properties: Properties::default() })
}

// Connections and sessions.

#[test]
fn entering() {
    let mut scene = Scene::new(Limits::default());
    let _wire = scene.enter("c", Version::V5);
    scene.moved(&[ENTRY, ANONYMOUS, &[("client.connected", 1), ("session.created", 1)]]);
}

#[test]
fn leaving() {
    let mut scene = Scene::new(Limits::default());
    let mut wire = scene.enter("c", Version::V5);
    scene.begin();
    wire.send(&goodbye());
    scene.moved(&[ENDED, &[("packets.received", 1), ("packets.disconnect.received", 1)]]);
}

#[test]
fn vanishing_while_the_session_stays_and_coming_back() {
    let mut scene = Scene::new(Limits::default());
    let wire = scene.enter_kept("c");
    scene.begin();
    drop(wire);
    scene.moved(&[&[("client.disconnected", 1)]]);
    scene.begin();
    let _wire = scene.resume("c");
    scene.moved(&[ENTRY, ANONYMOUS, &[("client.connected", 1), ("session.resumed", 1)]]);
}

#[test]
fn being_displaced_with_and_without_a_clean_start() {
    for (clean_start, name) in [(false, "session.takeovered"), (true, "session.discarded")] {
        let mut scene = Scene::new(Limits::default());
        let _old = scene.enter_kept("c");
        scene.begin();
        let _new = scene.enter_again("c", clean_start);
        let session = if clean_start { "session.created" } else { "session.resumed" };
        let told = [("packets.disconnect.sent", 1), ("packets.sent", 1), ("client.disconnected", 1)];
        scene.moved(&[ENTRY, ANONYMOUS, &told, &[("client.connected", 1), (name, 1), (session, 1)]]);
    }
}

#[test]
fn starting_anew_discards_a_session_that_would_have_ended_with_its_connection_anyway() {
    let mut scene = Scene::new(Limits::default());
    let _old = scene.enter("c", Version::V5);
    scene.begin();
    let _new = scene.enter("c", Version::V5);
    let told = [("packets.disconnect.sent", 1), ("packets.sent", 1), ("client.disconnected", 1)];
    let sessions = [("client.connected", 1), ("session.discarded", 1), ("session.created", 1)];
    scene.moved(&[ENTRY, ANONYMOUS, &told, &sessions]);
}

#[test]
fn kicking() {
    let mut scene = Scene::new(Limits::default());
    let _wire = scene.enter_kept("c");
    scene.begin();
    assert!(scene.house.kick("c"));
    scene.moved(&[ENDED, &[("packets.disconnect.sent", 1), ("packets.sent", 1)]]);
}

#[test]
fn being_asked_about_and_let_in_or_not_or_forgotten() {
    let yes: &[(&str, u64)] = &[("client.auth.success", 1), ("client.connected", 1), ("session.created", 1)];
    let no: &[(&str, u64)] = &[("client.auth.failure", 1)];
    let late: &[(&str, u64)] = &[("whimbrel.questions.expired", 1), ("packets.connack.error", 1)];
    for (answer, moves) in [
        (Some((0, false)), vec![ENTRY, yes]),
        (Some((0, true)), vec![ENTRY, yes, &ANONYMOUS[1..]]),
        (Some((0x86, false)), vec![ENTRY, no, REFUSED]),
        (None, vec![ENTRY, no, late]),
    ] {
        let mut scene = Scene::with_deadline(50);
        scene.house.broker.set_interest(Interest::AUTHENTICATE);
        let mut wire = Wire::connect_with(&scene.house.address(), "c", Version::V5, true, &[]);
        let ticket = scene.house.wait_for("question", |event| match event {
            Event::Authenticate(question) => Some(question.ticket),
            _ => None,
        });
        match answer {
            Some((_, true)) => scene.house.broker.admit_anonymous(ticket),
            Some((code, _)) => scene.house.broker.answer_authenticate(ticket, answered(code), false),
            None => {}
        }
        wire.read_type(2).expect("an answer");
        scene.moved(&moves);
    }
}

#[test]
fn a_listener_that_refuses_strangers() {
    let mut listener = loopback();
    listener.is_anonymous_allowed = false;
    let mut scene = Scene::behind(listener, Limits::default());
    let mut wire = Wire::connect_with(&scene.house.address(), "c", Version::V5, true, &[]);
    wire.read_type(2).unwrap();
    scene.moved(&[ENTRY, REFUSED, &[("client.auth.failure", 1)]]);
}

#[test]
fn an_exchange_of_the_client_s_own_method() {
    let mut scene = Scene::new(Limits::default());
    scene.house.broker.set_interest(Interest::ENHANCED_AUTHENTICATE);
    let mut method = Vec::new();
    put_property(&mut method, id::AUTHENTICATION_METHOD, Value::Text("m"));
    let mut wire = Wire::connect_with(&scene.house.address(), "c", Version::V5, true, &method);
    let answer = |scene: &mut Scene, code| {
        let ticket = scene.house.wait_for("question", |event| match event {
            Event::EnhancedAuthenticate(question) => Some(question.ticket),
            _ => None,
        });
        scene.house.broker.answer_enhanced(ticket, answered(code), None, false);
    };
    answer(&mut scene, 0x18);
    wire.read_type(15).unwrap();
    let reason = ReasonCode::CONTINUE_AUTHENTICATION;
    wire.send(&Packet::Auth(Disconnect { reason, properties: Properties::trusted(&method) }));
    answer(&mut scene, 0);
    wire.read_type(2).unwrap();
    let exchange: &[(&str, u64)] = &[
        ("packets.received", 2),
        ("packets.sent", 2),
        ("packets.connect.received", 1),
        ("packets.connack.sent", 1),
        ("packets.auth.received", 1),
        ("packets.auth.sent", 1),
        ("client.connect", 1),
        ("client.enhanced_authenticate", 2),
        ("client.connack", 1),
        ("client.connected", 1),
        ("session.created", 1),
    ];
    scene.moved(&[exchange]);
}

// Pings, subscriptions.

#[test]
fn pinging_and_every_byte_of_it() {
    let mut scene = Scene::new(Limits::default());
    let mut wire = scene.enter("c", Version::V5);
    scene.begin();
    assert!(wire.is_alive());
    scene.moved(&[&[
        ("packets.received", 1),
        ("packets.pingreq.received", 1),
        ("packets.sent", 1),
        ("packets.pingresp.sent", 1),
    ]]);
    assert_eq!((scene.difference("bytes.received"), scene.difference("bytes.sent")), (2, 2));
}

const SUBSCRIBED: &[(&str, u64)] = &[
    ("packets.received", 1),
    ("packets.subscribe.received", 1),
    ("client.subscribe", 1),
    ("packets.sent", 1),
    ("packets.suback.sent", 1),
];

#[test]
fn subscribing() {
    let mut scene = Scene::new(Limits::default());
    let mut wire = scene.enter("c", Version::V5);
    scene.begin();
    wire.subscribe("a", QoS::AtMostOnce);
    wire.read_type(9).unwrap();
    scene.moved(&[SUBSCRIBED]);
}

#[test]
fn subscribing_to_what_is_refused() {
    let mut scene = Scene::new(Limits { is_wildcard_available: false, ..Limits::default() });
    let mut wire = scene.enter("c", Version::V5);
    scene.begin();
    wire.subscribe("a/#", QoS::AtMostOnce);
    assert_eq!(wire.read_type(9).unwrap().last(), Some(&0xA2));
    scene.moved(&[SUBSCRIBED, &[("packets.subscribe.error", 1)]]);
}

fn unsubscribe(filter: &str) -> Packet<'_> {
    let filters = vec![Filter::new(filter).map_err(|violation| violation.reason)];
    Packet::Unsubscribe(Unsubscribe { packet_id: 2, properties: Properties::default(), filters })
}

const UNSUBSCRIBED: &[(&str, u64)] = &[
    ("packets.received", 1),
    ("packets.unsubscribe.received", 1),
    ("client.unsubscribe", 1),
    ("packets.sent", 1),
    ("packets.unsuback.sent", 1),
];

#[test]
fn unsubscribing_also_from_what_is_no_filter() {
    let mut scene = Scene::new(Limits::default());
    let mut wire = scene.enter("c", Version::V5);
    scene.begin();
    wire.send(&unsubscribe("a"));
    wire.read_type(11).unwrap();
    scene.moved(&[UNSUBSCRIBED]);
    scene.begin();
    // "a/#/b" with the identifier 3, by hand: the encoder knows no such filter.
    std::io::Write::write_all(&mut wire.stream, b"\xA2\x0A\x00\x03\x00\x00\x05a/#/b").unwrap();
    wire.read_type(11).unwrap();
    scene.moved(&[UNSUBSCRIBED, &[("packets.unsubscribe.error", 1)]]);
}

#[test]
fn a_suback_that_is_too_large_for_the_client_is_not_counted_as_sent() {
    let mut scene = Scene::new(Limits::default());
    let mut narrow = Vec::new();
    put_property(&mut narrow, id::MAXIMUM_PACKET_SIZE, Value::Number(40));
    let mut wire = Wire::connect_with(&scene.house.address(), "c", Version::V5, true, &narrow);
    assert_eq!(wire.read_type(2).unwrap()[3], 0);
    scene.begin();
    let names: Vec<String> = (0..50).map(|number| format!("f{number}")).collect();
    let filter = |name| Filter::new(name).unwrap();
    let wanted = names.iter().map(|name| (Ok(filter(name)), SubscriptionOptions::plain(QoS::AtMostOnce)));
    let (properties, filters) = (Properties::default(), wanted.collect());
    wire.send(&Packet::Subscribe(Subscribe { packet_id: 1, properties, filters }));
    assert!(wire.read_type(14).is_some(), "it is told, and nothing is subscribed to");
    let received = [("packets.received", 1), ("packets.subscribe.received", 1)];
    scene.moved(&[ENDED, &received, &[("packets.sent", 1), ("packets.disconnect.sent", 1)]]);
}

#[test]
fn asking_what_a_client_may_do_and_remembering_it() {
    let mut scene = Scene::new(Limits::default());
    let mut wire = scene.enter("c", Version::V5);
    scene.house.broker.set_interest(Interest::AUTHORIZE);
    let answer = |scene: &mut Scene, codes: &[u8]| {
        let ticket = scene.house.wait_for("question", |event| match event {
            Event::Authorize(question) => Some(question.ticket),
            _ => None,
        });
        scene.house.broker.answer_authorize(ticket, codes.iter().map(|code| answered(*code)).collect());
    };
    scene.begin();
    wire.subscribe("a", QoS::AtMostOnce);
    answer(&mut scene, &[0x87]);
    wire.read_type(9).unwrap();
    let refused = [("packets.subscribe.error", 1), ("packets.subscribe.auth_error", 1)];
    scene.moved(&[SUBSCRIBED, &refused, &[("client.check_acl", 1), ("client.acl.deny", 1)]]);

    scene.begin();
    wire.send(&publish("t", QoS::AtLeastOnce, 1));
    answer(&mut scene, &[0]);
    wire.read_type(4).unwrap();
    let published = [("messages.qos1.received", 1), ("packets.sent", 1), ("packets.puback.sent", 1)];
    scene.moved(&[ROUTED, UNWANTED, &published, &[("client.check_acl", 1), ("client.acl.allow", 1)]]);

    scene.begin();
    wire.send(&publish("t", QoS::AtLeastOnce, 2));
    wire.read_type(4).unwrap();
    scene.moved(&[ROUTED, UNWANTED, &published, &[("client.acl.cache_hit", 1), ("client.acl.allow", 1)]]);

    scene.begin();
    wire.send(&publish("u", QoS::ExactlyOnce, 3));
    answer(&mut scene, &[0x87]);
    wire.read_type(5).unwrap();
    let refused: &[(&str, u64)] = &[
        ("packets.received", 1),
        ("packets.publish.received", 1),
        ("messages.received", 1),
        ("messages.qos2.received", 1),
        ("whimbrel.publish.refused", 1),
        ("packets.sent", 1),
        ("packets.pubrec.sent", 1),
        ("packets.publish.error", 1),
        ("packets.publish.auth_error", 1),
        ("client.check_acl", 1),
        ("client.acl.deny", 1),
    ];
    scene.moved(&[refused]);
}

// Publishing.

#[test]
fn publishing_to_nobody() {
    let mut scene = Scene::new(Limits::default());
    let mut wire = scene.enter("c", Version::V5);
    scene.begin();
    wire.send(&publish("t", QoS::AtMostOnce, 0));
    scene.moved(&[ROUTED, UNWANTED, &[("messages.qos0.received", 1)]]);
    scene.begin();
    wire.send(&publish("t", QoS::ExactlyOnce, 1));
    wire.read_type(5).unwrap();
    scene.moved(&[ROUTED, UNWANTED, &[("messages.qos2.received", 1), ("packets.sent", 1), ("packets.pubrec.sent", 1)]]);
}

#[test]
fn publishing_the_same_identifier_again_and_releasing_it_twice() {
    let mut scene = Scene::new(Limits::default());
    let mut wire = scene.enter("c", Version::V5);
    wire.send(&publish("t", QoS::ExactlyOnce, 1));
    wire.read_type(5).unwrap();
    scene.begin();
    wire.send(&publish("t", QoS::ExactlyOnce, 1));
    wire.read_type(5).unwrap();
    scene.moved(&[&[
        ("packets.received", 1),
        ("packets.publish.received", 1),
        ("messages.received", 1),
        ("messages.qos2.received", 1),
        ("packets.publish.inuse", 1),
        ("packets.sent", 1),
        ("packets.pubrec.sent", 1),
    ]]);
    let released: &[(&str, u64)] =
        &[("packets.received", 1), ("packets.pubrel.received", 1), ("packets.sent", 1), ("packets.pubcomp.sent", 1)];
    for missed in [0, 1] {
        scene.begin();
        wire.send(&Packet::PubRel(ack(1)));
        wire.read_type(7).unwrap();
        scene.moved(&[released, &[("packets.pubrel.missed", missed)]]);
    }
}

#[test]
fn publishing_more_than_may_wait_for_release() {
    let mut scene = Scene::new(Limits { max_awaiting_rel: 1, ..Limits::default() });
    let mut wire = scene.enter("c", Version::V5);
    wire.send(&publish("t", QoS::ExactlyOnce, 1));
    wire.read_type(5).unwrap();
    scene.begin();
    wire.send(&publish("t", QoS::ExactlyOnce, 2));
    assert_eq!(wire.read_type(5).unwrap()[4], 0x97);
    scene.moved(&[&[
        ("packets.received", 1),
        ("packets.publish.received", 1),
        ("messages.received", 1),
        ("messages.qos2.received", 1),
        ("packets.publish.dropped", 1),
        ("messages.qos2.dropped", 1),
        ("packets.sent", 1),
        ("packets.pubrec.sent", 1),
        ("packets.publish.error", 1),
    ]]);
}

#[test]
fn a_release_that_does_not_come_in_time() {
    let mut scene = Scene::new(Limits { await_rel_timeout_s: 1, ..Limits::default() });
    let mut wire = scene.enter("c", Version::V5);
    scene.begin();
    wire.send(&publish("t", QoS::ExactlyOnce, 1));
    wire.read_type(5).unwrap();
    let expired: &[(&str, u64)] = &[
        ("messages.qos2.expired", 1),
        ("messages.dropped.await_pubrel_timeout", 1),
        ("messages.dropped.expired", 1),
        ("messages.dropped", 1),
    ];
    let published = [("messages.qos2.received", 1), ("packets.sent", 1), ("packets.pubrec.sent", 1)];
    scene.moved(&[ROUTED, UNWANTED, &published, expired]);
}

#[test]
fn a_publish_whose_alias_stands_for_nothing() {
    let mut scene = Scene::new(Limits::default());
    let mut wire = scene.enter("c", Version::V5);
    scene.begin();
    let mut raw = Vec::new();
    put_property(&mut raw, id::TOPIC_ALIAS, Value::Number(5));
    let properties = Properties::trusted(&raw);
    let (dup, qos, retain, packet_id, payload) = (false, QoS::AtMostOnce, false, 0, b"x".as_slice());
    wire.send(&Packet::Publish(Publish { dup, qos, retain, topic: None, packet_id, properties, payload }));
    wire.read_type(14).expect("it is told");
    scene.moved(&[
        ENDED,
        &[
            ("packets.received", 1),
            ("packets.publish.received", 1),
            ("messages.received", 1),
            ("messages.qos0.received", 1),
            ("whimbrel.publish.refused", 1),
            ("packets.sent", 1),
            ("packets.disconnect.sent", 1),
        ],
    ]);
}

#[test]
fn leaving_a_will_behind() {
    let mut scene = Scene::new(Limits::default());
    let mut wire = Wire::dial(&scene.house.address(), Version::V5);
    let (properties, topic) = (Properties::default(), Topic::new("w").unwrap());
    let will =
        whimbrel_protocol::packet::Will { topic, payload: b"x", qos: QoS::AtMostOnce, retain: false, properties };
    wire.send(&Packet::Connect(Box::new(Connect {
        version: Version::V5,
        clean_start: true,
        keep_alive_s: 0,
        client_id: "c",
        will: Some(will),
        username: None,
        password: None,
        properties,
    })));
    wire.read_type(2).unwrap();
    scene.begin();
    drop(wire);
    scene.moved(&[ENDED, UNWANTED, &[("messages.publish", 1), ("whimbrel.routed.wills", 1)]]);
}

#[test]
fn retaining_clearing_and_refusing_to_retain() {
    let mut scene = Scene::new(Limits::default());
    let mut wire = scene.enter("c", Version::V5);
    for (payload, gauge) in [("x", 1), ("y", 1), ("", 0)] {
        scene.begin();
        wire.send(&publish_with("t", QoS::AtMostOnce, 0, (payload.as_bytes(), true)));
        scene.moved_but_gauges(&[ROUTED, UNWANTED, &[("messages.qos0.received", 1)]]);
        assert_eq!(scene.house.count("messages.retained"), gauge);
    }
    scene.begin();
    wire.send(&publish_with("t", QoS::AtMostOnce, 0, (&[0; 20_000_000][..900_000], true)));
    scene.moved_but_gauges(&[ROUTED, UNWANTED, &[("messages.qos0.received", 1)]]);
    for number in 0..20 {
        wire.send(&publish_with(&format!("big/{number}"), QoS::AtMostOnce, 0, (&vec![0; 900_000], true)));
    }
    scene.house.until_count("whimbrel.retained.refused", 3);
    assert_eq!(scene.house.count("messages.retained"), 18);
}

// Delivering.

#[test]
fn delivering_qos_0() {
    let mut scene = Scene::new(Limits::default());
    let mut sub = scene.subscriber("s", "t", QoS::AtMostOnce);
    scene.begin();
    scene.publish("t", QoS::AtMostOnce, b"x");
    sub.read_type(3).unwrap();
    scene.moved(&[FROM_INSIDE, DELIVERED, &[("messages.qos0.sent", 1)]]);
}

#[test]
fn delivering_qos_1_with_its_acknowledgement_and_more_of_them() {
    let mut scene = Scene::new(Limits::default());
    let mut sub = scene.subscriber("s", "t", QoS::AtLeastOnce);
    scene.begin();
    scene.publish("t", QoS::AtLeastOnce, b"x");
    sub.read_type(3).unwrap();
    scene.moved(&[FROM_INSIDE, DELIVERED, &[("messages.qos1.sent", 1), ("whimbrel.acks.awaited", 1)]]);

    scene.begin();
    sub.send(&Packet::PubComp(ack(1)));
    scene.moved(&[&[("packets.received", 1), ("packets.pubcomp.received", 1), ("packets.pubcomp.inuse", 1)]]);
    let puback: &[(&str, u64)] = &[("packets.received", 1), ("packets.puback.received", 1)];
    scene.begin();
    sub.send(&Packet::PubAck(ack(1)));
    scene.moved(&[puback, &[("messages.acked", 1), ("whimbrel.acks.completed", 1)]]);
    scene.begin();
    sub.send(&Packet::PubAck(ack(1)));
    scene.moved(&[puback, &[("packets.puback.missed", 1)]]);
}

#[test]
fn delivering_qos_2_with_all_its_acknowledgements_and_more_of_them() {
    let mut scene = Scene::new(Limits::default());
    let mut sub = scene.subscriber("s", "t", QoS::ExactlyOnce);
    scene.begin();
    scene.publish("t", QoS::ExactlyOnce, b"x");
    sub.read_type(3).unwrap();
    scene.moved(&[FROM_INSIDE, DELIVERED, &[("messages.qos2.sent", 1), ("whimbrel.acks.awaited", 1)]]);

    let pubrec: &[(&str, u64)] =
        &[("packets.received", 1), ("packets.pubrec.received", 1), ("packets.sent", 1), ("packets.pubrel.sent", 1)];
    scene.begin();
    sub.send(&Packet::PubAck(ack(1)));
    scene.moved(&[&[("packets.received", 1), ("packets.puback.received", 1), ("packets.puback.inuse", 1)]]);
    for (name, count) in [("messages.acked", 1), ("packets.pubrec.inuse", 1)] {
        scene.begin();
        sub.send(&Packet::PubRec(ack(1)));
        sub.read_type(6).unwrap();
        scene.moved(&[pubrec, &[(name, count)]]);
    }
    for name in ["whimbrel.acks.completed", "packets.pubcomp.missed"] {
        scene.begin();
        sub.send(&Packet::PubComp(ack(1)));
        scene.moved(&[&[("packets.received", 1), ("packets.pubcomp.received", 1), (name, 1)]]);
    }
    scene.begin();
    sub.send(&Packet::PubRec(ack(1)));
    sub.read_type(6).unwrap();
    scene.moved(&[pubrec, &[("packets.pubrec.missed", 1)]]);
}

#[test]
fn a_refusing_pubrec_ends_a_delivery() {
    let mut scene = Scene::new(Limits::default());
    let mut sub = scene.subscriber("s", "t", QoS::ExactlyOnce);
    scene.publish("t", QoS::ExactlyOnce, b"x");
    sub.read_type(3).unwrap();
    scene.begin();
    sub.send(&Packet::PubRec(Ack::new(1, ReasonCode::QUOTA_EXCEEDED)));
    scene.moved(&[&[
        ("packets.received", 1),
        ("packets.pubrec.received", 1),
        ("messages.acked", 1),
        ("whimbrel.acks.completed", 1),
    ]]);
}

#[test]
fn what_is_under_sys_counts_as_nothing_sent_published_or_unwanted() {
    let mut scene = Scene::new(Limits::default());
    let mut sub = scene.subscriber("s", "$SYS/#", QoS::AtLeastOnce);
    scene.begin();
    scene.publish("$SYS/x", QoS::AtLeastOnce, b"x");
    sub.read_type(3).unwrap();
    let inside: &[(&str, u64)] = &[("whimbrel.routed.inside", 1), ("whimbrel.routed.sys", 1)];
    scene.moved(&[inside, &DELIVERED[..3], &[("whimbrel.acks.awaited", 1)]]);
    drop(sub);
    scene.house.until_count("client.disconnected", 1);
    scene.begin();
    scene.publish("$SYS/x", QoS::AtLeastOnce, b"x");
    scene.moved(&[inside]);
}

#[test]
fn a_queued_message_under_sys_counts_as_nothing_sent_either() {
    let mut scene = Scene::new(Limits::default());
    let mut sub = scene.enter_kept("s");
    sub.subscribe("$SYS/#", QoS::AtLeastOnce);
    sub.read_type(9).unwrap();
    drop(sub);
    scene.house.until_count("client.disconnected", 1);
    scene.publish("$SYS/x", QoS::AtLeastOnce, b"x");
    scene.begin();
    let mut sub = scene.resume("s");
    sub.read_type(3).unwrap();
    let entry = [("client.connected", 1), ("session.resumed", 1)];
    scene.moved(&[ENTRY, ANONYMOUS, &entry, &[("messages.delivered", 1), ("whimbrel.acks.awaited", 1)]]);
}

// Dropping.

#[test]
fn dropping_a_client_s_own_message() {
    let mut scene = Scene::new(Limits::default());
    let mut wire = scene.enter("c", Version::V5);
    let options = SubscriptionOptions { no_local: true, ..SubscriptionOptions::plain(QoS::AtMostOnce) };
    let filters = vec![(Ok(Filter::new("t").unwrap()), options)];
    wire.send(&Packet::Subscribe(Subscribe { packet_id: 1, properties: Properties::default(), filters }));
    wire.read_type(9).unwrap();
    scene.begin();
    wire.send(&publish("t", QoS::AtMostOnce, 0));
    scene.moved(&[ROUTED, DROPPED, &[("messages.qos0.received", 1), ("delivery.dropped.no_local", 1)]]);
}

#[test]
fn passing_over_the_half_of_a_session_s_subscriptions_that_is_not_meant() {
    let mut scene = Scene::new(Limits::default());
    let mut wire = scene.enter("c", Version::V5);
    let plain = SubscriptionOptions::plain(QoS::AtMostOnce);
    let filter = |name| Filter::new(name).unwrap();
    let filters = vec![(Ok(filter("t")), SubscriptionOptions { no_local: true, ..plain }), (Ok(filter("+")), plain)];
    wire.send(&Packet::Subscribe(Subscribe { packet_id: 1, properties: Properties::default(), filters }));
    wire.read_type(9).unwrap();
    scene.begin();
    wire.send(&publish("t", QoS::AtMostOnce, 0));
    wire.read_type(3).unwrap();
    let second: &[(&str, u64)] =
        &[("whimbrel.deliveries.wanted", 1), ("whimbrel.deliveries.made", 1), ("whimbrel.deliveries.passed_over", 1)];
    scene.moved(&[ROUTED, DELIVERED, second, &[("messages.qos0.received", 1), ("messages.qos0.sent", 1)]]);
}

#[test]
fn dropping_what_is_too_large_for_the_client() {
    let mut scene = Scene::new(Limits::default());
    let mut narrow = Vec::new();
    put_property(&mut narrow, id::MAXIMUM_PACKET_SIZE, Value::Number(100));
    let mut sub = Wire::connect_with(&scene.house.address(), "s", Version::V5, true, &narrow);
    sub.subscribe("t", QoS::AtLeastOnce);
    sub.read_type(9).unwrap();
    scene.begin();
    scene.publish("t", QoS::AtLeastOnce, &[0; 200]);
    scene.moved(&[FROM_INSIDE, DROPPED, &[("delivery.dropped.too_large", 1)]]);
}

#[test]
fn dropping_for_a_client_that_is_away() {
    let mut scene = Scene::new(Limits { max_mqueue_len: 2, ..Limits::default() });
    let mut sub = scene.enter_kept("s");
    sub.subscribe("t", QoS::AtLeastOnce);
    sub.read_type(9).unwrap();
    drop(sub);
    scene.house.until_count("client.disconnected", 1);
    scene.begin();
    scene.publish("t", QoS::AtMostOnce, b"x");
    scene.moved(&[FROM_INSIDE, DROPPED, &[("delivery.dropped.qos0_msg", 1)]]);
    scene.begin();
    scene.publish("t", QoS::AtLeastOnce, b"1");
    scene.moved(&[FROM_INSIDE, &DROPPED[1..]]);
    scene.publish("t", QoS::AtLeastOnce, b"2");
    scene.begin();
    scene.publish("t", QoS::AtLeastOnce, b"3");
    scene.moved(&[FROM_INSIDE, DROPPED, &[("delivery.dropped.queue_full", 1)]]);
    scene.begin();
    assert!(scene.house.kick("s"));
    let dropped = [("delivery.dropped", 2), ("delivery.dropped.session_ended", 2)];
    scene.moved(&[&[("session.terminated", 1)], &dropped]);
}

#[test]
fn dropping_what_has_expired_meanwhile() {
    let mut scene = Scene::new(Limits::default());
    let mut sub = scene.enter_kept("s");
    sub.subscribe("t", QoS::AtLeastOnce);
    sub.read_type(9).unwrap();
    drop(sub);
    scene.house.until_count("client.disconnected", 1);
    let mut publisher = scene.enter("p", Version::V5);
    let mut raw = Vec::new();
    put_property(&mut raw, id::MESSAGE_EXPIRY_INTERVAL, Value::Number(0));
    let (dup, retain, packet_id, payload) = (false, false, 1, b"x".as_slice());
    let (qos, topic, properties) = (QoS::AtLeastOnce, Some(Topic::new("t").unwrap()), Properties::trusted(&raw));
    publisher.send(&Packet::Publish(Publish { dup, qos, retain, topic, packet_id, properties, payload }));
    publisher.read_type(4).unwrap();
    scene.begin();
    let _sub = scene.resume("s");
    let dropped = [("delivery.dropped", 1), ("delivery.dropped.expired", 1), ("messages.expired", 1)];
    scene.moved(&[ENTRY, ANONYMOUS, &[("client.connected", 1), ("session.resumed", 1)], &dropped]);
}

#[test]
fn what_was_sent_and_not_acknowledged_is_missing_when_its_session_ends() {
    let mut scene = Scene::new(Limits::default());
    let mut sub = scene.subscriber("s", "t", QoS::AtLeastOnce);
    scene.publish("t", QoS::AtLeastOnce, b"x");
    sub.read_type(3).unwrap();
    scene.begin();
    drop(sub);
    scene.moved(&[ENDED, &[("whimbrel.acks.missing", 1)]]);
}

// The machine itself.

#[test]
fn what_a_client_that_leaves_gives_back() {
    let mut scene = Scene::new(Limits::default());
    let wire = scene.enter("c", Version::V5);
    scene.begin();
    drop(wire);
    scene.moved(&[ENDED]);
    assert!(scene.difference("whimbrel.memory.released") > 0);
}

#[test]
fn a_handshake_that_fails() {
    let mut listener = loopback();
    listener.layers.websocket_path = Some("/mqtt".into());
    let mut scene = Scene::behind(listener, Limits::default());
    let mut wire = Wire::dial(&scene.house.address(), Version::V5);
    std::io::Write::write_all(&mut wire.stream, b"no request at all\r\n\r\n").unwrap();
    scene.moved(&[&[("whimbrel.handshakes.failed", 1)]]);
}

#[test]
fn a_notice_that_finds_no_place() {
    let mut scene = Scene::new(Limits::default());
    scene.house.broker.set_interest(Interest::CONNECTED);
    scene.begin();
    let replies = whimbrel_server::outlet::NOTICES_MAX as u64;
    (0..replies).for_each(|number| scene.house.broker.request_clients(1 << 40 | number, 1 << 40, 1));
    let mut wire = scene.enter("c", Version::V5);
    // The answer comes in a later turn, when the notice has found no place.
    assert!(wire.is_alive());
    let alive =
        [("packets.pingreq.received", 1), ("packets.pingresp.sent", 1), ("packets.received", 1), ("packets.sent", 1)];
    let dropped = [("client.connected", 1), ("session.created", 1), ("whimbrel.notices.dropped", 1)];
    scene.moved(&[ENTRY, ANONYMOUS, &alive, &dropped]);
}

#[test]
fn looking_topics_up_and_going_round() {
    let mut scene = Scene::new(Limits::default());
    scene.begin();
    for _ in 0..4 {
        scene.publish("a", QoS::AtMostOnce, b"x");
    }
    // What came twice is remembered.
    assert_eq!(scene.difference("whimbrel.router.misses"), 2);
    assert!(scene.difference("whimbrel.worker.turns") >= 4);
}

// Names.

#[test]
fn every_metric_has_a_test() {
    scene::assert_all_named(
        whimbrel_server::meanings::METRICS.iter().map(|(name, _)| (*name).to_owned()),
        &[
            include_str!("metrics.rs"),
            include_str!("conservation.rs"),
            include_str!("sys.rs"),
            include_str!("durability.rs"),
            include_str!("shortage.rs"),
        ],
    );
}
