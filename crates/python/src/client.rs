//! The blocking client of the command line.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use whimbrel_protocol::connection::handshake::Secret;
use whimbrel_protocol::{QoS, Version};
use whimbrel_server::client::{Client as NativeClient, ClientOptions};

use crate::errors;
use crate::message::Message;

#[pyclass(frozen, module = "whimbrel._core")]
pub(crate) struct Client(Mutex<NativeClient>);

/// Between two looks at the interpreter, so that Ctrl-C is heard.
const SIGNAL_CHECK: Duration = Duration::from_millis(100);

#[pymethods]
impl Client {
    #[new]
    #[pyo3(signature = (address, *, client_id="", username=None, password=None, protocol_version=5, keep_alive_s=60, timeout_ms=10_000))]
    fn new(
        py: Python<'_>,
        address: &str,
        client_id: &str,
        username: Option<&str>,
        password: Option<&[u8]>,
        protocol_version: u8,
        keep_alive_s: u16,
        timeout_ms: u64,
    ) -> PyResult<Client> {
        let options = ClientOptions {
            address: address.into(),
            client_id: client_id.into(),
            username: username.map(Into::into),
            password: password.map(|password| Secret(password.into())),
            version: match protocol_version {
                3 => Version::V31,
                4 => Version::V311,
                _ => Version::V5,
            },
            keep_alive_s,
            timeout: Duration::from_millis(timeout_ms),
        };
        let client = py.detach(|| NativeClient::connect(options)).map_err(errors::client)?;
        Ok(Client(Mutex::new(client)))
    }

    #[pyo3(signature = (topic, payload, *, qos=0, retain=false))]
    fn publish(&self, py: Python<'_>, topic: &str, payload: &[u8], qos: u8, retain: bool) -> PyResult<()> {
        let qos = quality(qos)?;
        self.run(py, |client| client.publish(topic, payload, qos, retain))
    }

    #[pyo3(signature = (filters, *, qos=0))]
    fn subscribe(&self, py: Python<'_>, filters: Vec<String>, qos: u8) -> PyResult<Vec<u8>> {
        let qos = quality(qos)?;
        self.run(py, |client| client.subscribe(&filters, qos))
    }

    fn receive(&self, py: Python<'_>, timeout_ms: u64) -> PyResult<Option<Message>> {
        let end = Instant::now() + Duration::from_millis(timeout_ms);
        loop {
            let wait = end.saturating_duration_since(Instant::now()).min(SIGNAL_CHECK);
            if let Some(message) = self.run(py, |client| client.receive(wait))? {
                return Ok(Some(Message(message)));
            }
            py.check_signals()?;
            if Instant::now() >= end {
                return Ok(None);
            }
        }
    }

    fn disconnect(&self, py: Python<'_>) -> PyResult<()> {
        self.run(py, NativeClient::disconnect)
    }
}

impl Client {
    fn run<T: Send>(
        &self,
        py: Python<'_>,
        call: impl Send + FnOnce(&mut NativeClient) -> Result<T, whimbrel_server::client::ClientError>,
    ) -> PyResult<T> {
        py.detach(|| call(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))).map_err(errors::client)
    }
}

fn quality(qos: u8) -> PyResult<QoS> {
    QoS::from_bits(qos).ok_or_else(|| pyo3::exceptions::PyValueError::new_err("qos: 0, 1 or 2"))
}
