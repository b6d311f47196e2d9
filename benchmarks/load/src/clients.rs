//! All connections of a run over one readiness loop, on one thread.
//!
//! Knows sockets, framing, and that a socket is written at most once in a turn. Must not know what a scenario wants: it
//! hands every packet to a `Player`, who may answer into any client's outbox. MQTT 3.1.1.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::io::{Errno, ioctl_fionbio, read};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, connect, send, socket_with, sockopt};
use whimbrel_protocol::decode::{Split, decode, split};
use whimbrel_protocol::encode::encode;
use whimbrel_protocol::packet::{Connect, Subscribe, SubscriptionOptions};
use whimbrel_protocol::properties::Properties;
use whimbrel_protocol::{Filter, Packet, QoS, Version};

use crate::failure::Outcome;

const VERSION: Version = Version::V311;
/// Bytes that one read may bring; also the longest packet.
const CHUNK_BYTES: usize = 256 * 1024;
const EVENTS_MAX: usize = 1024;
const TURN_MAX: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// Who plays the clients.
pub trait Player {
    /// A packet came for `client`.
    fn on_packet(&mut self, clients: &mut Clients, client: usize, packet: Packet<'_>) -> Outcome<()>;
}

/// The connections, numbered in the order of their opening.
pub struct Clients {
    epoll: OwnedFd,
    address: SocketAddrV4,
    links: Vec<Link>,
    dirty: Vec<usize>,
    events: Vec<epoll::Event>,
    chunk: Vec<u8>,
    /// Connections that the broker has closed.
    pub closed: usize,
}

struct Link {
    socket: Option<OwnedFd>,
    partial: Vec<u8>,
    outbox: Vec<u8>,
    is_dirty: bool,
    awaits_writable: bool,
}

impl Clients {
    /// None yet, for a broker on this port of loopback.
    pub fn new(port: u16) -> Outcome<Clients> {
        Ok(Clients {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            address: SocketAddrV4::new(Ipv4Addr::LOCALHOST, port),
            links: Vec::new(),
            dirty: Vec::new(),
            events: Vec::with_capacity(EVENTS_MAX),
            chunk: vec![0; CHUNK_BYTES],
            closed: 0,
        })
    }

    /// How many were opened.
    pub fn count(&self) -> usize {
        self.links.len()
    }

    /// Connects the next client and puts its CONNECT into the outbox: clean session, no keep-alive.
    pub fn open(&mut self, client_id: &str) -> Outcome<usize> {
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        connect(&socket, &self.address).map_err(|error| format!("connecting to {}: {error}", self.address))?;
        ioctl_fionbio(&socket, true)?;
        sockopt::set_tcp_nodelay(&socket, true)?;
        let client = self.links.len();
        epoll::add(&self.epoll, &socket, epoll::EventData::new_u64(client as u64), epoll::EventFlags::IN)?;
        self.links.push(Link::new(socket));
        encode(self.outbox(client), VERSION, &greeting(client_id));
        Ok(client)
    }

    /// Asks for a subscription.
    pub fn subscribe(&mut self, client: usize, filter: &str, qos: QoS) -> Outcome<()> {
        let filters = vec![(Ok(Filter::new(filter)?), SubscriptionOptions::plain(qos))];
        let subscribe = Subscribe { packet_id: 1, properties: Properties::default(), filters };
        encode(self.outbox(client), VERSION, &Packet::Subscribe(subscribe));
        Ok(())
    }

    /// Sends a packet at the end of the turn.
    pub fn send(&mut self, client: usize, packet: &Packet<'_>) {
        encode(self.outbox(client), VERSION, packet);
    }

    /// Where to append what a client sends at the end of the turn.
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
        let deadline = Instant::now() + within;
        loop {
            self.flush()?;
            if is_done(player, self) {
                return Ok(true);
            }
            if Instant::now() > deadline {
                return Ok(false);
            }
            self.receive(player)?;
        }
    }

    /// Waits for readiness and reads every ready socket once.
    pub fn receive(&mut self, player: &mut impl Player) -> Outcome<()> {
        let mut events = std::mem::take(&mut self.events);
        events.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&TURN_MAX)) {
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

    /// Writes each socket once that has something to send.
    pub fn flush(&mut self) -> Outcome<()> {
        for client in std::mem::take(&mut self.dirty) {
            self.links[client].is_dirty = false;
            self.write(client)?;
        }
        Ok(())
    }

    fn read(&mut self, client: usize, player: &mut impl Player) -> Outcome<()> {
        // Out of `self` while the player looks at packets that lie in it.
        let mut chunk = std::mem::take(&mut self.chunk);
        let link = &mut self.links[client];
        let Some(socket) = &link.socket else {
            self.chunk = chunk;
            return Ok(());
        };
        let kept = link.partial.len();
        chunk[..kept].copy_from_slice(&link.partial);
        link.partial.clear();
        match read(socket, &mut chunk[kept..]) {
            Ok(count) if count > 0 => {
                let used = self.play(client, &chunk[..kept + count], player)?;
                self.links[client].partial.extend_from_slice(&chunk[used..kept + count]);
            }
            Err(Errno::AGAIN | Errno::INTR) => link.partial.extend_from_slice(&chunk[..kept]),
            _ => self.close(client),
        }
        self.chunk = chunk;
        Ok(())
    }

    fn play(&mut self, client: usize, bytes: &[u8], player: &mut impl Player) -> Outcome<usize> {
        let mut at = 0;
        while let Split::Frame(frame) = split(&bytes[at..], CHUNK_BYTES as u32)? {
            player.on_packet(self, client, decode(frame, VERSION)?)?;
            at += frame.len;
        }
        Ok(at)
    }

    fn write(&mut self, client: usize) -> Outcome<()> {
        let link = &mut self.links[client];
        let Some(socket) = &link.socket else {
            return Ok(());
        };
        match send(socket, &link.outbox, SendFlags::NOSIGNAL) {
            Ok(count) if count == link.outbox.len() => link.outbox.clear(),
            Ok(count) => drop(link.outbox.drain(..count)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => {
                self.close(client);
                return Ok(());
            }
        }
        let link = &mut self.links[client];
        let must_wait = !link.outbox.is_empty();
        if link.awaits_writable != must_wait {
            link.awaits_writable = must_wait;
            self.watch(client, must_wait)?;
        }
        Ok(())
    }

    fn watch(&mut self, client: usize, writable: bool) -> Outcome<()> {
        let Some(socket) = &self.links[client].socket else {
            return Ok(());
        };
        let more = if writable { epoll::EventFlags::OUT } else { epoll::EventFlags::empty() };
        let key = epoll::EventData::new_u64(client as u64);
        epoll::modify(&self.epoll, socket, key, epoll::EventFlags::IN | more)?;
        Ok(())
    }

    fn close(&mut self, client: usize) {
        self.links[client].socket = None;
        self.closed += 1;
    }
}

impl Link {
    fn new(socket: OwnedFd) -> Link {
        Link { socket: Some(socket), partial: Vec::new(), outbox: Vec::new(), is_dirty: false, awaits_writable: false }
    }
}

fn greeting(client_id: &str) -> Packet<'_> {
    Packet::Connect(Box::new(Connect {
        version: VERSION,
        clean_start: true,
        keep_alive_s: 0,
        client_id,
        will: None,
        username: None,
        password: None,
        properties: Properties::default(),
    }))
}
