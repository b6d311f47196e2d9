//! Packets to bytes (MQTT 5.0 and 3.1.1, chapters 2 and 3).
//!
//! Knows the wire. Writes behind what the buffer holds already. Does not know when a packet may be sent.

use crate::message::Publication;
use crate::packet::{Ack, ConnAck, Connect, Disconnect, Packet, Publish, QoS, SubAck, Subscribe, Unsubscribe, Version};
use crate::primitives::{VARINT_MAX, put_binary, put_varint, varint_len};
use crate::properties::{Properties, Value, id, put_property};
use crate::reason::ReasonCode;

/// Encodes any packet for a connection of `version`.
///
/// What the version has no place for (properties, reason codes) is left out; AUTH and a server's DISCONNECT do not exist
/// in 3.1.1, and nothing is written for AUTH there.
pub fn encode(out: &mut Vec<u8>, version: Version, packet: &Packet<'_>) {
    match packet {
        Packet::Connect(packet) => connect(out, packet),
        Packet::ConnAck(packet) => connack(out, version, packet),
        Packet::Publish(packet) => publish_packet(out, version, packet),
        Packet::PubAck(packet) => ack(out, version, 0x40, packet),
        Packet::PubRec(packet) => ack(out, version, 0x50, packet),
        Packet::PubRel(packet) => ack(out, version, 0x62, packet),
        Packet::PubComp(packet) => ack(out, version, 0x70, packet),
        Packet::Subscribe(packet) => subscribe(out, version, packet),
        Packet::SubAck(packet) => suback(out, version, 0x90, packet),
        Packet::Unsubscribe(packet) => unsubscribe(out, version, packet),
        Packet::UnsubAck(packet) => suback(out, version, 0xB0, packet),
        Packet::PingReq => out.extend_from_slice(&[0xC0, 0]),
        Packet::PingResp => out.extend_from_slice(&[0xD0, 0]),
        Packet::Disconnect(packet) => disconnect(out, version, 0xE0, packet),
        Packet::Auth(packet) if version == Version::V5 => disconnect(out, version, 0xF0, packet),
        Packet::Auth(_) => {}
    }
}

/// How a PUBLISH names its topic (MQTT 5.0 section 3.3.2.3.4).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Naming {
    /// By the topic.
    #[default]
    Topic,
    /// By the topic, and sets an alias for it.
    Both,
    /// By an alias set before.
    Alias,
}

/// What makes one encoding of a publication differ from another, besides packet identifier and subscription identifiers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Of the receiving connection.
    pub version: Version,
    /// Of the delivery.
    pub qos: QoS,
    /// Retain flag of the delivery.
    pub retain: bool,
    /// Whether there is an alias; only in 5.0.
    pub naming: Naming,
}

/// Where things lie in a PUBLISH just written, counted from its first byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    /// Of the two bytes of the packet identifier, which are written as 0; 0 where there is none (QoS 0).
    pub packet_id_at: usize,
    /// Of the two bytes of the topic alias, which are written as 0; 0 where there is none.
    pub alias_at: usize,
    /// Length of the whole packet, payload included.
    pub len: usize,
}

/// Encodes a publication up to its payload; the caller appends or splices the payload's bytes.
///
/// Returns None, and writes nothing, if the packet would be longer than the wire allows.
pub fn publish_head(out: &mut Vec<u8>, shape: Shape, publication: &Publication<'_>, ids: &[u32]) -> Option<Layout> {
    let topic = if shape.naming == Naming::Alias { b"" } else { publication.topic.as_str().as_bytes() };
    let alias_len = if shape.naming == Naming::Topic { 0 } else { 3 };
    let id_len = if shape.qos == QoS::AtMostOnce { 0 } else { 2 };
    let ids_len = ids.iter().map(|id| 1 + varint_len(*id)).sum::<usize>();
    let properties_len = alias_len + publication.properties.raw().len() + ids_len;
    let section_len = match shape.version {
        Version::V5 => varint_len(properties_len as u32) + properties_len,
        Version::V31 | Version::V311 => 0,
    };
    let remaining = 2 + topic.len() + id_len + section_len + publication.payload.len();
    if remaining > VARINT_MAX as usize {
        return None;
    }
    let start = out.len();
    out.push(0x30 | (shape.qos as u8) << 1 | u8::from(shape.retain));
    put_varint(out, remaining as u32);
    put_binary(out, topic);
    let packet_id_at = if id_len == 0 { 0 } else { out.len() - start };
    out.extend_from_slice(&[0, 0][..id_len]);
    let mut alias_at = 0;
    if shape.version == Version::V5 {
        put_varint(out, properties_len as u32);
        if alias_len > 0 {
            alias_at = out.len() + 1 - start;
            put_property(out, id::TOPIC_ALIAS, Value::Number(0));
        }
        put_forwarded(out, publication);
        for id in ids {
            put_property(out, id::SUBSCRIPTION_IDENTIFIER, Value::Number(*id));
        }
    }
    Some(Layout { packet_id_at, alias_at, len: 1 + varint_len(remaining as u32) + remaining })
}

fn put_forwarded(out: &mut Vec<u8>, publication: &Publication<'_>) {
    let Some(expiry_s) = publication.expiry_s else {
        out.extend_from_slice(publication.properties.raw());
        return;
    };
    for (id, value) in publication.properties.iter() {
        let value = if id == id::MESSAGE_EXPIRY_INTERVAL { Value::Number(expiry_s) } else { value };
        put_property(out, id, value);
    }
}

fn publish_packet(out: &mut Vec<u8>, version: Version, packet: &Publish<'_>) {
    let mut body = Vec::with_capacity(packet.payload.len() + 64);
    put_binary(&mut body, packet.topic.map_or("", |topic| topic.as_str()).as_bytes());
    if packet.qos != QoS::AtMostOnce {
        body.extend_from_slice(&packet.packet_id.to_be_bytes());
    }
    put_section(&mut body, version, packet.properties);
    body.extend_from_slice(packet.payload);
    let flags = u8::from(packet.dup) << 3 | (packet.qos as u8) << 1 | u8::from(packet.retain);
    put_packet(out, 0x30 | flags, &body);
}

/// Appends an acknowledgement in its shortest form (section 3.4.2.1).
#[inline]
pub fn ack(out: &mut Vec<u8>, version: Version, first: u8, packet: &Ack<'_>) {
    let [high, low] = packet.packet_id.to_be_bytes();
    if version < Version::V5 || (packet.reason == ReasonCode::SUCCESS && packet.properties.is_empty()) {
        out.extend_from_slice(&[first, 2, high, low]);
    } else if packet.properties.is_empty() {
        out.extend_from_slice(&[first, 3, high, low, packet.reason.0]);
    } else {
        let mut body = vec![high, low, packet.reason.0];
        put_section(&mut body, version, packet.properties);
        put_packet(out, first, &body);
    }
}

fn connect(out: &mut Vec<u8>, packet: &Connect<'_>) {
    let mut body = Vec::with_capacity(64);
    put_binary(&mut body, packet.version.protocol_name());
    body.push(packet.version as u8);
    let mut flags = u8::from(packet.clean_start) << 1;
    if let Some(will) = &packet.will {
        flags |= 4 | (will.qos as u8) << 3 | u8::from(will.retain) << 5;
    }
    flags |= u8::from(packet.username.is_some()) << 7 | u8::from(packet.password.is_some()) << 6;
    body.push(flags);
    body.extend_from_slice(&packet.keep_alive_s.to_be_bytes());
    put_section(&mut body, packet.version, packet.properties);
    put_binary(&mut body, packet.client_id.as_bytes());
    if let Some(will) = &packet.will {
        put_section(&mut body, packet.version, will.properties);
        put_binary(&mut body, will.topic.as_str().as_bytes());
        put_binary(&mut body, will.payload);
    }
    if let Some(username) = packet.username {
        put_binary(&mut body, username.as_bytes());
    }
    if let Some(password) = packet.password {
        put_binary(&mut body, password);
    }
    put_packet(out, 0x10, &body);
}

fn connack(out: &mut Vec<u8>, version: Version, packet: &ConnAck<'_>) {
    let code = if version == Version::V5 { packet.reason.0 } else { packet.reason.connect_return_code() };
    // The flag came with 3.1.1; in 3.1 the byte is reserved.
    let session_present = packet.session_present && version > Version::V31;
    let mut body = vec![u8::from(session_present), code];
    put_section(&mut body, version, packet.properties);
    put_packet(out, 0x20, &body);
}

fn subscribe(out: &mut Vec<u8>, version: Version, packet: &Subscribe<'_>) {
    let mut body = packet.packet_id.to_be_bytes().to_vec();
    put_section(&mut body, version, packet.properties);
    for (filter, options) in &packet.filters {
        // A refused filter has no text any more; only the side that received it knows such.
        put_binary(&mut body, filter.map_or("", |filter| filter.as_str()).as_bytes());
        body.push(if version == Version::V5 { options.bits() } else { options.qos as u8 });
    }
    put_packet(out, 0x82, &body);
}

fn unsubscribe(out: &mut Vec<u8>, version: Version, packet: &Unsubscribe<'_>) {
    let mut body = packet.packet_id.to_be_bytes().to_vec();
    put_section(&mut body, version, packet.properties);
    for filter in &packet.filters {
        put_binary(&mut body, filter.map_or("", |filter| filter.as_str()).as_bytes());
    }
    put_packet(out, 0xA2, &body);
}

fn suback(out: &mut Vec<u8>, version: Version, first: u8, packet: &SubAck<'_>) {
    let mut body = packet.packet_id.to_be_bytes().to_vec();
    put_section(&mut body, version, packet.properties);
    if version == Version::V5 {
        body.extend(packet.reasons.iter().map(|reason| reason.0));
    } else if first == 0x90 {
        // 3.1.1 knows one failure code [MQTT-3.9.3-2]; 3.1 knows none, so the least promise stands for it.
        let failure = if version == Version::V31 { 0 } else { 0x80 };
        body.extend(packet.reasons.iter().map(|reason| if reason.is_error() { failure } else { reason.0 }));
    }
    put_packet(out, first, &body);
}

fn disconnect(out: &mut Vec<u8>, version: Version, first: u8, packet: &Disconnect<'_>) {
    let bare = packet.reason == ReasonCode::SUCCESS && packet.properties.is_empty();
    if version < Version::V5 || bare {
        out.extend_from_slice(&[first, 0]);
        return;
    }
    let mut body = vec![packet.reason.0];
    put_section(&mut body, version, packet.properties);
    put_packet(out, first, &body);
}

fn put_section(body: &mut Vec<u8>, version: Version, properties: Properties<'_>) {
    if version == Version::V5 {
        put_varint(body, properties.raw().len() as u32);
        body.extend_from_slice(properties.raw());
    }
}

fn put_packet(out: &mut Vec<u8>, first: u8, body: &[u8]) {
    out.push(first);
    put_varint(out, body.len() as u32);
    out.extend_from_slice(body);
}
