//! What can go wrong with a store, in sentences that say how to mend it.
//!
//! Knows the kinds of failure. Must not know who reports them.

use std::fmt;
use std::io::ErrorKind;

/// Why an operation of a store failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failure {
    /// The files cannot be used: where, and what the system said.
    Disk(String),
    /// The engine refused.
    Engine(String),
    /// The engine's own pages are damaged.
    Damaged(String),
    /// Written by a later version of this program.
    NewerFormat {
        /// Found in the files.
        found: u64,
        /// The newest that this program knows.
        known: u64,
    },
    /// Another process has the store open.
    InUse(String),
    /// All lanes are given away.
    NoLane,
    /// The store is closed.
    Closed,
    /// Bytes that are no record: what was expected.
    Malformed(&'static str),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Disk(what) => write!(f, "the store cannot use its files: {what}"),
            Failure::Engine(what) => write!(f, "the store's engine failed: {what}"),
            Failure::Damaged(what) => write!(f, "the store's engine finds its pages damaged: {what}"),
            Failure::NewerFormat { found, known } => write!(
                f,
                "the store has format {found}, this program knows formats up to {known}: start the newer version that \
                 wrote it, or restore a backup of format {known} or older"
            ),
            Failure::InUse(path) => write!(f, "{path} is in use by another process: stop that broker first"),
            Failure::NoLane => write!(f, "the store has 255 lanes and all are given away: start fewer workers"),
            Failure::Closed => write!(f, "the store is closed"),
            Failure::Malformed(expected) => write!(f, "damaged bytes: expected {expected}"),
        }
    }
}

impl std::error::Error for Failure {}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure::Disk(error.to_string())
    }
}

impl From<redb::Error> for Failure {
    fn from(error: redb::Error) -> Failure {
        match error {
            redb::Error::Io(error) if matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) => {
                Failure::Damaged(error.to_string())
            }
            redb::Error::Io(error) => Failure::Disk(error.to_string()),
            redb::Error::Corrupted(what) => Failure::Damaged(what),
            error => Failure::Engine(error.to_string()),
        }
    }
}
