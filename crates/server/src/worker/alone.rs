//! A worker without a thread, for the tests beside its methods: they drive its turns, set its clocks and look inside.
//!
//! Knows how to make one, a listener and a client for it, and messages.

use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use whimbrel_protocol::message::{Origin, Publication};
use whimbrel_protocol::properties::Properties;
use whimbrel_protocol::{Limits, Message, QoS, Topic};
use whimbrel_router::{Retained, Router};
use whimbrel_storage::{Store, Writer};

use super::Worker;
use crate::durable::Durable;
use crate::listener::Listener;
use crate::options::{LayerOptions, ListenerKind, ListenerOptions};
use crate::shared::Shared;
use crate::transport::Layering;

/// How long a client waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// The only worker of a broker that listens nowhere.
pub(super) fn worker() -> Worker {
    worker_of(Vec::new())
}

/// The only worker of a broker with these listeners.
pub(super) fn worker_of(listeners: Vec<Listener>) -> Worker {
    let router = Router::new(Retained::new(1000, 1 << 20));
    let shared = Arc::new(Shared::new(router, listeners, &[Limits::default()], 1).unwrap());
    let poll = Worker::prepare(&shared, 0).unwrap();
    Worker::new(&shared, 0, poll)
}

/// The only worker of a broker with such a listener that keeps in `store`.
pub(super) fn durable_worker(store: Arc<dyn Store>) -> Worker {
    let router = Router::new(Retained::new(1000, 1 << 20));
    let mut shared = Shared::new(router, vec![listener()], &[Limits::default()], 1).unwrap();
    shared.durable = Some(Durable::open(Arc::clone(&store), None).unwrap().0);
    let shared = Arc::new(shared);
    let poll = Worker::prepare(&shared, 0).unwrap();
    let mut worker = Worker::new(&shared, 0, poll);
    let weak = Arc::downgrade(&shared);
    let wake = move || weak.upgrade().into_iter().for_each(|shared| shared.mailboxes[0].nudge());
    worker.keep_in(Some(Writer::join(store, Arc::new(wake)).unwrap()));
    worker
}

/// On a port that the kernel chooses, open to everybody.
pub(super) fn listener() -> Listener {
    let layers = LayerOptions::default();
    let layering = Layering::load(&layers).unwrap();
    let options = ListenerOptions {
        kind: ListenerKind::Tcp { host: "127.0.0.1".into(), port: 0 },
        name: "default".into(),
        zone: 0,
        is_anonymous_allowed: true,
        connections_max: 10,
        layers,
        max_conn_rate: 0,
    };
    Listener::bind(&options, layering).unwrap()
}

/// A client of the worker's only listener, which the worker has accepted.
pub(super) fn client(worker: &mut Worker) -> TcpStream {
    worker.open_listeners();
    let stream = TcpStream::connect(&worker.shared.listeners[0].address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    worker.turn();
    stream
}

/// "x" to "t" at QoS 1, taken in at `received_ms`.
pub(super) fn message(expiry_s: Option<u32>, received_ms: u64) -> Arc<Message> {
    message_to("t", expiry_s, received_ms)
}

/// The same to another topic.
pub(super) fn message_to(topic: &str, expiry_s: Option<u32>, received_ms: u64) -> Arc<Message> {
    let topic = Topic::new(topic).unwrap();
    let publication = Publication { topic, properties: Properties::default(), expiry_s, payload: b"x" };
    let origin = Origin { client_id: "p".into(), received_ms };
    Arc::new(Message::new(&publication, QoS::AtLeastOnce, false, origin))
}
