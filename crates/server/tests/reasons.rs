//! What clients are told when a connection ends, through a running broker; and the keep-alive that we impose.
//!
//! The bytes and what fits into them are tested beside their code, in the protocol crate.

mod house;

use std::time::{Duration, Instant};

use house::{House, Wire};
use whimbrel_protocol::decode::{Split, decode, split};
use whimbrel_protocol::packet::Packet;
use whimbrel_protocol::properties::id;
use whimbrel_protocol::{Limits, ReasonCode, Version};

const NO_WORDS: &[u8] = b"\x17\x00";

/// Code and words of the CONNACK or DISCONNECT in these bytes.
fn told(bytes: &[u8]) -> (ReasonCode, Option<String>) {
    let Ok(Split::Frame(frame)) = split(bytes, u32::MAX) else { panic!("a whole packet") };
    let (reason, properties) = match decode(frame, Version::V5) {
        Ok(Packet::ConnAck(connack)) => (connack.reason, connack.properties),
        Ok(Packet::Disconnect(disconnect)) => (disconnect.reason, disconnect.properties),
        other => panic!("{other:?}"),
    };
    (reason, properties.text(id::REASON_STRING).map(str::to_owned))
}

fn entered(house: &House, raw: &[u8]) -> Wire {
    let mut wire = Wire::connect_with(&house.address(), "c", Version::V5, true, raw);
    wire.read_type(2).expect("CONNACK");
    wire
}

#[test]
fn a_client_that_is_thrown_out_reads_why_unless_it_wants_no_words() {
    let mut house = House::start(1, Limits::default());
    for (raw, words) in [(&b""[..], Some("an operator ended this session".to_owned())), (NO_WORDS, None)] {
        let mut client = entered(&house, raw);
        assert!(house.kick("c"));
        let disconnect = client.read_type(14).expect("DISCONNECT");
        assert_eq!(told(&disconnect), (ReasonCode::ADMINISTRATIVE_ACTION, words));
        assert_eq!(client.read(), None);
    }
}

#[test]
fn a_refused_client_reads_why() {
    let house = House::start(1, Limits { max_clientid_len: 0, ..Limits::default() });
    let mut client = Wire::connect_with(&house.address(), "c", Version::V5, true, b"");
    let (reason, words) = told(&client.read_type(2).expect("CONNACK"));
    assert_eq!(reason, ReasonCode::CLIENT_IDENTIFIER_NOT_VALID);
    assert_eq!(words.as_deref(), Some("client identifier longer than max_clientid_len"));
    assert_eq!(client.read(), None);
}

#[test]
fn a_silent_client_is_held_to_our_keep_alive() {
    let house = House::start(1, Limits { server_keepalive_s: 1, ..Limits::default() });
    let began = Instant::now();
    let mut client = entered(&house, b"");
    let disconnect = client.read_type(14).expect("DISCONNECT");
    assert_eq!(told(&disconnect).0, ReasonCode::KEEP_ALIVE_TIMEOUT);
    assert!(began.elapsed() >= Duration::from_millis(1_500));
}
