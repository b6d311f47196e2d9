//! What CONNACK tells beyond the limits: our keep-alive, response information.
//!
//! Knows [`Request`] alone; the limits in CONNACK are in `connection.rs`.

use whimbrel_protocol::connection::handshake::Request;
use whimbrel_protocol::decode::{Split, decode, split};
use whimbrel_protocol::packet::{Connect, Packet};
use whimbrel_protocol::properties::{Properties, Value, id};
use whimbrel_protocol::{Limits, Version};

fn connect(version: Version, keep_alive_s: u16, raw: &[u8]) -> Connect<'_> {
    Connect {
        version,
        clean_start: true,
        keep_alive_s,
        client_id: "c",
        will: None,
        username: None,
        password: None,
        properties: Properties::trusted(raw),
    }
}

/// The request, and what CONNACK says under `id`: a number, or a text.
fn agreed(connect: &Connect<'_>, limits: &Limits, id: u8) -> (Request, Option<Result<u32, String>>) {
    let request = Request::new(connect, limits, || "assigned".into(), 0).unwrap();
    let mut bytes = Vec::new();
    request.put_accepted(&mut bytes, limits, false);
    let Ok(Split::Frame(frame)) = split(&bytes, u32::MAX) else { panic!("a whole packet") };
    let Ok(Packet::ConnAck(connack)) = decode(frame, request.version) else { panic!("a CONNACK") };
    let told = connack.properties.first(id).map(|value| match value {
        Value::Number(number) => Ok(number),
        Value::Text(text) => Err(text.to_owned()),
        other => panic!("{other:?}"),
    });
    (request, told)
}

#[test]
fn our_keep_alive_is_told_and_used_where_the_version_can_be_told() {
    let table = [
        // Version, the client's, ours; in force, told.
        (Version::V5, 60, 0, 60, None),
        (Version::V5, 60, 20, 20, Some(Ok(20))),
        (Version::V5, 0, 20, 20, Some(Ok(20))),
        (Version::V5, 20, 20, 20, Some(Ok(20))),
        (Version::V311, 60, 20, 60, None),
        (Version::V31, 0, 20, 0, None),
    ];
    for (version, asked_s, ours_s, in_force_s, told) in table {
        let limits = Limits { server_keepalive_s: ours_s, ..Limits::default() };
        let (request, got) = agreed(&connect(version, asked_s, b""), &limits, id::SERVER_KEEP_ALIVE);
        assert_eq!((request.keep_alive_s, got), (in_force_s, told), "{version:?}: {asked_s}, {ours_s}");
    }
}

#[test]
fn response_information_is_told_only_to_those_who_ask_and_only_where_there_is_some() {
    let wanted: &[u8] = b"\x19\x01";
    let table: [(Version, &[u8], &str, Option<&str>); 5] = [
        (Version::V5, wanted, "reply/", Some("reply/")),
        (Version::V5, wanted, "", None),
        (Version::V5, b"\x19\x00", "reply/", None),
        (Version::V5, b"", "reply/", None),
        (Version::V311, b"", "reply/", None),
    ];
    for (version, raw, ours, told) in table {
        let limits = Limits { response_information: ours.into(), ..Limits::default() };
        let (_, got) = agreed(&connect(version, 0, raw), &limits, id::RESPONSE_INFORMATION);
        assert_eq!(got, told.map(|text| Err(text.to_owned())), "{version:?} {raw:02X?} {ours:?}");
    }
}
