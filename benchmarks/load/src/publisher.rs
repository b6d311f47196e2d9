//! One publisher in a closed loop: at most `window` of its messages are under way, written in batches of half a window.
//!
//! Pure. Knows the payload (u32 run, u32 publisher, u64 sequence, little endian, then filler) and the packet around it.

use whimbrel_protocol::encode::encode;
use whimbrel_protocol::packet::Publish;
use whimbrel_protocol::properties::Properties;
use whimbrel_protocol::{Packet, QoS, Topic, Version};

use crate::failure::Outcome;

/// The part of a payload that we read.
pub const HEADER_BYTES: usize = 16;

/// What every publisher of a run has in common.
#[derive(Clone, Copy)]
pub struct Habit {
    /// Tells this run's messages from others.
    pub run: u32,
    /// Of every message.
    pub qos: QoS,
    /// Of every payload, at least [`HEADER_BYTES`].
    pub payload_bytes: usize,
    /// Messages under way at once.
    pub window: u64,
    /// Deliveries that one message makes.
    pub receivers: u32,
}

/// One of them.
pub struct Publisher {
    habit: Habit,
    template: Vec<u8>,
    /// Deliveries of each message under way, by sequence modulo the window.
    deliveries: Vec<u32>,
    /// Every message below this one was delivered to all.
    base: u64,
    /// Messages written.
    pub sent: u64,
    /// PUBACKs received.
    pub acknowledged: u64,
}

impl Publisher {
    /// A publisher that has sent nothing.
    pub fn new(habit: Habit, number: u32, topic: &str) -> Outcome<Publisher> {
        let mut payload = vec![b'.'; habit.payload_bytes];
        payload[..4].copy_from_slice(&habit.run.to_le_bytes());
        payload[4..8].copy_from_slice(&number.to_le_bytes());
        let publish = Publish {
            dup: false,
            qos: habit.qos,
            retain: false,
            topic: Some(Topic::new(topic)?),
            packet_id: 1,
            properties: Properties::default(),
            payload: &payload,
        };
        let mut template = Vec::new();
        encode(&mut template, Version::V311, &Packet::Publish(publish));
        let deliveries = vec![0; habit.window as usize];
        Ok(Publisher { habit, template, deliveries, base: 0, sent: 0, acknowledged: 0 })
    }

    /// Whether a batch fits into the window.
    pub fn has_room(&self) -> bool {
        self.sent - self.base <= self.habit.window / 2
    }

    /// Fills the window.
    pub fn fill(&mut self, outbox: &mut Vec<u8>) {
        while self.sent - self.base < self.habit.window {
            self.append(outbox);
        }
    }

    /// One more receiver has message `sequence`.
    pub fn delivered(&mut self, sequence: u64) {
        let size = self.habit.window;
        self.deliveries[(sequence % size) as usize] += 1;
        while self.base < self.sent && self.deliveries[(self.base % size) as usize] >= self.habit.receivers {
            self.deliveries[(self.base % size) as usize] = 0;
            self.base += 1;
        }
    }

    fn append(&mut self, outbox: &mut Vec<u8>) {
        let payload_at = outbox.len() + self.template.len() - self.habit.payload_bytes;
        outbox.extend_from_slice(&self.template);
        outbox[payload_at + 8..payload_at + HEADER_BYTES].copy_from_slice(&self.sent.to_le_bytes());
        if self.habit.qos != QoS::AtMostOnce {
            // Fewer than 65,535 are under way, so an identifier is free again when its turn comes.
            let packet_id = (self.sent % 65_535) as u16 + 1;
            outbox[payload_at - 2..payload_at].copy_from_slice(&packet_id.to_be_bytes());
        }
        self.sent += 1;
    }
}

/// (run, publisher, sequence) of a payload of ours.
pub fn read_header(payload: &[u8]) -> Option<(u32, usize, u64)> {
    let (run, rest) = payload.split_first_chunk::<4>()?;
    let (publisher, rest) = rest.split_first_chunk::<4>()?;
    let sequence = rest.first_chunk::<8>()?;
    let publisher = u32::from_le_bytes(*publisher) as usize;
    Some((u32::from_le_bytes(*run), publisher, u64::from_le_bytes(*sequence)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_opens_when_its_oldest_message_has_reached_everybody() {
        let habit = Habit { run: 7, qos: QoS::AtLeastOnce, payload_bytes: 16, window: 4, receivers: 2 };
        let mut publisher = Publisher::new(habit, 3, "t").unwrap();
        let mut wire = Vec::new();
        publisher.fill(&mut wire);
        assert_eq!((publisher.sent, publisher.has_room()), (4, false));
        for sequence in [1, 1, 2, 0] {
            publisher.delivered(sequence);
        }
        assert!(!publisher.has_room(), "message 0 is still missing at one receiver");
        publisher.delivered(0);
        assert!(publisher.has_room(), "0 and 1 have arrived");
        assert_eq!(read_header(&wire[wire.len() - 16..]), Some((7, 3, 3)));
    }
}
