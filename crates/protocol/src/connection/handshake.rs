//! CONNECT and CONNACK: what a client asks for, what we agree to (sections 3.1 and 3.2).
//!
//! Knows the fields of both packets and our limits. Does not know who may enter or which sessions exist.

use std::sync::Arc;

use super::authentication::{authentication_bytes, put_authentication};
use crate::encode::encode;
use crate::limits::Limits;
use crate::message::{Message, Origin};
use crate::packet::{ConnAck, Connect, Packet, Version, Will};
use crate::primitives::Decoded;
use crate::properties::{Properties, Value, id, put_property};
use crate::reason::ReasonCode;
use crate::violation::Violation;

/// A session expiry interval that never ends (section 3.1.2.11.2).
pub const NEVER_EXPIRES_S: u32 = u32::MAX;

/// A CONNECT, owned, with our limits applied; it waits here while the client is authenticated.
#[derive(Debug)]
pub struct Request {
    /// Protocol level.
    pub version: Version,
    /// Whether the client wants a new session.
    pub clean_start: bool,
    /// The keep-alive in force: ours where we tell one, else the client's; seconds, 0: none.
    pub keep_alive_s: u16,
    /// As asked for, or assigned.
    pub client_id: Arc<str>,
    /// Whether we chose the client identifier, which CONNACK then tells [MQTT-3.2.2-16].
    pub is_client_id_assigned: bool,
    /// How long the session outlives the connection; seconds.
    pub session_expiry_s: u32,
    /// What the client asked for, if it is MQTT 5 and asked; CONNACK tells it when we grant less [MQTT-3.1.2-23].
    pub session_expiry_asked_s: Option<u32>,
    /// How many QoS 1 and 2 messages the client takes at a time.
    pub receive_maximum: u16,
    /// The largest packet that the client takes; bytes.
    pub max_packet_bytes: u32,
    /// Whether CONNACK is to carry response information, where there is some [MQTT-3.1.2-28].
    pub is_response_wanted: bool,
    /// Topic aliases that the client takes from us.
    pub topic_alias_max: u16,
    /// The will, to be published when the connection ends badly.
    pub will: Option<Arc<Message>>,
    /// How long the will waits; seconds.
    pub will_delay_s: u32,
    /// User name.
    pub username: Option<Box<str>>,
    /// Password; never logged.
    pub password: Option<Secret>,
    /// Method of enhanced authentication.
    pub auth_method: Option<Box<str>>,
    /// Its data: the client's, and once it is let in ours for CONNACK.
    pub auth_data: Option<Secret>,
}

/// Bytes that must not appear in a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Box<[u8]>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Secret")
    }
}

impl Request {
    /// Reads a CONNECT under `limits`; `assigned` makes a client identifier where the client left it empty.
    ///
    /// The violations carry the code for CONNACK. `now_ms` dates the will.
    pub fn new(
        connect: &Connect<'_>,
        limits: &Limits,
        assigned: impl FnOnce() -> Arc<str>,
        now_ms: u64,
    ) -> Decoded<Request> {
        let client_id = client_id(connect, limits, assigned)?;
        let properties = connect.properties;
        let auth_method = properties.text(id::AUTHENTICATION_METHOD);
        if auth_method.is_none() && properties.first(id::AUTHENTICATION_DATA).is_some() {
            return Err(Violation::protocol("authentication data without a method")); // Section 3.1.2.11.10.
        }
        connect.will.as_ref().map_or(Ok(()), |will| check_will(will, limits))?;
        let origin = Origin { client_id: Arc::clone(&client_id), received_ms: now_ms };
        Ok(Request {
            version: connect.version,
            clean_start: connect.clean_start,
            keep_alive_s: limits.server_keepalive_s(connect.version).unwrap_or(connect.keep_alive_s),
            is_response_wanted: properties.number(id::REQUEST_RESPONSE_INFORMATION) == Some(1),
            is_client_id_assigned: connect.client_id.is_empty(),
            session_expiry_s: session_expiry_s(connect, limits),
            session_expiry_asked_s: properties.number(id::SESSION_EXPIRY_INTERVAL),
            receive_maximum: properties.number(id::RECEIVE_MAXIMUM).map_or(u16::MAX, |number| number as u16),
            max_packet_bytes: properties.number(id::MAXIMUM_PACKET_SIZE).unwrap_or(u32::MAX),
            topic_alias_max: properties.number(id::TOPIC_ALIAS_MAXIMUM).map_or(0, |number| number as u16),
            will: connect.will.map(|will| Arc::new(Message::from_will(&will, origin))),
            will_delay_s: connect.will.and_then(|will| will.properties.number(id::WILL_DELAY_INTERVAL)).unwrap_or(0),
            username: connect.username.map(Box::from),
            password: connect.password.map(|password| Secret(password.into())),
            auth_method: auth_method.map(Box::from),
            auth_data: authentication_bytes(properties).map(|bytes| Secret(bytes.into())),
            client_id,
        })
    }

    /// Appends the CONNACK that lets the client in.
    pub fn put_accepted(&self, out: &mut Vec<u8>, limits: &Limits, session_present: bool) {
        let mut raw = Vec::new();
        if self.version == Version::V5 {
            self.put_agreed(&mut raw, limits);
        }
        put_connack(out, self.version, session_present, ReasonCode::SUCCESS, &raw);
    }

    fn put_agreed(&self, raw: &mut Vec<u8>, limits: &Limits) {
        let mut number = |id, value| put_property(raw, id, Value::Number(value));
        if self.session_expiry_asked_s.is_some_and(|asked| asked != self.session_expiry_s) {
            number(id::SESSION_EXPIRY_INTERVAL, self.session_expiry_s);
        }
        if limits.receive_maximum < u16::MAX {
            number(id::RECEIVE_MAXIMUM, u32::from(limits.receive_maximum));
        }
        if limits.max_qos_allowed < 2 {
            number(id::MAXIMUM_QOS, u32::from(limits.max_qos_allowed));
        }
        if !limits.is_retain_available {
            number(id::RETAIN_AVAILABLE, 0);
        }
        if !limits.is_wildcard_available {
            number(id::WILDCARD_SUBSCRIPTION_AVAILABLE, 0);
        }
        number(id::MAXIMUM_PACKET_SIZE, limits.max_packet_size_bytes);
        if limits.max_topic_alias > 0 {
            number(id::TOPIC_ALIAS_MAXIMUM, u32::from(limits.max_topic_alias));
        }
        number(id::SHARED_SUBSCRIPTION_AVAILABLE, 0); // The router has no groups yet.
        if let Some(keep_alive_s) = limits.server_keepalive_s(self.version) {
            number(id::SERVER_KEEP_ALIVE, u32::from(keep_alive_s)); // [MQTT-3.1.2-21]
        }
        if self.is_response_wanted && !limits.response_information.is_empty() {
            put_property(raw, id::RESPONSE_INFORMATION, Value::Text(&limits.response_information));
        }
        if let Some(method) = &self.auth_method {
            put_authentication(raw, method, self.auth_data.as_ref().map(|data| &*data.0));
        }
        if self.is_client_id_assigned {
            put_property(raw, id::ASSIGNED_CLIENT_IDENTIFIER, Value::Text(&self.client_id));
        }
    }
}

fn put_connack(out: &mut Vec<u8>, version: Version, session_present: bool, reason: ReasonCode, raw: &[u8]) {
    let properties = Properties::trusted(raw);
    encode(out, version, &Packet::ConnAck(ConnAck { session_present, reason, properties }));
}

fn check_will(will: &Will<'_>, limits: &Limits) -> Decoded<()> {
    if will.qos as u8 > limits.max_qos_allowed {
        return Err(Violation::new(ReasonCode::QOS_NOT_SUPPORTED, "QoS of the will above max_qos_allowed"));
    }
    if will.retain && !limits.is_retain_available {
        return Err(Violation::new(ReasonCode::RETAIN_NOT_SUPPORTED, "retained will, but retain is off"));
    }
    super::check_response_topic(will.properties)?;
    limits.check_levels(will.topic)
}

fn client_id(connect: &Connect<'_>, limits: &Limits, assigned: impl FnOnce() -> Arc<str>) -> Decoded<Arc<str>> {
    let invalid = |what| Err(Violation::new(ReasonCode::CLIENT_IDENTIFIER_NOT_VALID, what));
    let asked = connect.client_id;
    if asked.len() > usize::from(limits.max_clientid_len) {
        return invalid("client identifier longer than max_clientid_len");
    }
    match asked {
        // 1 to 23 characters in 3.1. Nobody gains from the upper bound: EMQ X and mosquitto take longer ones, too.
        "" if connect.version == Version::V31 => invalid("empty client identifier in MQTT 3.1"),
        "" if connect.version == Version::V311 && !connect.clean_start => {
            invalid("empty client identifier with clean session 0") // [MQTT-3.1.3-8] of 3.1.1
        }
        "" => Ok(assigned()),
        asked => Ok(Arc::from(asked)),
    }
}

/// 3.1 and 3.1.1: clean session 1 ends with the connection, 0 is kept for the configured time. MQTT 5: as asked, capped.
fn session_expiry_s(connect: &Connect<'_>, limits: &Limits) -> u32 {
    match connect.version {
        Version::V31 | Version::V311 if connect.clean_start => 0,
        Version::V31 | Version::V311 => limits.session_expiry_s,
        Version::V5 => {
            let asked = connect.properties.number(id::SESSION_EXPIRY_INTERVAL).unwrap_or(0);
            asked.min(limits.session_expiry_max_s)
        }
    }
}
