//! Packets that say why: CONNACK with an error, DISCONNECT, and answers that tell of a failure, with a reason string where
//! the client wants one.
//!
//! Knows what the client said about problem information and packet sizes (MQTT 5.0 sections 3.1.2.11.4 and 3.1.2.11.7).
//! Does not know why a connection ends: code and words are arguments.

use super::Connection;
use crate::encode::{ack, encode};
use crate::packet::{Ack, ConnAck, Disconnect, Packet, SubAck, Version};
use crate::primitives::varint_len;
use crate::properties::{Properties, Value, carrier, id, put_property};
use crate::reason::ReasonCode;

impl Connection {
    /// Appends the CONNACK that refuses, for a client of `version`; false where it takes none so long.
    pub fn put_refused(&self, out: &mut Vec<u8>, version: Version, reason: ReasonCode, what: &str) -> bool {
        // A broker that stops while a client waits to be let in: CONNACK has no code for it [MQTT-3.2.2-8].
        let reason = reason.or(ReasonCode::SERVER_UNAVAILABLE, carrier::CONNACK);
        self.put_reasoned(out, version, what, &|out, properties| {
            encode(out, version, &Packet::ConnAck(ConnAck { session_present: false, reason, properties }));
        })
    }

    /// Appends a DISCONNECT; false where the version has none for a server, or the client takes none so long.
    pub fn put_disconnect(&self, out: &mut Vec<u8>, reason: ReasonCode, what: &str) -> bool {
        let reason = reason.or(ReasonCode::UNSPECIFIED_ERROR, carrier::DISCONNECT); // [MQTT-3.14.2-1]
        let put = |out: &mut Vec<u8>, properties: Properties<'_>| {
            encode(out, Version::V5, &Packet::Disconnect(Disconnect { reason, properties }));
        };
        self.version == Version::V5 && self.put_reasoned(out, Version::V5, what, &put)
    }

    /// Appends an answer that tells of a failure; false where the client takes none so long. Without words it is an answer
    /// like any other.
    pub fn put_answer(&self, out: &mut Vec<u8>, answered: &Answered<'_>, what: &str) -> bool {
        let version = self.version;
        self.put_reasoned(out, version, what, &|out, properties| match answered {
            Answered::Ack(first, packet) => ack(out, version, *first, &Ack { properties, ..*packet }),
            Answered::SubAck(packet) => {
                encode(out, version, &Packet::SubAck(SubAck { properties, ..(*packet).clone() }));
            }
            Answered::UnsubAck(packet) => {
                encode(out, version, &Packet::UnsubAck(SubAck { properties, ..(*packet).clone() }));
            }
        })
    }

    /// Whether the client takes a SUBACK or UNSUBACK with so many codes.
    pub fn takes_codes(&self, count: usize) -> bool {
        // Packet identifier, length of no properties, codes; the fixed header before them.
        let remaining = 3 + count;
        1 + varint_len(remaining as u32) + remaining <= self.peer_max_packet_bytes as usize
    }

    /// With the reason string `what` if it is wanted and fits, else without [MQTT-3.2.2-19], [MQTT-3.14.2-3], [MQTT-3.4.2-2],
    /// [MQTT-3.9.2-1]; whether the packet was written at all [MQTT-3.1.2-24].
    fn put_reasoned(&self, out: &mut Vec<u8>, version: Version, what: &str, put: Put<'_>) -> bool {
        let start = out.len();
        let fits = |out: &mut Vec<u8>, raw: &[u8]| {
            put(out, Properties::trusted(raw));
            let fits = out.len() - start <= self.peer_max_packet_bytes as usize;
            if !fits {
                out.truncate(start);
            }
            fits
        };
        let mut raw = Vec::new();
        if version == Version::V5 && self.is_problem_told && !what.is_empty() {
            put_property(&mut raw, id::REASON_STRING, Value::Text(what));
        }
        fits(out, &raw) || (!raw.is_empty() && fits(out, &[]))
    }
}

/// An answer to a packet of the client; the properties are ours to write.
#[derive(Clone, Debug)]
pub enum Answered<'a> {
    /// PUBACK, PUBREC, PUBREL or PUBCOMP, by its first byte.
    Ack(u8, Ack<'a>),
    /// SUBACK.
    SubAck(&'a SubAck<'a>),
    /// UNSUBACK.
    UnsubAck(&'a SubAck<'a>),
}

/// Writes a packet with these properties.
type Put<'a> = &'a dyn Fn(&mut Vec<u8>, Properties<'_>);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::Role;
    use crate::limits::Limits;
    use std::sync::Arc;

    const WHAT: &str = "because";
    const LONG_CONNACK: &[u8] = b"\x20\x0D\x00\x87\x0A\x1F\x00\x07because";
    const LONG_DISCONNECT: &[u8] = b"\xE0\x0C\x87\x0A\x1F\x00\x07because";

    /// A connection whose CONNECT carried these properties.
    fn connected(raw: &[u8]) -> Connection {
        let mut connection = Connection::new(Role::Server, Arc::new(Limits::default()), 0);
        let mut bytes = vec![0x10, 14 + raw.len() as u8];
        bytes.extend_from_slice(b"\x00\x04MQTT\x05\x02\x00\x3C");
        bytes.push(raw.len() as u8);
        bytes.extend_from_slice(raw);
        bytes.extend_from_slice(b"\x00\x01c");
        connection.receive(&bytes).expect("a CONNECT");
        connection
    }

    /// CONNACK and DISCONNECT as they are written.
    fn written(raw: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let (connection, mut connack, mut disconnect) = (connected(raw), Vec::new(), Vec::new());
        let reason = ReasonCode::NOT_AUTHORIZED;
        assert_eq!(connection.put_refused(&mut connack, Version::V5, reason, WHAT), !connack.is_empty());
        assert_eq!(connection.put_disconnect(&mut disconnect, reason, WHAT), !disconnect.is_empty());
        (connack, disconnect)
    }

    #[test]
    fn the_reason_is_told_in_words_unless_the_client_wants_none() {
        let long = (LONG_CONNACK.to_vec(), LONG_DISCONNECT.to_vec());
        assert_eq!(written(b""), long);
        assert_eq!(written(b"\x17\x01"), long);
        assert_eq!(written(b"\x17\x00"), (b"\x20\x03\x00\x87\x00".to_vec(), b"\xE0\x02\x87\x00".to_vec()));
    }

    #[test]
    fn words_that_do_not_fit_are_left_out_and_a_packet_that_does_not_fit_is_not_sent() {
        for (max, connack_len, disconnect_len) in
            [(15, 15, 14), (14, 5, 14), (13, 5, 4), (5, 5, 4), (4, 0, 4), (3, 0, 0), (1, 0, 0)]
        {
            let (connack, disconnect) = written(&[0x27, 0, 0, 0, max]);
            assert_eq!((connack.len(), disconnect.len()), (connack_len, disconnect_len), "{max} bytes");
        }
    }

    #[test]
    fn every_refusal_and_farewell_has_a_code_of_its_packet() {
        let connection = connected(b"");
        for code in (0x80..=0xFF).map(ReasonCode) {
            let (mut connack, mut disconnect) = (Vec::new(), Vec::new());
            assert!(connection.put_refused(&mut connack, Version::V5, code, ""));
            assert!(connection.put_disconnect(&mut disconnect, code, ""));
            assert_eq!(connack[3] == code.0, code.fits(carrier::CONNACK), "{code:?}");
            assert_eq!(disconnect[2] == code.0, code.fits(carrier::DISCONNECT), "{code:?}");
            assert!(ReasonCode(connack[3]).fits(carrier::CONNACK) && ReasonCode(connack[3]).is_error());
            assert!(ReasonCode(disconnect[2]).fits(carrier::DISCONNECT) && ReasonCode(disconnect[2]).is_error());
            let mut old = Vec::new();
            assert!(connection.put_refused(&mut old, Version::V311, code, ""));
            assert!((1..=5).contains(&old[3]), "{code:?}");
        }
    }

    fn answered(raw: &[u8]) -> [Vec<u8>; 3] {
        let connection = connected(raw);
        let reasons = vec![ReasonCode::NOT_AUTHORIZED];
        let suback = SubAck { packet_id: 1, properties: Properties::default(), reasons };
        let ack = Ack::new(1, ReasonCode::NOT_AUTHORIZED);
        [Answered::Ack(0x40, ack), Answered::SubAck(&suback), Answered::UnsubAck(&suback)].map(|answered| {
            let mut out = Vec::new();
            assert_eq!(connection.put_answer(&mut out, &answered, WHAT), !out.is_empty());
            out
        })
    }

    #[test]
    fn reasons_in_words_go_with_failures_as_far_as_the_client_takes_them() {
        let long: [&[u8]; 3] = [
            b"\x40\x0E\x00\x01\x87\x0A\x1F\x00\x07because",
            b"\x90\x0E\x00\x01\x0A\x1F\x00\x07because\x87",
            b"\xB0\x0E\x00\x01\x0A\x1F\x00\x07because\x87",
        ];
        let short: [&[u8]; 3] = [b"\x40\x03\x00\x01\x87", b"\x90\x04\x00\x01\x00\x87", b"\xB0\x04\x00\x01\x00\x87"];
        assert_eq!(answered(b""), long);
        assert_eq!(answered(&[0x27, 0, 0, 0, 16]), long);
        assert_eq!(answered(&[0x27, 0, 0, 0, 15]), short, "words that do not fit are left out");
        assert_eq!(answered(b"\x17\x00"), short, "[MQTT-3.1.2-29]");
        let none: [&[u8]; 3] = [short[0], b"", b""];
        assert_eq!(answered(&[0x27, 0, 0, 0, 5]), none);
    }

    #[test]
    fn whether_the_codes_of_a_suback_fit_is_known_before_it_is_written() {
        for (max, count) in [(6, 1), (5, 0), (129, 124), (130, 124), (131, 125), (16_386, 16_380), (16_390, 16_383)] {
            let connection = connected(&[&[0x27][..], &(max as u32).to_be_bytes()].concat());
            for asked in [count, count + 1] {
                let reasons = vec![ReasonCode::SUCCESS; asked];
                let suback = SubAck { packet_id: 1, properties: Properties::default(), reasons };
                let fits = connection.put_answer(&mut Vec::new(), &Answered::SubAck(&suback), "");
                assert_eq!((connection.takes_codes(asked), fits), (asked == count, asked == count), "{asked} in {max}");
            }
        }
    }

    #[test]
    fn older_versions_have_a_return_code_and_no_disconnect() {
        let connection = Connection::new(Role::Server, Arc::new(Limits::default()), 0);
        let mut out = Vec::new();
        assert!(!connection.put_disconnect(&mut out, ReasonCode::SERVER_BUSY, WHAT));
        assert!(connection.put_refused(&mut out, Version::V311, ReasonCode::SERVER_BUSY, WHAT));
        assert_eq!(out, b"\x20\x02\x00\x03");
    }
}
