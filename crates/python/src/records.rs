//! Records: typed, frozen, one class for each kind of event. The fields are the stub's.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::message::Message;

macro_rules! record {
    ($name:ident { $($field:ident: $type:ty),* $(,)? }) => {
        #[pyclass(frozen, get_all, module = "whimbrel._core")]
        pub(crate) struct $name {
            $(pub(crate) $field: $type,)*
        }

        #[pymethods]
        impl $name {
            fn __repr__(&self) -> String {
                concat!("<whimbrel.", stringify!($name), ">").to_owned()
            }
        }
    };
}

record!(Authenticate {
    ticket: u64,
    client_id: String,
    username: Option<String>,
    password: Option<Py<PyBytes>>,
    peer: String,
    listener: String,
    protocol_version: u8,
    keep_alive_s: u16,
    clean_start: bool,
    is_anonymous_allowed: bool,
});

record!(EnhancedAuthenticate {
    ticket: u64,
    exchange: u64,
    step: u32,
    is_reauthentication: bool,
    method: String,
    auth_data: Option<Py<PyBytes>>,
    client_id: String,
    username: Option<String>,
    password: Option<Py<PyBytes>>,
    peer: String,
    listener: String,
});

record!(Authorize {
    ticket: u64,
    client_id: String,
    username: Option<String>,
    peer: String,
    action: &'static str,
    topics: Vec<String>,
    qos: u8,
    retain: bool,
});

record!(Connected {
    client_id: String,
    username: Option<String>,
    peer: String,
    listener: String,
    protocol_version: u8,
    keep_alive_s: u16,
    clean_start: bool,
    session_present: bool,
    timestamp_ms: u64,
});

record!(Disconnected {
    client_id: String,
    username: Option<String>,
    peer: String,
    reason: &'static str,
    reason_code: u8,
    text: String,
    timestamp_ms: u64,
});

record!(ClientRecord {
    client_id: String,
    username: Option<String>,
    peer: String,
    listener: String,
    protocol_version: u8,
    is_connected: bool,
    clean_start: bool,
    keep_alive_s: u16,
    session_expiry_s: u32,
    connected_at_ms: u64,
    disconnected_at_ms: u64,
    subscriptions: usize,
    inflight: usize,
    mqueue_len: usize,
    outbox_bytes: usize,
    worker: u16,
});

record!(TapBatch {
    tap: u32,
    messages: Vec<Py<Message>>,
    dropped: u64,
});

record!(ClientPage {
    ticket: u64,
    records: Vec<Py<ClientRecord>>,
    next_cursor: Option<u64>,
});

/// A named number.
type Part = (&'static str, u64);

record!(Audited {
    ticket: u64,
    lines: Vec<(&'static str, Vec<Part>, Vec<Part>, i64)>,
    on_the_way: i64,
});

record!(Kicked { ticket: u64, found: bool });
record!(Published { ticket: u64, receivers: u64 });
record!(Refused { ticket: u64, text: String });
record!(RowsChanged { ticket: u64, refusal: Option<String> });
record!(StoreTurned { refusal: Option<String>, timestamp_ms: u64 });
record!(LogLine { level: u8, text: String });
record!(Stopped {});
