//! The body of a message's record: what a PUBLISH said, who sent it, when.
//!
//! Knows the layout: `flags u8 | received u64 | expiry u32 | client id u16 | topic u16 | properties u32`, then client id, topic,
//! properties, payload. Must not know receivers.

use whimbrel_protocol::message::{Origin, Publication};
use whimbrel_protocol::properties::Properties;
use whimbrel_protocol::{Message, QoS, Topic};

use crate::Failure;
use crate::codec::{take, u16_at, u32_at, u64_at};

const HEAD: usize = 21;
const RETAIN: u8 = 4;
const EXPIRES: u8 = 8;

/// A message as it is stored, read in place.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct StoredMessage<'a> {
    /// What it says; the expiry is the whole interval, not what is left of it.
    pub publication: Publication<'a>,
    /// QoS of the PUBLISH.
    pub qos: QoS,
    /// Retain flag of the PUBLISH.
    pub retain: bool,
    /// Client identifier of the publisher.
    pub client_id: &'a str,
    /// When the broker took it in: milliseconds of a clock that never jumps, near Unix time.
    pub received_ms: u64,
}

impl<'a> StoredMessage<'a> {
    /// Of a publication that is being routed.
    pub fn new(publication: Publication<'a>, quality: (QoS, bool), client_id: &'a str, received_ms: u64) -> Self {
        StoredMessage { publication, qos: quality.0, retain: quality.1, client_id, received_ms }
    }

    /// Reads a body, which may be anything.
    pub fn decode(body: &'a [u8]) -> Result<StoredMessage<'a>, Failure> {
        const WHOLE: Failure = Failure::Malformed("a whole message");
        let mut rest = body;
        let head = take(&mut rest, HEAD).ok_or(WHOLE)?;
        let client_id = take(&mut rest, usize::from(u16_at(head, 13))).ok_or(WHOLE)?;
        let topic = take(&mut rest, usize::from(u16_at(head, 15))).ok_or(WHOLE)?;
        let properties = take(&mut rest, u32_at(head, 17) as usize).ok_or(WHOLE)?;
        let publication = Publication {
            topic: Topic::parse(topic).map_err(|_| Failure::Malformed("a topic"))?,
            properties: Properties::trusted(properties),
            expiry_s: (head[0] & EXPIRES != 0).then(|| u32_at(head, 9)),
            payload: rest,
        };
        let qos = QoS::from_bits(head[0] & 3).ok_or(Failure::Malformed("a QoS"))?;
        let client_id = str::from_utf8(client_id).map_err(|_| Failure::Malformed("a client identifier"))?;
        Ok(StoredMessage::new(publication, (qos, head[0] & RETAIN != 0), client_id, u64_at(head, 1)))
    }

    /// Writes the body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let publication = &self.publication;
        let (topic, properties) = (publication.topic.as_str().as_bytes(), publication.properties.raw());
        let expires = if publication.expiry_s.is_some() { EXPIRES } else { 0 };
        out.push(self.qos as u8 | (u8::from(self.retain) * RETAIN) | expires);
        out.extend(self.received_ms.to_le_bytes());
        out.extend(publication.expiry_s.unwrap_or(0).to_le_bytes());
        out.extend((self.client_id.len() as u16).to_le_bytes());
        out.extend((topic.len() as u16).to_le_bytes());
        out.extend((properties.len() as u32).to_le_bytes());
        out.extend_from_slice(self.client_id.as_bytes());
        out.extend_from_slice(topic);
        out.extend_from_slice(properties);
        out.extend_from_slice(publication.payload);
    }

    /// An owned message; who comes from many messages keeps one copy of the client identifier himself.
    pub fn to_message(self, client_id: std::sync::Arc<str>) -> Message {
        Message::new(&self.publication, self.qos, self.retain, Origin { client_id, received_ms: self.received_ms })
    }
}
