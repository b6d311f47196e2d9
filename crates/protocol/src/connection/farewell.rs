//! Refusals and farewells: CONNACK with an error and DISCONNECT, with a reason string where the client wants one.
//!
//! Knows what the client said about problem information and packet sizes (MQTT 5.0 sections 3.1.2.11.4 and 3.1.2.11.7).
//! Does not know why a connection ends: code and words are arguments.

use super::Connection;
use crate::encode::encode;
use crate::packet::{ConnAck, Disconnect, Packet, Version};
use crate::properties::{Properties, Value, id, put_property};
use crate::reason::ReasonCode;

impl Connection {
    /// Appends the CONNACK that refuses, for a client of `version`; false where it takes none so long.
    pub fn put_refused(&self, out: &mut Vec<u8>, version: Version, reason: ReasonCode, what: &str) -> bool {
        self.put_reasoned(out, version, what, &|out, properties| {
            encode(out, version, &Packet::ConnAck(ConnAck { session_present: false, reason, properties }));
        })
    }

    /// Appends a DISCONNECT; false where the version has none for a server, or the client takes none so long.
    pub fn put_disconnect(&self, out: &mut Vec<u8>, reason: ReasonCode, what: &str) -> bool {
        let put = |out: &mut Vec<u8>, properties: Properties<'_>| {
            encode(out, Version::V5, &Packet::Disconnect(Disconnect { reason, properties }));
        };
        self.version == Version::V5 && self.put_reasoned(out, Version::V5, what, &put)
    }

    /// With the reason string `what` if it is wanted and fits, else without [MQTT-3.2.2-19], [MQTT-3.14.2-3]; whether the
    /// packet was written at all [MQTT-3.1.2-24].
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
    fn older_versions_have_a_return_code_and_no_disconnect() {
        let connection = Connection::new(Role::Server, Arc::new(Limits::default()), 0);
        let mut out = Vec::new();
        assert!(!connection.put_disconnect(&mut out, ReasonCode::SERVER_BUSY, WHAT));
        assert!(connection.put_refused(&mut out, Version::V311, ReasonCode::SERVER_BUSY, WHAT));
        assert_eq!(out, b"\x20\x02\x00\x03");
    }
}
