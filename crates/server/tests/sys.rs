//! The `$SYS` tree in the data plane: who may read and write there, and who is told of clients that come and go.
//!
//! Knows what clients see on the wire. A second address of this machine stands for another machine: what is on loopback is
//! decided by the rule's own tests.

mod house;
mod scene;

use house::{House, Wire, loopback};
use scene::{Scene, publish};
use whimbrel_protocol::decode::{Split, decode, split};
use whimbrel_protocol::packet::{Connect, Packet, Will};
use whimbrel_protocol::properties::{Properties, Value, id, put_property};
use whimbrel_protocol::{Limits, QoS, ReasonCode, Topic, Version};
use whimbrel_server::{Answer, Event, Interest, Readers, SysOptions};

fn scene(readers: Readers, is_presence_published: bool) -> Scene {
    let sys = SysOptions { readers, is_presence_published };
    Scene::of(House::start_publishing(Limits::default(), loopback(), sys))
}

/// Topic and payload of the next PUBLISH.
fn news(wire: &mut Wire, version: Version) -> (String, String) {
    let frame = wire.read_type(3).expect("the connection lives");
    let Ok(Split::Frame(whole)) = split(&frame, u32::MAX) else { panic!("frames are whole") };
    let Ok(Packet::Publish(publish)) = decode(whole, version) else { panic!("a PUBLISH") };
    let topic = publish.topic.expect("named").as_str().to_owned();
    (topic, String::from_utf8(publish.payload.to_vec()).unwrap())
}

/// A number or text of the JSON, as it stands there.
fn field<'a>(json: &'a str, name: &str) -> &'a str {
    let (_, rest) = json.split_once(&format!("\"{name}\":")).unwrap_or_else(|| panic!("{name} in {json}"));
    rest.split([',', '}']).next().unwrap()
}

#[test]
fn nobody_publishes_under_sys() {
    let mut scene = scene(Readers::All, false);
    let mut watcher = scene.subscriber("w", "$SYS/#", QoS::AtMostOnce);
    let mut wire = scene.enter("c", Version::V5);
    scene.begin();
    wire.send(&publish("$SYS/x", QoS::AtLeastOnce, 1));
    assert_eq!(wire.read_type(4).unwrap()[4], 0x87);
    scene.moved(&[&[
        ("packets.received", 1),
        ("packets.publish.received", 1),
        ("messages.received", 1),
        ("messages.qos1.received", 1),
        ("whimbrel.sys.refused", 1),
        ("whimbrel.publish.refused", 1),
        ("packets.sent", 1),
        ("packets.puback.sent", 1),
        ("packets.publish.error", 1),
        ("packets.publish.auth_error", 1),
    ]]);
    wire.send(&publish("$SYS", QoS::AtMostOnce, 0));
    wire.send(&publish("$SYSTEM/x", QoS::AtMostOnce, 0));
    scene.until_moved("whimbrel.sys.refused", 2);
    scene.until_moved("messages.publish", 1);
    watcher.send(&Packet::PingReq);
    assert_eq!(watcher.read().unwrap()[0], 0xD0, "nothing came before the answer");
}

#[test]
fn nobody_leaves_a_will_under_sys() {
    let scene = scene(Readers::All, false);
    let mut wire = Wire::dial(&scene.house.address(), Version::V5);
    let (properties, topic) = (Properties::default(), Topic::new("$SYS/w").unwrap());
    wire.send(&Packet::Connect(Box::new(Connect {
        version: Version::V5,
        clean_start: true,
        keep_alive_s: 0,
        client_id: "c",
        will: Some(Will { topic, payload: b"x", qos: QoS::AtMostOnce, retain: false, properties }),
        username: None,
        password: None,
        properties,
    })));
    assert_eq!(wire.read_type(2).unwrap()[3], 0x87);
    scene.until_moved("whimbrel.sys.refused", 1);
    assert_eq!(scene.house.count("sessions.count"), 0);
}

#[test]
fn a_superuser_publishes_and_reads_under_sys() {
    let mut scene = scene(Readers::Nobody, false);
    scene.house.broker.set_interest(Interest::AUTHENTICATE);
    let mut wire = Wire::connect_with(&scene.house.address(), "c", Version::V5, true, &[]);
    let ticket = scene.house.wait_for("question", |event| match event {
        Event::Authenticate(question) => Some(question.ticket),
        _ => None,
    });
    scene.house.broker.answer_authenticate(ticket, Answer::new(ReasonCode::SUCCESS), true);
    wire.subscribe("$SYS/#", QoS::AtMostOnce);
    assert_eq!(wire.read_type(9).unwrap().last(), Some(&0));
    wire.send(&publish("$SYS/x", QoS::AtMostOnce, 0));
    assert_eq!(news(&mut wire, Version::V5).0, "$SYS/x");
}

#[test]
fn who_may_not_read_is_refused_also_as_a_member_of_a_group() {
    let mut scene = scene(Readers::Nobody, false);
    let mut wire = scene.enter("c", Version::V5);
    for filter in ["$SYS/#", "$SYS", "$SYS/+/x", "$share/g/$SYS/#"] {
        wire.subscribe(filter, QoS::AtMostOnce);
        assert_eq!(wire.read_type(9).unwrap().last(), Some(&0x87), "{filter}");
    }
    wire.subscribe("#", QoS::AtMostOnce);
    assert_eq!(wire.read_type(9).unwrap().last(), Some(&0), "it matches nothing under $SYS");
    scene.until_moved("packets.subscribe.auth_error", 4);
    assert_eq!(scene.house.count("subscriptions.count"), 1);
    scene.publish("$SYS/x", QoS::AtMostOnce, b"x");
    scene.publish("y", QoS::AtMostOnce, b"y");
    assert_eq!(news(&mut wire, Version::V5).0, "y");
}

#[test]
fn a_client_of_this_machine_reads_by_default() {
    let scene = scene(Readers::default(), false);
    scene.subscriber("c", "$SYS/#", QoS::AtMostOnce);
}

#[test]
fn who_comes_and_who_goes_is_told_as_emq_x_tells_it() {
    let scene = scene(Readers::default(), true);
    let mut watcher = scene.subscriber("w", "$SYS/brokers/+/clients/#", QoS::AtLeastOnce);
    let mut raw = Vec::new();
    put_property(&mut raw, id::SESSION_EXPIRY_INTERVAL, Value::Number(60));
    let mut wire = Wire::dial(&scene.house.address(), Version::V5);
    wire.send(&Packet::Connect(Box::new(Connect {
        version: Version::V5,
        clean_start: true,
        keep_alive_s: 77,
        client_id: "de\"vice",
        will: None,
        username: Some("u"),
        password: None,
        properties: Properties::trusted(&raw),
    })));
    wire.read_type(2).unwrap();
    let (topic, json) = news(&mut watcher, Version::V5);
    assert_eq!(topic, "$SYS/brokers/test/clients/de\"vice/connected");
    let port = scene.house.address().rsplit(':').next().unwrap().to_owned();
    for (name, expected) in [
        ("clientid", "\"de\\\"vice\""),
        ("username", "\"u\""),
        ("ipaddress", "\"127.0.0.1\""),
        ("sockport", port.as_str()),
        ("proto_name", "\"MQTT\""),
        ("proto_ver", "5"),
        ("keepalive", "77"),
        ("connack", "0"),
        ("clean_start", "true"),
        ("expiry_interval", "60"),
    ] {
        assert_eq!(field(&json, name), expected, "{name}");
    }
    assert_eq!(field(&json, "ts"), field(&json, "connected_at"));
    drop(wire);
    let (topic, json) = news(&mut watcher, Version::V5);
    assert_eq!(topic, "$SYS/brokers/test/clients/de\"vice/disconnected");
    assert_eq!((field(&json, "reason"), field(&json, "username")), ("\"tcp_closed\"", "\"u\""));
    assert!(field(&json, "disconnected_at").parse::<u64>().unwrap() > 1_600_000_000_000);
    assert_eq!(scene.difference("messages.publish"), 0);
}

#[test]
fn mqtt_3_1_and_a_client_without_a_name_of_its_user() {
    let scene = scene(Readers::default(), true);
    let mut watcher = scene.subscriber("w", "$SYS/brokers/test/clients/old/connected", QoS::AtMostOnce);
    let _old = scene.enter("old", Version::V31);
    let (_, json) = news(&mut watcher, Version::V5);
    assert_eq!((field(&json, "proto_name"), field(&json, "proto_ver")), ("\"MQIsdp\"", "3"));
    assert_eq!((field(&json, "username"), field(&json, "expiry_interval")), ("\"undefined\"", "0"));
}

#[test]
fn nothing_is_made_where_nobody_listens_or_where_the_settings_say_no() {
    for (is_published, filter) in [(false, "$SYS/#"), (true, "$SYS/brokers/test/stats/#"), (true, "$SYS/brokers/+")] {
        let mut scene = scene(Readers::default(), is_published);
        let _watcher = scene.subscriber("w", filter, QoS::AtMostOnce);
        scene.begin();
        drop(scene.enter("c", Version::V5));
        scene.until_moved("client.disconnected", 1);
        assert_eq!(scene.difference("whimbrel.routed.inside"), 0, "{filter}");
    }
}

#[test]
fn a_client_whose_name_cannot_stand_in_a_topic_is_counted() {
    let mut scene = scene(Readers::default(), true);
    let _watcher = scene.subscriber("w", "$SYS/#", QoS::AtMostOnce);
    scene.begin();
    let _wire = scene.enter("a/+", Version::V5);
    scene.until_moved("whimbrel.presence.dropped", 1);
}

#[test]
fn a_watcher_that_does_not_read_loses_notices_and_holds_up_nobody() {
    let limits = Limits { max_outbox_bytes: 4_096, ..Limits::default() };
    let sys = SysOptions { readers: Readers::Local, is_presence_published: true };
    let mut scene = Scene::of(House::start_publishing(limits, loopback(), sys));
    let _watcher = scene.subscriber("w", "$SYS/#", QoS::AtMostOnce);
    scene.begin();
    let long = "x".repeat(60_000);
    let mut count = 0;
    while scene.difference("delivery.dropped.qos0_msg") == 0 {
        drop(scene.enter(&format!("{count}{long}"), Version::V5));
        count += 1;
    }
    for line in scene.house.audit().lines() {
        assert_eq!(line.missing(), 0, "{line:?}");
    }
}
