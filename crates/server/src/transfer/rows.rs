//! The rows, and how they come from records and become records again.
//!
//! Knows the shapes of stored values. Must not know the order of rows or where they go.

use whimbrel_protocol::message::Publication;
use whimbrel_protocol::packet::SubscriptionOptions;
use whimbrel_protocol::properties::Properties;
use whimbrel_protocol::session::subscriptions::Subscription;
use whimbrel_protocol::{QoS, Topic};
use whimbrel_storage::{Failure, Identifiers, Kind, Receiver, StoredMessage};

use crate::durable::{self, SessionRecord};
use crate::rows;

/// Of a subscription's value, before what is not for all of them.
const SUBSCRIPTION_BYTES: usize = 6;

/// One row.
#[derive(Clone, PartialEq, Debug)]
pub enum Row {
    /// A durable session.
    Session(SessionRow),
    /// A subscription of one.
    Subscription(SubscriptionRow),
    /// A row of the control plane.
    Control(ControlRow),
    /// A value of a family of keys that this version does not know, or one that cannot be read.
    Keyed(KeyedRow),
    /// A message that waits for its receivers.
    Message(RecordRow),
    /// A retained message.
    Retained(RecordRow),
    /// A packet identifier in use.
    Exchange(ExchangeRow),
    /// A record that cannot be read.
    Raw(RawRow),
}

/// A durable session.
#[derive(Clone, PartialEq, Debug)]
pub struct SessionRow {
    /// Client identifier.
    pub client_id: String,
    /// Names it in other rows.
    pub number: u32,
    /// Seconds that it outlives its connection.
    pub expiry_s: u32,
    /// When its connection ended, Unix milliseconds; 0: it had one.
    pub disconnected_ms: u64,
    /// User name.
    pub username: Option<String>,
    /// Its will and the delay of that in seconds, while it may still be published.
    pub will: Option<(MessageRow, u32)>,
}

/// A subscription.
#[derive(Clone, PartialEq, Debug)]
pub struct SubscriptionRow {
    /// Number of the session.
    pub session: u32,
    /// The filter.
    pub filter: String,
    /// 0, 1 or 2.
    pub qos: u8,
    /// No Local.
    pub no_local: bool,
    /// Retain As Published.
    pub retain_as_published: bool,
    /// Retain Handling.
    pub retain_handling: u8,
    /// Subscription Identifier; 0: none.
    pub identifier: u32,
    /// What the store says besides: the number of the group of a shared one.
    pub more: Vec<u8>,
}

/// A row of the control plane.
#[derive(Clone, PartialEq, Debug)]
pub struct ControlRow {
    /// What it belongs to: accounts, bans, alarms.
    pub family: String,
    /// Names it there.
    pub key: String,
    /// Version of its format, a blank, and what it says in JSON.
    pub value: String,
}

/// A value by its key.
#[derive(Clone, PartialEq, Debug)]
pub struct KeyedRow {
    /// Number of the family of keys.
    pub space: u8,
    /// The key.
    pub key: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
}

/// Who needs a record.
#[derive(Clone, PartialEq, Debug)]
pub struct ReceiverRow {
    /// Number of the session; 0: none.
    pub session: u64,
    /// Of the delivery.
    pub qos: u8,
    /// Of the delivery.
    pub retain: bool,
    /// Number of the group; 0: none.
    pub group: u32,
    /// Subscription Identifiers.
    pub identifiers: Vec<u32>,
}

/// A message and its receivers.
#[derive(Clone, PartialEq, Debug)]
pub struct RecordRow {
    /// Those who have not had it.
    pub receivers: Vec<ReceiverRow>,
    /// What it says.
    pub message: MessageRow,
}

/// A message.
#[derive(Clone, PartialEq, Debug)]
pub struct MessageRow {
    /// Client identifier of the publisher.
    pub client_id: String,
    /// When it came; milliseconds near Unix time.
    pub received_ms: u64,
    /// Of the PUBLISH.
    pub qos: u8,
    /// Of the PUBLISH.
    pub retain: bool,
    /// Message Expiry Interval, seconds.
    pub expiry_s: Option<u32>,
    /// The topic.
    pub topic: String,
    /// The other properties as MQTT 5 writes them, without their length.
    pub properties: Vec<u8>,
    /// The payload.
    pub payload: Vec<u8>,
}

/// A packet identifier in use at QoS 2.
#[derive(Clone, PartialEq, Debug)]
pub struct ExchangeRow {
    /// "received", "sent" or "released".
    pub state: &'static str,
    /// Number of the session.
    pub session: u64,
    /// The identifier.
    pub packet_id: u16,
    /// For "sent": number of the message among the messages, counted from 1, and of its receiver, from 0.
    pub message: Option<(u64, u32)>,
}

/// A record by its bytes.
#[derive(Clone, PartialEq, Debug)]
pub struct RawRow {
    /// Number of its kind.
    pub kind: u8,
    /// Its receivers.
    pub receivers: Vec<ReceiverRow>,
    /// Its body.
    pub body: Vec<u8>,
}

/// What a row of its own cannot say.
const UNKNOWN: Failure = Failure::Malformed("values in the range of their fields");

/// States of an exchange and the kinds of their records.
pub(super) const STATES: [(&str, Kind); 3] =
    [("received", Kind::Received), ("sent", Kind::Sent), ("released", Kind::Released)];

fn qos(bits: u8) -> Result<QoS, Failure> {
    QoS::from_bits(bits).ok_or(UNKNOWN)
}

impl MessageRow {
    fn of(stored: &StoredMessage<'_>) -> MessageRow {
        let publication = &stored.publication;
        MessageRow {
            client_id: stored.client_id.to_owned(),
            received_ms: stored.received_ms,
            qos: stored.qos as u8,
            retain: stored.retain,
            expiry_s: publication.expiry_s,
            topic: publication.topic.as_str().to_owned(),
            properties: publication.properties.raw().to_vec(),
            payload: publication.payload.to_vec(),
        }
    }

    pub(super) fn stored(&self) -> Result<StoredMessage<'_>, Failure> {
        if self.client_id.len() > usize::from(u16::MAX) {
            return Err(UNKNOWN);
        }
        let publication = Publication {
            topic: Topic::new(&self.topic).map_err(|_| Failure::Malformed("a topic"))?,
            properties: Properties::trusted(&self.properties),
            expiry_s: self.expiry_s,
            payload: &self.payload,
        };
        Ok(StoredMessage::new(publication, (qos(self.qos)?, self.retain), &self.client_id, self.received_ms))
    }

    /// None where it would not be written again as it is.
    pub(super) fn read(body: &[u8]) -> Option<MessageRow> {
        let row = MessageRow::of(&StoredMessage::decode(body).ok()?);
        let mut again = Vec::with_capacity(body.len());
        row.stored().ok()?.encode(&mut again);
        (again == body).then_some(row)
    }
}

impl SessionRow {
    /// None where it would not be written again as it is.
    pub(super) fn read(key: &[u8], value: &[u8]) -> Option<SessionRow> {
        let found = SessionRecord::decode(value)?;
        let row = SessionRow {
            client_id: std::str::from_utf8(key).ok()?.to_owned(),
            number: found.number,
            expiry_s: found.expiry_s,
            disconnected_ms: found.disconnected_ms,
            username: found.username.map(str::to_owned),
            will: found.will.map(|(will, delay_s)| (MessageRow::of(&will), delay_s)),
        };
        (row.value().ok()? == value).then_some(row)
    }

    pub(super) fn value(&self) -> Result<Vec<u8>, Failure> {
        if self.username.as_ref().is_some_and(|username| username.len() > usize::from(u16::MAX)) {
            return Err(UNKNOWN);
        }
        let will = match &self.will {
            Some((will, delay_s)) => Some((will.stored()?, *delay_s)),
            None => None,
        };
        let record = SessionRecord {
            number: self.number,
            expiry_s: self.expiry_s,
            disconnected_ms: self.disconnected_ms,
            username: self.username.as_deref(),
            will,
        };
        let mut value = Vec::new();
        record.encode(&mut value);
        Ok(value)
    }
}

impl SubscriptionRow {
    /// None where it would not be written again as it is.
    pub(super) fn read(key: &[u8], value: &[u8]) -> Option<SubscriptionRow> {
        let (session, filter) = durable::subscription_key(key)?;
        let Subscription { options, identifier } = durable::subscription(value)?;
        let more = value.get(SUBSCRIPTION_BYTES..)?.to_vec();
        let row = SubscriptionRow {
            session,
            filter: filter.to_owned(),
            qos: options.qos as u8,
            no_local: options.no_local,
            retain_as_published: options.retain_as_published,
            retain_handling: options.retain_handling,
            identifier,
            more,
        };
        (row.entry().ok()?.1 == value).then_some(row)
    }

    /// Key and value.
    pub(super) fn entry(&self) -> Result<(Vec<u8>, Vec<u8>), Failure> {
        if self.retain_handling > 2 {
            return Err(UNKNOWN);
        }
        let options = SubscriptionOptions {
            qos: qos(self.qos)?,
            no_local: self.no_local,
            retain_as_published: self.retain_as_published,
            retain_handling: self.retain_handling,
        };
        let mut key = Vec::new();
        durable::key_of_subscription(self.session, &self.filter, &mut key);
        let mut value = durable::subscription_value(&Subscription { options, identifier: self.identifier }).to_vec();
        value.extend_from_slice(&self.more);
        Ok((key, value))
    }
}

impl ControlRow {
    /// None where it would not be written again as it is.
    pub(super) fn read(name: &[u8], value: &[u8]) -> Option<ControlRow> {
        let (family, key) = rows::split_name(name)?;
        let value = rows::text_of(value)?;
        Some(ControlRow { family: family.to_owned(), key: key.to_owned(), value: value.to_owned() })
    }

    /// Name and value.
    pub(super) fn entry(&self) -> Result<(Vec<u8>, &[u8]), Failure> {
        let name = [self.family.as_bytes(), b"/", self.key.as_bytes()].concat();
        match (rows::split_name(&name), rows::text_of(self.value.as_bytes())) {
            (Some((family, _)), Some(_)) if family == self.family => Ok((name, self.value.as_bytes())),
            _ => Err(Failure::Malformed("a row of the control plane: family, key, and a value with its version")),
        }
    }
}

impl ReceiverRow {
    pub(super) fn of(receiver: &Receiver<'_>) -> ReceiverRow {
        ReceiverRow {
            session: receiver.session,
            qos: receiver.qos as u8,
            retain: receiver.retain,
            group: receiver.group,
            identifiers: receiver.identifiers.iter().collect(),
        }
    }

    pub(super) fn receiver(&self) -> Result<Receiver<'_>, Failure> {
        Ok(Receiver {
            session: self.session,
            qos: qos(self.qos)?,
            retain: self.retain,
            group: self.group,
            identifiers: Identifiers::Numbers(&self.identifiers),
        })
    }
}
