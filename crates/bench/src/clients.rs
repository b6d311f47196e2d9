//! All connections of a run over one readiness loop, on one thread.
//!
//! Knows sockets, framing, handshakes, and that a socket is written at most once in a turn. Must not know what a scenario
//! wants: it hands every packet to a `Player`, who may answer into any client's outbox.

use std::ops::Range;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::io::Errno;
use whimbrel_protocol::decode::{Split, decode, split};
use whimbrel_protocol::encode::{ack, encode};
use whimbrel_protocol::packet::{Ack, ConnAck, Connect, Disconnect, Publish, Subscribe, SubscriptionOptions};
use whimbrel_protocol::properties::{Properties, id};
use whimbrel_protocol::{Filter, Packet, QoS, ReasonCode, Topic, Version};

use crate::door::Door;
use crate::failure::Outcome;
use crate::live::Live;
use crate::options::Options;
use crate::wire::{Brought, Wire};

/// Bytes that one read may bring, besides a packet that was cut.
const CHUNK_BYTES: usize = 256 * 1024;
const EVENTS_MAX: usize = 1024;
/// The longest wait, so that a stop is heard.
const TURN_MAX: Duration = Duration::from_millis(50);
/// On their way in at once, where a scenario does not care.
pub const CONCURRENCY: usize = 64;
/// For letting all clients in, since the last one came in.
const ADMISSION_MAX: Duration = Duration::from_secs(30);

/// What becomes of a client's session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stay {
    /// Clean start; it ends with the connection.
    Passing,
    /// It takes up what is there, and outlives the connection by [`LASTING_S`].
    Lasting,
}

/// A day, so that no run outlives its sessions; who makes them removes them.
const LASTING_S: u32 = 86_400;
/// The Session Expiry Interval that says so.
const LASTING: [u8; 5] = {
    let [a, b, c, d] = LASTING_S.to_be_bytes();
    [id::SESSION_EXPIRY_INTERVAL, a, b, c, d]
};

/// Who plays the clients.
pub trait Player {
    /// A packet came for `client`.
    fn on_packet(&mut self, clients: &mut Clients, client: usize, packet: Packet<'_>) -> Outcome<()>;
}

/// Nobody: for scenarios that only wait for CONNACK.
pub struct Bystander;

impl Player for Bystander {
    fn on_packet(&mut self, _clients: &mut Clients, _client: usize, _packet: Packet<'_>) -> Outcome<()> {
        Ok(())
    }
}

/// The connections, numbered in the order of their opening.
pub struct Clients {
    epoll: OwnedFd,
    door: Door,
    version: Version,
    links: Vec<Link>,
    dirty: Vec<usize>,
    events: Vec<epoll::Event>,
    chunk: Vec<u8>,
    longest_bytes: u32,
    origin: Instant,
    now_ns: u64,
    /// Clients that were let in.
    pub greeted: usize,
    /// Clients that got a CONNACK which does not let them in.
    pub turned_away: usize,
    /// Clients whose connection ended without a CONNACK.
    pub dropped: usize,
    /// Connections that the broker has closed, but for those of clients that were sent away.
    pub closed: usize,
    /// What the broker said when it first refused something.
    pub first_refusal: Option<String>,
    pongs: usize,
}

struct Link {
    wire: Option<Wire>,
    partial: Vec<u8>,
    outbox: Vec<u8>,
    receive_max: u16,
    is_answered: bool,
    is_sent_away: bool,
    is_dirty: bool,
    awaits_writable: bool,
}

impl Clients {
    /// None yet. `packet_bytes`: the longest packet to expect, besides what small packets need.
    pub fn new(options: &Options, packet_bytes: usize) -> Outcome<Clients> {
        Ok(Clients {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            door: Door::find(options)?,
            version: options.version,
            links: Vec::new(),
            dirty: Vec::new(),
            events: Vec::with_capacity(EVENTS_MAX),
            chunk: vec![0; CHUNK_BYTES + packet_bytes],
            // A packet that was cut always leaves room for a read.
            longest_bytes: (CHUNK_BYTES / 2 + packet_bytes) as u32,
            origin: Instant::now(),
            now_ns: 0,
            greeted: 0,
            turned_away: 0,
            dropped: 0,
            closed: 0,
            first_refusal: None,
            pongs: 0,
        })
    }

    /// Clients that are in, or will never be.
    pub fn settled(&self) -> usize {
        self.greeted + self.turned_away + self.dropped
    }

    /// How many were opened.
    pub fn count(&self) -> usize {
        self.links.len()
    }

    /// The run's clock, as of the last look: after a read, before a turn.
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// Looks at the clock.
    pub fn look(&mut self) -> u64 {
        self.now_ns = self.origin.elapsed().as_nanos() as u64;
        self.now_ns
    }

    /// Whether the broker still holds this connection.
    pub fn is_open(&self, client: usize) -> bool {
        self.links[client].wire.is_some()
    }

    /// Whether all that a client has sent was handed to the kernel.
    pub fn is_idle(&self, client: usize) -> bool {
        self.links[client].is_idle()
    }

    /// Whether everything was handed to the kernel.
    pub fn is_flushed(&self) -> bool {
        self.links.iter().all(Link::is_idle)
    }

    /// Messages that the broker takes from a client before it has acknowledged the first [MQTT-3.3.4-9].
    pub fn receive_max(&self, client: usize) -> u16 {
        self.links[client].receive_max
    }

    /// Opens the next client's connection and puts its CONNECT into the outbox: no keep-alive.
    pub fn open(&mut self, options: &Options, stay: Stay) -> Outcome<usize> {
        let client = self.links.len();
        self.links.push(Link::new());
        self.enter(client, options, stay)?;
        Ok(client)
    }

    /// Opens a new connection of a client that was sent away.
    pub fn reopen(&mut self, client: usize, options: &Options, stay: Stay) -> Outcome<()> {
        self.links[client] = Link { is_dirty: self.links[client].is_dirty, ..Link::new() };
        self.enter(client, options, stay)
    }

    fn enter(&mut self, client: usize, options: &Options, stay: Stay) -> Outcome<()> {
        let wire = self.door.knock()?;
        epoll::add(&self.epoll, &wire, epoll::EventData::new_u64(client as u64), epoll::EventFlags::IN)?;
        self.links[client].wire = Some(wire);
        let client_id = format!("{}-{}-{client}", options.client_prefix, options.run);
        encode(self.outbox(client), options.version, &greeting(options, &client_id, stay));
        Ok(())
    }

    /// Opens clients until there are so many, [`CONCURRENCY`] at a time, and waits until all are let in; false where it was
    /// stopped. Nobody may have been sent away before.
    pub fn admit(&mut self, count: usize, stay: Stay, who: (&Options, &Live)) -> Outcome<bool> {
        let (options, live) = who;
        while self.greeted < count {
            while self.count() < count && self.count() - self.greeted < CONCURRENCY {
                self.open(options, stay)?;
            }
            let before = self.greeted;
            let is_moving = |_: &Bystander, clients: &Clients| clients.greeted > before || clients.is_hindered();
            self.run_until(&mut Bystander, ADMISSION_MAX, |player, clients| {
                is_moving(player, clients) || live.is_stopping()
            })?;
            if live.is_stopping() {
                return Ok(false);
            }
            if self.greeted == before || self.is_hindered() {
                return Err(self.not_let_in(count).into());
            }
        }
        Ok(true)
    }

    fn is_hindered(&self) -> bool {
        self.turned_away + self.closed > 0
    }

    fn not_let_in(&self, count: usize) -> String {
        let why = self.first_refusal.as_deref().unwrap_or("it closed the connection or did not answer");
        format!("the broker let in {} of {count} clients, then: {why}", self.greeted)
    }

    /// Asks for subscriptions, with one SUBSCRIBE.
    pub fn subscribe(&mut self, client: usize, filters: &[&str], qos: QoS, packet_id: u16) -> Outcome<()> {
        let (plain, mut asked) = (SubscriptionOptions::plain(qos), Vec::with_capacity(filters.len()));
        for filter in filters {
            asked.push((Ok(Filter::new(filter)?), plain));
        }
        let subscribe = Subscribe { packet_id, properties: Properties::default(), filters: asked };
        self.send(client, &Packet::Subscribe(subscribe));
        Ok(())
    }

    /// Sends a packet at the end of the turn.
    pub fn send(&mut self, client: usize, packet: &Packet<'_>) {
        let version = self.version;
        encode(self.outbox(client), version, packet);
    }

    /// Publishes an empty retained message: the topic keeps none any more [MQTT-3.3.1-6].
    pub fn clear(&mut self, client: usize, topic: &str) -> Outcome<()> {
        let publish = Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: true,
            topic: Some(Topic::new(topic)?),
            packet_id: 0,
            properties: Properties::default(),
            payload: &[],
        };
        self.send(client, &Packet::Publish(publish));
        Ok(())
    }

    /// Acknowledges a message that came, as its QoS asks for.
    #[inline]
    pub fn accept(&mut self, client: usize, publish: &Publish<'_>) {
        match publish.qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => self.answer(client, 0x40, publish.packet_id),
            QoS::ExactlyOnce => self.answer(client, 0x50, publish.packet_id),
        }
    }

    /// Sends PUBACK (0x40), PUBREC (0x50), PUBREL (0x62) or PUBCOMP (0x70).
    pub fn answer(&mut self, client: usize, first: u8, packet_id: u16) {
        let version = self.version;
        ack(self.outbox(client), version, first, &Ack::new(packet_id, ReasonCode::SUCCESS));
    }

    /// Writes down what the broker said, if it is the first refusal.
    pub fn refused(&mut self, reason: ReasonCode) {
        let version = self.version;
        self.first_refusal.get_or_insert_with(|| match (version, reason.0) {
            (Version::V31 | Version::V311, 1..=5) => format!("CONNACK return code {}", reason.0),
            _ => format!("{} (0x{:02X})", reason.text(), reason.0),
        });
    }

    /// Where to append what a client sends at the end of the turn.
    #[inline]
    pub fn outbox(&mut self, client: usize) -> &mut Vec<u8> {
        let link = &mut self.links[client];
        if !link.is_dirty {
            link.is_dirty = true;
            self.dirty.push(client);
        }
        &mut link.outbox
    }

    /// Turns until `is_done` holds or `within` is over; returns whether it holds.
    pub fn run_until<P: Player>(
        &mut self,
        player: &mut P,
        within: Duration,
        is_done: impl Fn(&P, &Clients) -> bool,
    ) -> Outcome<bool> {
        let deadline_ns = self.look() + within.as_nanos() as u64;
        loop {
            self.flush()?;
            if is_done(player, self) {
                return Ok(true);
            }
            let left_ns = deadline_ns.saturating_sub(self.look());
            if left_ns == 0 {
                return Ok(false);
            }
            self.receive(player, Duration::from_nanos(left_ns))?;
        }
    }

    /// Waits for readiness, for at most `wait` and [`TURN_MAX`], and reads every ready socket once.
    pub fn receive(&mut self, player: &mut impl Player, wait: Duration) -> Outcome<()> {
        let mut events = std::mem::take(&mut self.events);
        events.clear();
        let wait = self.wait_precisely(wait.min(TURN_MAX))?;
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&wait)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            let client = event.data.u64() as usize;
            let flags = event.flags;
            if flags.contains(epoll::EventFlags::OUT) {
                self.outbox(client);
            }
            if flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR) {
                self.read(client, player)?;
            }
        }
        self.events = events;
        Ok(())
    }

    /// What is left for epoll to wait. Its timeout is rounded up to milliseconds, which is too coarse for a schedule: a
    /// short wait is left to ppoll, whose unit is the nanosecond.
    fn wait_precisely(&self, wait: Duration) -> Outcome<Timespec> {
        let timeout = Timespec { tv_sec: 0, tv_nsec: wait.as_nanos() as _ };
        if wait.is_zero() || wait == TURN_MAX {
            return Ok(timeout);
        }
        match poll(&mut [PollFd::new(&self.epoll, PollFlags::IN)], Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => Ok(Timespec::default()),
            Err(error) => Err(error.into()),
        }
    }

    /// The end of a turn of an open loop: writes what is there and receives, until the next is due or something came.
    pub fn wait_until(&mut self, player: &mut impl Player, next_ns: u64) -> Outcome<()> {
        self.flush()?;
        let wait_ns = next_ns.saturating_sub(self.look());
        self.receive(player, Duration::from_nanos(wait_ns))?;
        self.look();
        Ok(())
    }

    /// Writes each socket once that has something to send.
    pub fn flush(&mut self) -> Outcome<()> {
        for client in std::mem::take(&mut self.dirty) {
            self.links[client].is_dirty = false;
            self.write(client)?;
        }
        Ok(())
    }

    /// Waits until the broker has answered a PING of each of these clients: what it sent them before has come then, also
    /// what nobody expects.
    pub fn hear_out<P: Player>(&mut self, player: &mut P, range: Range<usize>, who: (&Options, &Live)) -> Outcome<()> {
        let (options, live) = who;
        let asked: Vec<usize> = range.filter(|client| self.is_open(*client)).collect();
        let wanted = self.pongs + asked.len();
        asked.into_iter().for_each(|client| self.send(client, &Packet::PingReq));
        self.run_until(player, options.patience, |_, clients| clients.pongs >= wanted || live.is_abandoned())?;
        Ok(())
    }

    /// Says goodbye for every client; the broker closes the connections.
    pub fn leave(&mut self) -> Outcome<()> {
        let goodbye = Disconnect { reason: ReasonCode::SUCCESS, properties: Properties::default() };
        (0..self.count()).for_each(|client| self.send(client, &Packet::Disconnect(goodbye)));
        self.flush()
    }

    /// Says goodbye for one client, who may come back; that its connection ends is not the broker's doing.
    pub fn send_away(&mut self, client: usize) {
        self.links[client].is_sent_away = true;
        let goodbye = Disconnect { reason: ReasonCode::SUCCESS, properties: Properties::default() };
        self.send(client, &Packet::Disconnect(goodbye));
    }

    /// Closes a connection from our side.
    pub fn cut(&mut self, client: usize) {
        self.links[client].wire = None;
    }

    fn read(&mut self, client: usize, player: &mut impl Player) -> Outcome<()> {
        // Out of `self` while the player looks at packets that lie in it.
        let mut chunk = std::mem::take(&mut self.chunk);
        let link = &mut self.links[client];
        let kept = link.partial.len();
        chunk[..kept].copy_from_slice(&link.partial);
        let brought = match &mut link.wire {
            Some(wire) => wire.read(&mut chunk[kept..]),
            None => Brought::Bytes(0),
        };
        let (Brought::Bytes(count) | Brought::End(count, _)) = brought;
        if count > 0 {
            self.look();
            let used = self.play(client, &chunk[..kept + count], player)?;
            let partial = &mut self.links[client].partial;
            partial.clear();
            partial.extend_from_slice(&chunk[used..kept + count]);
        }
        self.chunk = chunk;
        match brought {
            Brought::Bytes(_) => self.answer_layers(client),
            Brought::End(_, why) => self.close(client, why),
        }
        Ok(())
    }

    /// A handshake goes on by itself.
    fn answer_layers(&mut self, client: usize) {
        if self.links[client].wire.as_ref().is_some_and(Wire::wants_write) {
            self.outbox(client);
        }
    }

    fn play(&mut self, client: usize, bytes: &[u8], player: &mut impl Player) -> Outcome<usize> {
        let mut at = 0;
        while let Split::Frame(frame) = split(&bytes[at..], self.longest_bytes)? {
            let packet = decode(frame, self.version)?;
            match &packet {
                Packet::ConnAck(answer) => self.on_connack(client, answer),
                Packet::Disconnect(goodbye) => self.refused(goodbye.reason),
                Packet::PingResp => self.pongs += 1,
                _ => {}
            }
            player.on_packet(self, client, packet)?;
            at += frame.len;
        }
        Ok(at)
    }

    fn on_connack(&mut self, client: usize, answer: &ConnAck<'_>) {
        self.links[client].is_answered = true;
        if answer.reason == ReasonCode::SUCCESS {
            self.greeted += 1;
            let receive_max = answer.properties.number(id::RECEIVE_MAXIMUM).unwrap_or(u32::from(u16::MAX));
            self.links[client].receive_max = receive_max as u16;
        } else {
            self.turned_away += 1;
            self.refused(answer.reason);
        }
    }

    fn write(&mut self, client: usize) -> Outcome<()> {
        let link = &mut self.links[client];
        let Some(wire) = &mut link.wire else {
            link.outbox.clear();
            return Ok(());
        };
        let must_wait = wire.write(&mut link.outbox);
        if link.awaits_writable != must_wait {
            link.awaits_writable = must_wait;
            self.watch(client, must_wait)?;
        }
        Ok(())
    }

    fn watch(&mut self, client: usize, writable: bool) -> Outcome<()> {
        let Some(wire) = &self.links[client].wire else {
            return Ok(());
        };
        let more = if writable { epoll::EventFlags::OUT } else { epoll::EventFlags::empty() };
        let key = epoll::EventData::new_u64(client as u64);
        epoll::modify(&self.epoll, wire, key, epoll::EventFlags::IN | more)?;
        Ok(())
    }

    fn close(&mut self, client: usize, why: Option<String>) {
        let link = &mut self.links[client];
        link.wire = None;
        link.outbox.clear();
        if link.is_sent_away {
            return;
        }
        self.closed += 1;
        self.dropped += usize::from(!link.is_answered);
        if let Some(why) = why {
            self.first_refusal.get_or_insert(why);
        }
    }
}

impl Link {
    fn new() -> Link {
        Link {
            wire: None,
            partial: Vec::new(),
            outbox: Vec::new(),
            receive_max: u16::MAX,
            is_answered: false,
            is_sent_away: false,
            is_dirty: false,
            awaits_writable: false,
        }
    }

    fn is_idle(&self) -> bool {
        self.outbox.is_empty() && self.wire.as_ref().is_none_or(Wire::is_idle)
    }
}

fn greeting<'a>(options: &'a Options, client_id: &'a str, stay: Stay) -> Packet<'a> {
    let is_lasting = stay == Stay::Lasting;
    let properties: &[u8] = if is_lasting && options.version == Version::V5 { &LASTING } else { &[] };
    Packet::Connect(Box::new(Connect {
        version: options.version,
        clean_start: !is_lasting,
        keep_alive_s: 0,
        client_id,
        will: None,
        username: options.username.as_deref(),
        password: options.password.as_ref().map(|password| password.0.as_ref()),
        properties: Properties::trusted(properties),
    }))
}
