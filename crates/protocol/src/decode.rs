//! Bytes to packets (MQTT 5.0 and 3.1.1, chapters 2 and 3).
//!
//! Knows the wire. Does not know the state of a connection: the version is an argument. Never panics, never allocates
//! more than the packet's own size; "more bytes needed" is a value.

use crate::packet::{
    Ack, ConnAck, Connect, Disconnect, Packet, Publish, QoS, SubAck, Subscribe, SubscriptionOptions, Unsubscribe,
    Version, Will,
};
use crate::primitives::{Decoded, Reader, varint};
use crate::properties::{Properties, carrier};
use crate::reason::ReasonCode;
use crate::share::Subscribed;
use crate::topic::{Filter, Topic};
use crate::violation::Violation;

/// A packet cut out of the stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame<'a> {
    /// Type and flags.
    pub first: u8,
    /// What follows the fixed header.
    pub body: &'a [u8],
    /// The packet's bytes, fixed header included.
    pub len: usize,
}

/// The outcome of looking for a packet at the start of the stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Split<'a> {
    /// There is one.
    Frame(Frame<'a>),
    /// It is cut; as far as known now it has this many bytes in all.
    Partial {
        /// At least 2.
        len: usize,
    },
}

/// Looks for a packet of at most `max_packet_size_bytes` at the start of `bytes`.
#[inline]
pub fn split(bytes: &[u8], max_packet_size_bytes: u32) -> Decoded<Split<'_>> {
    let [first, rest @ ..] = bytes else {
        return Ok(Split::Partial { len: 2 });
    };
    let Some((remaining, length_len)) = varint(rest)? else {
        return Ok(Split::Partial { len: bytes.len() + 1 });
    };
    let start = 1 + length_len;
    let len = start + remaining as usize;
    if len > max_packet_size_bytes as usize {
        return Err(Violation::new(ReasonCode::PACKET_TOO_LARGE, "packet larger than max_packet_size"));
    }
    Ok(match bytes.get(start..len) {
        Some(body) => Split::Frame(Frame { first: *first, body, len }),
        None => Split::Partial { len },
    })
}

/// Decodes a frame. CONNECT carries its own version; for all others `version` is the connection's.
#[inline]
pub fn decode<'a>(frame: Frame<'a>, version: Version) -> Decoded<Packet<'a>> {
    if frame.first >> 4 == 3 {
        return publish(frame, version).map(Packet::Publish);
    }
    decode_other(frame, version)
}

fn decode_other<'a>(frame: Frame<'a>, version: Version) -> Decoded<Packet<'a>> {
    let mut body = Reader::new(frame.body);
    let kind = frame.first >> 4;
    // The reserved flags are 0, or 0b0010 for PUBREL, SUBSCRIBE, UNSUBSCRIBE [MQTT-2.1.3-1]; in 3.1 one of these that
    // is sent again has DUP set.
    let meaningful = if version == Version::V31 && matches!(kind, 6 | 8 | 10) { 0x07 } else { 0x0F };
    if frame.first & meaningful != if matches!(kind, 6 | 8 | 10) { 2 } else { 0 } {
        return Err(Violation::malformed("reserved flags of the fixed header"));
    }
    let packet = match kind {
        1 => Packet::Connect(Box::new(connect(&mut body)?)),
        2 => Packet::ConnAck(connack(&mut body, version)?),
        4 => Packet::PubAck(ack(&mut body, version, carrier::PUBACK)?),
        5 => Packet::PubRec(ack(&mut body, version, carrier::PUBREC)?),
        6 => Packet::PubRel(ack(&mut body, version, carrier::PUBREL)?),
        7 => Packet::PubComp(ack(&mut body, version, carrier::PUBCOMP)?),
        8 => Packet::Subscribe(subscribe(&mut body, version)?),
        9 => Packet::SubAck(suback(&mut body, version, carrier::SUBACK)?),
        10 => Packet::Unsubscribe(unsubscribe(&mut body, version)?),
        11 => Packet::UnsubAck(suback(&mut body, version, carrier::UNSUBACK)?),
        12 => Packet::PingReq,
        13 => Packet::PingResp,
        14 => Packet::Disconnect(disconnect(&mut body, version, carrier::DISCONNECT)?),
        15 if version == Version::V5 => Packet::Auth(disconnect(&mut body, version, carrier::AUTH)?),
        _ => return Err(Violation::malformed("packet type that does not exist")),
    };
    if body.is_empty() { Ok(packet) } else { Err(Violation::malformed("bytes behind the packet's last field")) }
}

fn properties<'a>(body: &mut Reader<'a>, version: Version, carrier: u16) -> Decoded<Properties<'a>> {
    if version == Version::V5 { Properties::parse(body, carrier) } else { Ok(Properties::default()) }
}

fn qos(bits: u8) -> Decoded<QoS> {
    QoS::from_bits(bits).ok_or(Violation::malformed("QoS 3")) // [MQTT-3.3.1-4]
}

#[inline]
fn publish<'a>(frame: Frame<'a>, version: Version) -> Decoded<Publish<'a>> {
    let mut body = Reader::new(frame.body);
    let qos = qos(frame.first >> 1 & 3)?;
    let dup = frame.first & 8 != 0;
    if dup && qos == QoS::AtMostOnce && version > Version::V31 {
        return Err(Violation::malformed("DUP with QoS 0")); // [MQTT-3.3.1-2]
    }
    let topic = match body.binary()? {
        [] if version == Version::V5 => None,
        bytes => Some(Topic::parse(bytes)?),
    };
    let packet_id = if qos == QoS::AtMostOnce { 0 } else { body.packet_id()? };
    let properties = properties(&mut body, version, carrier::PUBLISH)?;
    Ok(Publish { dup, qos, retain: frame.first & 1 != 0, topic, packet_id, properties, payload: body.rest() })
}

fn connect<'a>(body: &mut Reader<'a>) -> Decoded<Connect<'a>> {
    let version = protocol(body)?;
    let flags = body.u8()?;
    if flags & 1 != 0 {
        return Err(Violation::malformed("reserved flag of CONNECT")); // [MQTT-3.1.2-3]
    }
    if flags & 4 == 0 && flags & 0x38 != 0 {
        return Err(Violation::malformed("will flags without a will")); // [MQTT-3.1.2-11]
    }
    if version < Version::V5 && flags & 0xC0 == 0x40 {
        return Err(Violation::malformed("password without a user name")); // [MQTT-3.1.2-22] of 3.1.1
    }
    let keep_alive_s = body.u16()?;
    let properties = properties(body, version, carrier::CONNECT)?;
    let client_id = body.string()?;
    let will = if flags & 4 != 0 { Some(will(body, version, flags)?) } else { None };
    // MQTT 3.1 section 3.1: the flag may announce a user name that is not there, as clients of 3.0 do.
    let flags = if version == Version::V31 && body.is_empty() { flags & 0x3F } else { flags };
    let username = if flags & 0x80 != 0 { Some(body.string()?) } else { None };
    let password = if flags & 0x40 != 0 { Some(body.binary()?) } else { None };
    let clean_start = flags & 2 != 0;
    Ok(Connect { version, clean_start, keep_alive_s, client_id, will, username, password, properties })
}

fn protocol(body: &mut Reader<'_>) -> Decoded<Version> {
    let unsupported = Violation::new(ReasonCode::UNSUPPORTED_PROTOCOL_VERSION, "protocol name or level not supported");
    Version::from_wire(body.binary()?, body.u8()?).ok_or(unsupported)
}

/// The version that the beginning of a CONNECT names, whatever follows it.
pub fn version_of_connect(body: &[u8]) -> Option<Version> {
    protocol(&mut Reader::new(body)).ok()
}

fn will<'a>(body: &mut Reader<'a>, version: Version, flags: u8) -> Decoded<Will<'a>> {
    let properties = properties(body, version, carrier::WILL)?;
    let topic = Topic::parse(body.binary()?)?;
    let payload = body.binary()?;
    Ok(Will { topic, payload, qos: qos(flags >> 3 & 3)?, retain: flags & 0x20 != 0, properties })
}

fn connack<'a>(body: &mut Reader<'a>, version: Version) -> Decoded<ConnAck<'a>> {
    let flags = body.u8()?;
    if flags > 1 {
        return Err(Violation::malformed("reserved flags of CONNACK"));
    }
    let byte = body.u8()?;
    let reason = if version == Version::V5 { reason(byte, carrier::CONNACK)? } else { ReasonCode(byte) };
    Ok(ConnAck { session_present: flags == 1, reason, properties: properties(body, version, carrier::CONNACK)? })
}

/// A code of another packet's list says nothing here: [MQTT-3.2.2-8], [MQTT-3.4.2-1], [MQTT-3.14.2-1] and their like.
fn reason(byte: u8, carrier: u16) -> Decoded<ReasonCode> {
    let reason = ReasonCode(byte);
    if reason.fits(carrier) { Ok(reason) } else { Err(Violation::protocol("reason code of another packet")) }
}

/// In MQTT 5 the reason code and the properties may be left out (section 3.4.2.1).
fn ack<'a>(body: &mut Reader<'a>, version: Version, carrier: u16) -> Decoded<Ack<'a>> {
    let packet_id = body.packet_id()?;
    if version < Version::V5 || body.is_empty() {
        return Ok(Ack::new(packet_id, ReasonCode::SUCCESS));
    }
    let reason = reason(body.u8()?, carrier)?;
    let properties = if body.is_empty() { Properties::default() } else { Properties::parse(body, carrier)? };
    Ok(Ack { packet_id, reason, properties })
}

fn subscribe<'a>(body: &mut Reader<'a>, version: Version) -> Decoded<Subscribe<'a>> {
    let packet_id = body.packet_id()?;
    let properties = properties(body, version, carrier::SUBSCRIBE)?;
    let mut filters = Vec::new();
    while !body.is_empty() {
        let filter = filter(body)?;
        let options = subscription_options(body.u8()?, version)?;
        if options.no_local && filter.is_ok_and(Filter::is_shared) {
            return Err(Violation::protocol("No Local on a shared subscription")); // [MQTT-3.8.3-4]
        }
        filters.push((filter, options));
    }
    if filters.is_empty() {
        return Err(Violation::protocol("SUBSCRIBE without a filter")); // [MQTT-3.8.3-2]
    }
    Ok(Subscribe { packet_id, properties, filters })
}

/// A filter, or why it is refused alone while the rest of its packet stands.
fn filter<'a>(body: &mut Reader<'a>) -> Decoded<Result<Filter<'a>, ReasonCode>> {
    let checked = |filter| Subscribed::new(filter).map(|_| filter);
    Ok(Filter::new(body.string()?).and_then(checked).map_err(|violation| violation.reason))
}

fn subscription_options(bits: u8, version: Version) -> Decoded<SubscriptionOptions> {
    let reserved = if version == Version::V5 { 0xC0 } else { 0xFC };
    if bits & reserved != 0 {
        return Err(Violation::malformed("reserved bits of the subscription options")); // [MQTT-3.8.3-5]
    }
    let retain_handling = bits >> 4 & 3;
    if retain_handling == 3 {
        return Err(Violation::protocol("retain handling 3"));
    }
    let Some(qos) = QoS::from_bits(bits & 3) else {
        // Section 3.8.3.1 calls it a protocol error, where a PUBLISH of QoS 3 is malformed.
        return Err(Violation::protocol("QoS 3 asked for"));
    };
    Ok(SubscriptionOptions { qos, no_local: bits & 4 != 0, retain_as_published: bits & 8 != 0, retain_handling })
}

fn unsubscribe<'a>(body: &mut Reader<'a>, version: Version) -> Decoded<Unsubscribe<'a>> {
    let packet_id = body.packet_id()?;
    let properties = properties(body, version, carrier::UNSUBSCRIBE)?;
    let mut filters = Vec::new();
    while !body.is_empty() {
        filters.push(filter(body)?);
    }
    if filters.is_empty() {
        return Err(Violation::protocol("UNSUBSCRIBE without a filter")); // [MQTT-3.10.3-2]
    }
    Ok(Unsubscribe { packet_id, properties, filters })
}

fn suback<'a>(body: &mut Reader<'a>, version: Version, carrier: u16) -> Decoded<SubAck<'a>> {
    let packet_id = body.packet_id()?;
    let properties = properties(body, version, carrier)?;
    let codes = body.take(body.rest().len())?.iter().copied();
    let reasons = match version {
        Version::V5 => codes.map(|byte| reason(byte, carrier)).collect::<Decoded<Vec<ReasonCode>>>()?,
        Version::V31 | Version::V311 => codes.map(ReasonCode).collect(),
    };
    Ok(SubAck { packet_id, properties, reasons })
}

/// An empty body means reason 0 (section 3.14.2.1), and is all there is in 3.1.1.
fn disconnect<'a>(body: &mut Reader<'a>, version: Version, carrier: u16) -> Decoded<Disconnect<'a>> {
    if version < Version::V5 || body.is_empty() {
        return Ok(Disconnect { reason: ReasonCode::SUCCESS, properties: Properties::default() });
    }
    let reason = reason(body.u8()?, carrier)?;
    let properties = if body.is_empty() { Properties::default() } else { Properties::parse(body, carrier)? };
    Ok(Disconnect { reason, properties })
}
