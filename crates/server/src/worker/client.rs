//! A connected socket with its protocol machine and its buffers.
//!
//! Knows what belongs to one connection. Does not know the session's state or other clients.

use std::rc::Rc;
use std::sync::Arc;

use whimbrel_protocol::connection::Connection;
use whimbrel_protocol::connection::handshake::Request;
use whimbrel_protocol::{Limits, ReasonCode, Violation};
use whimbrel_router::Matches;

use super::authority::Verdicts;
use super::outbox::{Outbox, Spares};
use crate::ledger::Counts;
use crate::pace::Pace;
use crate::socket::{Moved, Peer};
use crate::transport::Transport;

/// An outbox of so many bytes is written before the turn ends.
const FLUSH_EARLY_BYTES: usize = 256 * 1024;

/// One connection.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) socket: Transport,
    pub(super) connection: Connection,
    pub(super) outbox: Outbox,
    /// The beginning of a packet whose end has not come.
    pub(super) partial: Vec<u8>,
    /// How long that packet is, as far as known.
    pub(super) needed: usize,
    /// Waits for an answer; nothing is read meanwhile.
    pub(super) parked: Option<Box<Parked>>,
    /// What it may send in a second, where its zone says so.
    pub(super) pace: Option<Box<Pace>>,
    /// The matches of the last topic published: publishers repeat themselves.
    pub(super) memo: Option<Rc<Matches>>,
    pub(super) verdicts: Option<Box<Verdicts>>,
    pub(super) peer: Peer,
    pub(super) connected_at_ms: u64,
    /// The reminder that is armed; another one that fires is an old one.
    pub(super) reminder_ms: u64,
    pub(super) session: Option<u32>,
    /// Packets that wait for the store.
    pub(super) held: u32,
    pub(super) listener: u16,
    pub(super) epoch: u16,
    pub(super) is_dirty: bool,
    /// The kernel took less than there was; it tells when it takes more, and then `is_writable` is set.
    pub(super) awaits_writable: bool,
    pub(super) is_writable: bool,
    /// The kernel took less than there was in this turn: it is not asked again before the end of the turn.
    pub(super) is_choked: bool,
    pub(super) is_superuser: bool,
    /// The client was told that the connection ends: what is in the outbox goes out, and nothing else happens.
    pub(super) is_leaving: bool,
    /// Its outbox is not written until the store has what CONNACK promises.
    pub(super) is_barred: bool,
}

/// A connection that waits for an answer.
#[derive(Debug)]
pub(super) struct Parked {
    pub(super) ticket: u64,
    pub(super) due_ms: u64,
    pub(super) question: Question,
    /// Bytes received and not handled yet.
    pub(super) rest: Vec<u8>,
}

/// What was asked.
#[derive(Debug)]
pub(super) enum Question {
    /// May this client enter?
    Entry(Box<Request>),
    /// It may; may it leave such a will?
    Will(Box<Request>),
    /// How does its authentication go on? None: it is in already.
    Exchange(Option<Box<Request>>),
    /// Not ours: it was asked for its next AUTH, and is read.
    Challenged(Box<Request>),
    /// May it do what the first packet of the rest asks for?
    Packet,
    /// None: it sent faster than its zone allows and waits until it may go on.
    Tokens,
    /// None: its next message must be stored, and the store takes nothing at the moment; see `shortage`.
    Room,
}

/// Where a new connection comes from.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) socket: Transport,
    pub(super) peer: Peer,
    pub(super) listener: u16,
    pub(super) limits: Arc<Limits>,
}

impl Client {
    pub(super) fn new(arrival: Arrival, connection: Connection, epoch: u16, unix_ms: u64) -> Client {
        Client {
            socket: arrival.socket,
            connection,
            outbox: Outbox::default(),
            partial: Vec::new(),
            needed: 0,
            parked: None,
            pace: None,
            memo: None,
            verdicts: None,
            peer: arrival.peer,
            connected_at_ms: unix_ms,
            reminder_ms: 0,
            session: None,
            held: 0,
            listener: arrival.listener,
            epoch,
            is_dirty: false,
            awaits_writable: false,
            is_writable: false,
            is_choked: false,
            is_superuser: false,
            is_leaving: false,
            is_barred: false,
        }
    }

    /// Whether more may be encoded for it, and read from it.
    #[inline]
    pub(super) fn has_room(&self) -> bool {
        self.outbox.len() < self.outbox_max() && !self.is_leaving
    }

    /// Unsent bytes beyond which nothing more is encoded for it.
    #[inline]
    pub(super) fn outbox_max(&self) -> usize {
        self.connection.limits().max_outbox_bytes as usize
    }

    /// Whether it waits for an answer of Python, and must not be read.
    #[inline]
    pub(super) fn is_waiting(&self) -> bool {
        self.parked.as_ref().is_some_and(|parked| !matches!(parked.question, Question::Challenged(_)))
    }

    /// Writes what the socket takes, and counts it. Whether it is gone shows when it is written or read next.
    pub(super) fn write_out(&mut self, spares: &mut Spares, counts: &mut Counts) {
        if self.is_barred {
            return; // What CONNACK promises is not stored, so it must not be said.
        }
        if let (Moved::Bytes(count), _) = self.outbox.flush(&mut self.socket, spares) {
            counts.bytes_sent += count as u64;
        }
    }

    /// Writes a burst before the turn ends: it leaves in pieces, instead of being dropped for want of room.
    #[inline]
    pub(super) fn flush_early(&mut self, spares: &mut Spares, counts: &mut Counts) {
        let is_burst = self.outbox.len() >= FLUSH_EARLY_BYTES.min(self.outbox_max());
        if is_burst && !self.awaits_writable && !self.is_choked {
            self.write_out(spares, counts);
            self.is_choked = self.outbox.len() > 0;
        }
    }

    /// When it must be looked at; None: never.
    pub(super) fn deadline_ms(&self) -> Option<u64> {
        match &self.parked {
            Some(parked) if matches!(parked.question, Question::Room) => None, // the store wakes it
            Some(parked) => Some(parked.due_ms),
            None => self.connection.deadline_ms(),
        }
    }
}

/// Why a connection ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct End {
    /// One word, for notices and counters.
    pub(super) word: &'static str,
    /// Sent in CONNACK or DISCONNECT where the version has one and `is_told` says so.
    pub(super) reason: ReasonCode,
    /// The reason in words, where the client wants them.
    pub(super) what: &'static str,
    /// Whether the client is told before the socket closes.
    pub(super) is_told: bool,
    /// Whether the client said goodbye, so that its will is not published [MQTT-3.14.4-3].
    pub(super) is_goodbye: bool,
}

impl End {
    pub(super) const fn told(word: &'static str, reason: ReasonCode, what: &'static str) -> End {
        End { word, reason, what, is_told: true, is_goodbye: false }
    }

    pub(super) const CLOSED: End =
        End { word: "tcp_closed", reason: ReasonCode::SUCCESS, what: "", is_told: false, is_goodbye: false };
    pub(super) const GOODBYE: End =
        End { word: "normal", reason: ReasonCode::SUCCESS, what: "", is_told: false, is_goodbye: true };
    pub(super) const WITH_WILL: End =
        End { word: "normal", reason: ReasonCode::DISCONNECT_WITH_WILL, what: "", is_told: false, is_goodbye: false };
    pub(super) const TAKEN_OVER: End =
        End::told("takeovered", ReasonCode::SESSION_TAKEN_OVER, "another connection uses this client identifier");
    pub(super) const DISCARDED: End =
        End::told("discarded", ReasonCode::SESSION_TAKEN_OVER, "another connection started this session anew");
    pub(super) const KICKED: End =
        End::told("kicked", ReasonCode::ADMINISTRATIVE_ACTION, "an operator ended this session");
    pub(super) const OVER_BUDGET: End =
        End::told("memory_exceeded", ReasonCode::QUOTA_EXCEEDED, "more memory than force_shutdown_size");
    pub(super) const KEEP_ALIVE: End =
        End::told("keepalive_timeout", ReasonCode::KEEP_ALIVE_TIMEOUT, "nothing came for 1.5 times the keep-alive");
    pub(super) const STORE_REFUSES: End =
        End::told("storage_refused", ReasonCode::QUOTA_EXCEEDED, super::shortage::TOLD);
    /// Nothing was agreed on yet, so nothing is said.
    pub(super) const IDLE: End =
        End { word: "idle_timeout", reason: ReasonCode::SUCCESS, what: "", is_told: false, is_goodbye: false };
    pub(super) const SHUTDOWN: End = End::told("server_shutdown", ReasonCode::SERVER_SHUTTING_DOWN, "the broker stops");

    /// The client was refused in CONNACK.
    pub(super) fn refused(reason: ReasonCode) -> End {
        End::told("not_authorized", reason, reason.text())
    }
}

impl From<Violation> for End {
    fn from(violation: Violation) -> End {
        let word = match violation.reason {
            ReasonCode::PACKET_TOO_LARGE => "frame_too_large",
            ReasonCode::MALFORMED_PACKET => "malformed_packet",
            _ => "protocol_error",
        };
        End::told(word, violation.reason, violation.what)
    }
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use whimbrel_protocol::connection::Role;

    use super::*;
    use crate::options::LayerOptions;
    use crate::socket::Socket;
    use crate::transport::Layering;

    #[test]
    fn a_socket_that_is_full_is_asked_once_a_turn() {
        let flags = SocketFlags::NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        let layering = Layering::load(&LayerOptions::default()).unwrap();
        let socket = layering.lay_over(Socket::new(ours), &Peer::Local).unwrap();
        let limits = Arc::new(Limits { max_outbox_bytes: u32::MAX, ..Limits::default() });
        let connection = Connection::new(Role::Server, Arc::clone(&limits), 0);
        let arrival = Arrival { socket, peer: Peer::Local, listener: 0, limits };
        let mut client = Client::new(arrival, connection, 1, 0);
        let (mut spares, mut counts) = (Spares::default(), Counts::default());
        client.outbox.tail(&mut spares).resize(10_000_000, 0);
        client.flush_early(&mut spares, &mut counts);
        let sent = counts.bytes_sent;
        assert!(sent > 0 && client.outbox.len() > FLUSH_EARLY_BYTES);
        while let Moved::Bytes(1..) = Socket::read(&Socket::new(theirs.try_clone().unwrap()), &mut [0; 65_536]) {}
        client.flush_early(&mut spares, &mut counts);
        assert_eq!(counts.bytes_sent, sent, "each further message of the turn would cost a call");
        client.is_choked = false; // As at the end of a turn.
        client.flush_early(&mut spares, &mut counts);
        assert!(counts.bytes_sent > sent);
    }
}
