//! The load generator on a thread of its own.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pyo3::exceptions::{PyConnectionError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use whimbrel_bench::{
    ConnectOptions, FillOptions, FlowOptions, Live, Measure, Options, Outcome, Pattern, Report, Scenario,
    SubscribeOptions, TlsOptions,
};
use whimbrel_protocol::connection::handshake::Secret;
use whimbrel_protocol::{QoS, Version};

/// How it ended; a panic of the thread is a failure too.
type End = Option<Outcome<Report>>;

#[derive(Default)]
struct Shared {
    live: Live,
    end: Mutex<End>,
    ended: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, End> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(FromPyObject)]
struct LoadInput {
    scenario: String,
    host: String,
    port: u16,
    unix: Option<PathBuf>,
    tls: bool,
    websocket: Option<String>,
    ca_file: Option<PathBuf>,
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    sources: Vec<String>,
    protocol_version: u8,
    username: Option<String>,
    password: Option<Vec<u8>>,
    client_prefix: String,
    broker_pid: Option<u32>,
    run: u32,
    patience_s: f64,
    clients: usize,
    subscribers: usize,
    qos: u8,
    subscriber_qos: u8,
    lasting: bool,
    retain: bool,
    payload_bytes: usize,
    window: usize,
    rate: f64,
    warm_s: f64,
    duration_s: f64,
    count: Option<u64>,
    topic: String,
    concurrency: usize,
    hold_s: f64,
    pings: usize,
    subscriptions: usize,
    batch: usize,
    filters: Vec<String>,
    flow_s: f64,
}

impl LoadInput {
    fn convert(self) -> PyResult<Options> {
        let source = |text: &String| text.parse::<IpAddr>();
        let sources = self.sources.iter().map(source).collect::<Result<_, _>>();
        Ok(Options {
            sources: sources.map_err(|error| PyValueError::new_err(format!("sources: {error}")))?,
            scenario: self.scenario()?,
            tls: self.tls()?,
            websocket: self.websocket,
            host: self.host,
            port: self.port,
            unix: self.unix,
            version: match self.protocol_version {
                3 => Version::V31,
                4 => Version::V311,
                _ => Version::V5,
            },
            username: self.username,
            password: self.password.map(|password| Secret(password.into())),
            client_prefix: self.client_prefix,
            broker_pid: self.broker_pid,
            run: self.run,
            patience: seconds("patience", self.patience_s)?,
        })
    }

    fn tls(&self) -> PyResult<Option<TlsOptions>> {
        let identity = match (&self.cert_file, &self.key_file) {
            (None, None) => None,
            (Some(cert), Some(key)) => Some((cert.clone(), key.clone())),
            _ => return Err(PyValueError::new_err("cert_file and key_file: both or none")),
        };
        Ok(self.tls.then(|| TlsOptions { ca_file: self.ca_file.clone(), identity }))
    }

    fn scenario(&self) -> PyResult<Scenario> {
        Ok(match self.scenario.as_str() {
            "connect" => Scenario::Connect(ConnectOptions {
                clients: self.clients,
                concurrency: self.concurrency,
                rate: self.rate,
                hold: seconds("hold", self.hold_s)?,
                pings: self.pings,
            }),
            "subscribe" => Scenario::Subscribe(SubscribeOptions {
                clients: self.clients,
                subscriptions: self.subscriptions,
                batch: self.batch,
                qos: quality(self.qos)?,
                rate: self.rate,
                hold: seconds("hold", self.hold_s)?,
                filters: self.filters.clone(),
                flow: seconds("flow", self.flow_s)?,
            }),
            "publish" => Scenario::Flow(self.flow(Pattern::Publish)?),
            "pair" => Scenario::Flow(self.flow(Pattern::Pair)?),
            "fanout" => Scenario::Flow(self.flow(Pattern::Fanout)?),
            "fanin" => Scenario::Flow(self.flow(Pattern::Fanin)?),
            "share" => Scenario::Flow(self.flow(Pattern::Share)?),
            "retained" => Scenario::Retained(self.fill()?),
            "offline" => Scenario::Offline(self.fill()?),
            other => {
                let allowed = "connect, subscribe, publish, pair, fanout, fanin, share, retained, offline";
                return Err(PyValueError::new_err(format!("scenario: found {other:?}, allowed is {allowed}")));
            }
        })
    }

    fn flow(&self, pattern: Pattern) -> PyResult<FlowOptions> {
        Ok(FlowOptions {
            pattern,
            publishers: self.clients,
            subscribers: if pattern == Pattern::Pair { self.clients } else { self.subscribers },
            qos: quality(self.qos)?,
            lasting: self.lasting,
            retain: self.retain,
            payload_bytes: self.payload_bytes,
            window: self.window,
            rate: self.rate,
            warm: seconds("warm", self.warm_s)?,
            measure: seconds("duration", self.duration_s)?,
            count: self.count,
            topic: self.topic.clone(),
        })
    }

    fn fill(&self) -> PyResult<FillOptions> {
        Ok(FillOptions {
            messages: self.count.unwrap_or(1),
            receivers: self.subscribers,
            qos: quality(self.qos)?,
            receive_qos: quality(self.subscriber_qos)?,
            payload_bytes: self.payload_bytes,
            window: self.window,
        })
    }
}

#[pyclass(frozen, module = "whimbrel._core")]
pub(crate) struct LoadRun(Arc<Shared>);

#[pymethods]
impl LoadRun {
    #[new]
    fn new(options: LoadInput) -> PyResult<LoadRun> {
        let options = options.convert()?;
        let shared = Arc::new(Shared::default());
        let guard = Guard(Arc::clone(&shared));
        let start = move || {
            let end = whimbrel_bench::run(&options, &guard.0.live);
            *guard.0.lock() = Some(end);
        };
        std::thread::Builder::new().name("whimbrel-bench".to_owned()).spawn(start)?;
        Ok(LoadRun(shared))
    }

    fn wait(&self, py: Python<'_>, timeout_ms: u64) -> bool {
        py.detach(|| {
            let is_running = |end: &mut End| end.is_none();
            let timeout = Duration::from_millis(timeout_ms);
            let waited = self.0.ended.wait_timeout_while(self.0.lock(), timeout, is_running);
            waited.unwrap_or_else(PoisonError::into_inner).0.is_some()
        })
    }

    fn progress<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let now = self.0.live.snapshot();
        let progress = PyDict::new(py);
        progress.set_item("phase", self.0.live.phase().name())?;
        progress.set_item("connected", now.connected)?;
        progress.set_item("sent", now.sent)?;
        progress.set_item("acknowledged", now.acknowledged)?;
        progress.set_item("delivered", now.delivered)?;
        progress.set_item("latency_p50_us", now.p50_ns as f64 / 1e3)?;
        progress.set_item("latency_p99_us", now.p99_ns as f64 / 1e3)?;
        Ok(progress)
    }

    fn stop(&self) {
        self.0.live.stop();
    }

    fn result<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        match &*self.0.lock() {
            None => Ok(None),
            Some(Ok(report)) => measures(py, report).map(Some),
            Some(Err(failure)) if failure.is_mistake => Err(PyValueError::new_err(failure.sentence.clone())),
            Some(Err(failure)) => Err(PyConnectionError::new_err(failure.sentence.clone())),
        }
    }
}

impl Drop for LoadRun {
    fn drop(&mut self) {
        // Nobody will ask for the report: neither send nor wait.
        self.0.live.stop();
        self.0.live.stop();
    }
}

/// Wakes who waits for the end, also where the thread panicked before it.
struct Guard(Arc<Shared>);

impl Drop for Guard {
    fn drop(&mut self) {
        let unfinished = || Err("the load generator has failed; what it said stands above".to_owned().into());
        self.0.lock().get_or_insert_with(unfinished);
        self.0.ended.notify_all();
    }
}

fn measures<'py>(py: Python<'py>, report: &Report) -> PyResult<Bound<'py, PyDict>> {
    let found = PyDict::new(py);
    for (name, measure) in report.measures() {
        match measure {
            Measure::Count(count) => found.set_item(name, count)?,
            Measure::Value(value) => found.set_item(name, value)?,
            Measure::Text(text) => found.set_item(name, text)?,
        }
    }
    Ok(found)
}

fn seconds(name: &str, value: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(value).map_err(|_| PyValueError::new_err(format!("{name}: found {value} seconds")))
}

fn quality(qos: u8) -> PyResult<QoS> {
    QoS::from_bits(qos).ok_or_else(|| PyValueError::new_err("qos: 0, 1 or 2"))
}
