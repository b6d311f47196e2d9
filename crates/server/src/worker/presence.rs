//! `$SYS/brokers/<node>/clients/<clientid>/connected` and `.../disconnected`: who came and who went, as EMQ X tells it.
//!
//! Knows the topics and the JSON. A notice is a message of QoS 0 that is routed at once, like a will: it waits nowhere, so
//! ten thousand clients that come together need no queue here; a subscriber that cannot take it all loses some, which its
//! `delivery.dropped` counts. Where nobody subscribes, which a look at the table tells once a change of it, nothing is made.

use std::fmt::Write;
use std::sync::Arc;

use whimbrel_protocol::connection::handshake::Request;
use whimbrel_protocol::message::{Origin, Publication};
use whimbrel_protocol::properties::Properties;
use whimbrel_protocol::{Message, QoS, Topic, Version};

use super::Worker;
use super::client::{Client, End};
use crate::socket::Peer;

/// Whether somebody listens, as found under one generation of the routing table.
#[derive(Default, Debug)]
pub(super) struct Watch {
    known: Option<(u64, bool)>,
}

/// What both notices say of a client.
pub(super) struct Presence {
    client_id: Arc<str>,
    username: Option<Box<str>>,
    peer: Peer,
    port: u16,
    version: Version,
}

impl Worker {
    /// A client has its CONNACK.
    pub(super) fn publish_present(&mut self, slot: u32, request: &Request) {
        if !self.is_presence_wanted() {
            return;
        }
        let client = &self.clients[slot as usize];
        let Some(presence) = client.session.and_then(|seat| self.presence_of(client, seat)) else { return };
        let mut json = presence.begin();
        put_number(&mut json, "ts", self.now.unix_ms);
        put_number(&mut json, "keepalive", request.keep_alive_s.into());
        put_number(&mut json, "connack", 0);
        put_number(&mut json, "expiry_interval", request.session_expiry_s.into());
        put_number(&mut json, "connected_at", self.now.unix_ms);
        let _ = write!(json, ",\"clean_start\":{}}}", request.clean_start);
        self.publish_presence(&presence, "connected", &json);
    }

    /// A client that had it is gone.
    pub(super) fn publish_gone(&mut self, presence: &Presence, end: End) {
        let mut json = presence.begin();
        put_text(&mut json, "reason", end.word);
        put_number(&mut json, "ts", self.now.unix_ms);
        put_number(&mut json, "disconnected_at", self.now.unix_ms);
        json.push('}');
        self.publish_presence(presence, "disconnected", &json);
    }

    /// Whether somebody wants to know who comes and goes; not while everybody goes.
    pub(super) fn is_presence_wanted(&mut self) -> bool {
        let Some(prefix) = self.shared.sys.clients.as_deref().filter(|_| self.stop_by_ms.is_none()) else {
            return false;
        };
        let generation = self.shared.router.generation();
        match self.presence.known {
            Some((known, is_watched)) if known == generation => is_watched,
            _ => {
                let is_watched = self.shared.router.is_watched(prefix);
                self.presence.known = Some((generation, is_watched));
                is_watched
            }
        }
    }

    /// What there is to tell of a client.
    pub(super) fn presence_of(&self, client: &Client, seat: u32) -> Option<Presence> {
        let seat = self.sessions.get(seat)?;
        Some(Presence {
            client_id: Arc::clone(&seat.session.client_id),
            username: seat.username.clone(),
            peer: client.peer,
            port: self.shared.listeners[usize::from(client.listener)].port(),
            version: client.connection.version(),
        })
    }

    fn publish_presence(&mut self, presence: &Presence, event: &str, json: &str) {
        let Some(prefix) = &self.shared.sys.clients else { return };
        let topic = format!("{prefix}/{}/{event}", presence.client_id);
        // A client identifier may hold what a topic may not: a wildcard.
        let Ok(topic) = Topic::new(&topic) else {
            self.counts.presence_dropped += 1;
            return;
        };
        let (properties, payload) = (Properties::default(), json.as_bytes());
        let publication = Publication { topic, properties, expiry_s: None, payload };
        let origin = Origin { client_id: Arc::from(""), received_ms: self.now.steady_ms };
        let message = Arc::new(Message::new(&publication, QoS::AtMostOnce, false, origin));
        self.counts.routed_inside += 1;
        self.route_message(&message, None);
    }
}

impl Presence {
    /// The fields that both notices have. An absent user name is the word `undefined`, as in EMQ X.
    fn begin(&self) -> String {
        let mut json = String::with_capacity(320);
        json.push_str("{\"clientid\":");
        quote(&mut json, &self.client_id);
        put_text(&mut json, "username", self.username.as_deref().unwrap_or("undefined"));
        match self.peer {
            Peer::Net(address, _) => put_text(&mut json, "ipaddress", &address.to_canonical().to_string()),
            Peer::Local => put_text(&mut json, "ipaddress", ""),
        }
        put_number(&mut json, "sockport", self.port.into());
        put_text(&mut json, "proto_name", if self.version == Version::V31 { "MQIsdp" } else { "MQTT" });
        put_number(&mut json, "proto_ver", self.version as u64);
        json
    }
}

fn put_text(json: &mut String, name: &str, text: &str) {
    let _ = write!(json, ",\"{name}\":");
    quote(json, text);
}

fn put_number(json: &mut String, name: &str, number: u64) {
    let _ = write!(json, ",\"{name}\":{number}");
}

/// A JSON string (RFC 8259 section 7).
fn quote(json: &mut String, text: &str) {
    json.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => json.extend(['\\', character]),
            '\0'..='\x1F' => {
                let _ = write!(json, "\\u{:04x}", character as u32);
            }
            _ => json.push(character),
        }
    }
    json.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_chose_cannot_leave_its_quotes() {
        let mut json = String::new();
        quote(&mut json, "a\"b\\c\nd\u{1F}\u{7F}\u{e9}");
        assert_eq!(json, "\"a\\\"b\\\\c\\u000ad\\u001f\u{7F}\u{e9}\"");
    }
}
