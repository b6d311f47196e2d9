//! What the data plane is told at start.
//!
//! Knows values that were checked before. Does not know files, environment or command lines.

use std::path::PathBuf;

use whimbrel_protocol::Limits;

pub use whimbrel_storage::Durability;

use crate::sys::SysOptions;
use crate::transport::proxy::Trusted;

/// Everything, frozen.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name of this node.
    pub node_name: String,
    /// Worker threads, 1 to 256.
    pub workers: u16,
    /// Where to listen.
    pub listeners: Vec<ListenerOptions>,
    /// Limits by zone; listeners refer to them by index.
    pub zones: Vec<Limits>,
    /// How long a question may stay unanswered; milliseconds.
    pub question_deadline_ms: u32,
    /// Clients that come and go too often; None: nobody looks.
    pub flapping: Option<Flapping>,
    /// The `$SYS` tree.
    pub sys: SysOptions,
    /// Retained messages kept at most.
    pub retained_messages_max: usize,
    /// Bytes of retained messages kept at most.
    pub retained_bytes_max: usize,
    /// Where what is acknowledged is kept; None: in memory only.
    pub storage: Option<StorageOptions>,
}

/// What survives a crash, and where.
#[derive(Clone, Debug)]
pub struct StorageOptions {
    /// The store's folder; made if it is missing.
    pub folder: PathBuf,
    /// What it survives.
    pub durability: Durability,
}

/// When a client identifier is refused for a while.
#[derive(Clone, Copy, Debug)]
pub struct Flapping {
    /// Connections that end within the window.
    pub max_count: u32,
    /// Milliseconds, from the first of them.
    pub window_ms: u64,
    /// How long it is refused then; milliseconds.
    pub ban_ms: u64,
}

/// One listener.
#[derive(Clone, Debug)]
pub struct ListenerOptions {
    /// Transport and address.
    pub kind: ListenerKind,
    /// Name in the configuration.
    pub name: String,
    /// Index into the zones.
    pub zone: usize,
    /// Whether clients enter where nothing else decides.
    pub is_anonymous_allowed: bool,
    /// Connections at a time.
    pub connections_max: u32,
    /// What lies between the socket and MQTT.
    pub layers: LayerOptions,
    /// Connections taken in a second; 0: no limit.
    pub max_conn_rate: u32,
}

/// What lies between a listener's sockets and MQTT; nothing by default.
#[derive(Clone, Debug, Default)]
pub struct LayerOptions {
    /// The path of the request that opens a WebSocket; None: no WebSocket.
    pub websocket_path: Option<String>,
    /// Certificates; None: no TLS.
    pub tls: Option<TlsOptions>,
    /// Who must, and nobody else may, connect with a PROXY header; None: there is none.
    pub trusted_proxies: Option<Vec<Trusted>>,
}

/// The files of a TLS listener, in PEM form.
#[derive(Clone, Debug)]
pub struct TlsOptions {
    /// The broker's certificate and those between it and a root, in this order.
    pub cert_file: PathBuf,
    /// Its private key, not encrypted.
    pub key_file: PathBuf,
    /// The authorities of clients' certificates; needed unless `verify` is `None`.
    pub ca_file: Option<PathBuf>,
    /// What is asked of clients.
    pub verify: Verify,
    /// Lists of certificates that are no longer good, one for each authority.
    pub crl_file: Option<PathBuf>,
}

/// Whether clients show a certificate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verify {
    /// They are not asked for one.
    None,
    /// One that is shown must be good.
    Optional,
    /// Nobody enters without a good one.
    Required,
}

/// Transport and address of a listener.
#[derive(Clone, Debug)]
pub enum ListenerKind {
    /// MQTT over TCP; port 0: the kernel chooses.
    Tcp {
        /// Host name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// MQTT over a unix stream socket.
    Unix {
        /// Path of the socket file.
        path: PathBuf,
    },
}

impl ListenerOptions {
    /// The transport's word in configuration and logs.
    pub fn kind_name(&self) -> &'static str {
        match (&self.kind, &self.layers.tls, &self.layers.websocket_path) {
            (ListenerKind::Unix { .. }, ..) => "unix",
            (ListenerKind::Tcp { .. }, None, None) => "tcp",
            (ListenerKind::Tcp { .. }, Some(_), None) => "tls",
            (ListenerKind::Tcp { .. }, None, Some(_)) => "ws",
            (ListenerKind::Tcp { .. }, Some(_), Some(_)) => "wss",
        }
    }

    /// "tcp:default"
    pub fn label(&self) -> String {
        format!("{}:{}", self.kind_name(), self.name)
    }
}
