//! A small blocking MQTT client: for the command line and for tests.
//!
//! Knows one connection on one thread, driven by the same machines as the broker's side. Does not reconnect.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use whimbrel_protocol::connection::handshake::Secret;
use whimbrel_protocol::connection::{Connection, Received, Role};
use whimbrel_protocol::encode::encode;
use whimbrel_protocol::message::{Origin, Publication, forwarded_properties};
use whimbrel_protocol::packet::{Ack, Connect, Disconnect, Packet, Publish, Subscribe, SubscriptionOptions};
use whimbrel_protocol::properties::Properties;
use whimbrel_protocol::session::{Accepted, Inbound};
use whimbrel_protocol::{Filter, Limits, Message, QoS, ReasonCode, Topic, Version, Violation};

/// How long the goodbye looks for what the broker has said before.
const GOODBYE_NEWS: Duration = Duration::from_millis(100);

/// How to connect.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// "host:port" or "unix:/path".
    pub address: String,
    /// Empty: the broker assigns one.
    pub client_id: String,
    /// User name.
    pub username: Option<String>,
    /// Password.
    pub password: Option<Secret>,
    /// Protocol level.
    pub version: Version,
    /// Seconds.
    pub keep_alive_s: u16,
    /// For connecting and for each acknowledgement.
    pub timeout: Duration,
}

/// Why a call failed.
#[derive(Debug)]
pub enum ClientError {
    /// The socket failed; nothing more will work.
    Io(std::io::Error),
    /// The broker refused or ended the connection.
    Refused(ReasonCode),
    /// A message was not accepted; the connection goes on.
    NotAccepted(ReasonCode),
    /// The broker closed the socket without a word.
    Closed,
    /// Nothing came in time.
    TimedOut(&'static str),
    /// The caller's topic or filter, or what the broker sent, is not MQTT.
    Invalid(Violation),
}

impl std::fmt::Display for ClientError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ClientError::Io(error) => error.fmt(formatter),
            ClientError::Refused(reason) => {
                write!(formatter, "the broker refused: {} (0x{:02X})", reason.text(), reason.0)
            }
            ClientError::NotAccepted(reason) => {
                write!(formatter, "the broker did not accept the message: {} (0x{:02X})", reason.text(), reason.0)
            }
            ClientError::Closed => formatter.write_str("the broker closed the connection"),
            ClientError::TimedOut(what) => write!(formatter, "no {what} in time"),
            ClientError::Invalid(violation) => violation.fmt(formatter),
        }
    }
}

impl From<std::io::Error> for ClientError {
    fn from(error: std::io::Error) -> ClientError {
        ClientError::Io(error)
    }
}

impl From<Violation> for ClientError {
    fn from(violation: Violation) -> ClientError {
        ClientError::Invalid(violation)
    }
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    fn connect(address: &str, timeout: Duration) -> std::io::Result<Stream> {
        if let Some(path) = address.strip_prefix("unix:") {
            let stream = UnixStream::connect(path)?;
            stream.set_write_timeout(Some(timeout))?;
            return Ok(Stream::Unix(stream));
        }
        let mut last = std::io::Error::other("the name has no address");
        for address in address.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, timeout) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    stream.set_write_timeout(Some(timeout))?;
                    return Ok(Stream::Tcp(stream));
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn read(&mut self, buffer: &mut [u8], timeout: Duration) -> std::io::Result<usize> {
        // The kernel takes 0 for "for ever".
        let timeout = Some(timeout.max(Duration::from_millis(1)));
        match self {
            Stream::Tcp(stream) => stream.set_read_timeout(timeout).and_then(|()| stream.read(buffer)),
            Stream::Unix(stream) => stream.set_read_timeout(timeout).and_then(|()| stream.read(buffer)),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.write_all(bytes),
            Stream::Unix(stream) => stream.write_all(bytes),
        }
    }
}

/// What the broker answered, of what a call waits for.
enum Reply {
    ConnAck(ReasonCode),
    SubAck(Vec<ReasonCode>),
    Settled(ReasonCode),
}

/// A connected client.
pub struct Client {
    stream: Stream,
    connection: Connection,
    inbound: Inbound,
    buffer: Vec<u8>,
    messages: VecDeque<Arc<Message>>,
    replies: VecDeque<Reply>,
    next_packet_id: u16,
    keep_alive: Duration,
    last_sent: Instant,
    timeout: Duration,
}

impl Client {
    /// Connects and waits for CONNACK.
    pub fn connect(options: ClientOptions) -> Result<Client, ClientError> {
        // A client of ours takes what the wire can carry.
        let limits = Limits { max_packet_size_bytes: u32::MAX, max_topic_levels: u16::MAX, ..Limits::default() };
        let mut connection = Connection::new(Role::Client, Arc::new(limits), 0);
        connection.speak(options.version);
        let mut client = Client {
            stream: Stream::connect(&options.address, options.timeout)?,
            connection,
            inbound: Inbound::new(u16::MAX),
            buffer: Vec::new(),
            messages: VecDeque::new(),
            replies: VecDeque::new(),
            next_packet_id: 0,
            keep_alive: Duration::from_secs(u64::from(options.keep_alive_s)),
            last_sent: Instant::now(),
            timeout: options.timeout,
        };
        client.send(&Packet::Connect(Box::new(connect_packet(&options))))?;
        match client.reply("CONNACK")? {
            Reply::ConnAck(ReasonCode::SUCCESS) => Ok(client),
            Reply::ConnAck(reason) => Err(ClientError::Refused(reason)),
            _ => Err(Violation::protocol("packet before CONNACK").into()),
        }
    }

    /// Sends one message and waits until it is acknowledged; QoS 0 only sends.
    pub fn publish(&mut self, topic: &str, payload: &[u8], qos: QoS, retain: bool) -> Result<(), ClientError> {
        let topic = Some(Topic::new(topic)?);
        let packet_id = if qos == QoS::AtMostOnce { 0 } else { self.packet_id() };
        let properties = Properties::default();
        self.send(&Packet::Publish(Publish { dup: false, qos, retain, topic, packet_id, properties, payload }))?;
        if qos == QoS::AtMostOnce {
            return Ok(());
        }
        match self.reply("acknowledgement")? {
            Reply::Settled(reason) if reason.is_error() => Err(ClientError::NotAccepted(reason)),
            _ => Ok(()),
        }
    }

    /// Subscribes; returns the reason code of each filter.
    pub fn subscribe(&mut self, filters: &[String], qos: QoS) -> Result<Vec<u8>, ClientError> {
        let row = |filter| Filter::new(filter).map(|filter| (Ok(filter), SubscriptionOptions::plain(qos)));
        let filters = filters.iter().map(|filter| row(filter)).collect::<Result<Vec<_>, _>>()?;
        let packet_id = self.packet_id();
        self.send(&Packet::Subscribe(Subscribe { packet_id, properties: Properties::default(), filters }))?;
        match self.reply("SUBACK")? {
            Reply::SubAck(reasons) => Ok(reasons.iter().map(|reason| reason.0).collect()),
            _ => Err(Violation::protocol("another packet instead of SUBACK").into()),
        }
    }

    /// The next message, or None after `timeout`; pings the broker when its keep-alive asks for it.
    pub fn receive(&mut self, timeout: Duration) -> Result<Option<Arc<Message>>, ClientError> {
        let end = Instant::now() + timeout;
        loop {
            if let Some(message) = self.messages.pop_front() {
                return Ok(Some(message));
            }
            if !self.keep_alive.is_zero() && self.last_sent.elapsed() >= self.keep_alive / 2 {
                self.send(&Packet::PingReq)?;
            }
            let left = end.saturating_duration_since(Instant::now());
            if !self.read(left)? && left.is_zero() {
                return Ok(None);
            }
        }
    }

    /// Says goodbye and waits until the broker has read everything and closed. An error says that the connection was
    /// gone before, so that messages of QoS 0 may be lost.
    pub fn disconnect(&mut self) -> Result<(), ClientError> {
        // Not without end: a subscriber's messages may come faster than they are read.
        let news_end = Instant::now() + GOODBYE_NEWS;
        while Instant::now() < news_end && self.read(Duration::ZERO)? {}
        self.send(&Packet::Disconnect(Disconnect { reason: ReasonCode::SUCCESS, properties: Properties::default() }))?;
        self.await_end()
    }

    fn await_end(&mut self) -> Result<(), ClientError> {
        let end = Instant::now() + self.timeout;
        let mut chunk = [0; 16 * 1024];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ClientError::TimedOut("end of the connection"));
            }
            match self.stream.read(&mut chunk, left) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if is_passing(error.kind()) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn packet_id(&mut self) -> u16 {
        self.next_packet_id = self.next_packet_id.checked_add(1).unwrap_or(1);
        self.next_packet_id
    }

    fn send(&mut self, packet: &Packet<'_>) -> Result<(), ClientError> {
        let mut bytes = Vec::new();
        encode(&mut bytes, self.connection.version(), packet);
        self.last_sent = Instant::now();
        Ok(self.stream.write(&bytes)?)
    }

    fn reply(&mut self, what: &'static str) -> Result<Reply, ClientError> {
        let end = Instant::now() + self.timeout;
        loop {
            if let Some(reply) = self.replies.pop_front() {
                return Ok(reply);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ClientError::TimedOut(what));
            }
            self.read(left)?;
        }
    }

    /// One read and all packets that it completes; whether anything came.
    fn read(&mut self, timeout: Duration) -> Result<bool, ClientError> {
        let mut chunk = [0; 16 * 1024];
        let count = match self.stream.read(&mut chunk, timeout) {
            Ok(0) => return Err(ClientError::Closed),
            Ok(count) => count,
            Err(error) if is_passing(error.kind()) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let mut bytes = std::mem::take(&mut self.buffer);
        bytes.extend_from_slice(&chunk[..count]);
        let mut taken = 0;
        while taken < bytes.len() {
            match self.connection.receive(&bytes[taken..])? {
                Received::Packet(packet, len) => {
                    self.on_packet(&packet)?;
                    taken += len;
                }
                Received::Incomplete(_) => break,
            }
        }
        bytes.drain(..taken);
        self.buffer = bytes;
        Ok(true)
    }

    fn on_packet(&mut self, packet: &Packet<'_>) -> Result<(), ClientError> {
        match packet {
            Packet::ConnAck(connack) => {
                self.connection.open(0, u32::MAX, 0);
                self.replies.push_back(Reply::ConnAck(connack.reason));
            }
            Packet::Publish(publish) => return self.on_publish(publish),
            Packet::PubAck(ack) | Packet::PubComp(ack) => self.replies.push_back(Reply::Settled(ack.reason)),
            Packet::PubRec(ack) if ack.reason.is_error() => self.replies.push_back(Reply::Settled(ack.reason)),
            Packet::PubRec(ack) => return self.send(&Packet::PubRel(Ack::new(ack.packet_id, ReasonCode::SUCCESS))),
            Packet::PubRel(ack) => {
                let reason = self.inbound.on_pubrel(ack.packet_id);
                return self.send(&Packet::PubComp(Ack::new(ack.packet_id, reason)));
            }
            Packet::SubAck(suback) => self.replies.push_back(Reply::SubAck(suback.reasons.clone())),
            Packet::Disconnect(disconnect) => return Err(ClientError::Refused(disconnect.reason)),
            _ => {}
        }
        Ok(())
    }

    fn on_publish(&mut self, publish: &Publish<'_>) -> Result<(), ClientError> {
        let named = self.connection.name(publish)?;
        if self.inbound.on_publish(publish.qos, publish.packet_id, 0) == Accepted::Route {
            let properties = forwarded_properties(publish.properties);
            let publication = Publication::new(publish, named.topic(), &properties);
            let received_ms = crate::clock::steady_ms();
            let origin = Origin { client_id: Arc::from(""), received_ms };
            self.messages.push_back(Arc::new(Message::new(&publication, publish.qos, publish.retain, origin)));
        }
        let ack = Ack::new(publish.packet_id, ReasonCode::SUCCESS);
        match publish.qos {
            QoS::AtMostOnce => Ok(()),
            QoS::AtLeastOnce => self.send(&Packet::PubAck(ack)),
            QoS::ExactlyOnce => self.send(&Packet::PubRec(ack)),
        }
    }
}

fn is_passing(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

fn connect_packet(options: &ClientOptions) -> Connect<'_> {
    Connect {
        version: options.version,
        clean_start: true,
        keep_alive_s: options.keep_alive_s,
        client_id: &options.client_id,
        will: None,
        username: options.username.as_deref(),
        password: options.password.as_ref().map(|password| password.0.as_ref()),
        properties: Properties::default(),
    }
}
