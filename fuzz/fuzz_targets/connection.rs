//! A stream of chunks into `Connection::receive`: the same packets and the same end as when all comes at once.
//!
//! Knows the driver's part of the contract: bytes that belong to no packet yet are kept and passed again. Driven by libFuzzer.
#![no_main]

use std::sync::Arc;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use whimbrel_protocol::connection::{Connection, Received, Role};
use whimbrel_protocol::{Limits, Packet, Version, Violation};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    is_server: bool,
    is_v5: bool,
    is_open: bool,
    chunk_lengths: Vec<u8>,
    stream: &'a [u8],
}

fuzz_target!(|input: Input<'_>| {
    let whole = received(&input, &[input.stream.len()]);
    let lengths: Vec<usize> = input.chunk_lengths.iter().map(|length| usize::from(*length)).collect();
    assert_eq!(received(&input, &lengths), whole);
});

fn connection(input: &Input<'_>) -> Connection {
    let role = if input.is_server { Role::Server } else { Role::Client };
    let mut connection = Connection::new(role, Arc::new(Limits::default()), 0);
    if input.is_open || !input.is_server {
        connection.speak(if input.is_v5 { Version::V5 } else { Version::V311 });
    }
    if input.is_open {
        connection.open(0, u32::MAX, 0);
    }
    connection
}

/// What came out: each packet as text, the resolved topics, and how it ended.
fn received(input: &Input<'_>, lengths: &[usize]) -> (Vec<String>, Option<Violation>) {
    let mut connection = connection(input);
    let (mut packets, mut held, mut rest) = (Vec::new(), Vec::new(), input.stream);
    for length in lengths.iter().copied().chain([usize::MAX]) {
        let (chunk, later) = rest.split_at(length.min(rest.len()));
        held.extend_from_slice(chunk);
        rest = later;
        match drain(&mut connection, &held, &mut packets) {
            Ok(taken) => drop(held.drain(..taken)),
            Err(violation) => return (packets, Some(violation)),
        }
    }
    (packets, None)
}

fn drain(connection: &mut Connection, held: &[u8], packets: &mut Vec<String>) -> Result<usize, Violation> {
    let mut taken = 0;
    while taken < held.len() {
        match connection.receive(&held[taken..])? {
            Received::Incomplete(len) => {
                assert!(len > held.len() - taken);
                break;
            }
            Received::Packet(packet, len) => {
                packets.push(format!("{packet:?}"));
                if let Packet::Publish(publish) = &packet {
                    packets.push(connection.name(publish)?.topic().as_str().into());
                }
                taken += len;
            }
        }
    }
    Ok(taken)
}
