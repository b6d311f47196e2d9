//! What leaves the data plane: questions, notices, tap rows, replies, log lines.
//!
//! Knows records. Does not know who reads them.

use std::sync::Arc;

use whimbrel_protocol::Message;
use whimbrel_protocol::connection::handshake::Secret;

use crate::audit::Audit;

/// One record.
#[derive(Debug)]
pub enum Event {
    /// Question: may this client enter?
    Authenticate(Box<Authenticate>),
    /// Question: how does this authentication go on?
    EnhancedAuthenticate(Box<EnhancedAuthenticate>),
    /// Question: may this client do this?
    Authorize(Box<Authorize>),
    /// Notice.
    Connected(Box<Connected>),
    /// Notice.
    Disconnected(Box<Disconnected>),
    /// Messages that a tap matched; `dropped` since the batch before.
    TapBatch {
        /// Which tap.
        tap: u32,
        /// In the order of the worker's turn.
        messages: Vec<Arc<Message>>,
        /// Lost for want of capacity since the batch before.
        dropped: u64,
    },
    /// Reply to a request for clients.
    ClientPage {
        /// Of the request.
        ticket: u64,
        /// One for each session.
        records: Vec<ClientRecord>,
        /// Where the next page starts; None: the end.
        next_cursor: Option<u64>,
    },
    /// Reply to a request for the ledger.
    Audited {
        /// Of the request.
        ticket: u64,
        /// Of all workers.
        audit: Box<Audit>,
    },
    /// Reply to a kick.
    Kicked {
        /// Of the request.
        ticket: u64,
        /// Whether there was such a session.
        found: bool,
    },
    /// Reply to a publish from inside.
    Published {
        /// Of the request.
        ticket: u64,
        /// Sessions and taps that the message was routed to.
        receivers: u64,
    },
    /// Reply to a publish from inside that was not routed.
    Refused {
        /// Of the request.
        ticket: u64,
        /// Why, and what to do.
        text: &'static str,
    },
    /// Reply to a change of rows.
    RowsChanged {
        /// Of the request.
        ticket: u64,
        /// Why nothing of it holds; None: all of it is durable.
        refusal: Option<String>,
    },
    /// The store takes in nothing any more, or takes in again.
    StoreTurned {
        /// Why it takes in nothing; None: all is well again.
        refusal: Option<String>,
        /// Unix time in milliseconds.
        timestamp_ms: u64,
    },
    /// A line for the log.
    Log {
        /// As Python's logging counts: 30 warning, 40 error.
        level: u8,
        /// The sentence.
        text: String,
    },
    /// Every worker has ended.
    Stopped,
}

/// What is known of a client that asks to enter.
#[derive(Debug)]
pub struct Authenticate {
    /// Names the question.
    pub ticket: u64,
    /// Client identifier, assigned ones included.
    pub client_id: Arc<str>,
    /// User name.
    pub username: Option<Box<str>>,
    /// Password.
    pub password: Option<Secret>,
    /// Address of the peer.
    pub peer: String,
    /// Label of the listener.
    pub listener: String,
    /// 3, 4 or 5.
    pub protocol_version: u8,
    /// Seconds.
    pub keep_alive_s: u16,
    /// Clean start.
    pub clean_start: bool,
    /// What happens where nothing answers.
    pub is_anonymous_allowed: bool,
}

/// One packet of a client in an exchange of its own method.
#[derive(Debug)]
pub struct EnhancedAuthenticate {
    /// Names the question.
    pub ticket: u64,
    /// Names the connection among those that live.
    pub exchange: u64,
    /// Packets of the client in this exchange before this one.
    pub step: u32,
    /// Whether the client is in already and authenticates anew.
    pub is_reauthentication: bool,
    /// Authentication Method.
    pub method: Box<str>,
    /// Authentication Data.
    pub auth_data: Option<Secret>,
    /// Client identifier, assigned ones included.
    pub client_id: Arc<str>,
    /// User name of CONNECT.
    pub username: Option<Box<str>>,
    /// Password of CONNECT; only in the question about CONNECT itself.
    pub password: Option<Secret>,
    /// Address of the peer.
    pub peer: String,
    /// Label of the listener.
    pub listener: String,
}

/// Publish or subscribe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// A PUBLISH.
    Publish,
    /// A SUBSCRIBE.
    Subscribe,
}

/// What a client wants to do.
#[derive(Debug)]
pub struct Authorize {
    /// Names the question.
    pub ticket: u64,
    /// Client identifier.
    pub client_id: Arc<str>,
    /// User name.
    pub username: Option<Box<str>>,
    /// Address of the peer.
    pub peer: String,
    /// What.
    pub action: Action,
    /// The topic, or the filters.
    pub topics: Vec<Box<str>>,
    /// Of the message, or the highest asked for.
    pub qos: u8,
    /// Retain flag of the message.
    pub retain: bool,
}

/// A client has its CONNACK.
#[derive(Debug)]
pub struct Connected {
    /// Client identifier.
    pub client_id: Arc<str>,
    /// User name.
    pub username: Option<Box<str>>,
    /// Address of the peer.
    pub peer: String,
    /// Label of the listener.
    pub listener: String,
    /// 3, 4 or 5.
    pub protocol_version: u8,
    /// Seconds.
    pub keep_alive_s: u16,
    /// Clean start.
    pub clean_start: bool,
    /// Whether a session was resumed.
    pub session_present: bool,
    /// Unix time in milliseconds.
    pub timestamp_ms: u64,
}

/// A client that had its CONNACK is gone.
#[derive(Debug)]
pub struct Disconnected {
    /// Client identifier.
    pub client_id: Arc<str>,
    /// User name.
    pub username: Option<Box<str>>,
    /// Address of the peer.
    pub peer: String,
    /// One word.
    pub reason: &'static str,
    /// MQTT 5 reason code.
    pub reason_code: u8,
    /// The client's own words where it said goodbye, else those that it was told; may be empty.
    pub text: Box<str>,
    /// Unix time in milliseconds.
    pub timestamp_ms: u64,
}

/// A session and its connection.
#[derive(Clone, Debug)]
pub struct ClientRecord {
    /// Client identifier.
    pub client_id: Arc<str>,
    /// User name.
    pub username: Option<Box<str>>,
    /// Last address of the peer.
    pub peer: String,
    /// Label of the last listener.
    pub listener: String,
    /// 3, 4 or 5.
    pub protocol_version: u8,
    /// Whether a connection is there.
    pub is_connected: bool,
    /// Of the last CONNECT.
    pub clean_start: bool,
    /// Seconds.
    pub keep_alive_s: u16,
    /// Seconds.
    pub session_expiry_s: u32,
    /// Unix time in milliseconds.
    pub connected_at_ms: u64,
    /// Unix time in milliseconds; 0 while connected.
    pub disconnected_at_ms: u64,
    /// How many.
    pub subscriptions: usize,
    /// Messages in flight to the client.
    pub inflight: usize,
    /// Messages that wait.
    pub mqueue_len: usize,
    /// Unsent bytes.
    pub outbox_bytes: usize,
    /// Worker that owns the session.
    pub worker: u16,
}
