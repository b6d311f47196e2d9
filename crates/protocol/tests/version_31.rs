//! What MQTT 3.1 does otherwise than 3.1.1: its name, reserved bytes, acknowledgements that cannot refuse.
//!
//! Knows bytes and packets, as `codec.rs` does for the later versions. What the three have in common is there.

use whimbrel_protocol::connection::handshake::Request;
use whimbrel_protocol::decode::{Split, decode, split};
use whimbrel_protocol::encode::encode;
use whimbrel_protocol::packet::{Ack, ConnAck, Connect, Packet, SubAck};
use whimbrel_protocol::properties::Properties;
use whimbrel_protocol::{Limits, ReasonCode, Version, Violation};

fn read(bytes: &[u8], version: Version) -> Result<Packet<'_>, Violation> {
    let Ok(Split::Frame(frame)) = split(bytes, u32::MAX) else {
        panic!("{bytes:02X?} is not one packet")
    };
    decode(frame, version)
}

fn written(version: Version, packet: &Packet<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(&mut bytes, version, packet);
    bytes
}

fn connect(client_id: &str, clean_start: bool) -> Connect<'_> {
    Connect {
        version: Version::V31,
        clean_start,
        keep_alive_s: 60,
        client_id,
        will: None,
        username: None,
        password: None,
        properties: Properties::default(),
    }
}

#[test]
fn connect_carries_its_own_name_both_ways() {
    let bytes = b"\x10\x0F\x00\x06MQIsdp\x03\x02\x00\x3C\x00\x01c";
    let packet = Packet::Connect(Box::new(connect("c", true)));
    assert_eq!(written(Version::V31, &packet), bytes);
    assert_eq!(read(bytes, Version::V311), Ok(packet));
}

#[test]
fn each_name_goes_with_its_own_levels_alone() {
    for (version, name) in Version::TABLE {
        assert_eq!(Version::from_wire(name, version as u8), Some(version));
        assert_eq!(version.protocol_name(), name);
    }
    for (name, level) in [(&b"MQIsdp"[..], 4), (b"MQIsdp", 5), (b"MQTT", 3), (b"MQIsdp", 0x83), (b"", 3)] {
        assert_eq!(Version::from_wire(name, level), None, "{name:?} {level}");
    }
}

#[test]
fn a_user_name_that_is_announced_and_missing_is_none() {
    let bytes = b"\x10\x0F\x00\x06MQIsdp\x03\xC2\x00\x3C\x00\x01c";
    assert_eq!(read(bytes, Version::V311), Ok(Packet::Connect(Box::new(connect("c", true)))));
}

#[test]
fn a_client_identifier_has_at_least_one_character_and_may_be_longer_than_23() {
    let request = |connect: &Connect<'_>, limits: &Limits| Request::new(connect, limits, || "assigned".into(), 0);
    let long = "x".repeat(24);
    let limits = Limits::default();
    for clean_start in [false, true] {
        let refused = request(&connect("", clean_start), &limits).unwrap_err();
        assert_eq!(refused.reason, ReasonCode::CLIENT_IDENTIFIER_NOT_VALID);
        assert_eq!(&*request(&connect(&long, clean_start), &limits).unwrap().client_id, long);
    }
    let narrow = Limits { max_clientid_len: 23, ..Limits::default() };
    assert!(request(&connect(&long, true), &narrow).is_err());
}

#[test]
fn connack_has_no_session_flag_and_the_codes_of_3_1() {
    let connack =
        |reason| Packet::ConnAck(ConnAck { session_present: true, reason, properties: Properties::default() });
    let table = [
        (ReasonCode::SUCCESS, 0),
        (ReasonCode::UNSUPPORTED_PROTOCOL_VERSION, 1),
        (ReasonCode::CLIENT_IDENTIFIER_NOT_VALID, 2),
        (ReasonCode::SERVER_BUSY, 3),
        (ReasonCode::BAD_USER_NAME_OR_PASSWORD, 4),
        (ReasonCode::NOT_AUTHORIZED, 5),
    ];
    for (reason, code) in table {
        assert_eq!(written(Version::V31, &connack(reason)), [0x20, 2, 0, code]);
    }
}

#[test]
fn suback_cannot_refuse() {
    let reasons = [0, 1, 2, 0x80, 0x87].map(ReasonCode).to_vec();
    let suback = Packet::SubAck(SubAck { packet_id: 1, properties: Properties::default(), reasons });
    assert_eq!(written(Version::V31, &suback), [0x90, 7, 0, 1, 0, 1, 2, 0, 0]);
    assert_eq!(written(Version::V311, &suback), [0x90, 7, 0, 1, 0, 1, 2, 0x80, 0x80]);
}

#[test]
fn what_is_sent_again_may_carry_dup_in_3_1_alone() {
    let pubrel = Ok(Packet::PubRel(Ack::new(10, ReasonCode::SUCCESS)));
    assert_eq!(read(b"\x6A\x02\x00\x0A", Version::V31), pubrel);
    let again: [&[u8]; 4] =
        [b"\x6A\x02\x00\x0A", b"\x8A\x06\x00\x01\x00\x01a\x00", b"\xAA\x05\x00\x01\x00\x01a", b"\x38\x03\x00\x01a"];
    for bytes in again {
        assert!(read(bytes, Version::V31).is_ok(), "{bytes:02X?}");
        assert!(read(bytes, Version::V311).is_err(), "{bytes:02X?}");
    }
}
