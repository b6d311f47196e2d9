//! Two machines joined in memory: a broker's and a client's end of one connection, with a clock that the test moves.
//!
//! Knows how a driver calls the machines, in the order that their documents ask for; has no sockets, threads or time of
//! its own. The sessions outlive the connection, which a test cuts where it likes: bytes on their way are lost then.

use std::sync::Arc;

use whimbrel_protocol::connection::handshake::Request;
use whimbrel_protocol::connection::{Connection, Received, Role};
use whimbrel_protocol::encode::{Naming, Shape, encode, publish_head};
use whimbrel_protocol::message::{Origin, Publication};
use whimbrel_protocol::packet::{Ack, ConnAck, Connect, Packet, Publish};
use whimbrel_protocol::properties::{Properties, Value, id, put_property};
use whimbrel_protocol::session::{Accepted, Agreed, Delivery, DropReason, Offered, Resend, Session, Settled};
use whimbrel_protocol::{Limits, Message, QoS, ReasonCode, Topic, Version};

/// Rounds after which a pair that still has something to say is taken for a loop.
const ROUNDS_MAX: usize = 100;
/// The Unix time of the pair's first moment; milliseconds.
const EPOCH_MS: u64 = 1_800_000_000_000;

/// A PUBLISH as it came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrival {
    /// What `End::publish` was given.
    pub number: u32,
    /// Its packet identifier.
    pub packet_id: u16,
    /// Its DUP flag.
    pub dup: bool,
}

/// One end: a connection while there is one, and the session behind it.
pub struct End {
    /// The machine that dies with the connection.
    pub connection: Option<Connection>,
    /// The machine that outlives it.
    pub session: Session,
    /// Every PUBLISH seen, repetitions included.
    pub seen: Vec<Arrival>,
    /// The numbers of the messages that were accepted, in their order.
    pub accepted: Vec<u32>,
    /// Whether acknowledgements wait in `held` until the test lets them go.
    pub holds_acks: bool,
    /// PUBACKs and PUBRECs that wait.
    pub held: Vec<Packet<'static>>,
    /// What was dropped, and why.
    pub dropped: Vec<DropReason>,
    /// How often PUBREL was answered with "packet identifier not found".
    pub unknown_rels: usize,
    outgoing: Vec<u8>,
    unread: Vec<u8>,
    role: Role,
    limits: Arc<Limits>,
}

impl End {
    fn new(role: Role, limits: Limits) -> End {
        End {
            connection: None,
            session: Session::new("c".into(), &limits),
            seen: Vec::new(),
            accepted: Vec::new(),
            holds_acks: false,
            held: Vec::new(),
            dropped: Vec::new(),
            unknown_rels: 0,
            outgoing: Vec::new(),
            unread: Vec::new(),
            role,
            limits: Arc::new(limits),
        }
    }

    /// Lets the first `count` held acknowledgements go.
    pub fn release(&mut self, count: usize) {
        let released: Vec<_> = self.held.drain(..count).collect();
        released.iter().for_each(|packet| self.send(packet));
    }

    fn send(&mut self, packet: &Packet<'_>) {
        if let Some(connection) = &self.connection {
            encode(&mut self.outgoing, connection.version(), packet);
        }
    }

    fn acknowledge(&mut self, packet: Packet<'static>) {
        if self.holds_acks {
            self.held.push(packet);
        } else {
            self.send(&packet);
        }
    }

    fn offer(&mut self, message: &Arc<Message>, unix_ms: u64) -> Offered {
        let delivery = Delivery {
            message: Arc::clone(message),
            qos: message.qos,
            retain: false,
            share: 0,
            identifiers: None,
            stored: 0,
        };
        let has_room = self.connection.is_some();
        let offered = self.session.outbound.offer(message.qos, has_room, || delivery.clone());
        match offered {
            Offered::Send(packet_id) => self.send_delivery(packet_id, &delivery, false, unix_ms),
            Offered::Queued => {}
            Offered::QueuedAndEvicted(count) => (0..count).for_each(|_| self.dropped.push(DropReason::QueueFull)),
            Offered::Dropped(reason) => self.dropped.push(reason),
        }
        offered
    }

    fn send_delivery(&mut self, packet_id: u16, delivery: &Delivery, dup: bool, unix_ms: u64) {
        let version = self.connection.as_ref().expect("sent only while connected").version();
        let shape = Shape { version, qos: delivery.qos, retain: delivery.retain, naming: Naming::Topic };
        let publication = delivery.message.publication(unix_ms);
        let start = self.outgoing.len();
        let layout = publish_head(&mut self.outgoing, shape, &publication, &[]).expect("a small message");
        self.outgoing.extend_from_slice(publication.payload);
        assert_eq!(self.outgoing.len() - start, layout.len);
        if layout.packet_id_at > 0 {
            let at = start + layout.packet_id_at;
            self.outgoing[at..at + 2].copy_from_slice(&packet_id.to_be_bytes());
        }
        self.outgoing[start] |= u8::from(dup) << 3;
    }

    /// Sends what waits and may go: first again what was in flight before, then the queue.
    fn pump(&mut self, unix_ms: u64) {
        while let Some((packet_id, resend)) = self.session.outbound.next_resend() {
            match resend {
                Resend::Publish(delivery) => self.send_delivery(packet_id, &delivery, true, unix_ms),
                Resend::PubRel => self.send(&Packet::PubRel(Ack::new(packet_id, ReasonCode::SUCCESS))),
            }
        }
        while let Some(next) = self.session.outbound.next(unix_ms) {
            match next {
                Err(reason) => self.dropped.push(reason),
                Ok((packet_id, delivery)) => self.send_delivery(packet_id, &delivery, false, unix_ms),
            }
        }
    }

    /// Takes bytes in, as they come from the other end.
    fn hear(&mut self, bytes: &[u8], now: Clock) {
        let Some(connection) = &mut self.connection else { return };
        connection.heard(now.ms);
        let mut unread = std::mem::take(&mut self.unread);
        unread.extend_from_slice(bytes);
        let mut taken = 0;
        while taken < unread.len() {
            let connection = self.connection.as_mut().expect("nothing in here cuts it");
            match connection.receive(&unread[taken..]).expect("the pair speaks MQTT") {
                Received::Incomplete(_) => break,
                Received::Packet(packet, len) => {
                    taken += len;
                    self.on_packet(&packet, now);
                }
            }
        }
        unread.drain(..taken);
        self.unread = unread;
    }

    fn on_packet(&mut self, packet: &Packet<'_>, now: Clock) {
        match packet {
            Packet::Connect(connect) => self.on_connect(connect, now),
            Packet::ConnAck(connack) => self.on_connack(connack, now),
            Packet::Publish(publish) => self.on_publish(publish),
            Packet::PubAck(ack) => assert_eq!(self.session.outbound.on_puback(ack.packet_id), Settled::Yes),
            Packet::PubRec(ack) => {
                self.session.outbound.on_pubrec(ack.packet_id, ack.reason);
                self.send(&Packet::PubRel(Ack::new(ack.packet_id, ReasonCode::SUCCESS)));
            }
            Packet::PubRel(ack) => {
                let reason = self.session.inbound.on_pubrel(ack.packet_id);
                self.unknown_rels += usize::from(reason == ReasonCode::PACKET_IDENTIFIER_NOT_FOUND);
                self.send(&Packet::PubComp(Ack::new(ack.packet_id, reason)));
            }
            Packet::PubComp(ack) => drop(self.session.outbound.on_pubcomp(ack.packet_id)),
            packet => panic!("the pair has no use for {packet:?}"),
        }
    }

    fn on_connect(&mut self, connect: &Connect<'_>, now: Clock) {
        let request = Request::new(connect, &self.limits, || "assigned".into(), now.unix_ms()).unwrap();
        let connection = self.connection.as_mut().expect("CONNECT came through it");
        connection.open(request.keep_alive_s, request.max_packet_bytes, now.ms);
        self.session.attach(Agreed::new(&request, &self.limits));
        request.put_accepted(&mut self.outgoing, &self.limits, true);
    }

    fn on_connack(&mut self, connack: &ConnAck<'_>, now: Clock) {
        let properties = connack.properties;
        let peer_max = properties.number(id::MAXIMUM_PACKET_SIZE).unwrap_or(u32::MAX);
        let window = properties.number(id::RECEIVE_MAXIMUM).unwrap_or(u32::from(u16::MAX));
        let connection = self.connection.as_mut().expect("CONNACK came through it");
        connection.open(0, peer_max, now.ms);
        self.session.attach(Agreed { expiry_s: u32::MAX, window: window as u16, awaiting_rel_max: u16::MAX });
    }

    fn on_publish(&mut self, publish: &Publish<'_>) {
        let connection = self.connection.as_mut().expect("PUBLISH came through it");
        assert_eq!(connection.name(publish).unwrap().topic().as_str(), "t");
        let number = u32::from_be_bytes(publish.payload.try_into().unwrap());
        let (packet_id, dup) = (publish.packet_id, publish.dup);
        self.seen.push(Arrival { number, packet_id, dup });
        if self.session.inbound.on_publish(publish.qos, packet_id, 0) == Accepted::Route {
            self.accepted.push(number);
        }
        let ack = Ack::new(packet_id, ReasonCode::SUCCESS);
        match publish.qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => self.acknowledge(Packet::PubAck(ack)),
            QoS::ExactlyOnce => self.acknowledge(Packet::PubRec(ack)),
        }
    }

    fn hang_up(&mut self) {
        self.connection = None;
        self.session.outbound.detach();
        (self.outgoing, self.unread, self.held) = Default::default();
    }
}

#[derive(Clone, Copy)]
struct Clock {
    ms: u64,
}

impl Clock {
    fn unix_ms(self) -> u64 {
        EPOCH_MS + self.ms
    }
}

/// Which end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    Broker,
    Client,
}

/// Both ends and the clock.
pub struct Pair {
    pub broker: End,
    pub client: End,
    version: Version,
    clock: Clock,
    published: u32,
}

impl Pair {
    /// Connected, with empty sessions that outlive the connection.
    pub fn new(version: Version, limits: Limits) -> Pair {
        let of_client = Limits { max_mqueue_len: 100_000, ..Limits::default() };
        let mut pair = Pair {
            broker: End::new(Role::Server, limits),
            client: End::new(Role::Client, of_client),
            version,
            clock: Clock { ms: 0 },
            published: 0,
        };
        pair.connect(u16::MAX);
        pair.drive();
        pair
    }

    /// One end.
    pub fn end(&mut self, side: Side) -> &mut End {
        match side {
            Side::Broker => &mut self.broker,
            Side::Client => &mut self.client,
        }
    }

    /// The other end.
    pub fn peer(&mut self, side: Side) -> &mut End {
        match side {
            Side::Broker => &mut self.client,
            Side::Client => &mut self.broker,
        }
    }

    /// A new connection: CONNECT is on its way. `receive_maximum` is told where the version can.
    pub fn connect(&mut self, receive_maximum: u16) {
        for end in [&mut self.broker, &mut self.client] {
            end.connection = Some(Connection::new(end.role, Arc::clone(&end.limits), self.clock.ms));
        }
        let mut raw = Vec::new();
        if self.version == Version::V5 {
            put_property(&mut raw, id::SESSION_EXPIRY_INTERVAL, Value::Number(u32::MAX));
            put_property(&mut raw, id::RECEIVE_MAXIMUM, Value::Number(receive_maximum.into()));
        }
        let version = self.version;
        let client = self.client.connection.as_mut().expect("set above");
        client.speak(version);
        self.client.send(&Packet::Connect(Box::new(Connect {
            version,
            clean_start: false,
            keep_alive_s: 10,
            client_id: "c",
            will: None,
            username: None,
            password: None,
            properties: Properties::trusted(&raw),
        })));
    }

    /// The connection is lost, with all bytes on their way.
    pub fn cut(&mut self) {
        self.broker.hang_up();
        self.client.hang_up();
    }

    /// Whether the pair speaks 3.1.1.
    pub fn is_v311(&self) -> bool {
        self.version < Version::V5
    }

    /// Moves the clock.
    pub fn advance(&mut self, ms: u64) {
        self.clock.ms += ms;
    }

    /// `from` publishes the next number.
    pub fn publish(&mut self, from: Side, qos: QoS) -> (u32, Offered) {
        self.publish_expiring(from, qos, None)
    }

    /// `from` publishes the next number, which nobody wants after `expiry_s`.
    pub fn publish_expiring(&mut self, from: Side, qos: QoS, expiry_s: Option<u32>) -> (u32, Offered) {
        let number = self.published;
        self.published += 1;
        let unix_ms = self.clock.unix_ms();
        let mut raw = Vec::new();
        if let Some(expiry_s) = expiry_s {
            put_property(&mut raw, id::MESSAGE_EXPIRY_INTERVAL, Value::Number(expiry_s));
        }
        let publication = Publication {
            topic: Topic::new("t").unwrap(),
            properties: Properties::trusted(&raw),
            expiry_s,
            payload: &number.to_be_bytes(),
        };
        let origin = Origin { client_id: "".into(), received_ms: unix_ms };
        let message = Arc::new(Message::new(&publication, qos, false, origin));
        (number, self.end(from).offer(&message, unix_ms))
    }

    /// Carries what `from` has sent to the other end; whether there was anything.
    pub fn carry(&mut self, from: Side) -> bool {
        let bytes = std::mem::take(&mut self.end(from).outgoing);
        let now = self.clock;
        self.peer(from).hear(&bytes, now);
        self.broker.pump(now.unix_ms());
        self.client.pump(now.unix_ms());
        !bytes.is_empty()
    }

    /// Carries bytes to and fro until both ends are silent.
    pub fn drive(&mut self) {
        for _ in 0..ROUNDS_MAX {
            let moved = [Side::Client, Side::Broker].map(|side| self.carry(side));
            if moved == [false, false] {
                return;
            }
        }
        panic!("the pair still talks after {ROUNDS_MAX} rounds");
    }
}
