//! The binding `whimbrel._core`: a table of contents.
//!
//! Knows how values cross between Python and Rust. Decides nothing: if a piece of this crate needed a unit test of its
//! own, it would belong into another one. `python/whimbrel/_core.pyi` is the contract.

#![allow(clippy::too_many_arguments, reason = "they are keyword-only on the Python side")]

mod client;
mod errors;
mod events;
mod load;
mod message;
mod options;
mod plane;
mod records;
mod store;

use pyo3::prelude::*;

#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("ListenError", module.py().get_type::<errors::ListenError>())?;
    module.add("CertificateError", module.py().get_type::<errors::CertificateError>())?;
    module.add("METRICS", whimbrel_server::meanings::METRICS.to_vec())?;
    module.add("STATS", whimbrel_server::meanings::STATS.to_vec())?;
    module.add("StorageError", module.py().get_type::<errors::StorageError>())?;
    module.add_class::<plane::DataPlane>()?;
    module.add_class::<client::Client>()?;
    module.add_class::<load::LoadRun>()?;
    module.add_class::<store::StoreImport>()?;
    module.add_function(wrap_pyfunction!(store::store_export, module)?)?;
    module.add_function(wrap_pyfunction!(store::store_survey, module)?)?;
    module.add_class::<message::Message>()?;
    module.add_class::<records::Authenticate>()?;
    module.add_class::<records::EnhancedAuthenticate>()?;
    module.add_class::<records::Authorize>()?;
    module.add_class::<records::Connected>()?;
    module.add_class::<records::Disconnected>()?;
    module.add_class::<records::ClientRecord>()?;
    module.add_class::<records::TapBatch>()?;
    module.add_class::<records::ClientPage>()?;
    module.add_class::<records::Audited>()?;
    module.add_class::<records::Kicked>()?;
    module.add_class::<records::Published>()?;
    module.add_class::<records::Refused>()?;
    module.add_class::<records::RowsChanged>()?;
    module.add_class::<records::StoreTurned>()?;
    module.add_class::<records::LogLine>()?;
    module.add_class::<records::Stopped>()
}
