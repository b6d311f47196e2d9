//! What a run does, checked before anything happens. Knows ranges; a duration is a `Duration`, a rate is each second.

use std::fmt::Debug;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use whimbrel_protocol::connection::handshake::Secret;
use whimbrel_protocol::{QoS, Version};

use crate::failure::{Failure, Outcome};
use crate::publisher::HEADER_BYTES;
use crate::report::{Report, version_name};
use crate::tls::TlsOptions;

/// Pairs of a publisher and a subscriber that hears it; each has a line in the book.
const PAIRS_MAX: usize = 10_000_000;
/// Deliveries of which each has a bit in the book.
const DELIVERIES_MAX: u64 = 1 << 32;
/// Bytes that all publishers together may have under way in a closed loop.
const UNDER_WAY_MAX_BYTES: u64 = 4 << 30;

/// A whole run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name or address of the broker.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Its Unix socket, instead of host and port.
    pub unix: Option<PathBuf>,
    /// TLS, where the broker speaks it there.
    pub tls: Option<TlsOptions>,
    /// Path of WebSocket, where the broker speaks it there.
    pub websocket: Option<String>,
    /// Where the clients' connections come from, in turns; empty: the kernel chooses.
    pub sources: Vec<IpAddr>,
    /// What the clients speak.
    pub version: Version,
    /// User name of every client.
    pub username: Option<String>,
    /// Password of every client.
    pub password: Option<Secret>,
    /// A client's identifier is this, the run's number, and its own.
    pub client_prefix: String,
    /// The broker's process, where it runs on this machine and its cost is asked for.
    pub broker_pid: Option<u32>,
    /// Tells this run's messages from those of others.
    pub run: u32,
    /// Silence after which what has not come is lost.
    pub patience: Duration,
    /// What the clients do.
    pub scenario: Scenario,
}

/// What the clients do.
#[derive(Clone, Debug)]
pub enum Scenario {
    /// They come, rest and ping.
    Connect(ConnectOptions),
    /// They subscribe, then listen.
    Subscribe(SubscribeOptions),
    /// They publish, and perhaps listen to each other.
    Flow(FlowOptions),
    /// One stores retained messages, others ask for them.
    Retained(FillOptions),
    /// One publishes while the others are away.
    Offline(FillOptions),
}

/// Many clients that come.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// How many.
    pub clients: usize,
    /// Closed loop: how many may be on their way in at once.
    pub concurrency: usize,
    /// Open loop: connections each second; 0: closed loop.
    pub rate: f64,
    /// How long they rest when all are in.
    pub hold: Duration,
    /// How often each pings afterwards.
    pub pings: usize,
}

/// Many clients that subscribe.
#[derive(Clone, Debug)]
pub struct SubscribeOptions {
    /// How many.
    pub clients: usize,
    /// Subscriptions of each.
    pub subscriptions: usize,
    /// Subscriptions in one SUBSCRIBE.
    pub batch: usize,
    /// The QoS asked for.
    pub qos: QoS,
    /// Open loop: SUBSCRIBEs each second; 0: closed loop, one of each client under way.
    pub rate: f64,
    /// How long they listen afterwards.
    pub hold: Duration,
    /// Filters, taken in turns; {run}, {client} and {number} are replaced.
    pub filters: Vec<String>,
    /// How long messages flow past the filters afterwards, which must not match `whimbrel-bench/RUN/NUMBER`; and as long
    /// again when the clients have left. Zero: not at all.
    pub flow: Duration,
}

/// Who hears whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pattern {
    /// Nobody listens; what counts is the broker's acknowledgement.
    Publish,
    /// Publisher i to subscriber i.
    Pair,
    /// All publishers on one topic that every subscriber hears.
    Fanout,
    /// A topic for each publisher; every subscriber hears all.
    Fanin,
    /// A topic for each publisher; the subscribers are one group, in which each message is for one of them.
    Share,
}

/// Messages.
#[derive(Clone, Debug)]
pub struct FlowOptions {
    /// Who hears whom.
    pub pattern: Pattern,
    /// How many publish.
    pub publishers: usize,
    /// How many listen; as many as publish for `Pair`, none for `Publish`.
    pub subscribers: usize,
    /// Of messages and subscriptions.
    pub qos: QoS,
    /// Whether the subscribers' sessions would outlive their connections; they are removed at the end.
    pub lasting: bool,
    /// Whether the broker keeps them; they are cleared at the end.
    pub retain: bool,
    /// Of each message.
    pub payload_bytes: usize,
    /// Closed loop: messages of a publisher under way at once.
    pub window: usize,
    /// Open loop: messages each second, of all publishers together; 0: closed loop.
    pub rate: f64,
    /// Load before the measurement.
    pub warm: Duration,
    /// The measurement.
    pub measure: Duration,
    /// End after so many messages, instead of after a time.
    pub count: Option<u64>,
    /// Topic of `Publish`; {run} and {client} are replaced.
    pub topic: String,
}

/// Messages that wait in the broker until somebody gets them.
#[derive(Clone, Debug)]
pub struct FillOptions {
    /// How many.
    pub messages: u64,
    /// Who gets them, each all of them.
    pub receivers: usize,
    /// Of the messages.
    pub qos: QoS,
    /// Of the subscriptions.
    pub receive_qos: QoS,
    /// Of each message.
    pub payload_bytes: usize,
    /// Unacknowledged messages of the publisher.
    pub window: usize,
}

impl Options {
    /// Fails on the first value that cannot be used.
    pub fn check(&self) -> Outcome<()> {
        within("patience", &self.patience.as_secs_f64(), 0.05..=3600.0)?;
        if self.unix.is_some() && (self.tls.is_some() || self.websocket.is_some()) {
            return Err(Failure::mistake("tls and ws: a Unix socket has neither"));
        }
        if let Some(path) = self.websocket.as_deref().filter(|path| !is_path(path)) {
            return Err(Failure::mistake(format!(
                "path: found {path:?}, allowed is / and what a URL may hold behind it"
            )));
        }
        match &self.scenario {
            Scenario::Connect(plan) => plan.check(),
            Scenario::Subscribe(plan) => plan.check(),
            Scenario::Flow(plan) => plan.check(),
            Scenario::Retained(plan) => plan.check(),
            Scenario::Offline(plan) => plan.check_offline(),
        }
    }
}

impl ConnectOptions {
    fn check(&self) -> Outcome<()> {
        within("clients", &self.clients, 1..=1_000_000)?;
        within("concurrency", &self.concurrency, 1..=10_000)?;
        within("rate", &self.rate, 0.0..=1e7)?;
        within("hold", &self.hold.as_secs_f64(), 0.0..=86_400.0)?;
        within("pings", &self.pings, 0..=1_000)
    }
}

impl SubscribeOptions {
    fn check(&self) -> Outcome<()> {
        within("clients", &self.clients, 1..=1_000_000)?;
        within("rate", &self.rate, 0.0..=1e7)?;
        within("hold", &self.hold.as_secs_f64(), 0.0..=86_400.0)?;
        within("flow", &self.flow.as_secs_f64(), 0.0..=3600.0)?;
        within("filters", &self.filters.len(), 1..=1_000)?;
        within("batch", &self.batch, 1..=1_000)?;
        within("subscriptions", &self.subscriptions, 1..=1_000_000)?;
        // Each SUBSCRIBE has a packet identifier of its own.
        within("subscriptions divided by batch", &self.packets(), 1..=65_535)
    }

    /// SUBSCRIBEs of each client.
    pub(crate) fn packets(&self) -> usize {
        self.subscriptions.div_ceil(self.batch)
    }
}

impl FlowOptions {
    fn check(&self) -> Outcome<()> {
        let is_heard = self.pattern != Pattern::Publish;
        within("publishers", &self.publishers, 1..=100_000)?;
        within("subscribers", &self.subscribers, usize::from(is_heard)..=if is_heard { 100_000 } else { 0 })?;
        within("payload", &self.payload_bytes, if is_heard { HEADER_BYTES } else { 0 }..=16 << 20)?;
        within("window", &self.window, 1..=32_768)?;
        within("rate", &self.rate, 0.0..=1e7)?;
        within("warm", &self.warm.as_secs_f64(), 0.0..=3600.0)?;
        within("duration", &self.measure.as_secs_f64(), 0.01..=86_400.0)?;
        within("count", &self.count.unwrap_or(1), 1..=u64::MAX)?;
        within("publishers times subscribers", &self.pairs(), 0..=PAIRS_MAX)?;
        let under_way = (self.publishers * self.window) as u64 * self.payload_bytes as u64;
        let allowed = if self.rate > 0.0 { u64::MAX } else { UNDER_WAY_MAX_BYTES };
        within("publishers times window times payload", &under_way, 0..=allowed)
    }

    /// Lines in the book.
    pub(crate) fn pairs(&self) -> usize {
        if self.pattern == Pattern::Pair { self.publishers } else { self.publishers * self.subscribers }
    }

    /// Deliveries that one message makes.
    pub(crate) fn receivers(&self) -> u32 {
        if matches!(self.pattern, Pattern::Pair | Pattern::Share) { 1 } else { self.subscribers as u32 }
    }
}

impl FillOptions {
    fn check(&self) -> Outcome<()> {
        within("messages", &self.messages, 1..=100_000_000)?;
        within("subscribers", &self.receivers, 1..=10_000)?;
        within("payload", &self.payload_bytes, HEADER_BYTES..=16 << 20)?;
        within("window", &self.window, 1..=32_768)?;
        within("messages times subscribers", &(self.messages * self.receivers as u64), 1..=DELIVERIES_MAX)
    }

    fn check_offline(&self) -> Outcome<()> {
        within("qos", &(self.qos.min(self.receive_qos) as u8), 1..=2)?;
        self.check()
    }

    /// Adds what the run is to the report.
    pub(crate) fn describe(&self, options: &Options, report: &mut Report) {
        report.text("mqtt", Some(&version_name(options.version).to_owned()));
        report.count("qos", self.qos as u64);
        report.count("subscriber_qos", self.receive_qos as u64);
        report.count("subscribers", self.receivers as u64);
        report.count("payload_bytes", self.payload_bytes as u64);
        report.count("window", self.window as u64);
    }
}

fn is_path(path: &str) -> bool {
    path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic())
}

fn within<T: PartialOrd + Debug>(name: &str, value: &T, allowed: RangeInclusive<T>) -> Outcome<()> {
    match allowed.contains(value) {
        true => Ok(()),
        false => Err(Failure::mistake(format!("{name}: found {value:?}, allowed is {allowed:?}"))),
    }
}
