//! Enhanced authentication: the AUTH exchange of one connection (MQTT 5.0 section 4.12).
//!
//! Knows the method of CONNECT and whose turn it is. Does not know what the data mean: a hook decides after each packet of
//! the client. Call order: `begin_authentication`; for each of the client's packets `challenge` or `settle`; `on_auth` for
//! each AUTH. Nothing is allocated for a client that names no method.

use super::{Connection, Phase};
use crate::encode::encode;
use crate::packet::{Disconnect, Packet, Version};
use crate::primitives::Decoded;
use crate::properties::{Properties, Value, id, put_property};
use crate::reason::ReasonCode;
use crate::violation::Violation;

/// The exchange.
#[derive(Debug)]
pub(super) struct Authentication {
    method: Box<str>,
    is_clients_turn: bool,
    step: u32,
}

/// What an AUTH of the client asks to be decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AuthStep<'a> {
    /// Packets of the client in this exchange before this one.
    pub step: u32,
    /// Authentication Data.
    pub bytes: Option<&'a [u8]>,
}

/// The Authentication Data of a packet.
pub fn authentication_bytes(properties: Properties<'_>) -> Option<&[u8]> {
    match properties.first(id::AUTHENTICATION_DATA) {
        Some(Value::Binary(bytes)) => Some(bytes),
        _ => None,
    }
}

/// Method and data as properties.
pub fn put_authentication(raw: &mut Vec<u8>, method: &str, bytes: Option<&[u8]>) {
    put_property(raw, id::AUTHENTICATION_METHOD, Value::Text(method));
    if let Some(bytes) = bytes {
        put_property(raw, id::AUTHENTICATION_DATA, Value::Binary(bytes));
    }
}

impl Connection {
    /// The method of CONNECT.
    pub fn authentication_method(&self) -> Option<&str> {
        self.rare.as_ref()?.authentication.as_ref().map(|authentication| &*authentication.method)
    }

    /// CONNECT named a method.
    pub fn begin_authentication(&mut self, method: &str) {
        let authentication = Authentication { method: method.into(), is_clients_turn: false, step: 0 };
        self.rare.get_or_insert_default().authentication = Some(authentication);
    }

    /// Whether only AUTH and DISCONNECT may come: the answer to a challenge before CONNACK [MQTT-3.1.2-30].
    pub(super) fn awaits_auth(&self) -> bool {
        let authentication = self.rare.as_ref().and_then(|rare| rare.authentication.as_ref());
        self.phase == Phase::Deciding && authentication.is_some_and(|authentication| authentication.is_clients_turn)
    }

    /// An AUTH came: an answer to a challenge (0x18), or the beginning of a re-authentication (0x19).
    pub fn on_auth<'a>(&mut self, packet: &Disconnect<'a>) -> Decoded<AuthStep<'a>> {
        let is_open = self.phase == Phase::Open;
        let Some(authentication) = self.rare.as_mut().and_then(|rare| rare.authentication.as_mut()) else {
            return Err(Violation::protocol("AUTH without an authentication method")); // [MQTT-4.12.0-7]
        };
        if packet.properties.text(id::AUTHENTICATION_METHOD) != Some(&*authentication.method) {
            // [MQTT-4.12.0-5], [MQTT-4.12.1-1]
            return Err(Violation::protocol("AUTH with another authentication method than CONNECT"));
        }
        match packet.reason {
            ReasonCode::CONTINUE_AUTHENTICATION if authentication.is_clients_turn => authentication.step += 1,
            ReasonCode::RE_AUTHENTICATE if is_open => authentication.step = 0,
            _ => return Err(Violation::protocol("AUTH that nothing asked for")),
        }
        authentication.is_clients_turn = false;
        Ok(AuthStep { step: authentication.step, bytes: authentication_bytes(packet.properties) })
    }

    /// Appends the AUTH that goes on with the exchange; false if the client takes none so long.
    pub fn challenge(&mut self, out: &mut Vec<u8>, bytes: Option<&[u8]>) -> bool {
        if let Some(authentication) = self.rare.as_mut().and_then(|rare| rare.authentication.as_mut()) {
            authentication.is_clients_turn = true;
        }
        self.put_auth(out, ReasonCode::CONTINUE_AUTHENTICATION, bytes)
    }

    /// Appends the AUTH that ends a re-authentication well; false if the client takes none so long.
    pub fn settle(&mut self, out: &mut Vec<u8>, bytes: Option<&[u8]>) -> bool {
        self.put_auth(out, ReasonCode::SUCCESS, bytes)
    }

    fn put_auth(&self, out: &mut Vec<u8>, reason: ReasonCode, bytes: Option<&[u8]>) -> bool {
        let (start, mut raw) = (out.len(), Vec::new());
        put_authentication(&mut raw, self.authentication_method().unwrap_or_default(), bytes);
        encode(out, Version::V5, &Packet::Auth(Disconnect { reason, properties: Properties::trusted(&raw) }));
        let fits = out.len() - start <= self.peer_max_packet_bytes as usize;
        if !fits {
            out.truncate(start);
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::{Received, Role};
    use crate::limits::Limits;
    use std::sync::Arc;

    const CONTINUE: ReasonCode = ReasonCode::CONTINUE_AUTHENTICATION;
    const AGAIN: ReasonCode = ReasonCode::RE_AUTHENTICATE;

    fn deciding() -> Connection {
        let mut connection = Connection::new(Role::Server, Arc::new(Limits::default()), 0);
        connection.receive(b"\x10\x0E\x00\x04MQTT\x05\x02\x00\x3C\x00\x00\x01c").expect("a CONNECT");
        connection
    }

    /// In the middle of an exchange by "m": the client is to answer.
    fn challenged() -> Connection {
        let mut connection = deciding();
        connection.begin_authentication("m");
        assert!(connection.challenge(&mut Vec::new(), None));
        connection
    }

    fn auth(connection: &mut Connection, reason: ReasonCode, method: &str) -> Decoded<u32> {
        let mut raw = Vec::new();
        put_authentication(&mut raw, method, Some(b"d"));
        let packet = Disconnect { reason, properties: Properties::trusted(&raw) };
        let step = connection.on_auth(&packet)?;
        assert_eq!(step.bytes, Some(&b"d"[..]));
        Ok(step.step)
    }

    #[test]
    fn each_side_has_its_turn_and_the_steps_are_counted() {
        let mut connection = challenged();
        for step in 1..4 {
            assert_eq!(auth(&mut connection, CONTINUE, "m"), Ok(step));
            assert!(auth(&mut connection, CONTINUE, "m").is_err(), "it is not the client's turn");
            assert!(connection.challenge(&mut Vec::new(), Some(b"c")));
        }
        connection.open(0, u32::MAX, 0);
        assert_eq!(auth(&mut connection, AGAIN, "m"), Ok(0));
    }

    #[test]
    fn only_the_method_of_connect_is_gone_on_with_and_only_when_something_asks_for_it() {
        let mut open = deciding();
        open.begin_authentication("m");
        open.open(0, u32::MAX, 0);
        let table = [
            (deciding(), CONTINUE, "m", "no method in CONNECT"),
            (challenged(), CONTINUE, "n", "another method"),
            (challenged(), AGAIN, "m", "re-authentication before CONNACK"),
            (challenged(), ReasonCode::SUCCESS, "m", "only a server sends 0"),
            (open, CONTINUE, "m", "no challenge"),
        ];
        for (mut connection, reason, method, what) in table {
            let refused = auth(&mut connection, reason, method).map_err(|violation| violation.reason);
            assert_eq!(refused, Err(ReasonCode::PROTOCOL_ERROR), "{what}");
        }
    }

    #[test]
    fn before_connack_nothing_but_auth_and_disconnect_may_answer_a_challenge() {
        let subscribe = b"\x82\x07\x00\x01\x00\x00\x01a\x00";
        assert!(challenged().receive(subscribe).is_err());
        assert!(challenged().receive(b"\x30\x04\x00\x01a\x00").is_err());
        for bytes in [&b"\xE0\x00"[..], b"\xF0\x06\x18\x04\x15\x00\x01m"] {
            assert!(matches!(challenged().receive(bytes), Ok(Received::Packet(..))), "{bytes:02X?}");
        }
    }

    #[test]
    fn what_we_send_names_the_method_and_keeps_to_the_clients_packet_size() {
        let mut connection = challenged();
        let mut out = Vec::new();
        assert!(connection.challenge(&mut out, Some(b"c")));
        assert!(connection.settle(&mut out, None));
        assert_eq!(out, b"\xF0\x0A\x18\x08\x15\x00\x01m\x16\x00\x01c\xF0\x06\x00\x04\x15\x00\x01m");
        connection.open(0, 11, 0);
        assert!(!connection.challenge(&mut out, Some(b"c")));
        assert_eq!(out.len(), 12 + 8);
    }
}
