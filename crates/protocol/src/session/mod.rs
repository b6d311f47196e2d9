//! The MQTT state that outlives a socket (MQTT 5.0 section 4.1): windows, queue, QoS 2 memory, subscriptions.
//!
//! Knows one client's deliveries and acknowledgements. Does not know sockets, routing or other sessions; its worker owns
//! it and calls it from one thread. Each call changes the state once and returns what must be sent or counted.

pub mod grouped;
pub mod inbound;
mod lane;
pub mod outbound;
pub mod queue;
pub mod released;
pub mod stubs;
pub mod subscriptions;

use std::sync::Arc;

use crate::connection::handshake::Request;
use crate::limits::Limits;
use crate::message::Message;
use crate::packet::Version;

pub use grouped::Line;
pub use inbound::{Accepted, Inbound};
pub use outbound::{Delivery, DropReason, Offered, Outbound, Resend, Settled};
pub use queue::QueueRules;
pub use released::Released;
pub use stubs::{Stub, Stubs};
pub use subscriptions::Subscriptions;

/// A will and how long it waits after the connection ended.
#[derive(Clone, Debug)]
pub struct Will {
    /// The message.
    pub message: Arc<Message>,
    /// Will Delay Interval; seconds.
    pub delay_s: u32,
}

/// What CONNECT and CONNACK agreed on, as far as the session is concerned.
#[derive(Clone, Copy, Debug)]
pub struct Agreed {
    /// How long the session outlives its connection; seconds, `u32::MAX`: for ever.
    pub expiry_s: u32,
    /// Messages in flight to the client, 1 to 65,535.
    pub window: u16,
    /// QoS 2 messages from the client whose PUBREL is still to come.
    pub awaiting_rel_max: u16,
}

impl Agreed {
    /// From a CONNECT under our limits. MQTT 3.1.1 has no Receive Maximum that could hold a client back, so there only
    /// the packet identifiers bound what waits for PUBREL.
    pub fn new(request: &Request, limits: &Limits) -> Agreed {
        Agreed {
            expiry_s: request.session_expiry_s,
            window: limits.max_inflight.min(request.receive_maximum),
            awaiting_rel_max: match request.version {
                Version::V5 => limits.max_awaiting_rel.min(limits.receive_maximum),
                Version::V31 | Version::V311 => u16::MAX,
            },
        }
    }
}

/// The machine.
#[derive(Debug)]
pub struct Session {
    /// Who it belongs to.
    pub client_id: Arc<str>,
    /// How long it outlives its connection; seconds, `u32::MAX`: for ever.
    pub expiry_s: u32,
    /// From the client.
    pub inbound: Inbound,
    /// To the client.
    pub outbound: Outbound,
    /// What the client subscribed to.
    pub subscriptions: Subscriptions,
    /// Published unless the client says goodbye.
    pub will: Option<Box<Will>>,
}

impl Session {
    /// A new session, not connected yet.
    pub fn new(client_id: Arc<str>, limits: &Limits) -> Session {
        let mut session = Session {
            client_id,
            expiry_s: 0,
            inbound: Inbound::new(limits.max_awaiting_rel),
            outbound: Outbound::new(limits.max_mqueue_len, limits.queue_rules.clone()),
            subscriptions: Subscriptions::default(),
            will: None,
        };
        session.limit(limits);
        session
    }

    /// The limits of the zone that its next connection belongs to, as they are now.
    pub fn limit(&mut self, limits: &Limits) {
        self.outbound.limit(limits.max_mqueue_len, limits.max_mqueue_bytes, limits.queue_rules.clone());
    }

    /// What the store keeps for the session is passed on to `released` as it is needed no longer.
    pub fn keep(&mut self, released: Released) {
        self.outbound.keep(released);
    }

    /// The store keeps nothing for this session any more: whatever it kept is released, but for messages whose bodies lie
    /// there alone and that a session which goes on (`keeps_stubs`) is still to send.
    pub fn let_go(&mut self, keeps_stubs: bool) {
        let Some(released) = self.outbound.let_go(keeps_stubs) else { return };
        self.inbound.let_go(&released);
    }

    /// A connection takes the session: what it agreed on is in force from now on.
    pub fn attach(&mut self, agreed: Agreed) {
        self.expiry_s = agreed.expiry_s;
        self.outbound.attach(agreed.window, agreed.expiry_s > 0);
        self.inbound.attach(agreed.awaiting_rel_max);
    }
}
