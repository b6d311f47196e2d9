//! A store as rows that people and other programs can read, and back: for tools, on a store that no broker holds.
//!
//! Knows what each record means, and that rows name each other by their own numbers, never by the store's slots: those are
//! given anew. What cannot be read, or would not be written again as it is, becomes a row of its bytes, so nothing is left
//! out. Must not know JSON, files of rows, or a running broker.

mod export;
mod import;
mod rows;

pub use export::{Survey, export, survey};
pub use import::Importer;
pub use rows::{
    ControlRow, ExchangeRow, KeyedRow, MessageRow, RawRow, ReceiverRow, RecordRow, Row, SessionRow, SubscriptionRow,
};

use std::path::Path;

pub use whimbrel_storage::Failure;
use whimbrel_storage::{DiskStore, Options, Report};

/// Opens the store as a broker would; what is damaged is set aside and named. Waits for the disk.
fn open(folder: &Path) -> Result<(DiskStore, Report), Failure> {
    whimbrel_storage::open(Options::new(folder))
}
