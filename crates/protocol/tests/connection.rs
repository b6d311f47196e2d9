//! The rules of one connection: order of packets, deadlines, limits, topic aliases, what CONNECT and CONNACK agree on.
//!
//! Knows [`Connection`] and [`Request`] as their drivers use them, with a clock of its own. Messages are in `delivery.rs`.

use std::sync::Arc;

use whimbrel_protocol::connection::handshake::{NEVER_EXPIRES_S, Request};
use whimbrel_protocol::connection::{Connection, Phase, Received, Role};
use whimbrel_protocol::decode::{Split, decode, split};
use whimbrel_protocol::encode::encode;
use whimbrel_protocol::packet::{Connect, Packet, Publish, Will};
use whimbrel_protocol::properties::{Properties, Value, id, put_property};
use whimbrel_protocol::{Limits, QoS, ReasonCode, Topic, Version, Violation};

const CONNECT: &[u8] = b"\x10\x0E\x00\x04MQTT\x05\x02\x00\x3C\x00\x00\x01c";
const NOT_NOW: Violation = Violation::protocol("packet type not allowed now");

fn accepted_at(now_ms: u64) -> Connection {
    let limits = Limits { idle_timeout_ms: 15_000, ..Limits::default() };
    Connection::new(Role::Server, Arc::new(limits), now_ms)
}

fn open(limits: Limits) -> Connection {
    let mut connection = Connection::new(Role::Server, Arc::new(limits), 0);
    connection.receive(CONNECT).unwrap();
    connection.open(0, u32::MAX, 0);
    connection
}

fn connect(version: Version, raw: &[u8]) -> Connect<'_> {
    Connect {
        version,
        clean_start: false,
        keep_alive_s: 60,
        client_id: "c",
        will: None,
        username: None,
        password: None,
        properties: Properties::trusted(raw),
    }
}

fn property(id: u8, value: u32) -> Vec<u8> {
    let mut raw = Vec::new();
    put_property(&mut raw, id, Value::Number(value));
    raw
}

fn request(connect: &Connect<'_>, limits: &Limits) -> Result<Request, Violation> {
    Request::new(connect, limits, || "assigned".into(), 0)
}

// Deadlines.

#[test]
fn an_open_connection_must_be_heard_within_one_and_a_half_keep_alives() {
    let mut connection = accepted_at(0);
    connection.receive(CONNECT).unwrap();
    connection.open(10, u32::MAX, 1_000);
    assert_eq!(connection.deadline_ms(), Some(16_000));
    connection.heard(9_999);
    assert_eq!(connection.deadline_ms(), Some(24_999));
}

#[test]
fn a_keep_alive_of_0_sets_no_deadline_and_the_longest_one_does_not_overflow() {
    let mut connection = accepted_at(0);
    connection.receive(CONNECT).unwrap();
    connection.open(0, u32::MAX, 1_000);
    assert_eq!(connection.deadline_ms(), None);
    connection.open(u16::MAX, u32::MAX, 0);
    assert_eq!(connection.deadline_ms(), Some(98_302_500));
}

#[test]
fn a_connection_must_be_let_in_within_the_idle_timeout() {
    let mut connection = accepted_at(2_000);
    assert_eq!(connection.deadline_ms(), Some(17_000));
    connection.receive(CONNECT).unwrap();
    assert_eq!(connection.deadline_ms(), Some(17_000));
}

#[test]
fn bytes_before_connect_do_not_lengthen_the_idle_timeout() {
    let mut connection = accepted_at(0);
    for (second, end) in (1..).zip(1..CONNECT.len()) {
        connection.heard(second * 1_000);
        assert!(matches!(connection.receive(&CONNECT[..end]), Ok(Received::Incomplete(_))));
    }
    assert_eq!(connection.deadline_ms(), Some(15_000));
}

// The order of packets.

#[test]
fn the_first_packet_is_connect_which_its_first_byte_shows() {
    for first in [0x20_u8, 0x30, 0x82, 0xC0, 0xE0, 0xF0] {
        assert_eq!(accepted_at(0).receive(&[first]), Err(NOT_NOW), "{first:#04x}");
    }
    assert_eq!(accepted_at(0).receive(&CONNECT[..1]), Ok(Received::Incomplete(2)));
}

#[test]
fn the_reason_of_a_refusal_does_not_depend_on_how_the_bytes_were_cut() {
    // The first byte is refused by itself, so the length behind it must not be looked at. Found by the fuzz target.
    for bytes in [&b"\x4A"[..], b"\x4A\xF0\x00", b"\x4A\xFF\xFF\xFF\xFF"] {
        assert_eq!(accepted_at(0).receive(bytes), Err(NOT_NOW), "{bytes:02X?}");
    }
}

#[test]
fn a_second_connect_is_a_protocol_error() {
    let mut connection = accepted_at(0);
    connection.receive(CONNECT).unwrap();
    assert_eq!(connection.phase(), Phase::Deciding);
    assert_eq!(connection.receive(CONNECT), Err(NOT_NOW));
    connection.open(0, u32::MAX, 0);
    assert_eq!(connection.receive(CONNECT), Err(NOT_NOW));
}

#[test]
fn packets_of_the_other_role_are_refused() {
    let of_servers: [&[u8]; 4] =
        [b"\x20\x03\x00\x00\x00", b"\x90\x04\x00\x01\x00\x00", b"\xB0\x04\x00\x01\x00\x00", b"\xD0\x00"];
    for bytes in of_servers {
        assert_eq!(open(Limits::default()).receive(bytes), Err(NOT_NOW), "{bytes:02X?}");
    }
    let of_clients: [&[u8]; 4] =
        [CONNECT, b"\x82\x07\x00\x01\x00\x00\x01a\x00", b"\xA2\x06\x00\x01\x00\x00\x01a", b"\xC0\x00"];
    for bytes in of_clients {
        let mut connection = Connection::new(Role::Client, Arc::default(), 0);
        connection.speak(Version::V5);
        connection.open(0, u32::MAX, 0);
        assert_eq!(connection.receive(bytes), Err(NOT_NOW), "{bytes:02X?}");
    }
}

#[test]
fn a_client_reads_nothing_before_connack() {
    let mut connection = Connection::new(Role::Client, Arc::default(), 0);
    connection.speak(Version::V5);
    assert_eq!(connection.receive(b"\x30\x04\x00\x01a\x00"), Err(NOT_NOW));
    assert!(matches!(connection.receive(b"\x20\x03\x00\x00\x00"), Ok(Received::Packet(Packet::ConnAck(_), 5))));
}

#[test]
fn no_bytes_are_an_incomplete_packet_in_every_phase() {
    for role in [Role::Server, Role::Client] {
        let mut connection = Connection::new(role, Arc::default(), 0);
        assert_eq!(connection.receive(b""), Ok(Received::Incomplete(2)), "{role:?}, opening");
        connection.open(0, u32::MAX, 0);
        assert_eq!(connection.receive(b""), Ok(Received::Incomplete(2)), "{role:?}, open");
    }
}

// Limits.

fn violation_of(limits: Limits, bytes: &[u8]) -> Option<ReasonCode> {
    open(limits).receive(bytes).err().map(|violation| violation.reason)
}

#[test]
fn a_publish_beyond_the_limits_is_refused_with_the_code_of_the_limit() {
    let default = Limits::default;
    let table = [
        (
            Limits { max_qos_allowed: 0, ..default() },
            &b"\x32\x06\x00\x01a\x00\x01\x00"[..],
            ReasonCode::QOS_NOT_SUPPORTED,
        ),
        (
            Limits { is_retain_available: false, ..default() },
            b"\x31\x04\x00\x01a\x00",
            ReasonCode::RETAIN_NOT_SUPPORTED,
        ),
        (Limits { max_topic_levels: 2, ..default() }, b"\x30\x08\x00\x05a/b/c\x00", ReasonCode::TOPIC_NAME_INVALID),
        (
            Limits { max_packet_size_bytes: 20, ..default() },
            b"\x30\x13\x00\x01a\x00fifteen bytes!!",
            ReasonCode::PACKET_TOO_LARGE,
        ),
    ];
    for (limits, bytes, reason) in table {
        assert_eq!(violation_of(default(), bytes), None, "{bytes:02X?} by default");
        assert_eq!(violation_of(limits, bytes), Some(reason), "{bytes:02X?}");
    }
}

#[test]
fn a_topic_of_empty_levels_counts_each_of_them() {
    let limits = Limits { max_topic_levels: 3, ..Limits::default() };
    assert_eq!(violation_of(limits.clone(), b"\x30\x05\x00\x02//\x00"), None);
    assert_eq!(violation_of(limits, b"\x30\x06\x00\x03///\x00"), Some(ReasonCode::TOPIC_NAME_INVALID));
}

#[test]
fn a_response_topic_has_no_wildcard() {
    // [MQTT-3.3.2-14]
    let bytes = b"\x30\x08\x00\x01a\x04\x08\x00\x01+";
    assert_eq!(violation_of(Limits::default(), bytes), Some(ReasonCode::PROTOCOL_ERROR));
}

#[test]
fn before_connack_less_is_gathered_than_afterwards() {
    let announced = b"\x10\x80\x80\x20"; // 524,288 bytes
    let refused = accepted_at(0).receive(announced).unwrap_err();
    assert_eq!(refused.reason, ReasonCode::PACKET_TOO_LARGE);
    let announced = b"\x30\x80\x80\x20";
    assert_eq!(open(Limits::default()).receive(announced), Ok(Received::Incomplete(524_292)));
}

#[test]
fn a_client_must_not_publish_with_a_subscription_identifier() {
    // [MQTT-3.3.4-6]
    let bytes = b"\x30\x06\x00\x01a\x02\x0B\x01";
    assert_eq!(violation_of(Limits::default(), bytes), Some(ReasonCode::PROTOCOL_ERROR));
}

#[test]
fn a_subscription_is_granted_no_more_than_the_limit() {
    for (max_qos_allowed, granted) in [(0, QoS::AtMostOnce), (1, QoS::AtLeastOnce), (2, QoS::ExactlyOnce)] {
        let limits = Limits { max_qos_allowed, ..Limits::default() };
        assert_eq!(open(limits).granted(QoS::ExactlyOnce), granted);
    }
}

// Topic aliases.

fn named(connection: &mut Connection, topic: Option<&str>, alias: u32) -> Result<String, Violation> {
    let raw = property(id::TOPIC_ALIAS, alias);
    let publish = Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic: topic.map(|topic| Topic::new(topic).unwrap()),
        packet_id: 0,
        properties: Properties::trusted(&raw),
        payload: b"",
    };
    connection.name(&publish).map(|named| named.topic().as_str().to_owned())
}

fn with_aliases(max_topic_alias: u16) -> Connection {
    open(Limits { max_topic_alias, ..Limits::default() })
}

#[test]
fn an_alias_stands_for_the_topic_it_was_last_set_to() {
    let mut connection = with_aliases(10);
    assert_eq!(named(&mut connection, Some("a/b"), 10), Ok("a/b".into()));
    assert_eq!(named(&mut connection, Some("c"), 1), Ok("c".into()));
    assert_eq!(named(&mut connection, None, 10), Ok("a/b".into()));
    assert_eq!(named(&mut connection, Some("d"), 10), Ok("d".into()));
    assert_eq!(named(&mut connection, None, 10), Ok("d".into()));
    assert_eq!(named(&mut connection, None, 1), Ok("c".into()));
}

#[test]
fn an_alias_of_0_or_above_the_maximum_is_invalid() {
    for (max, alias) in [(10, 0), (10, 11), (0, 1), (10, 65_535)] {
        let refused = named(&mut with_aliases(max), Some("a"), alias).unwrap_err();
        assert_eq!(refused.reason, ReasonCode::TOPIC_ALIAS_INVALID, "{alias} of {max}");
    }
}

#[test]
fn an_alias_that_was_never_set_is_a_protocol_error() {
    let mut connection = with_aliases(10);
    named(&mut connection, Some("a"), 2).unwrap();
    for alias in [1, 3] {
        let unknown = Err(Violation::protocol("topic alias that was never set"));
        assert_eq!(named(&mut connection, None, alias), unknown);
    }
}

#[test]
fn a_publish_needs_a_topic_or_an_alias() {
    let mut connection = with_aliases(10);
    let Ok(Received::Packet(Packet::Publish(publish), _)) = connection.receive(b"\x30\x03\x00\x00\x00") else {
        panic!("an empty topic name is decoded: only the connection knows the aliases");
    };
    let missing = Violation::protocol("PUBLISH with neither a topic name nor an alias");
    assert_eq!(connection.name(&publish).unwrap_err(), missing);
}

// What CONNECT asks for and what it gets.

#[test]
fn a_session_expiry_is_capped_and_connack_says_so() {
    let limits = Limits { session_expiry_max_s: 100, ..Limits::default() };
    for (asked, granted, told) in [(50, 50, None), (100, 100, None), (101, 100, Some(100)), (u32::MAX, 100, Some(100))]
    {
        let raw = property(id::SESSION_EXPIRY_INTERVAL, asked);
        let request = request(&connect(Version::V5, &raw), &limits).unwrap();
        assert_eq!(request.session_expiry_s, granted, "{asked} s asked for");
        assert_eq!(connack_number(&request, &limits, id::SESSION_EXPIRY_INTERVAL), told, "{asked} s asked for");
    }
}

#[test]
fn a_session_may_last_for_ever_if_the_cap_allows_it() {
    let limits = Limits { session_expiry_max_s: NEVER_EXPIRES_S, ..Limits::default() };
    let raw = property(id::SESSION_EXPIRY_INTERVAL, u32::MAX);
    let request = request(&connect(Version::V5, &raw), &limits).unwrap();
    assert_eq!(request.session_expiry_s, NEVER_EXPIRES_S);
}

#[test]
fn a_session_without_an_expiry_ends_with_its_connection_in_5_0_and_is_configured_in_3_1_1() {
    let limits = Limits { session_expiry_s: 7, ..Limits::default() };
    let expiry_s = |connect: &Connect<'_>| request(connect, &limits).unwrap().session_expiry_s;
    let clean = Connect { clean_start: true, ..connect(Version::V311, b"") };
    assert_eq!(expiry_s(&connect(Version::V5, b"")), 0);
    assert_eq!(expiry_s(&connect(Version::V311, b"")), 7);
    assert_eq!(expiry_s(&clean), 0);
}

#[test]
fn an_empty_client_identifier_is_assigned_unless_3_1_1_wants_a_session_kept() {
    let anonymous = |version, clean_start| Connect { client_id: "", clean_start, ..connect(version, b"") };
    for (version, clean_start) in [(Version::V5, false), (Version::V5, true), (Version::V311, true)] {
        let request = request(&anonymous(version, clean_start), &Limits::default()).unwrap();
        assert_eq!((&*request.client_id, request.is_client_id_assigned), ("assigned", true));
    }
    let refused = request(&anonymous(Version::V311, false), &Limits::default()).unwrap_err();
    assert_eq!(refused.reason, ReasonCode::CLIENT_IDENTIFIER_NOT_VALID);
}

#[test]
fn a_connect_beyond_the_limits_is_refused_with_the_code_of_the_limit() {
    let will = Will {
        topic: Topic::new("w").unwrap(),
        payload: b"",
        qos: QoS::AtLeastOnce,
        retain: true,
        properties: Properties::default(),
    };
    let with_will = Connect { will: Some(will), ..connect(Version::V5, b"") };
    let default = Limits::default;
    let table = [
        (&with_will, Limits { max_qos_allowed: 0, ..default() }, ReasonCode::QOS_NOT_SUPPORTED),
        (&with_will, Limits { is_retain_available: false, ..default() }, ReasonCode::RETAIN_NOT_SUPPORTED),
        (
            &connect(Version::V5, b""),
            Limits { max_clientid_len: 0, ..default() },
            ReasonCode::CLIENT_IDENTIFIER_NOT_VALID,
        ),
        (&with_will, Limits { max_topic_levels: 0, ..default() }, ReasonCode::TOPIC_NAME_INVALID),
        (&connect(Version::V5, b"\x16\x00\x01d"), default(), ReasonCode::PROTOCOL_ERROR),
    ];
    for (connect, limits, reason) in table {
        assert_eq!(request(connect, &limits).unwrap_err().reason, reason);
    }
}

fn connack_number(request: &Request, limits: &Limits, id: u8) -> Option<u32> {
    let mut bytes = Vec::new();
    request.put_accepted(&mut bytes, limits, false);
    let Ok(Split::Frame(frame)) = split(&bytes, u32::MAX) else {
        panic!("a CONNACK is whole");
    };
    match decode(frame, request.version) {
        Ok(Packet::ConnAck(connack)) => connack.properties.number(id),
        other => panic!("{other:?} instead of a CONNACK"),
    }
}

#[test]
fn connack_tells_each_limit_that_is_not_the_default_of_the_specification() {
    let limits = Limits {
        receive_maximum: 9,
        max_qos_allowed: 1,
        is_retain_available: false,
        max_packet_size_bytes: 1234,
        max_topic_alias: 5,
        ..Limits::default()
    };
    let request = request(&connect(Version::V5, b""), &limits).unwrap();
    let told = [
        (id::RECEIVE_MAXIMUM, 9),
        (id::MAXIMUM_QOS, 1),
        (id::RETAIN_AVAILABLE, 0),
        (id::MAXIMUM_PACKET_SIZE, 1234),
        (id::TOPIC_ALIAS_MAXIMUM, 5),
    ];
    for (id, number) in told {
        assert_eq!(connack_number(&request, &limits, id), Some(number), "property {id:#04x}");
    }
}

#[test]
fn a_connect_comes_back_from_the_wire_as_the_same_request() {
    let raw = [property(id::RECEIVE_MAXIMUM, 20), property(id::MAXIMUM_PACKET_SIZE, 5000)].concat();
    let mut bytes = Vec::new();
    encode(&mut bytes, Version::V5, &Packet::Connect(Box::new(connect(Version::V5, &raw))));
    let mut connection = accepted_at(0);
    let Ok(Received::Packet(Packet::Connect(connect), _)) = connection.receive(&bytes) else {
        panic!("a CONNECT is whole");
    };
    let request = request(&connect, connection.limits()).unwrap();
    assert_eq!((request.receive_maximum, request.max_packet_bytes), (20, 5000));
    assert_eq!(connection.version(), Version::V5);
}
