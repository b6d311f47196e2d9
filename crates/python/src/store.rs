//! A store that no broker holds, row by row: dictionaries out, dictionaries in.

use std::collections::BTreeMap;
use std::path::PathBuf;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use whimbrel_server::transfer::{self, Failure, Importer, Row, Survey};

use crate::errors;

/// Rows that cross at once.
const BATCH: usize = 512;

/// A structure that is a dictionary in Python, with the fields of one of the data plane's.
macro_rules! row {
    ($name:ident { $($field:ident: $type:ty),* $(,)? }) => {
        #[derive(FromPyObject, IntoPyObject)]
        #[pyo3(from_item_all)]
        struct $name {
            $($field: $type,)*
        }

        impl From<transfer::$name> for $name {
            fn from(row: transfer::$name) -> $name {
                $name { $($field: row.$field,)* }
            }
        }

        impl From<$name> for transfer::$name {
            fn from(row: $name) -> transfer::$name {
                transfer::$name { $($field: row.$field,)* }
            }
        }
    };
}

row!(SubscriptionRow {
    session: u32,
    filter: String,
    qos: u8,
    no_local: bool,
    retain_as_published: bool,
    retain_handling: u8,
    identifier: u32,
    more: Vec<u8>,
});
row!(ControlRow { family: String, key: String, value: String });
row!(KeyedRow { space: u8, key: Vec<u8>, value: Vec<u8>, });
row!(ReceiverRow { session: u64, qos: u8, retain: bool, group: u32, identifiers: Vec<u32>, });
row!(MessageRow {
    client_id: String,
    received_ms: u64,
    qos: u8,
    retain: bool,
    expiry_s: Option<u32>,
    topic: String,
    properties: Vec<u8>,
    payload: Vec<u8>,
});

#[derive(FromPyObject, IntoPyObject)]
#[pyo3(from_item_all)]
struct SessionRow {
    client_id: String,
    number: u32,
    expiry_s: u32,
    disconnected_ms: u64,
    username: Option<String>,
    will: Option<MessageRow>,
    will_delay_s: Option<u32>,
}

#[derive(FromPyObject, IntoPyObject)]
#[pyo3(from_item_all)]
struct RecordRow {
    receivers: Vec<ReceiverRow>,
    message: MessageRow,
}

#[derive(FromPyObject, IntoPyObject)]
#[pyo3(from_item_all)]
struct ExchangeRow {
    state: String,
    session: u64,
    packet_id: u16,
    message: Option<u64>,
    receiver: Option<u32>,
}

#[derive(FromPyObject, IntoPyObject)]
#[pyo3(from_item_all)]
struct RawRow {
    kind: u8,
    receivers: Vec<ReceiverRow>,
    body: Vec<u8>,
}

/// The word that stands for a row's type, and its fields.
fn to_python<'py>(py: Python<'py>, row: Row) -> PyResult<(&'static str, Bound<'py, PyAny>)> {
    let record = |row: transfer::RecordRow| RecordRow { receivers: all(row.receivers), message: row.message.into() };
    Ok(match row {
        Row::Session(row) => ("session", session(row).into_pyobject(py)?.into_any()),
        Row::Subscription(row) => ("subscription", SubscriptionRow::from(row).into_pyobject(py)?.into_any()),
        Row::Control(row) => ("control", ControlRow::from(row).into_pyobject(py)?.into_any()),
        Row::Keyed(row) => ("keyed", KeyedRow::from(row).into_pyobject(py)?.into_any()),
        Row::Message(row) => ("message", record(row).into_pyobject(py)?.into_any()),
        Row::Retained(row) => ("retained", record(row).into_pyobject(py)?.into_any()),
        Row::Exchange(row) => ("exchange", exchange(&row).into_pyobject(py)?.into_any()),
        Row::Raw(row) => {
            let row = RawRow { kind: row.kind, receivers: all(row.receivers), body: row.body };
            ("raw", row.into_pyobject(py)?.into_any())
        }
    })
}

fn session(row: transfer::SessionRow) -> SessionRow {
    let (will, will_delay_s) = row.will.unzip();
    SessionRow {
        client_id: row.client_id,
        number: row.number,
        expiry_s: row.expiry_s,
        disconnected_ms: row.disconnected_ms,
        username: row.username,
        will: will.map(MessageRow::from),
        will_delay_s,
    }
}

fn exchange(row: &transfer::ExchangeRow) -> ExchangeRow {
    let (message, receiver) = row.message.unzip();
    ExchangeRow { state: row.state.to_owned(), session: row.session, packet_id: row.packet_id, message, receiver }
}

fn all<A, B: From<A>>(rows: Vec<A>) -> Vec<B> {
    rows.into_iter().map(B::from).collect()
}

fn from_python(kind: &str, fields: &Bound<'_, PyAny>) -> PyResult<Row> {
    Ok(match kind {
        "session" => {
            let row: SessionRow = fields.extract()?;
            Row::Session(transfer::SessionRow {
                client_id: row.client_id,
                number: row.number,
                expiry_s: row.expiry_s,
                disconnected_ms: row.disconnected_ms,
                username: row.username,
                will: row.will.map(Into::into).zip(row.will_delay_s),
            })
        }
        "subscription" => Row::Subscription(fields.extract::<SubscriptionRow>()?.into()),
        "control" => Row::Control(fields.extract::<ControlRow>()?.into()),
        "keyed" => Row::Keyed(fields.extract::<KeyedRow>()?.into()),
        "message" => Row::Message(record(fields)?),
        "retained" => Row::Retained(record(fields)?),
        "exchange" => Row::Exchange(read_exchange(fields.extract()?)?),
        "raw" => {
            let row: RawRow = fields.extract()?;
            Row::Raw(transfer::RawRow { kind: row.kind, receivers: all(row.receivers), body: row.body })
        }
        other => return Err(PyValueError::new_err(format!("there is no row of type {other:?}"))),
    })
}

fn record(fields: &Bound<'_, PyAny>) -> PyResult<transfer::RecordRow> {
    let row: RecordRow = fields.extract()?;
    Ok(transfer::RecordRow { receivers: all(row.receivers), message: row.message.into() })
}

fn read_exchange(row: ExchangeRow) -> PyResult<transfer::ExchangeRow> {
    let states = ["received", "sent", "released"];
    let state = states.into_iter().find(|state| *state == row.state);
    let state = state.ok_or_else(|| PyValueError::new_err(format!("there is no state {:?}", row.state)))?;
    let message = row.message.zip(row.receiver);
    Ok(transfer::ExchangeRow { state, session: row.session, packet_id: row.packet_id, message })
}

fn failed(failure: Failure) -> PyErr {
    errors::storage(failure.to_string())
}

#[pyfunction]
pub(crate) fn store_export(py: Python<'_>, folder: PathBuf, take: Py<PyAny>) -> PyResult<Vec<String>> {
    let mut waiting = Vec::new();
    let mut trouble: PyResult<()> = Ok(());
    let pass_on = |rows: &mut Vec<Row>| -> PyResult<()> {
        Python::attach(|py| {
            let rows = rows.drain(..).map(|row| to_python(py, row)).collect::<PyResult<Vec<_>>>()?;
            take.call1(py, (rows,)).map(drop)
        })
    };
    let damaged = py.detach(|| {
        let damaged = transfer::export(&folder, |row| {
            waiting.push(row);
            if waiting.len() >= BATCH && trouble.is_ok() {
                trouble = pass_on(&mut waiting);
            }
            if trouble.is_err() {
                waiting.clear(); // Nobody takes them any more.
            }
        });
        if trouble.is_ok() {
            trouble = pass_on(&mut waiting);
        }
        damaged
    });
    trouble?;
    damaged.map_err(failed)
}

/// What a survey tells: fields of its own, and of the store's statistics.
macro_rules! survey {
    ($name:ident { $($field:ident: $type:ty),* ; $($figure:ident),* $(,)? }) => {
        #[derive(IntoPyObject)]
        pub(crate) struct $name {
            $($field: $type,)*
            $($figure: u64,)*
        }

        impl From<Survey> for $name {
            fn from(survey: Survey) -> $name {
                $name { $($field: survey.$field,)* $($figure: survey.statistics.$figure,)* }
            }
        }
    };
}

survey!(SurveyOutput {
    damaged: Vec<String>,
    sessions: u64,
    subscriptions: u64,
    messages: u64,
    deliveries: u64,
    retained: u64,
    exchanges: u64,
    families: BTreeMap<String, u64>,
    others: u64,
    unreadable: u64;
    chunks,
    bytes,
    slots,
    live,
});

#[pyfunction]
pub(crate) fn store_survey(py: Python<'_>, folder: PathBuf) -> PyResult<SurveyOutput> {
    py.detach(|| transfer::survey(&folder)).map(SurveyOutput::from).map_err(failed)
}

/// A store that is being filled; gone after `finish`.
#[pyclass(module = "whimbrel._core")]
pub(crate) struct StoreImport(Option<Importer>);

#[pymethods]
impl StoreImport {
    #[new]
    fn new(py: Python<'_>, folder: PathBuf) -> PyResult<StoreImport> {
        py.detach(|| Importer::begin(&folder)).map(|importer| StoreImport(Some(importer))).map_err(failed)
    }

    fn add(&mut self, py: Python<'_>, kind: &str, fields: &Bound<'_, PyAny>) -> PyResult<()> {
        let row = from_python(kind, fields)?;
        let importer = self.0.as_mut().ok_or_else(finished)?;
        py.detach(|| importer.add(&row)).map_err(|failure| match failure {
            Failure::Malformed(_) => PyValueError::new_err(failure.to_string()),
            failure => failed(failure),
        })
    }

    fn finish(&mut self, py: Python<'_>) -> PyResult<()> {
        let importer = self.0.take().ok_or_else(finished)?;
        py.detach(|| importer.finish()).map_err(failed)
    }
}

fn finished() -> PyErr {
    PyValueError::new_err("the import is finished")
}
