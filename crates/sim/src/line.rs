//! One connection of a client, and what the client program remembers between connections.
//!
//! Knows the client's half of MQTT: packet identifiers, what is unacknowledged, which QoS 2 messages it has had. Does not
//! know the broker's half.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use whimbrel_protocol::{ReasonCode, Version};

use crate::sessions::Entry;
use crate::wire::Wire;

/// Where a connection stands, as the broker's notices say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// No CONNACK with success yet.
    Opening,
    /// It holds the session; whether that was there before.
    Entered(bool),
    /// It ended, by this word of the notice.
    Gone(&'static str),
}

/// A DISCONNECT that is on its way.
#[derive(Clone, Copy, Debug)]
pub struct Goodbye {
    /// Whether the will stays.
    pub keeps_will: bool,
    /// Session Expiry Interval; seconds.
    pub expiry_s: Option<u32>,
}

/// A connection.
#[derive(Debug)]
pub struct Line {
    /// Bytes and packets.
    pub wire: Wire,
    /// What CONNECT asked for.
    pub entry: Entry,
    /// Seconds; 0: none.
    pub keep_alive_s: u16,
    /// When the socket was opened, and when CONNACK was decided; milliseconds.
    pub since_ms: u64,
    /// As the broker says.
    pub phase: Phase,
    /// Whether the client has read its CONNACK and may go on.
    pub is_ready: bool,
    /// Whether the client has read a CONNACK that refuses.
    pub is_refused: bool,
    /// Said or about to be said.
    pub goodbye: Option<Goodbye>,
    /// Whether the client closed it behind a goodbye and had read all that had come: the broker has every byte.
    pub is_left_clean: bool,
    /// When its CONNECT was written; steps of the simulation.
    pub since_order: u64,
    /// Whether the operator said that it may enter.
    pub is_admitted: bool,
    /// Whether the operator said no.
    pub is_denied: bool,
    /// When the question about it is too old; milliseconds.
    pub asked_until_ms: Option<u64>,
    /// Whether somebody was asked about what it carries: a question that nobody answers in time is a no.
    pub is_judged: bool,
    /// The reason of the DISCONNECT that came.
    pub told: Option<ReasonCode>,
    /// What the broker may have in flight towards the client.
    pub window: usize,
    /// What the client may have in flight towards the broker.
    pub send_window: usize,
    /// Unacknowledged identifiers of this connection.
    pub open_ids: BTreeSet<u16>,
    /// Places of subscriptions in the session's list, by the identifier that asks for them.
    pub asked: BTreeMap<u16, Vec<usize>>,
    /// The filter that an identifier is about, and whether it is to be there.
    pub wishes: BTreeMap<u16, (&'static str, bool)>,
    /// Numbers of the messages that the client has put into it.
    pub written: Vec<usize>,
    /// Acknowledgements that the client has not got round to: first byte and identifier.
    pub held: VecDeque<(u8, u16)>,
    /// Whether the sockets take little.
    pub is_narrow: bool,
}

impl Line {
    /// Whether the client may publish and subscribe on it.
    pub fn is_usable(&self) -> bool {
        self.is_ready && self.goodbye.is_none() && self.is_alive()
    }

    /// Whether neither side has closed it, as far as the client can see.
    pub fn is_alive(&self) -> bool {
        self.wire.is_held() && !self.wire.is_over()
    }

    /// Whether the client speaks MQTT 5.
    pub fn is_v5(&self) -> bool {
        self.wire.version() == Version::V5
    }

    /// The client acknowledges what it has held back; how many.
    pub fn release(&mut self, most: usize) -> usize {
        let most = if self.goodbye.is_some() { 0 } else { most }; // [MQTT-3.14.4-2]
        let count = self.held.len().min(most);
        for (first, packet_id) in self.held.drain(..count) {
            // PUBACK and PUBCOMP end a delivery.
            if first == 0x40 || first == 0x70 {
                self.open_ids.remove(&packet_id);
            }
            self.wire.put_ack(first, packet_id);
        }
        count
    }
}

/// A message that the client has not had the last acknowledgement for.
#[derive(Clone, Copy, Debug)]
pub struct Unsettled {
    /// Packet identifier.
    pub packet_id: u16,
    /// Number of the message.
    pub number: usize,
    /// Whether PUBREC came.
    pub is_released: bool,
}

/// What a client program keeps.
#[derive(Clone, Default, Debug)]
pub struct Memory {
    next_id: u16,
    /// In the order in which they were first sent.
    pub unsettled: Vec<Unsettled>,
    /// QoS 2 messages had and not yet released.
    pub received: BTreeSet<u16>,
}

impl Memory {
    /// A packet identifier that nothing has.
    pub fn packet_id(&mut self, asked: &BTreeMap<u16, Vec<usize>>) -> u16 {
        loop {
            self.next_id = self.next_id % 200 + 1;
            let id = self.next_id;
            if !asked.contains_key(&id) && self.unsettled.iter().all(|unsettled| unsettled.packet_id != id) {
                return id;
            }
        }
    }

    /// The session is gone, and so is what belonged to it.
    pub fn forget(&mut self) {
        self.unsettled.clear();
        self.received.clear();
    }
}
