//! The values that the store keeps by name, and the bodies of small records.
//!
//! Knows their bytes, little-endian, each with a version in front; what cannot be read is None, never a panic. Must not know
//! what the store does with them.
//!
//! A session: `1 u8 | number u32 | expiry u32 | flags u8 | disconnected u64 | username u16 + bytes | delay u32 + will`, the last
//! two where the flags say so. A subscription: `1 u8 | options u8 | identifier u32`, under `number u32 + filter`; a shared one
//! has `group u32` behind that, one whose replay of retained messages is not finished `1 u8` and the topic after which it goes on.

use whimbrel_protocol::packet::SubscriptionOptions;
use whimbrel_protocol::session::subscriptions::Subscription;
use whimbrel_protocol::{Message, QoS};
use whimbrel_storage::StoredMessage;

const VERSION: u8 = 1;
const HAS_USERNAME: u8 = 1;
const HAS_WILL: u8 = 2;
const REPLAYS: u8 = 1;

/// What the store knows of a session besides its messages and subscriptions.
#[derive(Debug)]
pub(crate) struct SessionRecord<'a> {
    /// Names it in records.
    pub(crate) number: u32,
    /// How long it outlives its connection; seconds.
    pub(crate) expiry_s: u32,
    /// When its connection ended, by the kept clock (`mark.rs`), milliseconds; 0: it had one.
    pub(crate) disconnected_ms: u64,
    pub(crate) username: Option<&'a str>,
    /// The will and its delay in seconds, while it may still be published.
    pub(crate) will: Option<(StoredMessage<'a>, u32)>,
}

impl<'a> SessionRecord<'a> {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        out.push(VERSION);
        out.extend(self.number.to_le_bytes());
        out.extend(self.expiry_s.to_le_bytes());
        out.push(flag(self.username.is_some(), HAS_USERNAME) | flag(self.will.is_some(), HAS_WILL));
        out.extend(self.disconnected_ms.to_le_bytes());
        if let Some(username) = self.username {
            out.extend((username.len() as u16).to_le_bytes());
            out.extend_from_slice(username.as_bytes());
        }
        if let Some((will, delay_s)) = &self.will {
            out.extend(delay_s.to_le_bytes());
            will.encode(out);
        }
    }

    pub(crate) fn decode(mut bytes: &'a [u8]) -> Option<SessionRecord<'a>> {
        let head = bytes.split_off(..18)?;
        let flags = head[9];
        let username = match flags & HAS_USERNAME {
            0 => None,
            _ => Some(text(&mut bytes)?),
        };
        let will = match flags & HAS_WILL {
            0 => None,
            _ => {
                let delay_s = u32_at(bytes.split_off(..4)?, 0)?;
                Some((StoredMessage::decode(bytes).ok()?, delay_s))
            }
        };
        let disconnected_ms = u64::from_le_bytes(head[10..18].try_into().ok()?);
        let record =
            SessionRecord { number: u32_at(head, 1)?, expiry_s: u32_at(head, 5)?, disconnected_ms, username, will };
        (head[0] == VERSION).then_some(record)
    }
}

/// A message as the store takes it.
pub(crate) fn stored(message: &Message) -> StoredMessage<'_> {
    // At the time it was received, so that the whole interval is stored.
    let publication = message.publication(message.origin.received_ms);
    StoredMessage::new(
        publication,
        (message.qos, message.retain),
        &message.origin.client_id,
        message.origin.received_ms,
    )
}

/// The key of a session's subscription.
pub(crate) fn key_of_subscription(number: u32, filter: &str, out: &mut Vec<u8>) {
    out.clear();
    out.extend(number.to_le_bytes());
    out.extend_from_slice(filter.as_bytes());
}

/// Number of the session and filter of a subscription's key.
pub(crate) fn subscription_key(key: &[u8]) -> Option<(u32, &str)> {
    Some((u32_at(key, 0)?, std::str::from_utf8(key.get(4..)?).ok()?))
}

pub(crate) fn subscription_value(subscription: &Subscription) -> [u8; 6] {
    let options = &subscription.options;
    let bits = options.qos as u8
        | u8::from(options.no_local) << 2
        | u8::from(options.retain_as_published) << 3
        | options.retain_handling << 4;
    let [a, b, c, d] = subscription.identifier.to_le_bytes();
    [VERSION, bits, a, b, c, d]
}

/// As `subscription_value`, of a shared subscription whose group has this number.
pub(crate) fn membership_value(subscription: &Subscription, group: u32) -> [u8; 10] {
    let mut value = [0; 10];
    value[..6].copy_from_slice(&subscription_value(subscription));
    value[6..].copy_from_slice(&group.to_le_bytes());
    value
}

/// As `subscription_value`, of one that is still to be sent the retained messages behind the topic `after` (empty: all).
pub(crate) fn replaying_value(subscription: &Subscription, after: &[u8]) -> Vec<u8> {
    [&subscription_value(subscription)[..], &[REPLAYS], after].concat()
}

/// Behind which topic retained messages are still to be sent, of a value of a subscription that is not shared.
pub(crate) fn replay_of(value: &[u8]) -> Option<&[u8]> {
    value.get(7..).filter(|_| value[6] == REPLAYS)
}

/// The number of the group, of a shared subscription's value; 0: it does not say.
pub(crate) fn group_of(value: &[u8]) -> u32 {
    u32_at(value, 6).unwrap_or_default()
}

pub(crate) fn subscription(value: &[u8]) -> Option<Subscription> {
    let bits = *value.get(1).filter(|_| value[0] == VERSION)?;
    let options = SubscriptionOptions {
        qos: QoS::from_bits(bits & 3)?,
        no_local: bits & 4 != 0,
        retain_as_published: bits & 8 != 0,
        retain_handling: bits >> 4 & 3,
    };
    Some(Subscription { options, identifier: u32_at(value, 2)? })
}

/// The body of a record that is about a packet identifier alone.
pub(crate) fn packet_id_body(packet_id: u16) -> [u8; 2] {
    packet_id.to_le_bytes()
}

pub(crate) fn packet_id(body: &[u8]) -> Option<u16> {
    Some(u16::from_le_bytes(body.get(..2)?.try_into().ok()?)).filter(|packet_id| *packet_id != 0)
}

/// The body of a record of a delivery in flight: its identifier and the slot of its message.
pub(crate) fn sent_body(packet_id: u16, slot: u64) -> [u8; 10] {
    let mut body = [0; 10];
    body[..2].copy_from_slice(&packet_id.to_le_bytes());
    body[2..].copy_from_slice(&slot.to_le_bytes());
    body
}

pub(crate) fn sent(body: &[u8]) -> Option<(u16, u64)> {
    Some((packet_id(body)?, u64::from_le_bytes(body.get(2..10)?.try_into().ok()?)))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn text<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
    let length = bytes.split_off(..2)?;
    let length = usize::from(u16::from_le_bytes(length.try_into().ok()?));
    std::str::from_utf8(bytes.split_off(..length)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_comes_back_as_it_was() {
        let record = SessionRecord { number: 7, expiry_s: 60, disconnected_ms: 9, username: Some("ann"), will: None };
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        let back = SessionRecord::decode(&bytes).unwrap();
        assert_eq!((back.number, back.expiry_s, back.disconnected_ms, back.username), (7, 60, 9, Some("ann")));
        assert!(back.will.is_none());
    }

    #[test]
    fn cut_or_foreign_bytes_are_none() {
        let record = SessionRecord { number: 7, expiry_s: 60, disconnected_ms: 9, username: Some("ann"), will: None };
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        assert!((0..bytes.len()).all(|length| SessionRecord::decode(&bytes[..length]).is_none()));
        bytes[0] = 2;
        assert!(SessionRecord::decode(&bytes).is_none());
        assert!((0..6).all(|length| subscription(&[1; 6][..length]).is_none()));
        assert!((0..10).all(|length| sent(&[1; 10][..length]).is_none()));
        assert!(packet_id(&[0, 0]).is_none());
    }

    #[test]
    fn a_subscription_comes_back_as_it_was() {
        let options = SubscriptionOptions {
            qos: QoS::ExactlyOnce,
            no_local: true,
            retain_as_published: false,
            retain_handling: 2,
        };
        let kept = Subscription { options, identifier: 300 };
        assert_eq!(subscription(&subscription_value(&kept)), Some(kept));
        let mut key = Vec::new();
        key_of_subscription(5, "a/+", &mut key);
        assert_eq!(subscription_key(&key), Some((5, "a/+")));
    }
}
