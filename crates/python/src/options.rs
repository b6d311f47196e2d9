//! Options: read by name from any object that has the attributes of the stub's protocols.

use std::path::PathBuf;
use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use whimbrel_protocol::session::QueueRules;
use whimbrel_protocol::{Limits, Strategy};
use whimbrel_server::transport::proxy::Trusted;
use whimbrel_server::{
    Durability, Flapping, LayerOptions, ListenerKind, ListenerOptions, Options, Readers, StorageOptions, SysOptions,
    TlsOptions, Verify,
};

#[derive(FromPyObject)]
pub(crate) struct OptionsInput {
    node_name: String,
    workers: u16,
    listeners: Vec<ListenerInput>,
    zones: Vec<ZoneInput>,
    question_deadline_ms: u32,
    flapping_max_count: u32,
    flapping_window_ms: u64,
    flapping_ban_ms: u64,
    max_retained_messages: usize,
    max_retained_bytes: usize,
    storage_folder: Option<PathBuf>,
    is_storage_synced: bool,
    is_presence_published: bool,
    #[pyo3(from_py_with = readers)]
    sys_readers: Readers,
}

#[derive(FromPyObject)]
struct TlsInput {
    cert_file: PathBuf,
    key_file: PathBuf,
    ca_file: Option<PathBuf>,
    verify: String,
    crl_file: Option<PathBuf>,
}

#[derive(FromPyObject)]
struct ListenerInput {
    kind: String,
    name: String,
    host: String,
    port: u16,
    path: String,
    zone: usize,
    is_anonymous_allowed: bool,
    connections_max: u32,
    websocket_path: Option<String>,
    tls: Option<TlsInput>,
    trusted_proxies: Option<Vec<String>>,
    max_conn_rate: u32,
}

#[derive(FromPyObject)]
pub(crate) struct ZoneInput {
    max_packet_size_bytes: u32,
    max_clientid_len: u16,
    max_topic_levels: u16,
    max_qos_allowed: u8,
    max_topic_alias: u16,
    max_topic_alias_out: u16,
    max_inflight: u16,
    receive_maximum: u16,
    max_awaiting_rel: u16,
    await_rel_timeout_s: u32,
    retry_interval_ms: u32,
    max_mqueue_len: u32,
    max_mqueue_bytes: u32,
    is_newest_dropped: bool,
    is_qos0_stored: bool,
    topic_priorities: Vec<(String, u16)>,
    default_priority: u16,
    max_subscriptions: u32,
    max_outbox_bytes: u32,
    server_keepalive_s: u16,
    response_information: String,
    force_shutdown_bytes: u32,
    idle_timeout_ms: u32,
    max_publish_rate: u32,
    max_bytes_rate: u32,
    session_expiry_s: u32,
    session_expiry_max_s: u32,
    max_sessions: u32,
    is_retain_available: bool,
    is_wildcard_available: bool,
    is_shared_available: bool,
    is_durable: bool,
    #[pyo3(from_py_with = strategy)]
    share_strategy: Strategy,
}

impl OptionsInput {
    pub(crate) fn convert(self) -> PyResult<Options> {
        let zone_count = self.zones.len();
        if self.workers == 0 || self.workers > 256 {
            return Err(PyValueError::new_err("workers: 1 to 256"));
        }
        let listeners = self.listeners.into_iter().map(|listener| listener.convert(zone_count));
        Ok(Options {
            node_name: self.node_name,
            workers: self.workers,
            listeners: listeners.collect::<PyResult<_>>()?,
            zones: self.zones.into_iter().map(ZoneInput::convert).collect(),
            question_deadline_ms: self.question_deadline_ms,
            flapping: (self.flapping_max_count > 0).then_some(Flapping {
                max_count: self.flapping_max_count,
                window_ms: self.flapping_window_ms,
                ban_ms: self.flapping_ban_ms,
            }),
            retained_messages_max: self.max_retained_messages,
            retained_bytes_max: self.max_retained_bytes,
            storage: self.storage_folder.map(|folder| StorageOptions {
                folder,
                durability: if self.is_storage_synced { Durability::Sync } else { Durability::Os },
            }),
            sys: SysOptions { readers: self.sys_readers, is_presence_published: self.is_presence_published },
        })
    }
}

impl TlsInput {
    fn convert(self) -> PyResult<TlsOptions> {
        let verify = match self.verify.as_str() {
            "none" => Verify::None,
            "optional" => Verify::Optional,
            "required" => Verify::Required,
            other => return Err(PyValueError::new_err(format!("verify: {other:?}"))),
        };
        let TlsInput { cert_file, key_file, ca_file, crl_file, .. } = self;
        Ok(TlsOptions { cert_file, key_file, ca_file, verify, crl_file })
    }
}

fn trusted(texts: &[String]) -> PyResult<Vec<Trusted>> {
    let read = |text: &String| Trusted::parse(text).ok_or_else(|| PyValueError::new_err(format!("proxy {text:?}")));
    texts.iter().map(read).collect()
}

impl ListenerInput {
    fn convert(self, zone_count: usize) -> PyResult<ListenerOptions> {
        if self.zone >= zone_count {
            return Err(PyValueError::new_err(format!("listener {}: zone {} of {zone_count}", self.name, self.zone)));
        }
        let kind = match self.kind.as_str() {
            "tcp" | "tls" | "ws" | "wss" => ListenerKind::Tcp { host: self.host, port: self.port },
            "unix" => ListenerKind::Unix { path: self.path.into() },
            other => return Err(PyValueError::new_err(format!("listener {}: kind {other:?}", self.name))),
        };
        Ok(ListenerOptions {
            kind,
            name: self.name,
            zone: self.zone,
            is_anonymous_allowed: self.is_anonymous_allowed,
            connections_max: self.connections_max,
            layers: LayerOptions {
                websocket_path: self.websocket_path,
                tls: self.tls.map(TlsInput::convert).transpose()?,
                trusted_proxies: self.trusted_proxies.as_deref().map(trusted).transpose()?,
            },
            max_conn_rate: self.max_conn_rate,
        })
    }
}

fn readers(word: &Bound<'_, PyAny>) -> PyResult<Readers> {
    let word: String = word.extract()?;
    let known = Readers::NAMES.map(|(name, _)| name).join(", ");
    Readers::from_name(&word).ok_or_else(|| PyValueError::new_err(format!("sys_readers {word:?}: one of {known}")))
}

fn strategy(word: &Bound<'_, PyAny>) -> PyResult<Strategy> {
    let word: String = word.extract()?;
    let known = Strategy::NAMES.map(|(name, _)| name).join(", ");
    Strategy::from_name(&word).ok_or_else(|| PyValueError::new_err(format!("share_strategy {word:?}: one of {known}")))
}

impl ZoneInput {
    pub(crate) fn convert(self) -> Limits {
        let rules = QueueRules {
            drops_newest: self.is_newest_dropped,
            stores_qos0: self.is_qos0_stored,
            max_bytes: self.force_shutdown_bytes as usize,
            priorities: self.topic_priorities.into_iter().map(|(topic, priority)| (topic.into(), priority)).collect(),
            default_priority: self.default_priority,
        };
        let queue_rules = (rules != QueueRules::default()).then(|| Arc::new(rules));
        Limits {
            max_packet_size_bytes: self.max_packet_size_bytes,
            max_clientid_len: self.max_clientid_len,
            max_topic_levels: self.max_topic_levels,
            max_qos_allowed: self.max_qos_allowed,
            max_topic_alias: self.max_topic_alias,
            max_topic_alias_out: self.max_topic_alias_out,
            max_inflight: self.max_inflight,
            receive_maximum: self.receive_maximum,
            max_awaiting_rel: self.max_awaiting_rel,
            await_rel_timeout_s: self.await_rel_timeout_s,
            retry_interval_ms: self.retry_interval_ms,
            max_mqueue_len: self.max_mqueue_len,
            max_mqueue_bytes: self.max_mqueue_bytes,
            queue_rules,
            max_subscriptions: self.max_subscriptions,
            max_outbox_bytes: self.max_outbox_bytes,
            server_keepalive_s: self.server_keepalive_s,
            response_information: self.response_information.into(),
            force_shutdown_bytes: self.force_shutdown_bytes,
            idle_timeout_ms: self.idle_timeout_ms,
            max_publish_rate: self.max_publish_rate,
            max_bytes_rate: self.max_bytes_rate,
            session_expiry_s: self.session_expiry_s,
            session_expiry_max_s: self.session_expiry_max_s,
            max_sessions: self.max_sessions,
            is_retain_available: self.is_retain_available,
            is_wildcard_available: self.is_wildcard_available,
            is_shared_available: self.is_shared_available,
            is_durable: self.is_durable,
            share_strategy: self.share_strategy,
        }
    }
}
