//! One socket's life: framing, version, limits, topic aliases, keep-alive.
//!
//! Knows what this connection agreed on in CONNECT and CONNACK. Does not know the session, other clients, or the socket:
//! the driver feeds it bytes and `now_ms` (any monotonic clock) and carries out what it returns. Call order: `receive`
//! until `Incomplete`, acting on each packet before the next call; `deadline_ms` after each batch.

mod aliases;
pub mod authentication;
mod farewell;
pub mod handshake;
pub mod outgoing;

use crate::decode::{Frame, Split, decode, split, version_of_connect};
use crate::encode::Naming;
use crate::limits::Limits;
use crate::packet::{Packet, Publish, QoS, Version};
use crate::primitives::Decoded;
use crate::properties::{Properties, id};
use crate::reason::ReasonCode;
use crate::topic::Topic;
use crate::violation::Violation;
use aliases::Aliases;
pub use aliases::Named;
use authentication::Authentication;
pub use farewell::Answered;
use outgoing::{Alias, Fingerprint};
use std::sync::Arc;

/// Which end of the connection we are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// The broker.
    Server,
    /// A client: command line, bridge, test.
    Client,
}

/// Where a connection stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// The first packet is still to come.
    Opening,
    /// CONNECT was taken in; nothing more is read until it is decided.
    Deciding,
    /// CONNACK with success was sent or received.
    Open,
}

/// What the next bytes hold.
#[derive(PartialEq, Debug)]
pub enum Received<'a> {
    /// A packet, and how many bytes it took.
    Packet(Packet<'a>, usize),
    /// The packet is cut; as far as known it has this many bytes in all.
    Incomplete(usize),
}

/// The largest packet taken before CONNACK; bytes.
const OPENING_MAX_BYTES: u32 = 256 * 1024;

/// A Response Topic is a topic name, so it has no wildcard [MQTT-3.3.2-14].
fn check_response_topic(properties: Properties<'_>) -> Decoded<()> {
    match properties.text(id::RESPONSE_TOPIC) {
        Some(topic) if topic.contains(['+', '#']) => Err(Violation::protocol("wildcard in a response topic")),
        _ => Ok(()),
    }
}

/// The machine.
#[derive(Debug)]
pub struct Connection {
    limits: Arc<Limits>,
    heard_ms: u64,
    peer_max_packet_bytes: u32,
    keep_alive_s: u16,
    aliases_out_max: u16,
    version: Version,
    role: Role,
    phase: Phase,
    is_problem_told: bool, // Request Problem Information
    rare: Option<Box<Rare>>,
}

/// What most connections never need, in one allocation.
#[derive(Default, Debug)]
struct Rare {
    aliases: Aliases,
    authentication: Option<Authentication>,
}

impl Connection {
    /// A connection whose socket was opened at `now_ms`.
    pub fn new(role: Role, limits: Arc<Limits>, now_ms: u64) -> Connection {
        Connection {
            limits,
            heard_ms: now_ms,
            peer_max_packet_bytes: u32::MAX,
            keep_alive_s: 0,
            aliases_out_max: 0,
            version: Version::V311,
            role,
            phase: Phase::Opening,
            is_problem_told: true,
            rare: None,
        }
    }

    /// The protocol level; before CONNECT 3.1.1, in which refusals can be sent to anybody.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Where the connection stands.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The limits of its zone.
    pub fn limits(&self) -> &Arc<Limits> {
        &self.limits
    }

    /// The keep-alive in force; seconds, 0: none.
    pub fn keep_alive_s(&self) -> u16 {
        self.keep_alive_s
    }

    /// The largest packet that the peer accepts; bytes.
    pub fn peer_max_packet_bytes(&self) -> u32 {
        self.peer_max_packet_bytes
    }

    /// Notes that a whole packet came in. Before CONNACK it changes nothing: the time for CONNECT runs from the accept,
    /// or a byte now and then would hold a connection for ever.
    pub fn heard(&mut self, now_ms: u64) {
        if self.phase == Phase::Open {
            self.heard_ms = now_ms;
        }
    }

    /// Moves to another clock, on which it is `now_ms`.
    pub fn rebase(&mut self, now_ms: u64) {
        self.heard_ms = now_ms;
    }

    /// When the peer must have been heard again, or must have been let in; None: no limit.
    pub fn deadline_ms(&self) -> Option<u64> {
        match self.phase {
            Phase::Opening | Phase::Deciding => Some(self.heard_ms + u64::from(self.limits.idle_timeout_ms)),
            Phase::Open if self.keep_alive_s == 0 => None,
            // One and a half times the keep-alive [MQTT-3.1.2-22].
            Phase::Open => Some(self.heard_ms + u64::from(self.keep_alive_s) * 1500),
        }
    }

    /// Takes the next packet from `bytes`, checked against the phase, the role and the limits.
    #[inline]
    pub fn receive<'a>(&mut self, bytes: &'a [u8]) -> Decoded<Received<'a>> {
        // The type before the length, so that what is refused does not depend on how the bytes were cut.
        bytes.first().map_or(Ok(()), |first| self.check_phase(*first))?;
        let frame = match split(bytes, self.packet_max_bytes())? {
            Split::Frame(frame) => frame,
            Split::Partial { len } => return Ok(Received::Incomplete(len)),
        };
        let packet = match decode(frame, self.version) {
            Ok(packet) => packet,
            Err(violation) => return Err(self.misread(frame, violation)),
        };
        match &packet {
            Packet::Publish(publish) => self.check_publish(publish)?,
            Packet::Connect(connect) => {
                self.version = connect.version;
                self.phase = Phase::Deciding;
                // In force at once: a refusal must fit, too [MQTT-3.1.2-24].
                let properties = connect.properties;
                self.peer_max_packet_bytes = properties.number(id::MAXIMUM_PACKET_SIZE).unwrap_or(u32::MAX);
                self.is_problem_told = properties.number(id::REQUEST_PROBLEM_INFORMATION) != Some(0);
            }
            _ => {}
        }
        Ok(Received::Packet(packet, frame.len))
    }

    /// A CONNECT of MQTT 5 that cannot be read is refused in words (section 4.13.1); earlier versions forbid it
    /// [MQTT-3.1.4-1].
    #[cold]
    fn misread(&mut self, frame: Frame<'_>, violation: Violation) -> Violation {
        if self.phase == Phase::Opening && version_of_connect(frame.body) == Some(Version::V5) {
            (self.version, self.phase) = (Version::V5, Phase::Deciding);
        }
        violation
    }

    fn packet_max_bytes(&self) -> u32 {
        match self.phase {
            Phase::Open => self.limits.max_packet_size_bytes,
            // Nobody is known yet, so nobody may make us gather much.
            Phase::Opening | Phase::Deciding => self.limits.max_packet_size_bytes.min(OPENING_MAX_BYTES),
        }
    }

    fn check_phase(&self, first: u8) -> Decoded<()> {
        let kind = first >> 4;
        let fits = match (self.role, self.phase) {
            // The first packet is CONNECT [MQTT-3.1.0-1], and there is only one [MQTT-3.1.0-2].
            (Role::Server, Phase::Opening) => kind == 1,
            (Role::Server, Phase::Deciding) if self.awaits_auth() => matches!(kind, 14 | 15),
            (Role::Server, _) => matches!(kind, 3..=8 | 10 | 12 | 14 | 15),
            (Role::Client, Phase::Opening | Phase::Deciding) => matches!(kind, 2 | 15),
            (Role::Client, Phase::Open) => matches!(kind, 3..=7 | 9 | 11 | 13 | 14 | 15),
        };
        match fits {
            true => Ok(()),
            false if kind == 0 && self.phase == Phase::Open => {
                Err(Violation::malformed("packet type that does not exist"))
            }
            false => Err(Violation::protocol("packet type not allowed now")),
        }
    }

    #[inline]
    fn check_publish(&self, publish: &Publish<'_>) -> Decoded<()> {
        let limits = &self.limits;
        if publish.qos as u8 > limits.max_qos_allowed {
            return Err(Violation::new(ReasonCode::QOS_NOT_SUPPORTED, "QoS above max_qos_allowed")); // [MQTT-3.2.2-11]
        }
        if publish.retain && !limits.is_retain_available {
            return Err(Violation::new(ReasonCode::RETAIN_NOT_SUPPORTED, "retain is not available"));
        }
        if !publish.properties.is_empty() {
            self.check_properties(publish)?;
        }
        publish.topic.map_or(Ok(()), |topic| limits.check_levels(topic))
    }

    fn check_properties(&self, publish: &Publish<'_>) -> Decoded<()> {
        if self.role == Role::Server && publish.properties.first(id::SUBSCRIPTION_IDENTIFIER).is_some() {
            return Err(Violation::protocol("subscription identifier in a client's PUBLISH")); // [MQTT-3.3.4-6]
        }
        check_response_topic(publish.properties)
    }

    /// Bytes of the topics that aliases stand for.
    pub fn alias_bytes(&self) -> usize {
        self.rare.as_ref().map_or(0, |rare| rare.aliases.bytes())
    }

    /// The topic of a PUBLISH, with its alias learnt or resolved (section 3.3.2.3.4).
    #[inline]
    pub fn name<'a>(&mut self, publish: &Publish<'a>) -> Decoded<Named<'a>> {
        match publish.topic {
            Some(topic) if publish.properties.is_empty() => Ok(Named::Here(topic)),
            _ => aliases::name(&mut self.rare, self.limits.max_topic_alias, publish),
        }
    }

    /// The handshake succeeded; what it agreed on is in force.
    pub fn open(&mut self, keep_alive_s: u16, peer_max_packet_bytes: u32, now_ms: u64) {
        self.phase = Phase::Open;
        self.keep_alive_s = keep_alive_s;
        self.peer_max_packet_bytes = peer_max_packet_bytes;
        self.heard_ms = now_ms;
    }

    /// The peer takes this many topic aliases (its Topic Alias Maximum); of these we use what the limits allow.
    pub fn grant_aliases(&mut self, topic_alias_max: u16) {
        self.aliases_out_max = topic_alias_max.min(self.limits.max_topic_alias_out);
    }

    /// Whether [`Connection::alias`] may find one.
    #[inline]
    pub fn takes_aliases(&self) -> bool {
        self.aliases_out_max > 0
    }

    /// How the next PUBLISH with this topic is to name it.
    pub fn alias(&mut self, topic: Topic<'_>, fingerprint: Fingerprint) -> Alias {
        match self.aliases_out_max {
            0 => Alias::NONE,
            max => self.rare.get_or_insert_default().aliases.outgoing.name(topic, fingerprint, max),
        }
    }

    /// A PUBLISH that sets an alias goes out; the peer knows it from then on.
    pub fn commit_alias(&mut self, topic: Topic<'_>, fingerprint: Fingerprint, alias: Alias) {
        if let Some(rare) = self.rare.as_mut().filter(|_| alias.naming == Naming::Both) {
            rare.aliases.outgoing.commit(topic, fingerprint, alias.number);
        }
    }

    /// As a client: sets the version that CONNECT will carry.
    pub fn speak(&mut self, version: Version) {
        self.version = version;
        self.phase = Phase::Deciding;
    }

    /// The highest QoS to grant a subscription.
    pub fn granted(&self, asked: QoS) -> QoS {
        asked.min(QoS::from_bits(self.limits.max_qos_allowed).unwrap_or(QoS::ExactlyOnce))
    }
}
