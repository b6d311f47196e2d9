//! A message in Python: a handle on the shared native one; each attribute is converted when it is read.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use whimbrel_protocol::Message as NativeMessage;
use whimbrel_protocol::properties::{Value, id};
use whimbrel_server::clock::unix_of;

#[pyclass(frozen, module = "whimbrel._core")]
pub(crate) struct Message(pub(crate) Arc<NativeMessage>);

#[pymethods]
impl Message {
    #[getter]
    fn topic(&self) -> &str {
        self.0.topic().as_str()
    }

    #[getter]
    fn payload<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.payload())
    }

    #[getter]
    fn size_bytes(&self) -> usize {
        self.0.size_bytes()
    }

    #[getter]
    fn qos(&self) -> u8 {
        self.0.qos as u8
    }

    #[getter]
    fn retain(&self) -> bool {
        self.0.retain
    }

    #[getter]
    fn client_id(&self) -> &str {
        &self.0.origin.client_id
    }

    #[getter]
    fn timestamp_ms(&self) -> u64 {
        unix_of(self.0.origin.received_ms)
    }

    #[getter]
    fn user_properties(&self) -> Vec<(&str, &str)> {
        self.0.user_properties().collect()
    }

    #[getter]
    fn content_type(&self) -> Option<&str> {
        self.0.properties().text(id::CONTENT_TYPE)
    }

    #[getter]
    fn response_topic(&self) -> Option<&str> {
        self.0.properties().text(id::RESPONSE_TOPIC)
    }

    #[getter]
    fn correlation_data<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        match self.0.properties().first(id::CORRELATION_DATA)? {
            Value::Binary(bytes) => Some(PyBytes::new(py, bytes)),
            _ => None,
        }
    }

    fn __repr__(&self) -> String {
        let (topic, payload) = (self.0.topic(), self.0.payload());
        format!("Message(topic={:?}, payload={} bytes, qos={})", topic.as_str(), payload.len(), self.0.qos as u8)
    }
}
