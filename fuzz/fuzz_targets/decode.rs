//! Any bytes, as a packet of both versions: never a panic, and what was read can be written and read again.
//!
//! Knows `split`, `decode` and `encode`. Driven by libFuzzer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use whimbrel_protocol::decode::{Split, decode, split};
use whimbrel_protocol::encode::encode;
use whimbrel_protocol::{Packet, Version};

fuzz_target!(|bytes: &[u8]| {
    for version in [Version::V31, Version::V311, Version::V5] {
        if let Some(packet) = read(bytes, version) {
            check_again(&packet, version);
        }
    }
});

fn read(bytes: &[u8], version: Version) -> Option<Packet<'_>> {
    match split(bytes, u32::MAX) {
        Ok(Split::Frame(frame)) => {
            assert!(frame.len <= bytes.len());
            decode(frame, version).ok()
        }
        Ok(Split::Partial { len }) => {
            assert!(len > bytes.len());
            None
        }
        Err(_) => None,
    }
}

fn check_again(packet: &Packet<'_>, version: Version) {
    if has_lost_something(packet, version) {
        return;
    }
    let mut bytes = Vec::new();
    encode(&mut bytes, version, packet);
    assert_eq!(read(&bytes, version).as_ref(), Some(packet));
}

/// A refused filter has no text any more, and 3.1.1 writes some codes in another form than it reads them.
fn has_lost_something(packet: &Packet<'_>, version: Version) -> bool {
    match packet {
        Packet::Subscribe(subscribe) => subscribe.filters.iter().any(|(filter, _)| filter.is_err()),
        Packet::Unsubscribe(unsubscribe) => unsubscribe.filters.iter().any(Result::is_err),
        Packet::ConnAck(_) | Packet::SubAck(_) | Packet::UnsubAck(_) => version < Version::V5,
        _ => false,
    }
}
