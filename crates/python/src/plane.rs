//! The data plane as one object; every method is one call on the broker.

use std::collections::HashMap;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use whimbrel_protocol::connection::handshake::Secret;
use whimbrel_protocol::message::{Origin, Publication};
use whimbrel_protocol::properties::{Properties, Value, id, put_property};
use whimbrel_protocol::{Limits, Message, QoS, ReasonCode, Topic};
use whimbrel_server::clock::steady_ms;
use whimbrel_server::rows::{self, RowChange};
use whimbrel_server::{Answer, Backlog, Broker, Interest};

use crate::errors;
use crate::events;
use crate::options::{OptionsInput, ZoneInput};

/// Name, value and the value before of a row.
type RowInput = (Vec<u8>, Option<Vec<u8>>, Option<Vec<u8>>);

#[pyclass(frozen, module = "whimbrel._core")]
pub(crate) struct DataPlane(Broker);

#[pymethods]
impl DataPlane {
    #[new]
    fn new(py: Python<'_>, options: OptionsInput) -> PyResult<DataPlane> {
        let options = options.convert()?;
        py.detach(|| Broker::start(&options)).map(DataPlane).map_err(errors::start)
    }

    fn open(&self) {
        self.0.open();
    }

    fn reload_certificates(&self, py: Python<'_>) -> PyResult<usize> {
        py.detach(|| self.0.reload_certificates()).map_err(errors::certificates)
    }

    #[getter]
    fn wake_fd(&self) -> i32 {
        self.0.wake_fd().as_raw_fd()
    }

    fn listeners(&self) -> Vec<(&'static str, String, String)> {
        self.0.listeners()
    }

    fn drain(&self, py: Python<'_>) -> PyResult<Vec<Py<PyAny>>> {
        self.0.drain().into_iter().map(|event| events::to_python(py, event)).collect()
    }

    #[pyo3(signature = (*, authenticate, authorize, connected, disconnected, enhanced_authenticate=false))]
    fn set_interest(
        &self,
        authenticate: bool,
        authorize: bool,
        connected: bool,
        disconnected: bool,
        enhanced_authenticate: bool,
    ) {
        let bits = [
            (authenticate, Interest::AUTHENTICATE),
            (authorize, Interest::AUTHORIZE),
            (connected, Interest::CONNECTED),
            (disconnected, Interest::DISCONNECTED),
            (enhanced_authenticate, Interest::ENHANCED_AUTHENTICATE),
        ];
        let wanted = bits.iter().filter(|(wanted, _)| *wanted);
        self.0.set_interest(Interest(wanted.fold(0, |bits, (_, bit)| bits | bit.0)));
    }

    fn reload(&self, zones: Vec<ZoneInput>, question_deadline_ms: u32) {
        let zones: Vec<Limits> = zones.into_iter().map(ZoneInput::convert).collect();
        self.0.reload(&zones, question_deadline_ms);
    }

    #[pyo3(signature = (ticket, reason_code, is_superuser, text = "", is_anonymous = false))]
    fn answer_authenticate(&self, ticket: u64, reason_code: u8, is_superuser: bool, text: &str, is_anonymous: bool) {
        match (reason_code, is_anonymous) {
            (0, true) => self.0.admit_anonymous(ticket),
            _ => self.0.answer_authenticate(ticket, answer(reason_code, text), is_superuser),
        }
    }

    #[pyo3(signature = (ticket, reason_code, auth_data, is_superuser, text = ""))]
    fn answer_enhanced(
        &self,
        ticket: u64,
        reason_code: u8,
        auth_data: Option<&[u8]>,
        is_superuser: bool,
        text: &str,
    ) -> PyResult<()> {
        if auth_data.is_some_and(|bytes| bytes.len() > 65_535) {
            return Err(PyValueError::new_err("auth_data: at most 65,535 bytes"));
        }
        let auth_data = auth_data.map(|bytes| Secret(bytes.into()));
        self.0.answer_enhanced(ticket, answer(reason_code, text), auth_data, is_superuser);
        Ok(())
    }

    #[pyo3(signature = (ticket, reason_codes, texts = Vec::new()))]
    fn answer_authorize(&self, ticket: u64, reason_codes: Vec<u8>, texts: Vec<String>) {
        let texts = texts.iter().map(String::as_str).chain(std::iter::repeat(""));
        let answers = reason_codes.into_iter().zip(texts).map(|(reason_code, text)| answer(reason_code, text));
        self.0.answer_authorize(ticket, answers.collect());
    }

    #[pyo3(signature = (ticket, topic, payload, *, qos, retain, user_properties = Vec::new()))]
    fn publish(
        &self,
        ticket: u64,
        topic: &str,
        payload: &[u8],
        qos: u8,
        retain: bool,
        user_properties: Vec<(String, String)>,
    ) -> PyResult<()> {
        let qos = QoS::from_bits(qos).ok_or_else(|| PyValueError::new_err("qos: 0, 1 or 2"))?;
        let topic = Topic::new(topic).map_err(errors::violation)?;
        let properties = user_section(&user_properties)?;
        let properties = Properties::trusted(&properties);
        let publication = Publication { topic, properties, expiry_s: None, payload };
        let origin = Origin { client_id: Arc::from(""), received_ms: steady_ms() };
        self.0.publish(ticket, Arc::new(Message::new(&publication, qos, retain, origin)));
        Ok(())
    }

    fn open_tap(&self, filters: Vec<String>, capacity: usize) -> PyResult<u32> {
        self.0.open_tap(filters, capacity).map_err(errors::violation)
    }

    fn close_tap(&self, tap: u32) {
        self.0.close_tap(tap);
    }

    fn request_clients(&self, ticket: u64, cursor: u64, limit: usize) -> PyResult<()> {
        if limit == 0 || limit > 10_000 {
            return Err(PyValueError::new_err("limit: 1 to 10,000"));
        }
        self.0.request_clients(ticket, cursor, limit);
        Ok(())
    }

    fn request_congested(&self, ticket: u64, cursor: u64, bytes: usize, messages: usize, limit: usize) -> PyResult<()> {
        if limit == 0 || limit > 10_000 {
            return Err(PyValueError::new_err("limit: 1 to 10,000"));
        }
        self.0.request_congested(ticket, cursor, Backlog { bytes, messages }, limit);
        Ok(())
    }

    fn kick(&self, ticket: u64, client_id: &str) {
        self.0.kick(ticket, client_id);
    }

    fn take_rows<'py>(&self, py: Python<'py>) -> Vec<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)> {
        let rows = self.0.take_rows();
        rows.iter().map(|(name, value)| (PyBytes::new(py, name), PyBytes::new(py, value))).collect()
    }

    fn change_rows(&self, ticket: u64, seen: u64, changes: Vec<RowInput>) -> PyResult<()> {
        let change = |(name, value, before): RowInput| RowChange {
            name: name.into(),
            value: value.map(Into::into),
            before: before.map(Into::into),
        };
        let changes: Vec<RowChange> = changes.into_iter().map(change).collect();
        let size_bytes: usize = changes.iter().map(RowChange::size_bytes).sum();
        if size_bytes > rows::CHANGE_MAX {
            return Err(PyValueError::new_err(format!(
                "a change has {size_bytes} bytes; it may have {}",
                rows::CHANGE_MAX
            )));
        }
        if let Some(change) = changes.iter().find(|change| rows::split_name(&change.name).is_none()) {
            let name = String::from_utf8_lossy(&change.name);
            return Err(PyValueError::new_err(format!("a row is called {name:?}; it is family/key, in UTF-8")));
        }
        self.0.change_rows(ticket, seen, changes);
        Ok(())
    }

    fn request_audit(&self, ticket: u64) {
        self.0.request_audit(ticket);
    }

    fn is_watched(&self, prefix: &str) -> bool {
        self.0.is_watched(prefix)
    }

    fn counters(&self) -> HashMap<&'static str, u64> {
        self.0.counters().into_iter().collect()
    }

    fn metrics(&self) -> HashMap<&'static str, u64> {
        self.0.metrics().into_iter().collect()
    }

    fn stats(&self) -> HashMap<&'static str, u64> {
        self.0.stats().into_iter().collect()
    }

    fn backup(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        py.detach(|| self.0.backup(&path)).map_err(errors::storage)
    }

    fn stop(&self, grace_ms: u64) {
        self.0.stop(grace_ms);
    }

    fn join(&self, py: Python<'_>) {
        py.detach(|| self.0.join());
    }
}

fn answer(reason_code: u8, text: &str) -> Answer {
    Answer::in_words(ReasonCode(reason_code), text)
}

fn user_section(properties: &[(String, String)]) -> PyResult<Vec<u8>> {
    let mut section = Vec::new();
    for (name, value) in properties {
        if name.len() > 65_535 || value.len() > 65_535 || name.contains('\0') || value.contains('\0') {
            return Err(PyValueError::new_err("user property: at most 65,535 bytes each, no U+0000"));
        }
        put_property(&mut section, id::USER_PROPERTY, Value::Pair(name, value));
    }
    Ok(section)
}
