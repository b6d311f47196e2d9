//! The data plane: listeners, workers, sessions, delivery. The only crate that touches the network.
//!
//! Knows sockets, threads and time, and drives the machines of `whimbrel-protocol` with them. Must not know Python: what
//! leaves is a batch of [`event::Event`]s in the [`outlet::Outlet`], what comes in is a call on [`broker::Broker`].

pub mod answer;
pub mod audit;
pub mod broker;
pub mod client;
pub mod clock;
mod durable;
pub mod event;
mod flapping;
mod gate;
mod gauges;
pub mod ledger;
mod listener;
mod mailbox;
pub mod meanings;
pub mod options;
pub mod outlet;
mod pace;
mod placement;
pub mod rows;
mod shared;
#[cfg(feature = "simulation")]
pub mod simulation;
mod socket;
pub mod sys;
pub mod tap;
mod timers;
pub mod transfer;
pub mod transport;
mod worker;

pub use answer::Answer;
pub use broker::{Broker, StartError};
pub use event::Event;
pub use mailbox::Backlog;
pub use options::{
    Durability, Flapping, LayerOptions, ListenerKind, ListenerOptions, Options, StorageOptions, TlsOptions, Verify,
};
pub use shared::Interest;
pub use sys::{Readers, SysOptions};
