//! One connection as its client sees it: bytes in pieces, packets with the protocol crate's own codec.
//!
//! Knows a socket pair, what is not sent yet and what is not whole yet. Does not know what packets mean for a session.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair, sockopt};
use whimbrel_protocol::connection::{Connection, Received, Role};
use whimbrel_protocol::encode::encode;
use whimbrel_protocol::packet::{Ack, Packet, Publish};
use whimbrel_protocol::properties::id;
use whimbrel_protocol::{Limits, QoS, ReasonCode, Version, Violation};

/// A packet from the broker, owned.
#[derive(Clone, PartialEq, Debug)]
pub enum Heard {
    /// CONNACK: session present, reason, Receive Maximum.
    ConnAck(bool, ReasonCode, u16),
    /// PUBLISH.
    Publish(Letter),
    /// Packet type (4 to 7), packet identifier, reason.
    Ack(u8, u16, ReasonCode),
    /// SUBACK (9) or UNSUBACK (11).
    Granted(u8, u16, Vec<ReasonCode>),
    /// DISCONNECT.
    Disconnect(ReasonCode),
    /// PINGRESP or AUTH.
    Other,
}

/// What a PUBLISH carries.
#[derive(Clone, PartialEq, Debug)]
pub struct Letter {
    /// Topic, aliases resolved.
    pub topic: String,
    /// Application message.
    pub payload: Vec<u8>,
    /// 0 to 2.
    pub qos: QoS,
    /// RETAIN flag.
    pub retain: bool,
    /// DUP flag.
    pub dup: bool,
    /// 0 for QoS 0.
    pub packet_id: u16,
}

/// The client's end.
#[derive(Debug)]
pub struct Wire {
    socket: Option<OwnedFd>,
    connection: Connection,
    unsent: Vec<u8>,
    unread: Vec<u8>,
    is_over: bool,
}

/// A small socket buffer: a handful of small packets; bytes, as the kernel counts them.
const SMALL_BUFFER_BYTES: usize = 4608;

impl Wire {
    /// Both ends: ours, and the broker's socket. With `is_narrow` neither way takes more than a few packets at a time.
    pub fn open(version: Version, is_narrow: bool) -> Result<(Wire, OwnedFd), Errno> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        if is_narrow {
            sockopt::set_socket_send_buffer_size(&theirs, SMALL_BUFFER_BYTES)?;
            sockopt::set_socket_send_buffer_size(&ours, SMALL_BUFFER_BYTES)?;
        }
        let limits = Limits { max_packet_size_bytes: 1 << 24, ..Limits::default() };
        let mut connection = Connection::new(Role::Client, Arc::new(limits), 0);
        connection.speak(version);
        let wire = Wire { socket: Some(ours), connection, unsent: Vec::new(), unread: Vec::new(), is_over: false };
        Ok((wire, theirs))
    }

    /// The protocol level.
    pub fn version(&self) -> Version {
        self.connection.version()
    }

    /// Appends a packet to what is not sent yet.
    pub fn put(&mut self, packet: &Packet<'_>) {
        encode(&mut self.unsent, self.connection.version(), packet);
    }

    /// Appends an acknowledgement: `first` is the first byte of its packet.
    pub fn put_ack(&mut self, first: u8, packet_id: u16) {
        let ack = Ack::new(packet_id, ReasonCode::SUCCESS);
        whimbrel_protocol::encode::ack(&mut self.unsent, self.connection.version(), first, &ack);
    }

    /// Whether everything has left.
    pub fn is_sent(&self) -> bool {
        self.unsent.is_empty()
    }

    /// Whether the client still holds the socket.
    pub fn is_held(&self) -> bool {
        self.socket.is_some()
    }

    /// Whether the broker has closed it, and the client has read all that came before.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Whether a packet has begun to come whose end did not.
    pub fn is_cut(&self) -> bool {
        !self.unread.is_empty()
    }

    /// Whether nothing lies in the socket that the client has not read: closing it now resets nothing.
    pub fn is_drained(&self) -> bool {
        self.socket.as_ref().is_some_and(|socket| rustix::io::ioctl_fionread(socket).is_ok_and(|count| count == 0))
    }

    /// Closes the socket, with whatever is in it.
    pub fn close(&mut self) {
        self.socket = None;
    }

    /// Sends at most `max` bytes; how many the socket took.
    pub fn push(&mut self, max: usize) -> usize {
        let Some(socket) = &self.socket else { return 0 };
        let piece = &self.unsent[..self.unsent.len().min(max)];
        if piece.is_empty() {
            return 0;
        }
        match send(socket, piece, SendFlags::NOSIGNAL) {
            Ok(count) => {
                self.unsent.drain(..count);
                count
            }
            Err(_) => 0, // Full, or closed by the broker, which reading tells.
        }
    }

    /// Reads at most `max` bytes and returns the packets that are whole now, and how many bytes there were.
    pub fn pull(&mut self, max: usize) -> Result<(Vec<Heard>, usize), Violation> {
        let Some(socket) = &self.socket else { return Ok((Vec::new(), 0)) };
        let mut buffer = vec![0; max];
        let count = match rustix::io::read(socket, &mut buffer[..]) {
            Err(Errno::AGAIN) => return Ok((Vec::new(), 0)),
            Ok(0) | Err(_) => {
                self.is_over = true;
                return Ok((Vec::new(), 0));
            }
            Ok(count) => count,
        };
        self.unread.extend_from_slice(&buffer[..count]);
        let unread = std::mem::take(&mut self.unread);
        let (mut taken, mut heard) = (0, Vec::new());
        while taken < unread.len() {
            let Received::Packet(packet, len) = self.connection.receive(&unread[taken..])? else { break };
            taken += len;
            heard.push(owned(&mut self.connection, &packet)?);
        }
        self.unread = unread[taken..].to_vec();
        Ok((heard, count))
    }
}

fn owned(connection: &mut Connection, packet: &Packet<'_>) -> Result<Heard, Violation> {
    Ok(match packet {
        Packet::ConnAck(connack) => {
            if connack.reason == ReasonCode::SUCCESS {
                connection.open(0, u32::MAX, 0);
            }
            let window = connack.properties.number(id::RECEIVE_MAXIMUM).map_or(u16::MAX, |number| number as u16);
            Heard::ConnAck(connack.session_present, connack.reason, window)
        }
        Packet::Publish(publish) => Heard::Publish(letter(connection, publish)?),
        Packet::PubAck(ack) => Heard::Ack(4, ack.packet_id, ack.reason),
        Packet::PubRec(ack) => Heard::Ack(5, ack.packet_id, ack.reason),
        Packet::PubRel(ack) => Heard::Ack(6, ack.packet_id, ack.reason),
        Packet::PubComp(ack) => Heard::Ack(7, ack.packet_id, ack.reason),
        Packet::SubAck(ack) => Heard::Granted(9, ack.packet_id, ack.reasons.clone()),
        Packet::UnsubAck(ack) => Heard::Granted(11, ack.packet_id, ack.reasons.clone()),
        Packet::Disconnect(disconnect) => Heard::Disconnect(disconnect.reason),
        _ => Heard::Other,
    })
}

fn letter(connection: &mut Connection, publish: &Publish<'_>) -> Result<Letter, Violation> {
    Ok(Letter {
        topic: connection.name(publish)?.topic().as_str().to_owned(),
        payload: publish.payload.to_vec(),
        qos: publish.qos,
        retain: publish.retain,
        dup: publish.dup,
        packet_id: publish.packet_id,
    })
}
