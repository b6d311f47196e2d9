//! A worker without a thread, for the tests beside its methods: they set its clocks and look at its counters.
//!
//! Knows how to make one, and a message for it. No socket is opened but the worker's own descriptors.

use std::sync::Arc;

use whimbrel_protocol::message::{Origin, Publication};
use whimbrel_protocol::properties::Properties;
use whimbrel_protocol::{Limits, Message, QoS, Topic};
use whimbrel_router::{Retained, Router};

use super::Worker;
use crate::listener::Listener;
use crate::shared::Shared;

/// The only worker of a broker that listens nowhere.
pub(super) fn worker() -> Worker {
    worker_of(Vec::new())
}

/// The only worker of a broker with these listeners.
pub(super) fn worker_of(listeners: Vec<Listener>) -> Worker {
    let router = Router::new(Retained::new(1, 1));
    let shared = Arc::new(Shared::new(router, listeners, &[Limits::default()], 1).unwrap());
    let poll = Worker::prepare(&shared, 0).unwrap();
    Worker::new(&shared, 0, poll)
}

/// "x" to "t" at QoS 1, taken in at `received_ms`.
pub(super) fn message(expiry_s: Option<u32>, received_ms: u64) -> Arc<Message> {
    let topic = Topic::new("t").unwrap();
    let publication = Publication { topic, properties: Properties::default(), expiry_s, payload: b"x" };
    let origin = Origin { client_id: "p".into(), received_ms };
    Arc::new(Message::new(&publication, QoS::AtLeastOnce, false, origin))
}
