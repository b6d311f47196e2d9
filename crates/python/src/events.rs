//! Events to records, one function for each kind.

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use whimbrel_server::audit::Line;
use whimbrel_server::event::{self, Action, Event};

use crate::message::Message;
use crate::records;

pub(crate) fn to_python(py: Python<'_>, event: Event) -> PyResult<Py<PyAny>> {
    match event {
        Event::Authenticate(question) => object(py, authenticate(py, *question)),
        Event::EnhancedAuthenticate(question) => object(py, enhanced_authenticate(py, *question)),
        Event::Authorize(question) => object(py, authorize(*question)),
        Event::Connected(notice) => object(py, connected(*notice)),
        Event::Disconnected(notice) => object(py, disconnected(*notice)),
        Event::TapBatch { tap, messages, dropped } => {
            let messages = messages.into_iter().map(|message| Py::new(py, Message(message)));
            object(py, records::TapBatch { tap, messages: messages.collect::<PyResult<_>>()?, dropped })
        }
        Event::ClientPage { ticket, records: found, next_cursor } => {
            let records = found.into_iter().map(|record| Py::new(py, client(record)));
            object(py, records::ClientPage { ticket, records: records.collect::<PyResult<_>>()?, next_cursor })
        }
        Event::Audited { ticket, audit } => {
            let line = |line: Line| {
                let missing = line.missing();
                (line.name, line.came, line.became, missing)
            };
            let lines = audit.lines().into_iter().map(line).collect();
            object(py, records::Audited { ticket, lines, on_the_way: audit.on_the_way() })
        }
        Event::Kicked { ticket, found } => object(py, records::Kicked { ticket, found }),
        Event::Published { ticket, receivers } => object(py, records::Published { ticket, receivers }),
        Event::Refused { ticket, text } => object(py, records::Refused { ticket, text: text.to_owned() }),
        Event::RowsChanged { ticket, refusal } => object(py, records::RowsChanged { ticket, refusal }),
        Event::StoreTurned { refusal, timestamp_ms } => object(py, records::StoreTurned { refusal, timestamp_ms }),
        Event::Log { level, text } => object(py, records::LogLine { level, text }),
        Event::Stopped => object(py, records::Stopped {}),
    }
}

fn object<T: pyo3::PyClass<Frozen = pyo3::pyclass::boolean_struct::True> + Into<PyClassInitializer<T>>>(
    py: Python<'_>,
    record: T,
) -> PyResult<Py<PyAny>> {
    Py::new(py, record).map(Py::into_any)
}

fn authenticate(py: Python<'_>, question: event::Authenticate) -> records::Authenticate {
    records::Authenticate {
        ticket: question.ticket,
        client_id: question.client_id.as_ref().into(),
        username: question.username.map(String::from),
        password: question.password.map(|password| PyBytes::new(py, &password.0).unbind()),
        peer: question.peer,
        listener: question.listener,
        protocol_version: question.protocol_version,
        keep_alive_s: question.keep_alive_s,
        clean_start: question.clean_start,
        is_anonymous_allowed: question.is_anonymous_allowed,
    }
}

fn enhanced_authenticate(py: Python<'_>, question: event::EnhancedAuthenticate) -> records::EnhancedAuthenticate {
    records::EnhancedAuthenticate {
        ticket: question.ticket,
        exchange: question.exchange,
        step: question.step,
        is_reauthentication: question.is_reauthentication,
        method: question.method.into(),
        auth_data: question.auth_data.map(|bytes| PyBytes::new(py, &bytes.0).unbind()),
        client_id: question.client_id.as_ref().into(),
        username: question.username.map(String::from),
        password: question.password.map(|password| PyBytes::new(py, &password.0).unbind()),
        peer: question.peer,
        listener: question.listener,
    }
}

fn authorize(question: event::Authorize) -> records::Authorize {
    records::Authorize {
        ticket: question.ticket,
        client_id: question.client_id.as_ref().into(),
        username: question.username.map(String::from),
        peer: question.peer,
        action: match question.action {
            Action::Publish => "publish",
            Action::Subscribe => "subscribe",
        },
        topics: question.topics.into_iter().map(String::from).collect(),
        qos: question.qos,
        retain: question.retain,
    }
}

fn connected(notice: event::Connected) -> records::Connected {
    records::Connected {
        client_id: notice.client_id.as_ref().into(),
        username: notice.username.map(String::from),
        peer: notice.peer,
        listener: notice.listener,
        protocol_version: notice.protocol_version,
        keep_alive_s: notice.keep_alive_s,
        clean_start: notice.clean_start,
        session_present: notice.session_present,
        timestamp_ms: notice.timestamp_ms,
    }
}

fn disconnected(notice: event::Disconnected) -> records::Disconnected {
    records::Disconnected {
        client_id: notice.client_id.as_ref().into(),
        username: notice.username.map(String::from),
        peer: notice.peer,
        reason: notice.reason,
        reason_code: notice.reason_code,
        text: notice.text.into(),
        timestamp_ms: notice.timestamp_ms,
    }
}

fn client(record: event::ClientRecord) -> records::ClientRecord {
    records::ClientRecord {
        client_id: record.client_id.as_ref().into(),
        username: record.username.map(String::from),
        peer: record.peer,
        listener: record.listener,
        protocol_version: record.protocol_version,
        is_connected: record.is_connected,
        clean_start: record.clean_start,
        keep_alive_s: record.keep_alive_s,
        session_expiry_s: record.session_expiry_s,
        connected_at_ms: record.connected_at_ms,
        disconnected_at_ms: record.disconnected_at_ms,
        subscriptions: record.subscriptions,
        inflight: record.inflight,
        mqueue_len: record.mqueue_len,
        outbox_bytes: record.outbox_bytes,
        worker: record.worker,
    }
}
