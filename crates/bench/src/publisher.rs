//! One publisher: what it may send now, and what of it is under way.
//!
//! Pure. Knows the payload (u32 run, u32 publisher, u64 sequence, little endian, then filler) and the packet around it. In
//! a closed loop at most a window is under way, written in batches of half a window; in an open loop it sends what is owed.

use whimbrel_protocol::encode::encode;
use whimbrel_protocol::packet::Publish;
use whimbrel_protocol::properties::Properties;
use whimbrel_protocol::{Packet, QoS, Topic, Version};

use crate::failure::Outcome;
use crate::window::Window;

/// The part of a payload that we read.
pub const HEADER_BYTES: usize = 16;
/// Unacknowledged messages of one publisher, so that a packet identifier is free again when its turn comes.
const UNACKNOWLEDGED_MAX: u64 = 65_534;
/// Of all publishers together; 256 MiB of memory.
const UNACKNOWLEDGED_ALL_MAX: u64 = 1 << 24;

/// What every publisher of a run has in common.
#[derive(Clone, Copy)]
pub struct Habit {
    /// Tells this run's messages from others.
    pub run: u32,
    /// Of the connection.
    pub version: Version,
    /// Of every message.
    pub qos: QoS,
    /// Of every message.
    pub retain: bool,
    /// Of every payload; the header is written where it fits.
    pub payload_bytes: usize,
    /// Closed loop: messages under way at once.
    pub window: u64,
    /// Deliveries that one message makes.
    pub receivers: u32,
    /// Whether a schedule says when to send.
    pub is_open_loop: bool,
}

/// One of them.
pub struct Publisher {
    habit: Habit,
    template: Vec<u8>,
    packet_id_at: usize,
    /// Closed loop: who has not received what.
    deliveries: Window,
    /// QoS 1 and 2: what the broker has not acknowledged.
    acks: Window,
    acks_max: u64,
    owed: u64,
    limit: u64,
    /// Messages written.
    pub sent: u64,
    /// Whether it stands in the list of those that can send.
    pub is_hungry: bool,
}

impl Publisher {
    /// A publisher that has sent nothing and will send at most `limit` messages.
    pub fn new(habit: Habit, number: u32, topic: &str, limit: u64) -> Outcome<Publisher> {
        let mut payload = vec![b'.'; habit.payload_bytes];
        if let Some(header) = payload.first_chunk_mut::<HEADER_BYTES>() {
            header[..4].copy_from_slice(&habit.run.to_le_bytes());
            header[4..8].copy_from_slice(&number.to_le_bytes());
        }
        let (template, packet_id_at) = template(habit, topic, &payload)?;
        Ok(Publisher {
            habit,
            template,
            packet_id_at,
            deliveries: Window::default(),
            acks: Window::default(),
            acks_max: UNACKNOWLEDGED_MAX,
            owed: 0,
            limit,
            sent: 0,
            is_hungry: false,
        })
    }

    /// From now on it publishes on this topic.
    pub fn turn_to(&mut self, topic: &str) -> Outcome<()> {
        let payload = self.template.split_off(self.template.len() - self.habit.payload_bytes);
        (self.template, self.packet_id_at) = template(self.habit, topic, &payload)?;
        Ok(())
    }

    /// Holds it to what the broker said in CONNACK, to its part of the memory, and in a closed loop to its window: what is
    /// delivered and not acknowledged is under way, too.
    pub fn agree(&mut self, receive_max: u16, publishers: usize) {
        let window = if self.habit.is_open_loop { u64::MAX } else { self.habit.window };
        let part = UNACKNOWLEDGED_ALL_MAX / publishers as u64;
        self.acks_max = u64::from(receive_max).min(window).min(part).min(UNACKNOWLEDGED_MAX);
    }

    /// Whether it can send now.
    #[inline]
    pub fn may_send(&self) -> bool {
        self.sent < self.limit
            && self.acks.len() < self.acks_max
            && if self.habit.is_open_loop { self.owed > 0 } else { self.deliveries.len() < self.habit.window }
    }

    /// Whether it can send now, and enough to be worth a write.
    #[inline]
    pub fn wants(&self) -> bool {
        self.may_send()
            && (self.habit.is_open_loop
                || (self.deliveries.len() <= self.habit.window / 2 && self.acks.len() <= self.acks_max / 2))
    }

    /// One more message is due.
    pub fn owe(&mut self) {
        self.owed += 1;
    }

    /// Nothing more will be sent.
    pub fn end(&mut self) {
        self.limit = self.sent;
    }

    /// Writes the next message; it counts from `since_ns`.
    pub fn append(&mut self, outbox: &mut Vec<u8>, since_ns: u64) {
        let start = outbox.len();
        outbox.extend_from_slice(&self.template);
        if self.habit.payload_bytes >= HEADER_BYTES {
            let sequence_at = outbox.len() - self.habit.payload_bytes + 8;
            outbox[sequence_at..sequence_at + 8].copy_from_slice(&self.sent.to_le_bytes());
        }
        if self.habit.qos != QoS::AtMostOnce {
            let packet_id = (self.sent % 65_535) as u16 + 1;
            let at = start + self.packet_id_at;
            outbox[at..at + 2].copy_from_slice(&packet_id.to_be_bytes());
            self.acks.push(since_ns, 1);
        }
        if self.habit.is_open_loop {
            self.owed -= 1;
        } else if self.habit.receivers > 0 {
            self.deliveries.push(since_ns, self.habit.receivers);
        }
        self.sent += 1;
    }

    /// One more receiver has the message, or will never have it; since when it was under way, None in an open loop.
    #[inline]
    pub fn on_delivery(&mut self, sequence: u64) -> Option<u64> {
        self.deliveries.settle(sequence)
    }

    /// The broker has answered: which message, and since when it was under way. None where it was not.
    pub fn on_answer(&mut self, packet_id: u16) -> Option<(u64, u64)> {
        let newest = self.sent.checked_sub(1)?;
        let back = (newest % 65_535 + 65_536 - u64::from(packet_id)) % 65_535;
        let sequence = newest.checked_sub(back)?;
        Some((sequence, self.acks.settle(sequence)?))
    }

    /// Nobody will receive the message: the broker refused it.
    pub fn give_up_one(&mut self, sequence: u64) {
        while self.deliveries.settle(sequence).is_some() {}
    }

    /// What is under way is lost.
    pub fn give_up(&mut self) {
        self.deliveries.give_up();
        self.acks.give_up();
    }
}

/// The packet, and where its identifier stands in it.
fn template(habit: Habit, topic: &str, payload: &[u8]) -> Outcome<(Vec<u8>, usize)> {
    let mut template = Vec::new();
    encode(&mut template, habit.version, &publish(habit, Topic::new(topic)?, payload));
    // Behind the identifier MQTT 5 has one byte: no properties.
    let behind = 2 + usize::from(habit.version == Version::V5);
    let packet_id_at = template.len() - payload.len() - behind;
    Ok((template, packet_id_at))
}

fn publish<'a>(habit: Habit, topic: Topic<'a>, payload: &'a [u8]) -> Packet<'a> {
    Packet::Publish(Publish {
        dup: false,
        qos: habit.qos,
        retain: habit.retain,
        topic: Some(topic),
        packet_id: if habit.qos == QoS::AtMostOnce { 0 } else { 1 },
        properties: Properties::default(),
        payload,
    })
}

/// (run, publisher, sequence) of a payload of ours.
#[inline]
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
    use whimbrel_protocol::decode::{Split, decode, split};

    fn habit(version: Version, qos: QoS) -> Habit {
        Habit { run: 7, version, qos, retain: false, payload_bytes: 20, window: 4, receivers: 2, is_open_loop: false }
    }

    fn written(publisher: &mut Publisher) -> Vec<u8> {
        let mut wire = Vec::new();
        while publisher.may_send() {
            publisher.append(&mut wire, 5);
        }
        wire
    }

    #[test]
    fn it_waits_for_half_a_window_to_open() {
        let mut publisher = Publisher::new(habit(Version::V311, QoS::AtMostOnce), 3, "t", u64::MAX).unwrap();
        written(&mut publisher);
        assert_eq!((publisher.sent, publisher.may_send()), (4, false));
        [0, 0].into_iter().for_each(|sequence| assert!(publisher.on_delivery(sequence).is_some()));
        assert_eq!((publisher.may_send(), publisher.wants()), (true, false), "one of four is no batch");
        [1, 1].into_iter().for_each(|sequence| assert!(publisher.on_delivery(sequence).is_some()));
        assert!(publisher.wants());
    }

    #[test]
    fn every_packet_carries_its_sequence_and_identifier() {
        for (version, qos) in [(Version::V311, QoS::AtLeastOnce), (Version::V5, QoS::ExactlyOnce)] {
            let mut publisher = Publisher::new(habit(version, qos), 3, "a/topic", u64::MAX).unwrap();
            let wire = written(&mut publisher);
            let mut rest = wire.as_slice();
            for sequence in 0..4_u64 {
                let Split::Frame(frame) = split(rest, 1000).unwrap() else { panic!("cut") };
                let Packet::Publish(publish) = decode(frame, version).unwrap() else { panic!("not PUBLISH") };
                assert_eq!(read_header(publish.payload), Some((7, 3, sequence)));
                assert_eq!((u64::from(publish.packet_id), publish.qos), (sequence + 1, qos));
                rest = &rest[frame.len..];
            }
            assert!(rest.is_empty());
        }
    }

    #[test]
    fn a_new_topic_changes_nothing_else() {
        let mut publisher = Publisher::new(habit(Version::V5, QoS::AtLeastOnce), 3, "t", u64::MAX).unwrap();
        publisher.append(&mut Vec::new(), 0);
        publisher.turn_to("a/longer/topic").unwrap();
        let mut wire = Vec::new();
        publisher.append(&mut wire, 0);
        let Split::Frame(frame) = split(&wire, 1000).unwrap() else { panic!("cut") };
        let Packet::Publish(publish) = decode(frame, Version::V5).unwrap() else { panic!("not PUBLISH") };
        assert_eq!(publish.topic.unwrap().as_str(), "a/longer/topic");
        assert_eq!((read_header(publish.payload), publish.packet_id), (Some((7, 3, 1)), 2));
    }

    #[test]
    fn an_identifier_that_comes_round_again_means_the_newest_message() {
        let mut publisher = Publisher::new(habit(Version::V5, QoS::AtLeastOnce), 0, "t", u64::MAX).unwrap();
        publisher.sent = 2 * 65_535 - 1;
        (0..publisher.sent).for_each(|_| publisher.acks.push(0, 1));
        publisher.append(&mut Vec::new(), 9);
        publisher.append(&mut Vec::new(), 10);
        assert_eq!(publisher.on_answer(65_535), Some((131_069, 9)));
        assert_eq!(publisher.on_answer(1), Some((131_070, 10)));
        assert_eq!(publisher.on_answer(1), None, "answered already");
    }

    #[test]
    fn what_is_delivered_and_not_acknowledged_is_under_way() {
        let mut publisher = Publisher::new(habit(Version::V5, QoS::AtLeastOnce), 0, "t", u64::MAX).unwrap();
        publisher.agree(u16::MAX, 1);
        written(&mut publisher);
        (0..4).for_each(|sequence| assert!(publisher.on_delivery(sequence).is_some()));
        (0..4).for_each(|sequence| assert!(publisher.on_delivery(sequence).is_some()));
        assert!(!publisher.may_send());
        (1..=4).for_each(|packet_id| assert!(publisher.on_answer(packet_id).is_some()));
        assert!(publisher.wants());
    }

    #[test]
    fn the_brokers_receive_maximum_holds_it_back() {
        let mut publisher = Publisher::new(habit(Version::V5, QoS::AtLeastOnce), 0, "t", u64::MAX).unwrap();
        publisher.agree(3, 1);
        written(&mut publisher);
        assert_eq!(publisher.sent, 3);
    }
}
