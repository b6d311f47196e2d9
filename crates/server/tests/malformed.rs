//! What must not be sent, packet type by packet type and version by version, and what exactly the broker does about it:
//! closes without a word, refuses in CONNACK, or says goodbye with a code (MQTT 5.0 section 4.13, 3.1.1 section 4.8).
//!
//! Knows bytes alone, so that nothing of the broker's own encoder or property table stands on the test's side. The codec's
//! own table, with the violation of each row, is in the protocol crate.

mod house;

use std::io::{Read, Write};
use std::net::TcpStream;

use house::{House, PATIENCE, Wire};
use whimbrel_protocol::{Limits, Version};

const ALL: &[Version] = &[Version::V31, Version::V311, Version::V5];
const OLD: &[Version] = &[Version::V31, Version::V311];
const V311: &[Version] = &[Version::V311];
const V5: &[Version] = &[Version::V5];
const SINCE_V311: &[Version] = &[Version::V311, Version::V5];

const MALFORMED: u8 = 0x81;
const PROTOCOL: u8 = 0x82;
const TOPIC_NAME: u8 = 0x90;

/// A packet that must not be sent, and the code that an MQTT 5 client reads about it. Others read nothing.
struct Case {
    what: String,
    version: Version,
    bytes: Vec<u8>,
    code: u8,
}

type Build<'a> = &'a dyn Fn(Version) -> Vec<u8>;

fn case(versions: &[Version], code: u8, what: &str, build: Build<'_>) -> Vec<Case> {
    let one = |version: &Version| Case { what: what.into(), version: *version, bytes: build(*version), code };
    versions.iter().map(one).collect()
}

fn framed(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    assert!(body.len() < 16_384);
    let mut bytes = vec![first];
    match body.len() {
        length @ 0..128 => bytes.push(length as u8),
        length => bytes.extend([length as u8 | 0x80, (length >> 7) as u8]),
    }
    bytes.extend(body);
    bytes
}

fn text(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

/// A property section of at most 127 bytes; nothing in versions that have none.
fn section(version: Version, raw: &[u8]) -> Vec<u8> {
    if version == Version::V5 { [&[raw.len() as u8], raw].concat() } else { Vec::new() }
}

/// CONNECT with these flags and properties, keep-alive 60, and what follows the properties.
fn connect_with(version: Version, flags: u8, raw: &[u8], payload: &[u8]) -> Vec<u8> {
    let head = [&text(version.protocol_name())[..], &[version as u8, flags, 0, 60]].concat();
    framed(0x10, &[&head, &section(version, raw), payload])
}

fn connect(version: Version, flags: u8, payload: &[u8]) -> Vec<u8> {
    connect_with(version, flags, b"", payload)
}

fn well_formed_connect(version: Version) -> Vec<u8> {
    connect(version, 2, b"\x00\x01c")
}

/// PUBLISH to a topic, with a packet identifier where the flags ask for QoS 1 or 2.
fn publish(version: Version, flags: u8, topic: &[u8], raw: &[u8]) -> Vec<u8> {
    let id: &[u8] = if flags & 6 == 0 { b"" } else { b"\x00\x01" };
    framed(0x30 | flags, &[&text(topic), id, &section(version, raw), b"payload"])
}

fn subscribe(version: Version, raw: &[u8], filters: &[u8]) -> Vec<u8> {
    framed(0x82, &[b"\x00\x01", &section(version, raw), filters])
}

fn unsubscribe(version: Version, raw: &[u8], filters: &[u8]) -> Vec<u8> {
    framed(0xA2, &[b"\x00\x01", &section(version, raw), filters])
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP of MQTT 5 with everything spelt out.
fn ack(first: u8, reason: u8, raw: &[u8]) -> Vec<u8> {
    framed(first, &[&[0, 1, reason], &section(Version::V5, raw)])
}

/// DISCONNECT or AUTH of MQTT 5.
fn farewell(first: u8, reason: u8, raw: &[u8]) -> Vec<u8> {
    framed(first, &[&[reason], &section(Version::V5, raw)])
}

const ACKS: [u8; 4] = [0x40, 0x50, 0x62, 0x70];

/// Everything the broker answers until it closes the connection.
fn answer(house: &House, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(house.address()).expect("the broker listens");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("the broker closes the connection");
    answer
}

/// Length of the first packet, which is short.
fn first_len(bytes: &[u8]) -> usize {
    2 + usize::from(bytes[1])
}

/// Sends each case as the first packet; the broker refuses MQTT 5 in CONNACK and says nothing to others.
fn refused_at_once(cases: &[Case]) {
    let house = House::start(1, Limits::default());
    for Case { what, version, bytes, code } in cases {
        let got = answer(&house, bytes);
        if *version == Version::V5 {
            assert_eq!((got.first(), got.get(2..4)), (Some(&0x20), Some(&[0, *code][..])), "{what}: {bytes:02X?}");
            assert_eq!(got.len(), first_len(&got), "{what}: nothing follows CONNACK");
        } else {
            assert_eq!(got, b"", "{what} {version:?}: {bytes:02X?}");
        }
    }
    serves_others(&house);
}

/// Sends each case behind a CONNECT that is in order; the broker says goodbye to MQTT 5 and nothing to others.
fn refused_when_open(limits: Limits, cases: &[Case]) {
    let house = House::start(1, limits);
    for Case { what, version, bytes, code } in cases {
        let got = answer(&house, &[well_formed_connect(*version), bytes.clone()].concat());
        let (connack, rest) = got.split_at(first_len(&got));
        assert_eq!((connack[0], connack[3]), (0x20, 0), "{what} {version:?}");
        if *version == Version::V5 {
            assert_eq!((rest.first(), rest.get(2)), (Some(&0xE0), Some(code)), "{what}: {bytes:02X?} got {rest:02X?}");
            assert_eq!(rest.len(), first_len(rest), "{what}: nothing follows DISCONNECT");
        } else {
            assert_eq!(rest, b"", "{what} {version:?}: {bytes:02X?}");
        }
    }
    serves_others(&house);
}

fn serves_others(house: &House) {
    let mut healthy = Wire::connect(&house.address(), "healthy", Version::V5, true);
    assert!(healthy.is_alive());
}

fn connects() -> Vec<Case> {
    let will = |topic: &[u8]| [&b"\x00\x01c"[..], &text(topic), b"\x00\x01x"].concat();
    let will_5 =
        |raw: &[u8], topic: &[u8]| [&b"\x00\x01c"[..], &section(Version::V5, raw), &text(topic), b"\x00\x01x"].concat();
    let of_5 = |raw: &'static [u8]| move |version| connect_with(version, 2, raw, b"\x00\x01c");
    [
        case(ALL, MALFORMED, "flags in the fixed header", &|version| {
            let mut bytes = well_formed_connect(version);
            bytes[0] = 0x11;
            bytes
        }),
        case(ALL, MALFORMED, "reserved connect flag", &|version| connect(version, 3, b"\x00\x01c")),
        case(ALL, MALFORMED, "will QoS without a will", &|version| connect(version, 0x0A, b"\x00\x01c")),
        case(ALL, MALFORMED, "will retain without a will", &|version| connect(version, 0x22, b"\x00\x01c")),
        case(OLD, MALFORMED, "will QoS 3", &|version| connect(version, 0x1E, &will(b"w"))),
        case(V5, MALFORMED, "will QoS 3", &|version| connect(version, 0x1E, &will_5(b"", b"w"))),
        case(OLD, MALFORMED, "will to nowhere", &|version| connect(version, 6, &will(b""))),
        case(OLD, MALFORMED, "will to a wildcard", &|version| connect(version, 6, &will(b"a/+"))),
        case(V5, TOPIC_NAME, "will to nowhere", &|version| connect(version, 6, &will_5(b"", b""))),
        case(V5, TOPIC_NAME, "will to a wildcard", &|version| connect(version, 6, &will_5(b"", b"a/#"))),
        case(ALL, MALFORMED, "will that is missing", &|version| connect(version, 6, b"\x00\x01c")),
        case(OLD, MALFORMED, "will without a payload", &|version| connect(version, 6, b"\x00\x01c\x00\x01w")),
        case(V5, MALFORMED, "will without properties", &|version| connect(version, 6, b"\x00\x01c\x00\x01w\x00\x01x")),
        case(OLD, MALFORMED, "password without a user name", &|version| connect(version, 0x42, b"\x00\x01c\x00\x01p")),
        case(SINCE_V311, MALFORMED, "user name that is missing", &|version| connect(version, 0x82, b"\x00\x01c")),
        case(ALL, MALFORMED, "password that is missing", &|version| connect(version, 0xC2, b"\x00\x01c\x00\x01u")),
        case(ALL, MALFORMED, "user name without its flag", &|version| connect(version, 2, b"\x00\x01c\x00\x01u")),
        case(ALL, MALFORMED, "password without its flag", &|version| {
            connect(version, 0x82, b"\x00\x01c\x00\x01u\x00\x01p")
        }),
        case(ALL, MALFORMED, "no client identifier", &|version| connect(version, 2, b"")),
        case(ALL, MALFORMED, "client identifier cut short", &|version| connect(version, 2, b"\x00\x05c")),
        case(ALL, MALFORMED, "no keep-alive", &|version| {
            framed(0x10, &[&text(version.protocol_name()), &[version as u8, 2, 0]])
        }),
        case(ALL, MALFORMED, "byte behind the last field", &|version| connect(version, 2, b"\x00\x01cx")),
        case(V5, MALFORMED, "properties cut short", &|_| framed(0x10, &[b"\x00\x04MQTT\x05\x02\x00\x3C\x05\x11"])),
        case(V5, MALFORMED, "length of properties in too many bytes", &|_| {
            framed(0x10, &[b"\x00\x04MQTT\x05\x02\x00\x3C\x80\x00\x00\x01c"])
        }),
        case(V5, MALFORMED, "length of properties without an end", &|_| {
            framed(0x10, &[b"\x00\x04MQTT\x05\x02\x00\x3C\xFF\xFF\xFF\xFF\x7F\x00\x01c"])
        }),
        case(V5, MALFORMED, "unknown property", &of_5(b"\x7E\x00")),
        case(V5, MALFORMED, "property of PUBLISH", &of_5(b"\x01\x00")),
        case(V5, MALFORMED, "property of CONNACK", &of_5(b"\x24\x01")),
        case(V5, MALFORMED, "property of the will", &of_5(b"\x18\x00\x00\x00\x01")),
        case(V5, MALFORMED, "reason string", &of_5(b"\x1F\x00\x01x")),
        case(V5, PROTOCOL, "session expiry twice", &of_5(b"\x11\x00\x00\x00\x01\x11\x00\x00\x00\x01")),
        case(V5, PROTOCOL, "Receive Maximum 0", &of_5(b"\x21\x00\x00")),
        case(V5, PROTOCOL, "Maximum Packet Size 0", &of_5(b"\x27\x00\x00\x00\x00")),
        case(V5, PROTOCOL, "Request Problem Information 2", &of_5(b"\x17\x02")),
        case(V5, PROTOCOL, "Request Response Information 2", &of_5(b"\x19\x02")),
        case(V5, PROTOCOL, "authentication data without a method", &of_5(b"\x16\x00\x01d")),
        case(V5, PROTOCOL, "will delay twice", &|version| {
            connect(version, 6, &will_5(b"\x18\x00\x00\x00\x01\x18\x00\x00\x00\x01", b"w"))
        }),
        case(V5, MALFORMED, "will with a session expiry", &|version| {
            connect(version, 6, &will_5(b"\x11\x00\x00\x00\x01", b"w"))
        }),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[test]
fn a_connect_that_must_not_be_is_refused_in_5_0_and_closed_without_a_word_before() {
    refused_at_once(&connects());
}

#[test]
fn nothing_but_connect_may_come_first_and_nothing_is_said_about_it() {
    let house = House::start(1, Limits::default());
    for first in (0x00..=0xFF_u8).step_by(0x10).filter(|first| *first != 0x10) {
        assert_eq!(answer(&house, &[first, 0]), b"", "{first:#04x}");
    }
    // Too long or without an end: nobody knows which version this would have been.
    for bytes in [&b"\x10\x8D\x80\x80\x00"[..], b"\x10\xFF\xFF\xFF\xFF", b"\x10\xFF\xFF\xFF\x7F"] {
        assert_eq!(answer(&house, bytes), b"", "{bytes:02X?}");
    }
}

#[test]
fn a_name_or_level_that_nobody_knows_is_answered_with_1_which_all_versions_can_read() {
    let house = House::start(1, Limits::default());
    let table: [(&[u8], u8); 8] = [
        (b"MQTT", 0),
        (b"MQTT", 3),
        (b"MQTT", 6),
        (b"MQTT", 0x84),
        (b"MQIsdp", 4),
        (b"MQIsdp", 5),
        (b"mqtt", 4),
        (b"", 4),
    ];
    for (name, level) in table {
        let bytes = framed(0x10, &[&text(name), &[level, 2, 0, 60], b"\x00\x00\x01c"]);
        assert_eq!(answer(&house, &bytes), b"\x20\x02\x00\x01", "{name:?} {level}");
    }
}

#[test]
fn an_old_client_identifier_that_cannot_be_is_answered_with_2() {
    let house = House::start(1, Limits::default());
    for (version, flags) in [(Version::V31, 0), (Version::V31, 2), (Version::V311, 0)] {
        assert_eq!(answer(&house, &connect(version, flags, b"\x00\x00")), b"\x20\x02\x00\x02", "{version:?} {flags}");
    }
}

fn publishes() -> Vec<Case> {
    let of_5 = |raw: &'static [u8]| move |version| publish(version, 0, b"a", raw);
    [
        case(ALL, MALFORMED, "QoS 3", &|version| publish(version, 6, b"a", b"")),
        case(SINCE_V311, MALFORMED, "DUP with QoS 0", &|version| publish(version, 8, b"a", b"")),
        case(ALL, TOPIC_NAME, "topic with +", &|version| publish(version, 0, b"a/+", b"")),
        case(ALL, TOPIC_NAME, "topic with #", &|version| publish(version, 0, b"#", b"")),
        case(OLD, PROTOCOL, "no topic", &|version| publish(version, 0, b"", b"")),
        case(V5, PROTOCOL, "no topic and no alias", &|version| publish(version, 0, b"", b"")),
        case(ALL, PROTOCOL, "packet identifier 0", &|version| {
            framed(0x32, &[b"\x00\x01a\x00\x00", &section(version, b"")])
        }),
        case(ALL, MALFORMED, "topic cut short", &|_| framed(0x30, &[b"\x00\x05a"])),
        case(ALL, MALFORMED, "nothing", &|_| framed(0x30, &[])),
        case(ALL, MALFORMED, "no packet identifier", &|_| framed(0x32, &[b"\x00\x01a"])),
        case(V5, MALFORMED, "no properties", &|_| framed(0x30, &[b"\x00\x01a"])),
        case(V5, MALFORMED, "properties cut short", &|_| framed(0x30, &[b"\x00\x01a\x05\x01"])),
        case(V5, MALFORMED, "length of properties in too many bytes", &|_| framed(0x30, &[b"\x00\x01a\x80\x00"])),
        case(V5, MALFORMED, "unknown property", &of_5(b"\x00\x00")),
        case(V5, MALFORMED, "property of CONNECT", &of_5(b"\x21\x00\x01")),
        case(V5, MALFORMED, "reason string", &of_5(b"\x1F\x00\x01x")),
        case(V5, PROTOCOL, "payload format 2", &of_5(b"\x01\x02")),
        case(V5, PROTOCOL, "payload format twice", &of_5(b"\x01\x00\x01\x00")),
        case(V5, PROTOCOL, "expiry twice", &of_5(b"\x02\x00\x00\x00\x01\x02\x00\x00\x00\x01")),
        case(V5, PROTOCOL, "content type twice", &of_5(b"\x03\x00\x01x\x03\x00\x01x")),
        case(V5, PROTOCOL, "response topic twice", &of_5(b"\x08\x00\x01x\x08\x00\x01x")),
        case(V5, PROTOCOL, "response topic with a wildcard", &of_5(b"\x08\x00\x01#")),
        case(V5, PROTOCOL, "correlation data twice", &of_5(b"\x09\x00\x01x\x09\x00\x01x")),
        case(V5, PROTOCOL, "topic alias twice", &of_5(b"\x23\x00\x01\x23\x00\x01")),
        case(V5, 0x94, "topic alias 0", &of_5(b"\x23\x00\x00")),
        case(V5, 0x94, "topic alias above the maximum", &of_5(b"\x23\x00\x41")),
        case(V5, PROTOCOL, "topic alias that was never set", &|version| publish(version, 0, b"", b"\x23\x00\x01")),
        case(V5, PROTOCOL, "subscription identifier", &of_5(b"\x0B\x01")),
        case(V5, PROTOCOL, "subscription identifier 0", &of_5(b"\x0B\x00")),
        case(V5, MALFORMED, "subscription identifier in too many bytes", &of_5(b"\x0B\x81\x00")),
        case(V5, MALFORMED, "correlation data cut short", &of_5(b"\x09\x00\x05x")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[test]
fn a_publish_that_must_not_be_ends_the_connection_with_its_code() {
    refused_when_open(Limits::default(), &publishes());
}

fn acknowledgements() -> Vec<Case> {
    let every = |first: u8| {
        let wrong = first ^ 0x0D;
        [
            case(ALL, MALFORMED, "wrong flags", &|_| framed(wrong, &[b"\x00\x01"])),
            case(SINCE_V311, MALFORMED, "DUP", &|_| framed(first | 8, &[b"\x00\x01"])),
            case(ALL, PROTOCOL, "packet identifier 0", &|_| framed(first, &[b"\x00\x00"])),
            case(ALL, MALFORMED, "nothing", &|_| framed(first, &[])),
            case(ALL, MALFORMED, "half a packet identifier", &|_| framed(first, &[b"\x00"])),
            case(OLD, MALFORMED, "reason before 5.0", &|_| framed(first, &[b"\x00\x01\x00"])),
            case(V5, PROTOCOL, "code of another packet", &|_| ack(first, 0x8B, b"")),
            case(V5, PROTOCOL, "code that does not exist", &|_| ack(first, 0x7F, b"")),
            case(V5, MALFORMED, "misplaced property", &|_| ack(first, 0, b"\x23\x00\x01")),
            case(V5, PROTOCOL, "reason string twice", &|_| ack(first, 0, b"\x1F\x00\x01x\x1F\x00\x01x")),
            case(V5, MALFORMED, "properties cut short", &|_| framed(first, &[b"\x00\x01\x00\x04\x1F"])),
            case(V5, MALFORMED, "byte behind the properties", &|_| framed(first, &[b"\x00\x01\x00\x00x"])),
        ]
    };
    ACKS.into_iter().flat_map(every).flatten().collect()
}

#[test]
fn an_acknowledgement_that_must_not_be_ends_the_connection_with_its_code() {
    refused_when_open(Limits::default(), &acknowledgements());
}

fn subscriptions() -> Vec<Case> {
    const ONE: &[u8] = b"\x00\x01a\x00";
    let options = |bits: u8| move |version| subscribe(version, b"", &[&b"\x00\x01a"[..], &[bits]].concat());
    [
        case(ALL, MALFORMED, "SUBSCRIBE without its flag", &|_| framed(0x80, &[b"\x00\x01", ONE])),
        case(ALL, MALFORMED, "SUBSCRIBE with a flag too many", &|_| framed(0x83, &[b"\x00\x01", ONE])),
        case(SINCE_V311, MALFORMED, "SUBSCRIBE with DUP", &|_| framed(0x8A, &[b"\x00\x01", ONE])),
        case(ALL, PROTOCOL, "SUBSCRIBE with identifier 0", &|version| {
            framed(0x82, &[b"\x00\x00", &section(version, b""), ONE])
        }),
        case(ALL, PROTOCOL, "no filter", &|version| subscribe(version, b"", b"")),
        case(ALL, MALFORMED, "filter without options", &|version| subscribe(version, b"", b"\x00\x01a")),
        case(ALL, MALFORMED, "filter cut short", &|version| subscribe(version, b"", b"\x00\x05a\x00")),
        case(ALL, PROTOCOL, "QoS 3 asked for", &options(3)),
        case(OLD, MALFORMED, "No Local before 5.0", &options(4)),
        case(OLD, MALFORMED, "retain as published before 5.0", &options(8)),
        case(ALL, MALFORMED, "reserved bit 6", &options(0x40)),
        case(ALL, MALFORMED, "reserved bit 7", &options(0x80)),
        case(V5, PROTOCOL, "retain handling 3", &options(0x30)),
        case(V5, PROTOCOL, "No Local on a shared subscription", &|version| {
            subscribe(version, b"", &[&text(b"$share/g/a")[..], &[4]].concat())
        }),
        case(V5, PROTOCOL, "subscription identifier 0", &|version| subscribe(version, b"\x0B\x00", ONE)),
        case(V5, PROTOCOL, "subscription identifier twice", &|version| subscribe(version, b"\x0B\x01\x0B\x01", ONE)),
        case(V5, MALFORMED, "subscription identifier of five bytes", &|version| {
            subscribe(version, b"\x0B\x80\x80\x80\x80\x01", ONE)
        }),
        case(V5, MALFORMED, "SUBSCRIBE with a reason string", &|version| subscribe(version, b"\x1F\x00\x01x", ONE)),
        case(V5, MALFORMED, "SUBSCRIBE without properties", &|_| framed(0x82, &[b"\x00\x01"])),
        case(ALL, MALFORMED, "UNSUBSCRIBE without its flag", &|_| framed(0xA0, &[b"\x00\x01\x00\x01a"])),
        case(SINCE_V311, MALFORMED, "UNSUBSCRIBE with DUP", &|_| framed(0xAA, &[b"\x00\x01\x00\x01a"])),
        case(ALL, PROTOCOL, "UNSUBSCRIBE with identifier 0", &|version| {
            framed(0xA2, &[b"\x00\x00", &section(version, b""), b"\x00\x01a"])
        }),
        case(ALL, PROTOCOL, "no filter to unsubscribe", &|version| unsubscribe(version, b"", b"")),
        case(ALL, MALFORMED, "filter to unsubscribe cut short", &|version| unsubscribe(version, b"", b"\x00\x05a")),
        case(V5, MALFORMED, "UNSUBSCRIBE with a subscription identifier", &|version| {
            unsubscribe(version, b"\x0B\x01", b"\x00\x01a")
        }),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[test]
fn a_subscribe_or_unsubscribe_that_must_not_be_ends_the_connection_with_its_code() {
    refused_when_open(Limits::default(), &subscriptions());
}

fn others() -> Vec<Case> {
    let of_servers: [&[u8]; 4] = [b"\x20\x02\x00\x00", b"\x90\x03\x00\x01\x00", b"\xB0\x02\x00\x01", b"\xD0\x00"];
    let foreign = of_servers.map(|bytes| case(ALL, PROTOCOL, "packet of a server", &|_| bytes.to_vec()));
    [
        case(ALL, MALFORMED, "type 0", &|_| vec![0, 0]),
        case(OLD, MALFORMED, "type 15 before 5.0", &|_| vec![0xF0, 0]),
        case(ALL, PROTOCOL, "a second CONNECT", &well_formed_connect),
        case(ALL, MALFORMED, "length in too many bytes", &|_| vec![0xC0, 0x80, 0]),
        case(ALL, MALFORMED, "length of five bytes", &|_| vec![0x30, 0x80, 0x80, 0x80, 0x80, 1]),
        case(ALL, 0x95, "longer than max_packet_size", &|_| vec![0x30, 0x80, 0x80, 0x41]),
        case(ALL, MALFORMED, "PINGREQ with flags", &|_| vec![0xC1, 0]),
        case(ALL, MALFORMED, "PINGREQ with a body", &|_| vec![0xC0, 1, 0]),
        case(ALL, MALFORMED, "DISCONNECT with flags", &|_| vec![0xE1, 0]),
        case(ALL, MALFORMED, "DISCONNECT with DUP", &|_| vec![0xE8, 0]),
        case(V311, MALFORMED, "DISCONNECT with a body before 5.0", &|_| vec![0xE0, 1, 0]),
        case(V5, PROTOCOL, "DISCONNECT with a code of CONNACK", &|_| farewell(0xE0, 0x84, b"")),
        case(V5, PROTOCOL, "DISCONNECT with a code that does not exist", &|_| farewell(0xE0, 3, b"")),
        case(V5, MALFORMED, "DISCONNECT with a misplaced property", &|_| farewell(0xE0, 0, b"\x21\x00\x01")),
        case(V5, MALFORMED, "DISCONNECT cut short", &|_| framed(0xE0, &[b"\x00\x05\x11"])),
        case(V5, MALFORMED, "byte behind DISCONNECT", &|_| framed(0xE0, &[b"\x00\x00x"])),
        case(V5, PROTOCOL, "DISCONNECT with session expiry twice", &|_| {
            farewell(0xE0, 0, b"\x11\x00\x00\x00\x00\x11\x00\x00\x00\x00")
        }),
        case(V5, PROTOCOL, "DISCONNECT that revives the session", &|_| farewell(0xE0, 0, b"\x11\x00\x00\x00\x0A")),
        case(V5, MALFORMED, "AUTH with flags", &|_| vec![0xF2, 0]),
        case(V5, PROTOCOL, "AUTH without a method in CONNECT", &|_| farewell(0xF0, 0x19, b"\x15\x00\x01m")),
        case(V5, PROTOCOL, "AUTH with a code of another packet", &|_| farewell(0xF0, 0x87, b"\x15\x00\x01m")),
        case(V5, PROTOCOL, "AUTH with nothing", &|_| vec![0xF0, 0]),
    ]
    .into_iter()
    .chain(foreign)
    .flatten()
    .collect()
}

#[test]
fn any_other_packet_that_must_not_be_ends_the_connection_with_its_code() {
    refused_when_open(Limits::default(), &others());
}

/// Bytes that are no string (MQTT 5.0 section 1.5.4).
const NO_STRINGS: [(&str, &[u8]); 8] = [
    ("a lone byte", b"\xFF"),
    ("U+0000", b"a\0b"),
    ("U+0000 in two bytes", b"\xC0\x80"),
    ("a slash in two bytes", b"\xC0\xAF"),
    ("the first surrogate", b"\xED\xA0\x80"),
    ("the last surrogate", b"\xED\xBF\xBF"),
    ("what is beyond U+10FFFF", b"\xF4\x90\x80\x80"),
    ("a character cut short", b"a\xE2\x82"),
];

/// A property that holds this string: a text, the name of a pair, its value.
fn with_text(id: u8, bad: &[u8]) -> Vec<u8> {
    [&[id][..], &text(bad)].concat()
}

fn pairs(bad: &[u8]) -> [Vec<u8>; 2] {
    [[&b"\x26"[..], &text(bad), b"\x00\x01v"].concat(), [&b"\x26\x00\x01n"[..], &text(bad)].concat()]
}

fn strings_of_connect(bad: &[u8]) -> Vec<Case> {
    let client = |payload: &[u8]| [&b"\x00\x01c"[..], payload].concat();
    let will =
        |version, raw: &[u8], topic: &[u8]| client(&[&section(version, raw)[..], &text(topic), b"\x00\x01x"].concat());
    let mut cases = [
        case(ALL, MALFORMED, "client identifier", &|version| connect(version, 2, &text(bad))),
        case(ALL, MALFORMED, "user name", &|version| connect(version, 0x82, &client(&text(bad)))),
        case(ALL, MALFORMED, "will topic", &|version| connect(version, 6, &will(version, b"", bad))),
        case(V5, MALFORMED, "authentication method", &|version| {
            connect_with(version, 2, &with_text(0x15, bad), b"\x00\x01c")
        }),
    ];
    let of_will = [vec![with_text(0x03, bad), with_text(0x08, bad)], pairs(bad).to_vec()].concat();
    for raw in &of_will {
        cases[3]
            .extend(case(V5, MALFORMED, "will property", &|version| connect(version, 6, &will(version, raw, b"w"))));
    }
    for raw in &pairs(bad) {
        let in_connect = &|version| connect_with(version, 2, raw, b"\x00\x01c");
        cases[3].extend(case(V5, MALFORMED, "user property of CONNECT", in_connect));
    }
    cases.into_iter().flatten().collect()
}

fn strings_of_others(bad: &[u8]) -> Vec<Case> {
    let filter = text(bad);
    let with_options = [&filter[..], &[0]].concat();
    let mut cases = [
        case(ALL, MALFORMED, "topic", &|version| publish(version, 0, bad, b"")),
        case(ALL, MALFORMED, "filter", &|version| subscribe(version, b"", &with_options)),
        case(ALL, MALFORMED, "filter to unsubscribe", &|version| unsubscribe(version, b"", &filter)),
        case(V5, MALFORMED, "content type", &|version| publish(version, 0, b"a", &with_text(0x03, bad))),
        case(V5, MALFORMED, "response topic", &|version| publish(version, 0, b"a", &with_text(0x08, bad))),
    ]
    .concat_all();
    for raw in &pairs(bad) {
        cases.extend(case(V5, MALFORMED, "user property of PUBLISH", &|version| publish(version, 0, b"a", raw)));
        cases.extend(case(V5, MALFORMED, "of SUBSCRIBE", &|version| subscribe(version, raw, b"\x00\x01a\x00")));
        cases.extend(case(V5, MALFORMED, "of UNSUBSCRIBE", &|version| unsubscribe(version, raw, b"\x00\x01a")));
    }
    for raw in [vec![with_text(0x1F, bad)], pairs(bad).to_vec()].concat() {
        for first in ACKS {
            cases.extend(case(V5, MALFORMED, "property of an acknowledgement", &|_| ack(first, 0, &raw)));
        }
        cases.extend(case(V5, MALFORMED, "property of DISCONNECT", &|_| farewell(0xE0, 0, &raw)));
        cases.extend(case(V5, MALFORMED, "property of AUTH", &|_| farewell(0xF0, 0x19, &raw)));
    }
    cases
}

trait ConcatAll {
    fn concat_all(self) -> Vec<Case>;
}

impl<const N: usize> ConcatAll for [Vec<Case>; N] {
    fn concat_all(self) -> Vec<Case> {
        self.into_iter().flatten().collect()
    }
}

fn named(name: &str, mut cases: Vec<Case>) -> Vec<Case> {
    cases.iter_mut().for_each(|case| case.what = format!("{} with {name}", case.what));
    cases
}

#[test]
fn no_string_of_connect_may_be_anything_but_utf_8_without_u_0000() {
    let cases = NO_STRINGS.iter().flat_map(|(name, bad)| named(name, strings_of_connect(bad)));
    refused_at_once(&cases.collect::<Vec<Case>>());
}

#[test]
fn no_string_of_any_other_packet_may_be_anything_but_utf_8_without_u_0000() {
    let cases = NO_STRINGS.iter().flat_map(|(name, bad)| named(name, strings_of_others(bad)));
    refused_when_open(Limits::default(), &cases.collect::<Vec<Case>>());
}

#[test]
fn what_the_operator_does_not_offer_ends_the_connection_with_its_own_code() {
    let limits = Limits { max_qos_allowed: 0, is_retain_available: false, max_topic_levels: 2, ..Limits::default() };
    let cases = [
        case(ALL, 0x9B, "QoS above max_qos_allowed", &|version| publish(version, 2, b"a", b"")),
        case(ALL, 0x9A, "retain where there is none", &|version| publish(version, 1, b"a", b"")),
        case(ALL, TOPIC_NAME, "more levels than max_topic_levels", &|version| publish(version, 0, b"a/b/c", b"")),
    ];
    refused_when_open(limits, &cases.concat_all());
}

#[test]
fn what_3_1_allows_and_later_versions_do_not_is_served_in_3_1() {
    let house = House::start(1, Limits::default());
    let allowed: [Vec<u8>; 5] = [
        publish(Version::V31, 8, b"a", b""),
        framed(0x8A, &[b"\x00\x01\x00\x01a\x00"]),
        framed(0xAA, &[b"\x00\x01\x00\x01a"]),
        framed(0x6A, &[b"\x00\x01"]),
        b"\xC0\x00\xE0\x00".to_vec(),
    ];
    let answer = answer(&house, &[connect(Version::V31, 0xC2, b"\x00\x01c"), allowed.concat()].concat());
    // CONNACK; SUBACK, UNSUBACK and PUBCOMP for what was sent as if again; PINGRESP before the client's goodbye.
    assert_eq!(answer, b"\x20\x02\x00\x00\x90\x03\x00\x01\x00\xB0\x02\x00\x01\x70\x02\x00\x01\xD0\x00");
}

#[test]
fn a_byte_order_mark_and_other_odd_characters_are_part_of_their_string() {
    let house = House::start(1, Limits::default());
    for version in ALL {
        // U+FEFF at the start, U+0001, a non-character, the last code point.
        let topic = "\u{FEFF}a\u{1}\u{FFFE}\u{10FFFF}".as_bytes();
        let subscription = subscribe(*version, b"", &[&text(topic)[..], &[0]].concat());
        let others = subscribe(*version, b"", &[&text(&topic[3..])[..], &[0]].concat());
        let sent = publish(*version, 0, topic, b"");
        let bytes = [well_formed_connect(*version), subscription, sent.clone(), b"\xE0\x00".to_vec()].concat();
        let answer_with = answer(&house, &bytes);
        assert!(answer_with.ends_with(&sent), "{version:?}: {answer_with:02X?}");
        let bytes = [well_formed_connect(*version), others, sent.clone(), b"\xE0\x00".to_vec()].concat();
        assert!(!answer(&house, &bytes).ends_with(&sent), "{version:?}: it is not stripped off");
    }
}
