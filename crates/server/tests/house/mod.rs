//! A real broker on a free port, clients for it, and how to wait without sleeping through a fixed time.
//!
//! Knows the front of the data plane ([`Broker`]) and plain sockets. Each test binary uses its part of it.
#![allow(dead_code, reason = "no test binary needs all of it")]

pub mod folder;
pub mod moody;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use whimbrel_protocol::decode::{Split, decode, split};
use whimbrel_protocol::encode::encode;
use whimbrel_protocol::packet::{Connect, Packet, Subscribe, SubscriptionOptions};
use whimbrel_protocol::properties::{Properties, Value, id, put_property};
use whimbrel_protocol::{Filter, Limits, QoS, Version};
use whimbrel_server::audit::Audit;
use whimbrel_server::client::{Client, ClientError, ClientOptions};
use whimbrel_server::event::ClientRecord;
use whimbrel_server::{
    Broker, Durability, Event, Flapping, LayerOptions, ListenerKind, ListenerOptions, Options, StorageOptions,
    SysOptions,
};
use whimbrel_storage::Store;

/// How long anything that must happen may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `condition` holds; fails with `what` when it takes too long.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "it never came to pass that {what}");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// A listener on a port that the kernel chooses.
pub fn loopback() -> ListenerOptions {
    ListenerOptions {
        kind: ListenerKind::Tcp { host: "127.0.0.1".into(), port: 0 },
        name: "default".into(),
        zone: 0,
        is_anonymous_allowed: true,
        connections_max: 100_000,
        layers: LayerOptions::default(),
        max_conn_rate: 0,
    }
}

/// A broker and what it has said so far.
pub struct House {
    pub broker: Broker,
    events: Vec<Event>,
    next_ticket: u64,
}

impl House {
    pub fn start(workers: u16, limits: Limits) -> House {
        House::start_with(workers, limits, loopback())
    }

    pub fn start_with(workers: u16, limits: Limits, listener: ListenerOptions) -> House {
        House::start_watching(workers, limits, listener, None)
    }

    pub fn start_watching(
        workers: u16,
        limits: Limits,
        listener: ListenerOptions,
        flapping: Option<Flapping>,
    ) -> House {
        House::start_as(workers, limits, listener, (flapping, SysOptions::default()))
    }

    pub fn start_publishing(limits: Limits, listener: ListenerOptions, sys: SysOptions) -> House {
        House::start_as(1, limits, listener, (None, sys))
    }

    /// A broker whose store lies in `folder`.
    pub fn start_in(folder: &Path, workers: u16) -> House {
        House::start_keeping(workers, Limits::default(), folder.to_owned())
    }

    /// The same with limits.
    pub fn start_keeping(workers: u16, limits: Limits, folder: PathBuf) -> House {
        let storage = StorageOptions { folder, durability: Durability::Os };
        let options = House::options(workers, limits, loopback(), (None, SysOptions::default()));
        House::open(&Options { storage: Some(storage), ..options })
    }

    /// With a store of the test's own, one worker, and a listener for each zone.
    pub fn start_storing(zones: Vec<Limits>, store: Arc<dyn Store>) -> House {
        let storage = StorageOptions { folder: "of the test".into(), durability: Durability::Sync };
        let listener = |zone| ListenerOptions { zone, name: format!("zone{zone}"), ..loopback() };
        let listeners = (0..zones.len()).map(listener).collect();
        let plain = House::options(1, Limits::default(), loopback(), (None, SysOptions::default()));
        House::open_on(&Options { listeners, zones, storage: Some(storage), ..plain }, Some(store))
    }

    fn start_as(
        workers: u16,
        limits: Limits,
        listener: ListenerOptions,
        others: (Option<Flapping>, SysOptions),
    ) -> House {
        House::open(&House::options(workers, limits, listener, others))
    }

    fn open(options: &Options) -> House {
        House::open_on(options, None)
    }

    fn open_on(options: &Options, store: Option<Arc<dyn Store>>) -> House {
        let broker = Broker::start_on(options, store).expect("a free port");
        broker.open();
        House { broker, events: Vec::new(), next_ticket: 0 }
    }

    fn options(
        workers: u16,
        limits: Limits,
        listener: ListenerOptions,
        (flapping, sys): (Option<Flapping>, SysOptions),
    ) -> Options {
        Options {
            node_name: "test".into(),
            workers,
            listeners: vec![listener],
            zones: vec![limits],
            question_deadline_ms: 5_000,
            flapping,
            sys,
            retained_messages_max: 1000,
            retained_bytes_max: 1 << 24,
            storage: None,
        }
    }

    pub fn address(&self) -> String {
        self.address_of(0)
    }

    pub fn address_of(&self, listener: usize) -> String {
        self.broker.listeners().remove(listener).2
    }

    pub fn ticket(&mut self) -> u64 {
        self.next_ticket += 1;
        self.next_ticket
    }

    /// The first event, past or to come, that `pick` takes; the others stay.
    pub fn wait_for<T>(&mut self, what: &str, mut pick: impl FnMut(&Event) -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            self.events.extend(self.broker.drain());
            if let Some((at, found)) = self.events.iter().enumerate().find_map(|(at, event)| Some((at, pick(event)?))) {
                self.events.remove(at);
                return found;
            }
            assert!(Instant::now() < end, "no {what} came");
            self.wait_for_readiness(end);
        }
    }

    fn wait_for_readiness(&self, end: Instant) {
        let left = Timespec::try_from(end.saturating_duration_since(Instant::now())).unwrap();
        let mut descriptors = [PollFd::from_borrowed_fd(self.broker.wake_fd(), PollFlags::IN)];
        poll(&mut descriptors, Some(&left)).expect("the broker's descriptor can be waited on");
    }

    /// Takes every event that came so far.
    pub fn drain(&mut self) -> Vec<Event> {
        self.events.extend(self.broker.drain());
        std::mem::take(&mut self.events)
    }

    /// One counter; at most a turn old.
    pub fn count(&self, name: &str) -> u64 {
        let found = self.broker.counters().into_iter().find(|(known, _)| *known == name);
        found.unwrap_or_else(|| panic!("no counter is called {name}")).1
    }

    pub fn until_count(&self, name: &str, expected: u64) {
        until(&format!("{name} is {expected}"), || self.count(name) == expected);
    }

    /// All sessions, asked for in pages of `limit`; each page is checked against it.
    pub fn clients(&mut self, limit: usize) -> Vec<ClientRecord> {
        let (mut records, mut cursor) = (Vec::new(), Some(0));
        while let Some(from) = cursor {
            let ticket = self.ticket();
            self.broker.request_clients(ticket, from, limit);
            let (page, next) = self.wait_for("page", |event| match event {
                Event::ClientPage { ticket: of, records, next_cursor } if *of == ticket => {
                    Some((records.clone(), *next_cursor))
                }
                _ => None,
            });
            assert!(page.len() <= limit);
            records.extend(page);
            cursor = next;
        }
        records
    }

    /// The conservation ledger.
    pub fn audit(&mut self) -> Box<Audit> {
        let ticket = self.ticket();
        self.broker.request_audit(ticket);
        self.wait_for("ledger", |event| match event {
            Event::Audited { ticket: of, audit } if *of == ticket => Some(audit.clone()),
            _ => None,
        })
    }

    pub fn kick(&mut self, client_id: &str) -> bool {
        let ticket = self.ticket();
        self.broker.kick(ticket, client_id);
        self.wait_for("answer to the kick", |event| match event {
            Event::Kicked { ticket: of, found } if *of == ticket => Some(*found),
            _ => None,
        })
    }

    pub fn client(&self, client_id: &str, version: Version) -> Client {
        self.try_client(client_id, version).unwrap_or_else(|error| panic!("{client_id} is not let in: {error}"))
    }

    pub fn try_client(&self, client_id: &str, version: Version) -> Result<Client, ClientError> {
        Client::connect(ClientOptions {
            address: self.address(),
            client_id: client_id.into(),
            username: None,
            password: None,
            version,
            keep_alive_s: 0,
            timeout: PATIENCE,
        })
    }
}

/// A client on a plain socket that sends what it is told and reads when it is told.
pub struct Wire {
    pub stream: TcpStream,
    version: Version,
    held: Vec<u8>,
}

impl Wire {
    /// Sends CONNECT with a session that outlives the connection; does not wait for CONNACK.
    pub fn connect(address: &str, client_id: &str, version: Version, clean_start: bool) -> Wire {
        let mut raw = Vec::new();
        if version == Version::V5 {
            put_property(&mut raw, id::SESSION_EXPIRY_INTERVAL, Value::Number(600));
        }
        Wire::connect_with(address, client_id, version, clean_start, &raw)
    }

    /// Sends CONNECT with these properties; does not wait for CONNACK.
    pub fn connect_with(address: &str, client_id: &str, version: Version, clean_start: bool, raw: &[u8]) -> Wire {
        let mut wire = Wire::dial(address, version);
        wire.send(&Packet::Connect(Box::new(Connect {
            version,
            clean_start,
            keep_alive_s: 0,
            client_id,
            will: None,
            username: None,
            password: None,
            properties: Properties::trusted(raw),
        })));
        wire
    }

    /// A connection that has sent nothing.
    pub fn dial(address: &str, version: Version) -> Wire {
        let stream = TcpStream::connect(address).expect("the broker listens");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Wire::over(stream, version)
    }

    /// Over a socket on which a CONNECT of this version was sent.
    pub fn over(stream: TcpStream, version: Version) -> Wire {
        Wire { stream, version, held: Vec::new() }
    }

    /// Sends a packet; a peer that is gone shows at the next read.
    pub fn send(&mut self, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        encode(&mut bytes, self.version, packet);
        let _ = self.stream.write_all(&bytes);
    }

    pub fn subscribe(&mut self, filter: &str, qos: QoS) {
        let filters = vec![(Ok(Filter::new(filter).unwrap()), SubscriptionOptions::plain(qos))];
        self.send(&Packet::Subscribe(Subscribe { packet_id: 1, properties: Properties::default(), filters }));
    }

    /// The bytes of the next packet; None when the broker has closed the connection.
    pub fn read(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(frame) = self.take_frame() {
                return Some(frame);
            }
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(count) => self.held.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("nothing came and nothing ended: {error}"),
            }
        }
    }

    /// Reads until a packet of this type comes; its bytes.
    pub fn read_type(&mut self, kind: u8) -> Option<Vec<u8>> {
        loop {
            let frame = self.read()?;
            if frame[0] >> 4 == kind {
                return Some(frame);
            }
        }
    }

    fn take_frame(&mut self) -> Option<Vec<u8>> {
        let Ok(Split::Frame(frame)) = split(&self.held, u32::MAX) else { return None };
        decode(frame, self.version).expect("the broker speaks MQTT");
        let len = frame.len;
        Some(self.held.drain(..len).collect())
    }

    /// Whether the broker still answers; reads over everything that came before.
    pub fn is_alive(&mut self) -> bool {
        self.send(&Packet::PingReq);
        self.read_type(13).is_some()
    }

    /// Everything that has come already.
    pub fn read_waiting(&mut self) -> Vec<Vec<u8>> {
        self.stream.set_nonblocking(true).unwrap();
        let mut chunk = [0; 4096];
        while let Ok(count @ 1..) = self.stream.read(&mut chunk) {
            self.held.extend_from_slice(&chunk[..count]);
        }
        self.stream.set_nonblocking(false).unwrap();
        std::iter::from_fn(|| self.take_frame()).collect()
    }
}
