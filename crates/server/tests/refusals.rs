//! What clients read when something of theirs is refused and they stay: codes and words of PUBACK, PUBREC, PUBREL, PUBCOMP,
//! SUBACK and UNSUBACK, and what is done where the answer would be too long for them.
//!
//! Knows the wire, and answers the broker's questions as a hook would.

mod house;

use house::{House, Wire};
use whimbrel_protocol::decode::{Split, decode, split};
use whimbrel_protocol::packet::{Ack, Disconnect, Packet, Publish, Subscribe, SubscriptionOptions, Unsubscribe};
use whimbrel_protocol::properties::{Properties, Value, id, put_property};
use whimbrel_protocol::{Filter, Limits, QoS, ReasonCode, Topic, Version};
use whimbrel_server::{Answer, Event, Interest};

const NO_WORDS: &[u8] = b"\x17\x00";

fn entered(house: &House, raw: &[u8]) -> Wire {
    let mut wire = Wire::connect_with(&house.address(), "c", Version::V5, true, raw);
    assert_eq!(wire.read().expect("CONNACK")[3], 0);
    wire
}

fn narrow(bytes: u32) -> Vec<u8> {
    let mut raw = Vec::new();
    put_property(&mut raw, id::MAXIMUM_PACKET_SIZE, Value::Number(bytes));
    raw
}

fn publish(wire: &mut Wire, topic: &str, qos: QoS, packet_id: u16) {
    let (topic, properties) = (Some(Topic::new(topic).unwrap()), Properties::default());
    let packet = Publish { dup: false, qos, retain: false, topic, packet_id, properties, payload: b"x" };
    wire.send(&Packet::Publish(packet));
}

fn subscribe(wire: &mut Wire, filters: &[&str]) {
    let plain = SubscriptionOptions::plain(QoS::AtMostOnce);
    let filters = filters.iter().map(|text| (Ok(Filter::new(text).unwrap()), plain)).collect();
    wire.send(&Packet::Subscribe(Subscribe { packet_id: 1, properties: Properties::default(), filters }));
}

/// Codes and words of the next packet, whatever acknowledgement it is.
fn told(wire: &mut Wire) -> (Vec<u8>, Option<String>) {
    let bytes = wire.read().expect("the connection lives");
    let Ok(Split::Frame(frame)) = split(&bytes, u32::MAX) else { panic!("a whole packet") };
    // Decoding refuses a code of another packet's list.
    let (codes, properties) = match decode(frame, Version::V5).expect("a packet in order") {
        Packet::ConnAck(connack) => (vec![connack.reason], connack.properties),
        Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
            (vec![ack.reason], ack.properties)
        }
        Packet::SubAck(ack) | Packet::UnsubAck(ack) => (ack.reasons, ack.properties),
        Packet::Disconnect(disconnect) => (vec![disconnect.reason], disconnect.properties),
        other => panic!("{other:?}"),
    };
    (codes.iter().map(|code| code.0).collect(), properties.text(id::REASON_STRING).map(str::to_owned))
}

fn code_and_words(code: u8, words: &str) -> (Vec<u8>, Option<String>) {
    (vec![code], Some(words.to_owned()))
}

/// The ticket of the next question about a publish or subscribe.
fn asked(house: &mut House) -> u64 {
    house.wait_for("question", |event| match event {
        Event::Authorize(question) => Some(question.ticket),
        _ => None,
    })
}

#[test]
fn the_words_of_a_hook_reach_the_client_in_puback_pubrec_and_suback() {
    let mut house = House::start(1, Limits::default());
    house.broker.set_interest(Interest::AUTHORIZE);
    let mut client = entered(&house, b"");
    for (qos, topic) in [(QoS::AtLeastOnce, "a"), (QoS::ExactlyOnce, "b")] {
        publish(&mut client, topic, qos, 7);
        let denial = Answer::in_words(ReasonCode::NOT_AUTHORIZED, "not your shelf");
        let ticket = asked(&mut house);
        house.broker.answer_authorize(ticket, vec![denial]);
        assert_eq!(told(&mut client), code_and_words(0x87, "not your shelf"));
        // The refusal is remembered, and its words with it.
        publish(&mut client, topic, qos, 8);
        assert_eq!(told(&mut client), code_and_words(0x87, "not your shelf"));
    }
    subscribe(&mut client, &["a", "b", "c"]);
    let denials = [
        Answer::in_words(ReasonCode::QUOTA_EXCEEDED, "enough"),
        Answer::new(ReasonCode::SUCCESS),
        Answer::new(ReasonCode::NOT_AUTHORIZED),
    ];
    let ticket = asked(&mut house);
    house.broker.answer_authorize(ticket, denials.to_vec());
    let words = "filter 1: enough; filter 3: not authorized";
    assert_eq!(told(&mut client), (vec![0x97, 0, 0x87], Some(words.to_owned())));
}

#[test]
fn the_words_of_a_hook_reach_the_client_in_connack() {
    let mut house = House::start(2, Limits::default());
    house.broker.set_interest(Interest::AUTHENTICATE);
    let mut client = Wire::connect_with(&house.address(), "c", Version::V5, true, b"");
    let ticket = house.wait_for("question", |event| match event {
        Event::Authenticate(question) => Some(question.ticket),
        _ => None,
    });
    house.broker.answer_authenticate(ticket, Answer::in_words(ReasonCode::BANNED, "until Monday"), false);
    assert_eq!(told(&mut client), code_and_words(0x8A, "until Monday"));
    assert_eq!(client.read(), None, "nothing follows");
}

#[test]
fn no_code_of_another_packets_list_leaves_whatever_a_hook_says() {
    let mut house = House::start(1, Limits::default());
    house.broker.set_interest(Interest::AUTHORIZE);
    let mut client = entered(&house, b"");
    for code in 1..=0xFF {
        let answer = Answer::new(ReasonCode(code));
        let topic = code.to_string();
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            publish(&mut client, &format!("{topic}/{}", qos as u8), qos, 1);
            let ticket = asked(&mut house);
            house.broker.answer_authorize(ticket, vec![answer.clone()]);
            assert!(told(&mut client).0[0] >= 0x80, "{code:#04x} is no yes");
        }
        subscribe(&mut client, &[&topic]);
        let ticket = asked(&mut house);
        house.broker.answer_authorize(ticket, vec![answer]);
        assert!(told(&mut client).0[0] >= 0x80, "{code:#04x} is no yes");
    }
    house.broker.set_interest(Interest::AUTHENTICATE);
    for code in 1..=0xFF {
        let mut refused = Wire::connect_with(&house.address(), "d", Version::V5, true, b"");
        let ticket = house.wait_for("question", |event| match event {
            Event::Authenticate(question) => Some(question.ticket),
            _ => None,
        });
        house.broker.answer_authenticate(ticket, Answer::new(ReasonCode(code)), false);
        assert!(told(&mut refused).0[0] >= 0x80, "{code:#04x} is no yes");
        assert_eq!(refused.read(), None);
    }
}

#[test]
fn an_identifier_that_nobody_knows_is_told_so() {
    let house = House::start(1, Limits::default());
    let words = Some("no message with this identifier is open".to_owned());
    for (raw, words) in [(&b""[..], words), (NO_WORDS, None)] {
        let mut client = entered(&house, raw);
        client.send(&Packet::PubRec(Ack::new(9, ReasonCode::SUCCESS)));
        client.send(&Packet::PubRel(Ack::new(9, ReasonCode::SUCCESS)));
        assert_eq!((told(&mut client), told(&mut client)), ((vec![0x92], words.clone()), (vec![0x92], words)));
    }
}

#[test]
fn limits_are_named_in_words_unless_the_client_wants_none() {
    let limits = Limits {
        max_topic_levels: 2,
        max_subscriptions: 1,
        max_awaiting_rel: 0,
        is_wildcard_available: false,
        is_shared_available: false,
        ..Limits::default()
    };
    let house = House::start(1, limits);
    for raw in [&b""[..], NO_WORDS] {
        let mut client = entered(&house, raw);
        let is_told = |words: &str| (raw.is_empty()).then(|| words.to_owned());
        subscribe(&mut client, &["a/b/c", "a", "b", "+", "$share/g/a"]);
        let words = "filter 1: more levels than max_topic_levels; filter 3: more subscriptions than max_subscriptions; \
                     filter 4: wildcard subscriptions not supported; filter 5: shared subscriptions not supported";
        assert_eq!(told(&mut client), (vec![0x8F, 0, 0x97, 0xA2, 0x9E], is_told(words)));
        publish(&mut client, "a", QoS::ExactlyOnce, 1);
        let words = "more QoS 2 messages without PUBREL than max_awaiting_rel";
        assert_eq!(told(&mut client), (vec![0x97], is_told(words)));
        // A filter that can be no filter: built by hand.
        let _ = std::io::Write::write_all(&mut client.stream, b"\xA2\x0A\x00\x02\x00\x00\x02a#\x00\x01a");
        assert_eq!(told(&mut client), (vec![0x8F, 0], is_told("filter 1: topic filter invalid")));
    }
}

#[test]
fn many_refusals_are_told_in_few_words_and_none_of_them_is_left_without_its_code() {
    let house = House::start(1, Limits { max_topic_levels: 1, ..Limits::default() });
    let mut client = entered(&house, b"");
    subscribe(&mut client, &["a/b"; 2_000]);
    let (codes, words) = told(&mut client);
    assert_eq!(codes, [0x8F; 2_000]);
    let words = words.expect("words");
    assert!(words.ends_with("filter 8: more levels than max_topic_levels"), "{words}");
}

#[test]
fn words_that_the_client_has_no_room_for_are_left_out() {
    let mut house = House::start(1, Limits::default());
    house.broker.set_interest(Interest::AUTHORIZE);
    let mut client = entered(&house, &narrow(40));
    for (words, is_told) in [("x".repeat(31), true), ("x".repeat(32), false)] {
        publish(&mut client, &words, QoS::AtLeastOnce, 7);
        let ticket = asked(&mut house);
        house.broker.answer_authorize(ticket, vec![Answer::in_words(ReasonCode::NOT_AUTHORIZED, &words)]);
        // Before the words: 2 bytes of header, 2 of identifier, the code, the properties' length, 3 of the string's head.
        assert_eq!(told(&mut client), (vec![0x87], is_told.then_some(words)));
    }
}

#[test]
fn a_client_that_cannot_take_its_suback_or_unsuback_is_dismissed_and_nothing_has_changed() {
    let house = House::start(1, Limits::default());
    let mut client = entered(&house, &narrow(40));
    let filters: Vec<String> = (0..36).map(|number| format!("{number}")).collect();
    let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
    subscribe(&mut client, &filters[..35]);
    assert_eq!(told(&mut client), (vec![0; 35], None));
    subscribe(&mut client, &filters);
    assert_eq!(told(&mut client).0, [0x95]);
    assert_eq!(client.read(), None);
    // A session that stays shows what was changed.
    let mut raw = narrow(40);
    put_property(&mut raw, id::SESSION_EXPIRY_INTERVAL, Value::Number(600));
    let mut client = entered(&house, &raw);
    subscribe(&mut client, &filters[..1]);
    told(&mut client);
    let unwanted = filters.iter().map(|text| Ok(Filter::new(text).unwrap())).collect();
    let properties = Properties::default();
    client.send(&Packet::Unsubscribe(Unsubscribe { packet_id: 2, properties, filters: unwanted }));
    assert_eq!(told(&mut client).0, [0x95]);
    assert_eq!(client.read(), None);
    house.until_count("subscriptions.count", 1);
}

/// Words of the next notice about a client that is gone.
fn words_of_notice(house: &mut House) -> String {
    house.wait_for("notice", |event| match event {
        Event::Disconnected(notice) => Some(notice.text.to_string()),
        _ => None,
    })
}

#[test]
fn a_notice_has_the_words_of_the_client_or_those_that_it_was_told() {
    let mut house = House::start(1, Limits::default());
    house.broker.set_interest(Interest::DISCONNECTED);
    let goodbye = |words: &str| {
        let mut raw = Vec::new();
        put_property(&mut raw, id::REASON_STRING, Value::Text(words));
        raw
    };
    for (said, expected) in [("closing", "closing".to_owned()), (&"ü".repeat(2_000), "ü".repeat(512))] {
        let raw = goodbye(said);
        let (reason, properties) = (ReasonCode::SUCCESS, Properties::trusted(&raw));
        let mut client = entered(&house, b"");
        client.send(&Packet::Disconnect(Disconnect { reason, properties }));
        assert_eq!(words_of_notice(&mut house), expected);
    }
    let client = entered(&house, b"");
    assert!(house.kick("c"));
    assert_eq!(words_of_notice(&mut house), "an operator ended this session");
    drop(client);
    drop(entered(&house, b""));
    assert_eq!(words_of_notice(&mut house), "", "nobody said anything");
    // What a goodbye that breaks the protocol says is not what counts.
    let raw = [goodbye("see you"), vec![0x11, 0, 0, 0, 1]].concat();
    let (reason, properties) = (ReasonCode::SUCCESS, Properties::trusted(&raw));
    let mut client = entered(&house, b"");
    client.send(&Packet::Disconnect(Disconnect { reason, properties }));
    assert_eq!(words_of_notice(&mut house), "DISCONNECT revives a session that ends with the connection");
}

#[test]
fn an_old_client_is_acknowledged_as_usual_though_its_publish_was_refused() {
    let mut house = House::start(1, Limits::default());
    let mut watcher = entered(&house, b"");
    subscribe(&mut watcher, &["#"]);
    told(&mut watcher);
    house.broker.set_interest(Interest::AUTHORIZE);
    for version in [Version::V31, Version::V311] {
        let mut client = Wire::connect(&house.address(), "old", version, true);
        client.read().expect("CONNACK");
        for (qos, packet_id, first) in [(QoS::AtLeastOnce, 1, 0x40), (QoS::ExactlyOnce, 2, 0x50)] {
            publish(&mut client, "a", qos, packet_id);
            let ticket = asked(&mut house);
            house.broker.answer_authorize(ticket, vec![Answer::in_words(ReasonCode::QUOTA_EXCEEDED, "enough")]);
            assert_eq!(client.read().expect("the connection lives"), [first, 2, 0, packet_id as u8]);
        }
        client.send(&Packet::PubRel(Ack::new(2, ReasonCode::SUCCESS)));
        assert_eq!(client.read().expect("the connection lives"), [0x70, 2, 0, 2]);
        subscribe(&mut client, &["a", "b"]);
        let ticket = asked(&mut house);
        let answers = [ReasonCode::SUCCESS, ReasonCode::NOT_AUTHORIZED].map(Answer::new);
        house.broker.answer_authorize(ticket, answers.to_vec());
        // 3.1 has no code for a refusal.
        let refusal = if version == Version::V31 { 0 } else { 0x80 };
        assert_eq!(client.read().expect("the connection lives"), [0x90, 4, 0, 1, 0, refusal]);
        assert!(watcher.is_alive());
    }
    assert_eq!(house.count("messages.delivered"), 0);
}

#[test]
fn no_packet_of_any_kind_is_longer_than_the_client_takes() {
    let house = House::start(1, Limits { receive_maximum: u16::MAX, max_topic_alias: 0, ..Limits::default() });
    let mut entered = 0;
    for bytes in 1..=40 {
        let mut wire = Wire::connect_with(&house.address(), "c", Version::V5, true, &narrow(bytes));
        let Some(connack) = wire.read() else { continue };
        assert!(connack.len() <= bytes as usize);
        entered += 1;
        subscribe(&mut wire, &["a"]);
        publish(&mut wire, "a", QoS::AtMostOnce, 0);
        publish(&mut wire, "nobody", QoS::AtLeastOnce, 1);
        publish(&mut wire, "nobody", QoS::ExactlyOnce, 2);
        wire.send(&Packet::PubRel(Ack::new(9, ReasonCode::SUCCESS)));
        wire.send(&Packet::PubRec(Ack::new(9, ReasonCode::SUCCESS)));
        wire.send(&Packet::PingReq);
        // Ends in DISCONNECT: no client may send CONNACK.
        wire.send(&Packet::ConnAck(whimbrel_protocol::packet::ConnAck {
            session_present: false,
            reason: ReasonCode::SUCCESS,
            properties: Properties::default(),
        }));
        let mut kinds = Vec::new();
        while let Some(packet) = wire.read() {
            assert!(packet.len() <= bytes as usize, "{packet:02X?} for a client of {bytes} bytes");
            kinds.push(packet[0] >> 4);
        }
        assert_eq!(kinds, [9, 3, 4, 5, 7, 6, 13, 14], "{bytes} bytes");
    }
    assert!(entered > 20, "{entered} were let in");
}
