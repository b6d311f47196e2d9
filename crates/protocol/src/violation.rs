//! What a peer did wrong, as facts.
//!
//! The peer is at fault in every variant here; nothing is retried. The peer sees `reason` (in CONNACK before the
//! session opens, in DISCONNECT afterwards, and only a closed socket where its version has no such packet); the log and
//! the counters see `what`.

use crate::reason::ReasonCode;

/// A packet or a sequence of packets that the specification forbids or our limits refuse.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Violation {
    /// The code that the peer is sent.
    pub reason: ReasonCode,
    /// Which rule was broken, in words.
    pub what: &'static str,
}

impl Violation {
    /// A violation with its own reason code.
    pub const fn new(reason: ReasonCode, what: &'static str) -> Violation {
        Violation { reason, what }
    }

    /// Bytes that cannot be parsed (MQTT 5.0 section 1.2, "Malformed Packet").
    pub const fn malformed(what: &'static str) -> Violation {
        Violation::new(ReasonCode::MALFORMED_PACKET, what)
    }

    /// Well-formed, but not allowed here (MQTT 5.0 section 1.2, "Protocol Error").
    pub const fn protocol(what: &'static str) -> Violation {
        Violation::new(ReasonCode::PROTOCOL_ERROR, what)
    }
}

impl std::fmt::Display for Violation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} (0x{:02X}, {})", self.what, self.reason.0, self.reason.text())
    }
}

impl std::error::Error for Violation {}
