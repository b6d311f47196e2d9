//! Which packet may carry which property, and how often: the specification's table 2-4, written down a second time.
//!
//! Knows bytes. The product's own table is not looked at: a packet of every type gets every property, alone and twice.

use whimbrel_protocol::decode::{Split, decode, split};
use whimbrel_protocol::{ReasonCode, Version};

/// Identifier, a value, and the packets by their type numbers; 16 stands for the will.
const TABLE: [(u8, &[u8], &[u8]); 27] = [
    (0x01, b"\x01", &[3, 16]),
    (0x02, b"\0\0\0\x01", &[3, 16]),
    (0x03, b"\0\x01x", &[3, 16]),
    (0x08, b"\0\x01x", &[3, 16]),
    (0x09, b"\0\x01x", &[3, 16]),
    (0x0B, b"\x01", &[3, 8]),
    (0x11, b"\0\0\0\x01", &[1, 2, 14]),
    (0x12, b"\0\x01x", &[2]),
    (0x13, b"\0\x01", &[2]),
    (0x15, b"\0\x01x", &[1, 2, 15]),
    (0x16, b"\0\x01x", &[1, 2, 15]),
    (0x17, b"\x01", &[1]),
    (0x18, b"\0\0\0\x01", &[16]),
    (0x19, b"\x01", &[1]),
    (0x1A, b"\0\x01x", &[2]),
    (0x1C, b"\0\x01x", &[2, 14]),
    (0x1F, b"\0\x01x", &[2, 4, 5, 6, 7, 9, 11, 14, 15]),
    (0x21, b"\0\x01", &[1, 2]),
    (0x22, b"\0\x01", &[1, 2]),
    (0x23, b"\0\x01", &[3]),
    (0x24, b"\x01", &[2]),
    (0x25, b"\x01", &[2]),
    (0x26, b"\0\x01n\0\x01v", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14, 15, 16]),
    (0x27, b"\0\0\0\x01", &[1, 2]),
    (0x28, b"\x01", &[2]),
    (0x29, b"\x01", &[2]),
    (0x2A, b"\x01", &[2]),
];
const USER_PROPERTY: u8 = 0x26;
const SUBSCRIPTION_IDENTIFIER: u8 = 0x0B;

/// The first byte of a packet type, and what stands before and behind its properties.
fn around(kind: u8) -> (u8, &'static [u8], &'static [u8]) {
    match kind {
        1 => (0x10, b"\0\x04MQTT\x05\x02\0\x3C", b"\0\x01c"),
        2 => (0x20, b"\0\0", b""),
        3 => (0x30, b"\0\x01a", b"payload"),
        4 | 5 | 7 => (kind << 4, b"\0\x01\0", b""),
        6 => (0x62, b"\0\x01\0", b""),
        8 => (0x82, b"\0\x01", b"\0\x01a\0"),
        9 => (0x90, b"\0\x01", b"\0"),
        10 => (0xA2, b"\0\x01", b"\0\x01a"),
        11 => (0xB0, b"\0\x01", b"\0"),
        14 => (0xE0, b"\0", b""),
        15 => (0xF0, b"\x18", b""),
        16 => (0x10, b"\0\x04MQTT\x05\x06\0\x3C\0\0\x01c", b"\0\x01w\0\0"),
        other => panic!("type {other} has no properties"),
    }
}

const KINDS: [u8; 14] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14, 15, 16];

fn outcome(kind: u8, properties: &[u8]) -> Result<(), ReasonCode> {
    let (first, before, behind) = around(kind);
    let body = [before, &[properties.len() as u8], properties, behind].concat();
    let bytes = [&[first, body.len() as u8], &body[..]].concat();
    let Ok(Split::Frame(frame)) = split(&bytes, u32::MAX) else { panic!("a whole packet") };
    decode(frame, Version::V5).map(|_| ()).map_err(|violation| violation.reason)
}

#[test]
fn every_property_is_taken_in_its_own_packets_and_malformed_in_all_others() {
    for (id, value, packets) in TABLE {
        let property = [&[id], value].concat();
        for kind in KINDS {
            let expected = if packets.contains(&kind) { Ok(()) } else { Err(ReasonCode::MALFORMED_PACKET) };
            assert_eq!(outcome(kind, &property), expected, "{id:#04x} in type {kind}");
        }
    }
}

#[test]
fn a_property_that_stands_twice_is_a_protocol_error_unless_it_may() {
    for (id, value, packets) in TABLE {
        let property = [&[id], value].concat();
        for kind in packets {
            let may_repeat = id == USER_PROPERTY || (id == SUBSCRIPTION_IDENTIFIER && *kind == 3);
            let expected = if may_repeat { Ok(()) } else { Err(ReasonCode::PROTOCOL_ERROR) };
            assert_eq!(outcome(*kind, &[&property[..], &property].concat()), expected, "{id:#04x} in type {kind}");
        }
    }
}

#[test]
fn every_property_that_is_cut_short_and_every_unknown_one_is_malformed() {
    for (id, value, packets) in TABLE {
        for end in 0..value.len() {
            let property = [&[id], &value[..end]].concat();
            assert_eq!(outcome(packets[0], &property), Err(ReasonCode::MALFORMED_PACKET), "{id:#04x} with {end} bytes");
        }
    }
    let is_unknown = |id: &u8| TABLE.iter().all(|(known, ..)| known != id);
    for id in (0..=0xFF).filter(is_unknown) {
        for kind in KINDS {
            assert_eq!(outcome(kind, &[id, 0, 0, 0, 0]), Err(ReasonCode::MALFORMED_PACKET), "{id:#04x} in type {kind}");
        }
    }
}
