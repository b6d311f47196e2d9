//! The limits of one zone, as the protocol machines enforce them.
//!
//! Knows numbers with units. Does not know where they were configured.

use std::sync::Arc;

use crate::packet::Version;
use crate::primitives::Decoded;
use crate::reason::ReasonCode;
use crate::session::QueueRules;
use crate::share::Strategy;
use crate::topic::Topic;
use crate::violation::Violation;

/// Frozen for the life of a broker; shared by all connections of a zone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Largest packet accepted, fixed header included; bytes, 1 to 268,435,455.
    pub max_packet_size_bytes: u32,
    /// Longest client identifier accepted; bytes.
    pub max_clientid_len: u16,
    /// Most levels of a topic or filter.
    pub max_topic_levels: u16,
    /// Highest QoS accepted in PUBLISH and granted in SUBACK.
    pub max_qos_allowed: u8,
    /// Topic aliases that a client may set; 0 refuses them.
    pub max_topic_alias: u16,
    /// Topic aliases that we set for a client that takes them; 0 sets none.
    pub max_topic_alias_out: u16,
    /// Our window towards a client: QoS 1 and 2 messages not yet acknowledged.
    pub max_inflight: u16,
    /// The window that we grant to a client (MQTT 5.0 Receive Maximum).
    pub receive_maximum: u16,
    /// QoS 2 messages received whose PUBREL is still to come.
    pub max_awaiting_rel: u16,
    /// How long a QoS 2 message of a connected client may wait for its PUBREL; seconds, 0: for ever.
    pub await_rel_timeout_s: u32,
    /// What an MQTT 3.x client has not acknowledged for so long is sent again; milliseconds, 0: only when it comes back.
    pub retry_interval_ms: u32,
    /// Messages that wait for the window or for an absent client.
    pub max_mqueue_len: u32,
    /// Bytes of these messages, as they count themselves; 0: no bound.
    pub max_mqueue_bytes: u32,
    /// Which of them leaves next, and which goes when there are too many; None: the usual.
    pub queue_rules: Option<Arc<QueueRules>>,
    /// Subscriptions of one session.
    pub max_subscriptions: u32,
    /// Unsent bytes of one connection beyond which nothing more is encoded for it.
    pub max_outbox_bytes: u32,
    /// The keep-alive that MQTT 5 clients are told to use; seconds, 0: their own.
    pub server_keepalive_s: u16,
    /// What MQTT 5 clients that ask for it are told to build response topics from; empty: nothing.
    pub response_information: Box<str>,
    /// Bytes that one client and its session may hold; 0: no limit of their sum.
    pub force_shutdown_bytes: u32,
    /// From accept to CONNECT, and for a question that nobody answers; milliseconds.
    pub idle_timeout_ms: u32,
    /// PUBLISH packets a second that are taken from one connection; 0: no limit.
    pub max_publish_rate: u32,
    /// Bytes a second that are read from one connection; 0: no limit.
    pub max_bytes_rate: u32,
    /// How long the session of a 3.1.1 client with clean session 0 is kept; seconds.
    pub session_expiry_s: u32,
    /// Cap of MQTT 5's Session Expiry Interval; seconds.
    pub session_expiry_max_s: u32,
    /// Sessions of the whole broker that may outlive their connection, beyond which no client of this zone gets one more.
    pub max_sessions: u32,
    /// Whether retained messages are accepted.
    pub is_retain_available: bool,
    /// Whether filters with wildcards are accepted.
    pub is_wildcard_available: bool,
    /// Whether shared subscriptions are accepted.
    pub is_shared_available: bool,
    /// Whether sessions and acknowledgements are what the broker's store makes of them; false: they live in memory.
    pub is_durable: bool,
    /// How a group picks a member; a group goes by the zone of the member that made it.
    pub share_strategy: Strategy,
}

impl Limits {
    /// The keep-alive that a client of this version is told to use; earlier ones than 5 cannot be told.
    pub fn server_keepalive_s(&self, version: Version) -> Option<u16> {
        (version == Version::V5 && self.server_keepalive_s > 0).then_some(self.server_keepalive_s)
    }

    /// Refuses a topic of more levels than `max_topic_levels`.
    pub fn check_levels(&self, topic: Topic<'_>) -> Decoded<()> {
        let levels_max = usize::from(self.max_topic_levels);
        // A level is at least one byte with its separator: most topics need no counting.
        if topic.as_str().len() >= levels_max && topic.level_count() > levels_max {
            return Err(Violation::new(ReasonCode::TOPIC_NAME_INVALID, "more levels than max_topic_levels"));
        }
        Ok(())
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_packet_size_bytes: 1 << 20,
            max_clientid_len: u16::MAX,
            max_topic_levels: 128,
            max_qos_allowed: 2,
            max_topic_alias: 64,
            max_topic_alias_out: 16,
            max_inflight: 32,
            receive_maximum: 1024,
            max_awaiting_rel: 1024,
            await_rel_timeout_s: 300,
            retry_interval_ms: 0,
            max_mqueue_len: 1000,
            max_mqueue_bytes: 64 << 20,
            queue_rules: None,
            max_subscriptions: 100_000,
            max_outbox_bytes: 1 << 20,
            server_keepalive_s: 0,
            response_information: "".into(),
            force_shutdown_bytes: 0,
            idle_timeout_ms: 15_000,
            max_publish_rate: 0,
            max_bytes_rate: 0,
            session_expiry_s: 7_200,
            session_expiry_max_s: 604_800,
            max_sessions: 1_000_000,
            is_retain_available: true,
            is_wildcard_available: true,
            is_shared_available: true,
            is_durable: true,
            share_strategy: Strategy::RoundRobin,
        }
    }
}
