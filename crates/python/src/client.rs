//! The blocking client of the command line.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use whimbrel_protocol::connection::handshake::Secret;
use whimbrel_protocol::{QoS, Version};
use whimbrel_server::client::{Client as NativeClient, ClientError, ClientOptions};

use crate::errors;
use crate::message::Message;

#[pyclass(frozen, module = "whimbrel._core")]
pub(crate) struct Client(Arc<Mutex<NativeClient>>);

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
        let client = watched(py, move || NativeClient::connect(options))?.map_err(errors::client)?;
        Ok(Client(Arc::new(Mutex::new(client))))
    }

    #[pyo3(signature = (topic, payload, *, qos=0, retain=false))]
    fn publish(&self, py: Python<'_>, topic: &str, payload: &[u8], qos: u8, retain: bool) -> PyResult<()> {
        let qos = quality(qos)?;
        if qos == QoS::AtMostOnce {
            return self.run(py, |client| client.publish(topic, payload, qos, retain));
        }
        let (topic, payload) = (topic.to_owned(), payload.to_owned());
        self.wait(py, move |client| client.publish(&topic, &payload, qos, retain))
    }

    #[pyo3(signature = (filters, *, qos=0))]
    fn subscribe(&self, py: Python<'_>, filters: Vec<String>, qos: u8) -> PyResult<Vec<u8>> {
        let qos = quality(qos)?;
        self.wait(py, move |client| client.subscribe(&filters, qos))
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
        self.wait(py, NativeClient::disconnect)
    }
}

impl Client {
    fn run<T: Send>(
        &self,
        py: Python<'_>,
        call: impl Send + FnOnce(&mut NativeClient) -> Result<T, ClientError>,
    ) -> PyResult<T> {
        py.detach(|| call(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))).map_err(errors::client)
    }

    /// A call that waits for the broker.
    fn wait<T: Send + 'static>(
        &self,
        py: Python<'_>,
        call: impl Send + 'static + FnOnce(&mut NativeClient) -> Result<T, ClientError>,
    ) -> PyResult<T> {
        let client = Arc::clone(&self.0);
        watched(py, move || call(&mut client.lock().unwrap_or_else(PoisonError::into_inner)))?.map_err(errors::client)
    }
}

/// Runs a call on a thread of its own and looks at the interpreter meanwhile. After a signal the thread is left alone; its
/// waits are bounded, and what it finds is thrown away.
fn watched<T: Send + 'static>(py: Python<'_>, call: impl Send + 'static + FnOnce() -> T) -> PyResult<T> {
    let (sender, mut receiver) = channel();
    std::thread::Builder::new().spawn(move || sender.send(call()))?;
    loop {
        let found;
        // It may go to another thread and come back, but not be looked at from two.
        (receiver, found) = py.detach(move || {
            let found = receiver.recv_timeout(SIGNAL_CHECK);
            (receiver, found)
        });
        match found {
            Ok(found) => return Ok(found),
            Err(RecvTimeoutError::Timeout) => py.check_signals()?,
            Err(RecvTimeoutError::Disconnected) => return Err(PyRuntimeError::new_err("the call has failed inside")),
        }
    }
}

fn quality(qos: u8) -> PyResult<QoS> {
    QoS::from_bits(qos).ok_or_else(|| pyo3::exceptions::PyValueError::new_err("qos: 0, 1 or 2"))
}
