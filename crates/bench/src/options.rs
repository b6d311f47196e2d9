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

/// Pairs of a publisher and a subscriber that hears it; each has a line in the book.
const PAIRS_MAX: usize = 10_000_000;
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
    /// Subscriptions of each, one SUBSCRIBE for each.
    pub subscriptions: usize,
    /// The QoS asked for.
    pub qos: QoS,
    /// Open loop: SUBSCRIBEs each second; 0: closed loop, one of each client under way.
    pub rate: f64,
    /// How long they listen afterwards.
    pub hold: Duration,
    /// Filter; {run}, {client} and {number} are replaced.
    pub filter: String,
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

impl Options {
    /// Fails on the first value that cannot be used.
    pub fn check(&self) -> Outcome<()> {
        within("patience", &self.patience.as_secs_f64(), 0.05..=3600.0)?;
        match &self.scenario {
            Scenario::Connect(plan) => plan.check(),
            Scenario::Subscribe(plan) => plan.check(),
            Scenario::Flow(plan) => plan.check(),
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
        // Each has a packet identifier of its own.
        within("subscriptions", &self.subscriptions, 1..=65_535)
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
        if self.pattern == Pattern::Pair { 1 } else { self.subscribers as u32 }
    }
}

fn within<T: PartialOrd + Debug>(name: &str, value: &T, allowed: RangeInclusive<T>) -> Outcome<()> {
    match allowed.contains(value) {
        true => Ok(()),
        false => Err(Failure::mistake(format!("{name}: found {value:?}, allowed is {allowed:?}"))),
    }
}
