//! The codec, row by row: bytes, the packet they mean, the version, in words (MQTT 5.0 and 3.1.1, chapter 3).
//!
//! Knows what stands on the wire. One table is read in both directions; a second holds forms that are only read, a third
//! what must be refused and with which violation. Does not know connections.

use whimbrel_protocol::decode::{Split, decode, split};
use whimbrel_protocol::encode::encode;
use whimbrel_protocol::packet::{
    Ack, ConnAck, Connect, Disconnect, Packet, Publish, SubAck, Subscribe, SubscriptionOptions, Unsubscribe, Will,
};
use whimbrel_protocol::properties::Properties;
use whimbrel_protocol::{Filter, QoS, ReasonCode, Topic, Version, Violation};

const V3: Version = Version::V311;
const V5: Version = Version::V5;

struct Row {
    bytes: &'static [u8],
    packet: Packet<'static>,
    version: Version,
    what: &'static str,
}

fn row(bytes: &'static [u8], packet: Packet<'static>, version: Version, what: &'static str) -> Row {
    Row { bytes, packet, version, what }
}

fn both(bytes: &'static [u8], packet: &Packet<'static>, what: &'static str) -> [Row; 2] {
    [V3, V5].map(|version| row(bytes, packet.clone(), version, what))
}

fn properties(raw: &'static [u8]) -> Properties<'static> {
    Properties::trusted(raw)
}

fn filter(text: &'static str) -> Result<Filter<'static>, ReasonCode> {
    Filter::new(text).map_err(|violation| violation.reason)
}

fn bare_connect(version: Version) -> Connect<'static> {
    Connect {
        version,
        clean_start: true,
        keep_alive_s: 60,
        client_id: "c",
        will: None,
        username: None,
        password: None,
        properties: properties(b""),
    }
}

fn full_connect() -> Connect<'static> {
    Connect {
        clean_start: false,
        will: Some(Will {
            topic: Topic::new("w").unwrap(),
            payload: b"gone",
            qos: QoS::ExactlyOnce,
            retain: true,
            properties: properties(b"\x18\x00\x00\x00\x05"),
        }),
        username: Some("u"),
        password: Some(b"\x00p"),
        properties: properties(b"\x11\x00\x00\x00\x0A\x21\x00\x14"),
        ..bare_connect(V5)
    }
}

fn connect_rows() -> Vec<Row> {
    let boxed = |connect| Packet::Connect(Box::new(connect));
    let password_alone = Connect { password: Some(b"t"), ..bare_connect(V5) };
    vec![
        row(
            b"\x10\x0D\x00\x04MQTT\x04\x02\x00\x3C\x00\x01c",
            boxed(bare_connect(V3)),
            V3,
            "CONNECT of 3.1.1 with nothing optional",
        ),
        row(
            b"\x10\x0E\x00\x04MQTT\x05\x02\x00\x3C\x00\x00\x01c",
            boxed(bare_connect(V5)),
            V5,
            "CONNECT of 5.0 with nothing optional",
        ),
        row(
            b"\x10\x2C\x00\x04MQTT\x05\xF4\x00\x3C\x08\x11\x00\x00\x00\x0A\x21\x00\x14\x00\x01c\
              \x05\x18\x00\x00\x00\x05\x00\x01w\x00\x04gone\x00\x01u\x00\x02\x00p",
            boxed(full_connect()),
            V5,
            "CONNECT of 5.0 with will, properties, user name and password",
        ),
        row(
            b"\x10\x11\x00\x04MQTT\x05\x42\x00\x3C\x00\x00\x01c\x00\x01t",
            boxed(password_alone),
            V5,
            "CONNECT of 5.0 with a password alone, which 3.1.1 forbids",
        ),
    ]
}

fn connack(session_present: bool, reason: ReasonCode, raw: &'static [u8]) -> Packet<'static> {
    Packet::ConnAck(ConnAck { session_present, reason, properties: properties(raw) })
}

fn connack_rows() -> Vec<Row> {
    vec![
        row(b"\x20\x02\x00\x00", connack(false, ReasonCode::SUCCESS, b""), V3, "CONNACK of 3.1.1"),
        row(b"\x20\x02\x01\x00", connack(true, ReasonCode::SUCCESS, b""), V3, "session present"),
        row(
            b"\x20\x06\x00\x00\x03\x21\x00\x0A",
            connack(false, ReasonCode::SUCCESS, b"\x21\x00\x0A"),
            V5,
            "CONNACK with a receive maximum",
        ),
        row(b"\x20\x03\x00\x87\x00", connack(false, ReasonCode::NOT_AUTHORIZED, b""), V5, "CONNACK that refuses"),
    ]
}

fn publish(qos: QoS, packet_id: u16, raw: &'static [u8]) -> Publish<'static> {
    Publish {
        dup: false,
        qos,
        retain: false,
        topic: Some(Topic::new("a/b").unwrap()),
        packet_id,
        properties: properties(raw),
        payload: b"x",
    }
}

fn publish_rows() -> Vec<Row> {
    let plain = publish(QoS::AtMostOnce, 0, b"");
    let again = Publish { dup: true, retain: true, ..publish(QoS::ExactlyOnce, 0x0102, b"") };
    let aliased = Publish { topic: None, payload: b"", ..publish(QoS::AtLeastOnce, 7, b"\x23\x00\x01") };
    vec![
        row(b"\x30\x06\x00\x03a/bx", Packet::Publish(plain), V3, "PUBLISH QoS 0 of 3.1.1"),
        row(b"\x30\x07\x00\x03a/b\x00x", Packet::Publish(plain), V5, "PUBLISH QoS 0 of 5.0"),
        row(b"\x3D\x08\x00\x03a/b\x01\x02x", Packet::Publish(again), V3, "PUBLISH QoS 2 with DUP and RETAIN"),
        row(
            b"\x32\x08\x00\x00\x00\x07\x03\x23\x00\x01",
            Packet::Publish(aliased),
            V5,
            "PUBLISH with an alias instead of a topic, without payload",
        ),
        row(
            b"\x30\x0B\x00\x03a/b\x04\x0B\x01\x0B\x02x",
            Packet::Publish(publish(QoS::AtMostOnce, 0, b"\x0B\x01\x0B\x02")),
            V5,
            "PUBLISH with two subscription identifiers",
        ),
    ]
}

fn acknowledgement_rows() -> Vec<Row> {
    let plain = Ack::new(10, ReasonCode::SUCCESS);
    let refused = Ack::new(10, ReasonCode::QUOTA_EXCEEDED);
    let missed = Ack::new(10, ReasonCode::PACKET_IDENTIFIER_NOT_FOUND);
    let explained = Ack { properties: properties(b"\x1F\x00\x01n"), ..refused };
    let mut rows = Vec::new();
    rows.extend(both(b"\x40\x02\x00\x0A", &Packet::PubAck(plain), "PUBACK"));
    rows.extend(both(b"\x50\x02\x00\x0A", &Packet::PubRec(plain), "PUBREC"));
    rows.extend(both(b"\x62\x02\x00\x0A", &Packet::PubRel(plain), "PUBREL"));
    rows.extend(both(b"\x70\x02\x00\x0A", &Packet::PubComp(plain), "PUBCOMP"));
    rows.extend([
        row(b"\x40\x03\x00\x0A\x97", Packet::PubAck(refused), V5, "PUBACK with a reason"),
        row(b"\x50\x03\x00\x0A\x97", Packet::PubRec(refused), V5, "PUBREC with a reason"),
        row(b"\x62\x03\x00\x0A\x92", Packet::PubRel(missed), V5, "PUBREL with a reason"),
        row(b"\x70\x03\x00\x0A\x92", Packet::PubComp(missed), V5, "PUBCOMP with a reason"),
        row(b"\x40\x08\x00\x0A\x97\x04\x1F\x00\x01n", Packet::PubAck(explained), V5, "PUBACK with a reason string"),
    ]);
    rows
}

fn subscribe(raw: &'static [u8], options: SubscriptionOptions) -> Packet<'static> {
    Packet::Subscribe(Subscribe {
        packet_id: 3,
        properties: properties(raw),
        filters: vec![(filter("a/+"), SubscriptionOptions::plain(QoS::AtLeastOnce)), (filter("#"), options)],
    })
}

fn unsubscribe(raw: &'static [u8]) -> Packet<'static> {
    Packet::Unsubscribe(Unsubscribe {
        packet_id: 3,
        properties: properties(raw),
        filters: vec![filter("a/+"), filter("#")],
    })
}

fn subscription_rows() -> Vec<Row> {
    let plain = SubscriptionOptions::plain(QoS::ExactlyOnce);
    let every = SubscriptionOptions { no_local: true, retain_as_published: true, retain_handling: 2, ..plain };
    vec![
        row(b"\x82\x0C\x00\x03\x00\x03a/+\x01\x00\x01#\x02", subscribe(b"", plain), V3, "SUBSCRIBE of 3.1.1"),
        row(
            b"\x82\x0F\x00\x03\x02\x0B\x07\x00\x03a/+\x01\x00\x01#\x2E",
            subscribe(b"\x0B\x07", every),
            V5,
            "SUBSCRIBE with an identifier and every option",
        ),
        row(b"\xA2\x0A\x00\x03\x00\x03a/+\x00\x01#", unsubscribe(b""), V3, "UNSUBSCRIBE of 3.1.1"),
        row(
            b"\xA2\x12\x00\x03\x07\x26\x00\x01n\x00\x01v\x00\x03a/+\x00\x01#",
            unsubscribe(b"\x26\x00\x01n\x00\x01v"),
            V5,
            "UNSUBSCRIBE with a user property",
        ),
    ]
}

fn suback(codes: &[u8]) -> SubAck<'static> {
    SubAck { packet_id: 3, properties: properties(b""), reasons: codes.iter().copied().map(ReasonCode).collect() }
}

fn suback_rows() -> Vec<Row> {
    vec![
        row(b"\x90\x05\x00\x03\x01\x02\x80", Packet::SubAck(suback(&[1, 2, 0x80])), V3, "SUBACK of 3.1.1"),
        row(b"\x90\x05\x00\x03\x00\x01\x8F", Packet::SubAck(suback(&[1, 0x8F])), V5, "SUBACK of 5.0"),
        row(b"\xB0\x02\x00\x03", Packet::UnsubAck(suback(&[])), V3, "UNSUBACK of 3.1.1"),
        row(b"\xB0\x05\x00\x03\x00\x00\x11", Packet::UnsubAck(suback(&[0, 0x11])), V5, "UNSUBACK of 5.0"),
    ]
}

fn farewell(reason: ReasonCode, raw: &'static [u8]) -> Disconnect<'static> {
    Disconnect { reason, properties: properties(raw) }
}

fn farewell_rows() -> Vec<Row> {
    let plain = farewell(ReasonCode::SUCCESS, b"");
    let mut rows = Vec::new();
    rows.extend(both(b"\xC0\x00", &Packet::PingReq, "PINGREQ"));
    rows.extend(both(b"\xD0\x00", &Packet::PingResp, "PINGRESP"));
    rows.extend(both(b"\xE0\x00", &Packet::Disconnect(plain), "DISCONNECT"));
    rows.extend([
        row(
            b"\xE0\x07\x04\x05\x11\x00\x00\x00\x0A",
            Packet::Disconnect(farewell(ReasonCode::DISCONNECT_WITH_WILL, b"\x11\x00\x00\x00\x0A")),
            V5,
            "DISCONNECT with will and a new session expiry",
        ),
        row(
            b"\xE0\x02\x8B\x00",
            Packet::Disconnect(farewell(ReasonCode::SERVER_SHUTTING_DOWN, b"")),
            V5,
            "DISCONNECT of a server",
        ),
        row(b"\xF0\x00", Packet::Auth(plain), V5, "AUTH with nothing"),
        row(
            b"\xF0\x06\x18\x04\x15\x00\x01m",
            Packet::Auth(farewell(ReasonCode(0x18), b"\x15\x00\x01m")),
            V5,
            "AUTH with a method",
        ),
    ]);
    rows
}

fn rows() -> Vec<Row> {
    [
        connect_rows(),
        connack_rows(),
        publish_rows(),
        acknowledgement_rows(),
        subscription_rows(),
        suback_rows(),
        farewell_rows(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn read(bytes: &[u8], version: Version) -> Result<Packet<'_>, Violation> {
    match split(bytes, u32::MAX)? {
        Split::Frame(frame) => {
            assert_eq!(frame.len, bytes.len(), "bytes behind the packet of the table: {bytes:02X?}");
            decode(frame, version)
        }
        Split::Partial { len } => panic!("{bytes:02X?} should have {len} bytes"),
    }
}

#[test]
fn every_row_is_decoded() {
    for row in rows() {
        assert_eq!(read(row.bytes, row.version), Ok(row.packet), "{} {:?}", row.what, row.version);
    }
}

#[test]
fn every_row_is_encoded_behind_what_the_buffer_holds() {
    for row in rows() {
        let mut out = b"held".to_vec();
        encode(&mut out, row.version, &row.packet);
        assert_eq!(&out[..4], b"held");
        assert_eq!(&out[4..], row.bytes, "{} {:?}", row.what, row.version);
    }
}

#[test]
fn the_table_has_every_packet_type_of_both_versions() {
    for (version, last) in [(V3, 14), (V5, 15)] {
        for kind in 1..=last {
            let is_there = |row: &Row| row.version == version && row.bytes[0] >> 4 == kind;
            assert!(rows().iter().any(is_there), "type {kind} of {version:?}");
        }
    }
}

#[test]
fn optional_parts_may_be_spelt_out() {
    let plain = Ack::new(10, ReasonCode::SUCCESS);
    let table = [
        (&b"\x40\x03\x00\x0A\x00"[..], Packet::PubAck(plain), "PUBACK with reason 0"),
        (b"\x40\x04\x00\x0A\x00\x00", Packet::PubAck(plain), "PUBACK with empty properties"),
        (b"\x62\x04\x00\x0A\x00\x00", Packet::PubRel(plain), "PUBREL with empty properties"),
        (b"\xE0\x01\x00", Packet::Disconnect(farewell(ReasonCode::SUCCESS, b"")), "DISCONNECT with reason 0"),
        (
            b"\xE0\x01\x8E",
            Packet::Disconnect(farewell(ReasonCode::SESSION_TAKEN_OVER, b"")),
            "DISCONNECT without property length",
        ),
    ];
    for (bytes, packet, what) in table {
        assert_eq!(read(bytes, V5), Ok(packet), "{what}");
    }
}

#[test]
fn a_refused_filter_does_not_refuse_its_neighbours() {
    let bytes = b"\x82\x0E\x00\x03\x00\x02a#\x01\x00\x01b\x01\x00\x00\x00";
    let Ok(Packet::Subscribe(subscribe)) = read(bytes, V3) else {
        panic!("a SUBSCRIBE with one invalid filter must be decoded");
    };
    let filters: Vec<_> = subscribe.filters.iter().map(|(filter, _)| *filter).collect();
    let invalid = Err(ReasonCode::TOPIC_FILTER_INVALID);
    assert_eq!(filters, [invalid, filter("b"), invalid]);
}

#[test]
fn a_3_1_1_packet_leaves_out_what_its_version_cannot_say() {
    let explained = Ack { packet_id: 10, reason: ReasonCode::QUOTA_EXCEEDED, properties: properties(b"\x1F\x00\x01n") };
    let every =
        SubscriptionOptions { no_local: true, retain_as_published: true, retain_handling: 2, qos: QoS::ExactlyOnce };
    let goodbye = farewell(ReasonCode::SERVER_SHUTTING_DOWN, b"");
    let table: [(Packet<'_>, &[u8]); 6] = [
        (Packet::PubAck(explained), b"\x40\x02\x00\x0A"),
        (subscribe(b"\x0B\x07", every), b"\x82\x0C\x00\x03\x00\x03a/+\x01\x00\x01#\x02"),
        (Packet::SubAck(suback(&[2, 0x87])), b"\x90\x04\x00\x03\x02\x80"),
        (Packet::UnsubAck(suback(&[0x11])), b"\xB0\x02\x00\x03"),
        (Packet::Disconnect(goodbye), b"\xE0\x00"),
        (Packet::Auth(goodbye), b""),
    ];
    for (packet, bytes) in table {
        let mut out = Vec::new();
        encode(&mut out, V3, &packet);
        assert_eq!(out, bytes, "{packet:?}");
    }
}

#[test]
fn a_3_1_1_connack_carries_the_nearest_return_code() {
    let table = [
        (ReasonCode::UNSUPPORTED_PROTOCOL_VERSION, 1),
        (ReasonCode::CLIENT_IDENTIFIER_NOT_VALID, 2),
        (ReasonCode::SERVER_UNAVAILABLE, 3),
        (ReasonCode::BAD_USER_NAME_OR_PASSWORD, 4),
        (ReasonCode::NOT_AUTHORIZED, 5),
        (ReasonCode::BANNED, 5),
        (ReasonCode::QUOTA_EXCEEDED, 3),
    ];
    for (reason, code) in table {
        let mut out = Vec::new();
        encode(&mut out, V3, &connack(false, reason, b""));
        assert_eq!(out, [0x20, 2, 0, code], "{reason:?}");
    }
}

type Refusal = (&'static [u8], Version, Violation, &'static str);

const TRUNCATED: Violation = Violation::malformed("packet ends inside a field");
const SURPLUS: Violation = Violation::malformed("bytes behind the packet's last field");
const RESERVED: Violation = Violation::malformed("reserved flags of the fixed header");
const UNKNOWN_TYPE: Violation = Violation::malformed("packet type that does not exist");
const NOT_UTF8: Violation = Violation::malformed("string is not UTF-8");
const HAS_NUL: Violation = Violation::malformed("string contains U+0000");
const ID_ZERO: Violation = Violation::protocol("packet identifier 0");
const QOS_3: Violation = Violation::malformed("QoS 3");
const LONG_LENGTH: Violation = Violation::malformed("length encoded in more bytes than needed");
const ENDLESS_LENGTH: Violation = Violation::malformed("length of more than four bytes");
const WILDCARD: Violation = Violation::new(ReasonCode::TOPIC_NAME_INVALID, "wildcard in a topic name");
const NO_TOPIC: Violation = Violation::new(ReasonCode::TOPIC_NAME_INVALID, "empty topic name");
const UNSUPPORTED: Violation =
    Violation::new(ReasonCode::UNSUPPORTED_PROTOCOL_VERSION, "protocol name or level not supported");
const UNKNOWN_PROPERTY: Violation = Violation::malformed("unknown property identifier");
const MISPLACED: Violation = Violation::malformed("property in a packet that must not carry it");
const TWICE: Violation = Violation::protocol("property stands twice");
const NOT_A_FLAG: Violation = Violation::protocol("property other than 0 and 1");
const ZERO: Violation = Violation::protocol("property that must not be 0");
const OPTION_BITS: Violation = Violation::malformed("reserved bits of the subscription options");

const REFUSED_FRAMES: &[Refusal] = &[
    (b"\x00\x00", V5, UNKNOWN_TYPE, "type 0"),
    (b"\xF0\x00", V3, UNKNOWN_TYPE, "AUTH in 3.1.1"),
    (b"\x30\x80\x80\x80\x80\x01", V5, ENDLESS_LENGTH, "five length bytes"),
    (b"\x30\xFF\xFF\xFF\xFF", V5, ENDLESS_LENGTH, "four length bytes that go on"),
    (b"\xC0\x80\x00", V5, LONG_LENGTH, "0 in two bytes"),
    (b"\xC0\x80\x80\x00", V5, LONG_LENGTH, "0 in three bytes"),
    (b"\x11\x00", V5, RESERVED, "CONNECT with flags"),
    (b"\x44\x02\x00\x0A", V5, RESERVED, "PUBACK with flags"),
    (b"\x60\x02\x00\x0A", V3, RESERVED, "PUBREL without its flag"),
    (b"\x80\x02\x00\x0A", V3, RESERVED, "SUBSCRIBE without its flag"),
    (b"\xA3\x02\x00\x0A", V5, RESERVED, "UNSUBSCRIBE with a flag too many"),
    (b"\xC1\x00", V3, RESERVED, "PINGREQ with flags"),
    (b"\xC0\x01\x00", V5, SURPLUS, "PINGREQ with a body"),
    (b"\xD0\x01\x00", V3, SURPLUS, "PINGRESP with a body"),
    (b"\xE0\x01\x00", V3, SURPLUS, "DISCONNECT of 3.1.1 with a body"),
    (b"\x40\x03\x00\x0A\x00", V3, SURPLUS, "PUBACK of 3.1.1 with a reason"),
    (b"\x40\x05\x00\x0A\x00\x00\x00", V5, SURPLUS, "PUBACK with a byte behind its properties"),
];

const REFUSED_CONNECTS: &[Refusal] = &[
    (b"\x10\x00", V5, TRUNCATED, "empty CONNECT"),
    (b"\x10\x07\x00\x04MQTT\x03", V5, UNSUPPORTED, "level 3"),
    (b"\x10\x07\x00\x04MQTT\x06", V5, UNSUPPORTED, "level 6"),
    (b"\x10\x09\x00\x06MQIsdp\x04", V5, UNSUPPORTED, "name of 3.1 with the level of 3.1.1"),
    (b"\x10\x07\x00\x04mqtt\x04", V5, UNSUPPORTED, "name in lower case"),
    (
        b"\x10\x0D\x00\x04MQTT\x04\x03\x00\x3C\x00\x01c",
        V3,
        Violation::malformed("reserved flag of CONNECT"),
        "reserved flag",
    ),
    (
        b"\x10\x0D\x00\x04MQTT\x04\x22\x00\x3C\x00\x01c",
        V3,
        Violation::malformed("will flags without a will"),
        "will retain without a will",
    ),
    (
        b"\x10\x0E\x00\x04MQTT\x05\x0A\x00\x3C\x00\x00\x01c",
        V5,
        Violation::malformed("will flags without a will"),
        "will QoS without a will",
    ),
    (
        b"\x10\x10\x00\x04MQTT\x04\x42\x00\x3C\x00\x01c\x00\x01p",
        V3,
        Violation::malformed("password without a user name"),
        "password alone in 3.1.1",
    ),
    (b"\x10\x12\x00\x04MQTT\x04\x1E\x00\x3C\x00\x01c\x00\x01w\x00\x00", V3, QOS_3, "will of QoS 3"),
    (b"\x10\x11\x00\x04MQTT\x04\x06\x00\x3C\x00\x01c\x00\x00\x00\x00", V3, NO_TOPIC, "will without a topic"),
    (b"\x10\x12\x00\x04MQTT\x04\x06\x00\x3C\x00\x01c\x00\x01#\x00\x00", V3, WILDCARD, "will to a wildcard"),
    (b"\x10\x0D\x00\x04MQTT\x04\x82\x00\x3C\x00\x01c", V3, TRUNCATED, "flag of a user name that is missing"),
    (b"\x10\x0E\x00\x04MQTT\x04\x02\x00\x3C\x00\x01cx", V3, SURPLUS, "byte behind the client identifier"),
    (b"\x10\x0D\x00\x04MQTT\x04\x02\x00\x3C\x00\x01\xFF", V3, NOT_UTF8, "client identifier not UTF-8"),
    (b"\x10\x0F\x00\x04MQTT\x04\x02\x00\x3C\x00\x03\xED\xA0\x80", V3, NOT_UTF8, "client identifier with a surrogate"),
    (b"\x10\x0D\x00\x04MQTT\x04\x02\x00\x3C\x00\x01\x00", V3, HAS_NUL, "client identifier with U+0000"),
    (b"\x10\x0D\x00\x04MQTT\x04\x02\x00\x3C\x00\x02c", V3, TRUNCATED, "client identifier cut short"),
    (b"\x20\x02\x02\x00", V3, Violation::malformed("reserved flags of CONNACK"), "CONNACK with reserved flags"),
];

const REFUSED_PUBLISHES: &[Refusal] = &[
    (b"\x36\x07\x00\x01a\x00\x01xx", V3, QOS_3, "QoS 3"),
    (b"\x38\x03\x00\x01a", V3, Violation::malformed("DUP with QoS 0"), "DUP with QoS 0"),
    (b"\x30\x02\x00\x00", V3, NO_TOPIC, "no topic in 3.1.1"),
    (b"\x30\x05\x00\x03a/+", V3, WILDCARD, "topic with +"),
    (b"\x30\x04\x00\x01#\x00", V5, WILDCARD, "topic with #"),
    (b"\x30\x04\x00\x02a\x00", V3, HAS_NUL, "topic with U+0000"),
    (b"\x30\x03\x00\x01\xC3", V3, NOT_UTF8, "topic not UTF-8"),
    (b"\x32\x05\x00\x01a\x00\x00", V3, ID_ZERO, "packet identifier 0"),
    (b"\x32\x03\x00\x01a", V3, TRUNCATED, "no packet identifier"),
    (b"\x30\x03\x00\x01a", V5, TRUNCATED, "no property length in 5.0"),
    (b"\x30\x04\x00\x01a\x01", V5, TRUNCATED, "properties cut short"),
    (b"\x30\x06\x00\x01a\x02\x7F\x00", V5, UNKNOWN_PROPERTY, "unknown property"),
    (b"\x30\x07\x00\x01a\x03\x21\x00\x01", V5, MISPLACED, "receive maximum in PUBLISH"),
    (b"\x30\x06\x00\x01a\x02\x01\x02", V5, NOT_A_FLAG, "payload format 2"),
    (b"\x30\x08\x00\x01a\x04\x01\x00\x01\x00", V5, TWICE, "payload format twice"),
    (b"\x30\x06\x00\x01a\x02\x0B\x00", V5, ZERO, "subscription identifier 0"),
    (b"\x30\x08\x00\x01a\x04\x03\x00\x01\xFF", V5, NOT_UTF8, "content type not UTF-8"),
];

const REFUSED_OTHERS: &[Refusal] = &[
    (b"\x40\x02\x00\x00", V3, ID_ZERO, "PUBACK of identifier 0"),
    (b"\x40\x01\x00", V3, TRUNCATED, "PUBACK of one byte"),
    (b"\x40\x05\x00\x0A\x00\x01\x1F", V5, TRUNCATED, "PUBACK with half a property"),
    (b"\x40\x07\x00\x0A\x00\x03\x23\x00\x01", V5, MISPLACED, "PUBACK with a topic alias"),
    (b"\x82\x02\x00\x01", V3, Violation::protocol("SUBSCRIBE without a filter"), "no filter"),
    (b"\x82\x03\x00\x01\x00", V5, Violation::protocol("SUBSCRIBE without a filter"), "no filter in 5.0"),
    (b"\x82\x05\x00\x01\x00\x01a", V3, TRUNCATED, "filter without options"),
    (b"\x82\x06\x00\x01\x00\x01a\x03", V3, Violation::protocol("QoS 3 asked for"), "QoS 3 asked for"),
    (b"\x82\x06\x00\x01\x00\x01a\x04", V3, OPTION_BITS, "No Local in 3.1.1"),
    (b"\x82\x07\x00\x01\x00\x00\x01a\x40", V5, OPTION_BITS, "reserved option"),
    (b"\x82\x07\x00\x01\x00\x00\x01a\x30", V5, Violation::protocol("retain handling 3"), "retain handling 3"),
    (b"\x82\x06\x00\x00\x00\x01a\x00", V3, ID_ZERO, "SUBSCRIBE with identifier 0"),
    (b"\x82\x06\x00\x01\x00\x01\xFF\x00", V3, NOT_UTF8, "filter not UTF-8"),
    (b"\x82\x0B\x00\x01\x04\x0B\x01\x0B\x02\x00\x01a\x00", V5, TWICE, "two subscription identifiers"),
    (b"\xA2\x02\x00\x01", V3, Violation::protocol("UNSUBSCRIBE without a filter"), "no filter to unsubscribe"),
    (b"\x90\x01\x00", V3, TRUNCATED, "SUBACK of one byte"),
    (b"\xE0\x03\x00\x01\x11", V5, TRUNCATED, "DISCONNECT with half a property"),
    (b"\xE0\x05\x00\x03\x21\x00\x01", V5, MISPLACED, "DISCONNECT with a receive maximum"),
];

#[test]
fn every_malformed_packet_is_refused_for_its_own_reason() {
    let tables = [REFUSED_FRAMES, REFUSED_CONNECTS, REFUSED_PUBLISHES, REFUSED_OTHERS];
    for (bytes, version, violation, what) in tables.into_iter().flatten() {
        assert_eq!(read(bytes, *version), Err(*violation), "{what}: {bytes:02X?}");
    }
}

#[test]
fn a_packet_over_the_limit_is_refused_before_its_body_comes() {
    let refused = Violation::new(ReasonCode::PACKET_TOO_LARGE, "packet larger than max_packet_size");
    assert_eq!(split(b"\x30\x7F", 128), Err(refused));
    assert_eq!(split(b"\x30\x7E", 128), Ok(Split::Partial { len: 128 }));
}
