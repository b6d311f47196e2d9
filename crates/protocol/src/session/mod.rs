//! The MQTT state that outlives a socket (MQTT 5.0 section 4.1): windows, queue, QoS 2 memory, subscriptions.
//!
//! Knows one client's deliveries and acknowledgements. Does not know sockets, routing or other sessions; its worker owns
//! it and calls it from one thread. Each call changes the state once and returns what must be sent or counted.

pub mod inbound;
pub mod outbound;
pub mod subscriptions;

use std::sync::Arc;

use crate::limits::Limits;
use crate::message::Message;

pub use inbound::{Accepted, Inbound};
pub use outbound::{Delivery, DropReason, Offered, Outbound, Resend, Settled};
pub use subscriptions::Subscriptions;

/// A will and how long it waits after the connection ended.
#[derive(Clone, Debug)]
pub struct Will {
    /// The message.
    pub message: Arc<Message>,
    /// Will Delay Interval; seconds.
    pub delay_s: u32,
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
        Session {
            client_id,
            expiry_s: 0,
            inbound: Inbound::new(limits.max_awaiting_rel),
            outbound: Outbound::new(limits.max_mqueue_len),
            subscriptions: Subscriptions::default(),
            will: None,
        }
    }

    /// A connection takes the session: its expiry and the client's window are in force from now on.
    pub fn attach(&mut self, expiry_s: u32, window: u16) {
        self.expiry_s = expiry_s;
        self.outbound.attach(window, expiry_s > 0);
    }
}
