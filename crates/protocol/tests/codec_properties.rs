//! What holds for every packet and for every string of bytes.
//!
//! Knows no particular bytes: those are in `codec.rs`. Any input is a packet, a piece of one, or a violation.

mod packets;

use std::sync::Arc;

use packets::{Ingredients, ingredients};
use proptest::prelude::*;
use proptest::sample::Index;
use whimbrel_protocol::connection::{Connection, Received, Role};
use whimbrel_protocol::decode::{Split, decode, split};
use whimbrel_protocol::encode::encode;
use whimbrel_protocol::{Limits, Packet, Version, Violation};

const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];

fn encoded(version: Version, packet: &Packet<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(&mut bytes, version, packet);
    bytes
}

fn read(bytes: &[u8], version: Version) -> Result<Option<(Packet<'_>, usize)>, Violation> {
    match split(bytes, u32::MAX)? {
        Split::Frame(frame) => decode(frame, version).map(|packet| Some((packet, frame.len))),
        Split::Partial { .. } => Ok(None),
    }
}

fn wide() -> Arc<Limits> {
    Arc::new(Limits { max_topic_levels: u16::MAX, max_packet_size_bytes: u32::MAX, ..Limits::default() })
}

fn opened(role: Role, version: Version) -> Connection {
    let mut connection = Connection::new(role, wide(), 0);
    connection.speak(version);
    connection.open(0, u32::MAX, 0);
    connection
}

/// A change to a packet's bytes.
#[derive(Clone, Debug)]
enum Mutation {
    Set(Index, u8),
    Flip(Index, u8),
    Insert(Index, u8),
    Remove(Index),
    Cut(Index),
}

impl Mutation {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Mutation::Insert(at, byte) => bytes.insert(at.index(bytes.len() + 1), *byte),
            _ if bytes.is_empty() => {}
            Mutation::Set(at, byte) => *at.get_mut(bytes) = *byte,
            Mutation::Flip(at, bit) => *at.get_mut(bytes) ^= 1 << (bit % 8),
            Mutation::Remove(at) => drop(bytes.remove(at.index(bytes.len()))),
            Mutation::Cut(at) => bytes.truncate(at.index(bytes.len())),
        }
    }
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        any::<(Index, u8)>().prop_map(|(at, byte)| Mutation::Set(at, byte)),
        any::<(Index, u8)>().prop_map(|(at, bit)| Mutation::Flip(at, bit)),
        any::<(Index, u8)>().prop_map(|(at, byte)| Mutation::Insert(at, byte)),
        any::<Index>().prop_map(Mutation::Remove),
        any::<Index>().prop_map(Mutation::Cut),
    ]
}

/// What can be said of any outcome: a packet has a length within the bytes, and can be written again.
fn check_outcome(bytes: &[u8], version: Version) {
    if let Ok(Some((packet, len))) = read(bytes, version) {
        assert!(2 <= len && len <= bytes.len());
        let again = encoded(packet_version(&packet, version), &packet);
        assert!(!again.is_empty());
    }
}

fn packet_version(packet: &Packet<'_>, version: Version) -> Version {
    match packet {
        Packet::Connect(connect) => connect.version,
        _ => version,
    }
}

fn check_connections(bytes: &[u8]) {
    for role in [Role::Server, Role::Client] {
        for version in VERSIONS {
            let mut connection = opened(role, version);
            let mut taken = 0;
            while let Ok(Received::Packet(packet, len)) = connection.receive(&bytes[taken..]) {
                if let Packet::Publish(publish) = &packet {
                    let _ = connection.name(publish).map(|named| named.topic().as_str().len());
                }
                taken += len;
                if taken == bytes.len() {
                    break;
                }
            }
        }
        let _ = Connection::new(role, wide(), 0).receive(bytes);
    }
}

/// Feeds `stream` in chunks that end at `cuts` to an open connection; returns what it took, written again.
fn carried(stream: &[u8], version: Version, cuts: &[usize]) -> Vec<Vec<u8>> {
    let mut connection = opened(Role::Server, version);
    let (mut held, mut packets, mut start) = (Vec::new(), Vec::new(), 0);
    for end in cuts.iter().copied().chain([stream.len()]) {
        held.extend_from_slice(&stream[start..end]);
        start = end;
        while !held.is_empty() {
            let Received::Packet(packet, len) = connection.receive(&held).unwrap() else {
                break;
            };
            packets.push(encoded(version, &packet));
            held.drain(..len);
        }
    }
    assert!(held.is_empty());
    packets
}

fn stream_of(ingredients: &Ingredients) -> Vec<Vec<u8>> {
    let packets = ingredients.of_open_clients();
    packets.iter().map(|packet| encoded(ingredients.version, packet)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_is_encoded_is_decoded_to_the_same(ingredients in ingredients()) {
        for packet in ingredients.packets() {
            let bytes = encoded(ingredients.version, &packet);
            let read = read(&bytes, ingredients.version);
            prop_assert_eq!(read, Ok(Some((packet, bytes.len()))));
        }
    }

    #[test]
    fn every_prefix_of_a_packet_is_incomplete_and_names_no_more_than_its_length(ingredients in ingredients()) {
        for packet in ingredients.packets() {
            let bytes = encoded(ingredients.version, &packet);
            for end in 0..bytes.len() {
                let Ok(Split::Partial { len }) = split(&bytes[..end], u32::MAX) else {
                    panic!("{end} bytes of {bytes:02X?} are taken for a packet");
                };
                prop_assert!(end < len && len <= bytes.len());
            }
        }
    }

    #[test]
    fn any_bytes_are_a_packet_a_piece_of_one_or_a_violation(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        for version in VERSIONS {
            check_outcome(&bytes, version);
        }
        check_connections(&bytes);
    }

    #[test]
    fn a_packet_type_with_any_body_never_panics(first in any::<u8>(), body in prop::collection::vec(0..0x30_u8, 0..40)) {
        let bytes = [&[first, body.len() as u8][..], &body].concat();
        for version in VERSIONS {
            check_outcome(&bytes, version);
        }
        check_connections(&bytes);
    }

    #[test]
    fn a_changed_packet_never_panics(
        ingredients in ingredients(),
        mutations in prop::collection::vec(mutation(), 1..4),
    ) {
        for packet in ingredients.packets() {
            let mut bytes = encoded(ingredients.version, &packet);
            mutations.iter().for_each(|mutation| mutation.apply(&mut bytes));
            check_outcome(&bytes, ingredients.version);
            check_connections(&bytes);
        }
    }

    #[test]
    fn a_stream_cut_anywhere_gives_the_same_packets(
        ingredients in ingredients(),
        cuts in prop::collection::vec(any::<Index>(), 0..12),
    ) {
        let packets = stream_of(&ingredients);
        let stream = packets.concat();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.sort_unstable();
        prop_assert_eq!(carried(&stream, ingredients.version, &cuts), packets);
    }
}

#[test]
fn a_stream_that_comes_byte_by_byte_gives_the_same_packets() {
    let packets = [&b"\xC0\x00"[..], b"\x30\x04\x00\x01ax", b"\x82\x06\x00\x01\x00\x01a\x01", b"\xE0\x00"];
    let stream = packets.concat();
    let every: Vec<usize> = (0..stream.len()).collect();
    assert_eq!(carried(&stream, Version::V311, &every), packets);
}
