//! The control packets in the shape of MQTT 5.0; a 3.1.1 packet is one with fewer fields.
//!
//! Knows fields. Does not know bytes (`decode`, `encode`) or what follows from a packet (`connection`, `session`).

use crate::properties::Properties;
use crate::reason::ReasonCode;
use crate::topic::{Filter, Topic};

/// The protocol level of a connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Version {
    /// MQTT 3.1
    V31 = 3,
    /// MQTT 3.1.1
    V311 = 4,
    /// MQTT 5.0
    V5 = 5,
}

impl Version {
    /// Every version with the protocol name that stands in its CONNECT; the level is the variant's number.
    pub const TABLE: [(Version, &'static [u8]); 3] =
        [(Version::V31, b"MQIsdp"), (Version::V311, b"MQTT"), (Version::V5, b"MQTT")];

    /// Of a CONNECT with this name and level; None where there is none [MQTT-3.1.2-1], [MQTT-3.1.2-2].
    pub fn from_wire(name: &[u8], level: u8) -> Option<Version> {
        let row = Version::TABLE.iter().find(|(version, known)| *version as u8 == level && *known == name);
        row.map(|(version, _)| *version)
    }

    /// The protocol name in CONNECT.
    pub fn protocol_name(self) -> &'static [u8] {
        if self == Version::V31 { b"MQIsdp" } else { b"MQTT" }
    }
}

/// Quality of service.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
#[expect(clippy::enum_variant_names, reason = "the specification's names")]
pub enum QoS {
    /// At most once
    AtMostOnce = 0,
    /// At least once
    AtLeastOnce = 1,
    /// Exactly once
    ExactlyOnce = 2,
}

impl QoS {
    /// From its number; None above 2.
    pub fn from_bits(bits: u8) -> Option<QoS> {
        match bits {
            0 => Some(QoS::AtMostOnce),
            1 => Some(QoS::AtLeastOnce),
            2 => Some(QoS::ExactlyOnce),
            _ => None,
        }
    }
}

/// A control packet, borrowed from the bytes that it was decoded from.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs, reason = "the variants are the specification's packet names")]
pub enum Packet<'a> {
    Connect(Box<Connect<'a>>),
    ConnAck(ConnAck<'a>),
    Publish(Publish<'a>),
    PubAck(Ack<'a>),
    PubRec(Ack<'a>),
    PubRel(Ack<'a>),
    PubComp(Ack<'a>),
    Subscribe(Subscribe<'a>),
    SubAck(SubAck<'a>),
    Unsubscribe(Unsubscribe<'a>),
    UnsubAck(SubAck<'a>),
    PingReq,
    PingResp,
    Disconnect(Disconnect<'a>),
    Auth(Disconnect<'a>),
}

/// CONNECT, section 3.1.
#[derive(Clone, PartialEq, Debug)]
pub struct Connect<'a> {
    /// Protocol level.
    pub version: Version,
    /// Clean Start (3.1.1: Clean Session).
    pub clean_start: bool,
    /// Keep Alive in seconds; 0: none.
    pub keep_alive_s: u16,
    /// Client identifier; may be empty.
    pub client_id: &'a str,
    /// Will message.
    pub will: Option<Will<'a>>,
    /// User name.
    pub username: Option<&'a str>,
    /// Password.
    pub password: Option<&'a [u8]>,
    /// Properties.
    pub properties: Properties<'a>,
}

/// The will of a CONNECT, section 3.1.3.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Will<'a> {
    /// Topic to publish to.
    pub topic: Topic<'a>,
    /// Payload.
    pub payload: &'a [u8],
    /// QoS to publish with.
    pub qos: QoS,
    /// Whether it is retained.
    pub retain: bool,
    /// Will properties.
    pub properties: Properties<'a>,
}

/// CONNACK, section 3.2.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ConnAck<'a> {
    /// Whether the server holds a session.
    pub session_present: bool,
    /// Reason code; in 3.1.1 its nearest return code is written, and read back as it stands.
    pub reason: ReasonCode,
    /// Properties.
    pub properties: Properties<'a>,
}

/// PUBLISH, section 3.3.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Publish<'a> {
    /// Sent before, perhaps.
    pub dup: bool,
    /// Quality of service.
    pub qos: QoS,
    /// Retain flag.
    pub retain: bool,
    /// None: empty on the wire, which a topic alias must replace.
    pub topic: Option<Topic<'a>>,
    /// 0 for QoS 0.
    pub packet_id: u16,
    /// Properties.
    pub properties: Properties<'a>,
    /// Application message.
    pub payload: &'a [u8],
}

/// PUBACK, PUBREC, PUBREL, PUBCOMP, sections 3.4 to 3.7.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Ack<'a> {
    /// Which message.
    pub packet_id: u16,
    /// Success in 3.1.1.
    pub reason: ReasonCode,
    /// Properties.
    pub properties: Properties<'a>,
}

impl<'a> Ack<'a> {
    /// An acknowledgement without properties.
    pub fn new(packet_id: u16, reason: ReasonCode) -> Ack<'a> {
        Ack { packet_id, reason, properties: Properties::default() }
    }
}

/// The options of one subscription, section 3.8.3.1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SubscriptionOptions {
    /// The highest QoS to deliver with.
    pub qos: QoS,
    /// Not to the connection that published.
    pub no_local: bool,
    /// Forward the retain flag as it was published.
    pub retain_as_published: bool,
    /// 0: retained messages at subscribe; 1: only if the subscription is new; 2: none.
    pub retain_handling: u8,
}

impl SubscriptionOptions {
    /// What a 3.1.1 subscription means.
    pub fn plain(qos: QoS) -> SubscriptionOptions {
        SubscriptionOptions { qos, no_local: false, retain_as_published: false, retain_handling: 0 }
    }

    /// The byte on the wire.
    pub fn bits(self) -> u8 {
        self.qos as u8
            | u8::from(self.no_local) << 2
            | u8::from(self.retain_as_published) << 3
            | self.retain_handling << 4
    }
}

/// SUBSCRIBE, section 3.8.
#[derive(Clone, PartialEq, Debug)]
pub struct Subscribe<'a> {
    /// Which SUBSCRIBE.
    pub packet_id: u16,
    /// Properties.
    pub properties: Properties<'a>,
    /// Filters with their options; an Err is a filter that is refused by itself [MQTT-3.8.3-1].
    pub filters: Vec<(Result<Filter<'a>, ReasonCode>, SubscriptionOptions)>,
}

/// UNSUBSCRIBE, section 3.10.
#[derive(Clone, PartialEq, Debug)]
pub struct Unsubscribe<'a> {
    /// Which UNSUBSCRIBE.
    pub packet_id: u16,
    /// Properties.
    pub properties: Properties<'a>,
    /// Filters.
    pub filters: Vec<Result<Filter<'a>, ReasonCode>>,
}

/// SUBACK and UNSUBACK, sections 3.9 and 3.11.
#[derive(Clone, PartialEq, Debug)]
pub struct SubAck<'a> {
    /// Of the request.
    pub packet_id: u16,
    /// Properties.
    pub properties: Properties<'a>,
    /// One for each filter, in its order; not written in a 3.1.1 UNSUBACK.
    pub reasons: Vec<ReasonCode>,
}

/// DISCONNECT and AUTH, sections 3.14 and 3.15.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Disconnect<'a> {
    /// Why.
    pub reason: ReasonCode,
    /// Properties.
    pub properties: Properties<'a>,
}
