//! An application message: borrowed while it passes through (`Publication`), owned where it must stay (`Message`).
//!
//! Knows topic, properties, payload, expiry. Does not know who receives it.

use std::borrow::Cow;
use std::sync::Arc;

use crate::packet::{Publish, QoS, Will};
use crate::properties::{Properties, Value, id, put_property};
use crate::topic::Topic;

/// What a PUBLISH says to its receivers, without packet identifier and topic alias.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Publication<'a> {
    /// Topic name.
    pub topic: Topic<'a>,
    /// Properties as they are forwarded; never a topic alias.
    pub properties: Properties<'a>,
    /// What is left of the Message Expiry Interval, where there is one; seconds.
    pub expiry_s: Option<u32>,
    /// Application message.
    pub payload: &'a [u8],
}

impl<'a> Publication<'a> {
    /// Of an incoming PUBLISH whose alias is resolved to `topic`; `forwarded` comes from [`forwarded_properties`].
    pub fn new(publish: &Publish<'a>, topic: Topic<'a>, forwarded: &'a [u8]) -> Publication<'a> {
        let properties = Properties::trusted(forwarded);
        let expiry_s = properties.number(id::MESSAGE_EXPIRY_INTERVAL);
        Publication { topic, properties, expiry_s, payload: publish.payload }
    }

    /// Bytes that an owned copy occupies, roughly; see [`Message::size_bytes`].
    pub fn size_bytes(&self) -> usize {
        self.topic.as_str().len() + self.properties.raw().len() + self.payload.len() + size_of::<Message>()
    }
}

/// The properties of a PUBLISH as the receivers get them: all but the topic alias [MQTT-3.3.2-7].
pub fn forwarded_properties<'a>(properties: Properties<'a>) -> Cow<'a, [u8]> {
    if properties.is_empty() || properties.first(id::TOPIC_ALIAS).is_none() {
        return Cow::Borrowed(properties.raw());
    }
    Cow::Owned(without(properties, &[id::TOPIC_ALIAS]))
}

fn without(properties: Properties<'_>, removed: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(properties.raw().len());
    for (id, value) in properties.iter().filter(|(id, _)| !removed.contains(id)) {
        put_property(&mut kept, id, value);
    }
    kept
}

/// Who published a message and when; what receivers of the packet do not see, but queues, hooks and rules need.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Client identifier of the publisher; empty for a publish from inside.
    pub client_id: Arc<str>,
    /// When the broker took the message in: milliseconds of a clock that never jumps, near Unix time.
    pub received_ms: u64,
}

/// An owned, immutable message, shared by all that still need it. One allocation for its bytes, whatever the fan-out.
#[derive(Debug)]
pub struct Message {
    body: Box<[u8]>, // topic, properties, payload
    properties_len: u32,
    topic_len: u16,
    /// QoS of the PUBLISH.
    pub qos: QoS,
    /// Retain flag of the PUBLISH.
    pub retain: bool,
    expiry_s: Option<u32>,
    /// Who and when.
    pub origin: Origin,
}

impl Message {
    /// Copies a publication.
    pub fn new(publication: &Publication<'_>, qos: QoS, retain: bool, origin: Origin) -> Message {
        let topic = publication.topic.as_str().as_bytes();
        let properties = publication.properties.raw();
        Message {
            body: [topic, properties, publication.payload].concat().into_boxed_slice(),
            properties_len: properties.len() as u32,
            topic_len: topic.len() as u16,
            qos,
            retain,
            expiry_s: publication.expiry_s,
            origin,
        }
    }

    /// The will of a CONNECT, to be published later; the delay interval is not forwarded.
    pub fn from_will(will: &Will<'_>, origin: Origin) -> Message {
        let forwarded = without(will.properties, &[id::WILL_DELAY_INTERVAL]);
        let properties = Properties::trusted(&forwarded);
        let expiry_s = properties.number(id::MESSAGE_EXPIRY_INTERVAL);
        let publication = Publication { topic: will.topic, properties, expiry_s, payload: will.payload };
        Message::new(&publication, will.qos, will.retain, origin)
    }

    /// The same message, taken in at `received_ms`: a will begins its life when it is published (section 3.1.3.2.4).
    pub fn restamped(&self, received_ms: u64) -> Message {
        let client_id = Arc::clone(&self.origin.client_id);
        Message { body: self.body.clone(), origin: Origin { client_id, received_ms }, ..*self }
    }

    /// The bytes of the topic name.
    pub fn topic_bytes(&self) -> &[u8] {
        &self.body[..usize::from(self.topic_len)]
    }

    /// The topic name.
    pub fn topic(&self) -> Topic<'_> {
        // A message is only built from a `Topic`, so its first bytes are one.
        Topic::parse(self.topic_bytes()).expect("a message begins with a checked topic")
    }

    /// The properties.
    pub fn properties(&self) -> Properties<'_> {
        let start = usize::from(self.topic_len);
        Properties::trusted(&self.body[start..start + self.properties_len as usize])
    }

    /// The payload.
    pub fn payload(&self) -> &[u8] {
        &self.body[usize::from(self.topic_len) + self.properties_len as usize..]
    }

    /// Bytes that this message occupies, roughly.
    pub fn size_bytes(&self) -> usize {
        self.body.len() + size_of::<Message>()
    }

    /// When its expiry interval elapses, on the clock of `received_ms`; None: never.
    pub fn expires_ms(&self) -> Option<u64> {
        self.expiry_s.map(|expiry_s| self.origin.received_ms + u64::from(expiry_s) * 1000)
    }

    /// Whether its expiry interval has elapsed at `now_ms`, on the clock of `received_ms`.
    pub fn is_expired(&self, now_ms: u64) -> bool {
        self.expiry_s.is_some_and(|expiry_s| self.waited_s(now_ms) >= u64::from(expiry_s))
    }

    /// What a receiver is sent at `now_ms`: the expiry interval less the time waited [MQTT-3.3.2-6].
    pub fn publication(&self, now_ms: u64) -> Publication<'_> {
        let waited_s = self.waited_s(now_ms);
        Publication {
            topic: self.topic(),
            properties: self.properties(),
            expiry_s: self.expiry_s.map(|expiry_s| u64::from(expiry_s).saturating_sub(waited_s) as u32),
            payload: self.payload(),
        }
    }

    fn waited_s(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.origin.received_ms) / 1000
    }

    /// The user properties, in their order.
    pub fn user_properties(&self) -> impl Iterator<Item = (&str, &str)> {
        self.properties().iter().filter_map(|(_, value)| match value {
            Value::Pair(name, value) => Some((name, value)),
            _ => None,
        })
    }
}
