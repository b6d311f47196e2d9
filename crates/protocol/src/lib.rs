//! MQTT without I/O: bytes and time in, decisions out.
//!
//! Knows the MQTT 3.1, 3.1.1 and 5.0 specifications. Must not know sockets, clocks, threads, routing tables or Python: `now`
//! is always an argument, bytes come as slices and leave in buffers that the caller owns. The server's workers, the
//! command line's client, tests and fuzzers drive it.
//!
//! Two machines with two lifetimes: [`connection::Connection`] dies with the socket (framing, version, limits, aliases,
//! keep-alive), [`session::Session`] outlives it (windows, queue, QoS 2 memory, subscriptions, will).

pub mod connection;
pub mod decode;
pub mod encode;
pub mod limits;
pub mod message;
pub mod packet;
pub mod primitives;
pub mod properties;
pub mod reason;
pub mod session;
pub mod topic;
pub mod violation;

pub use limits::Limits;
pub use message::Message;
pub use packet::{Packet, QoS, Version};
pub use reason::ReasonCode;
pub use topic::{Filter, Topic};
pub use violation::Violation;
