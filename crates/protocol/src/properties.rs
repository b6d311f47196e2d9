//! The property table of MQTT 5.0 (section 2.2.2.2): one row a property, read by decode, encode and the tests.
//!
//! Knows identifiers, value shapes and the packets that may carry each. Does not know what a property means.

use crate::primitives::{Decoded, Reader, put_binary, put_varint, text};
use crate::violation::Violation;

/// The packets (and the will) that carry properties, as bits of a row's `packets`.
pub mod carrier {
    #![allow(missing_docs)]
    pub const CONNECT: u16 = 1 << 0;
    pub const CONNACK: u16 = 1 << 1;
    pub const PUBLISH: u16 = 1 << 2;
    pub const PUBACK: u16 = 1 << 3;
    pub const PUBREC: u16 = 1 << 4;
    pub const PUBREL: u16 = 1 << 5;
    pub const PUBCOMP: u16 = 1 << 6;
    pub const SUBSCRIBE: u16 = 1 << 7;
    pub const SUBACK: u16 = 1 << 8;
    pub const UNSUBSCRIBE: u16 = 1 << 9;
    pub const UNSUBACK: u16 = 1 << 10;
    pub const DISCONNECT: u16 = 1 << 11;
    pub const AUTH: u16 = 1 << 12;
    pub const WILL: u16 = 1 << 13;
    pub const ANY: u16 = (1 << 13) - 1;
}

/// The shape of a property's value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A byte that is 0 or 1.
    Flag,
    /// Two bytes.
    Two,
    /// Two bytes, not 0.
    NonZeroTwo,
    /// Four bytes.
    Four,
    /// Four bytes, not 0.
    NonZeroFour,
    /// A variable byte integer, not 0.
    NonZeroVarint,
    /// A UTF-8 string.
    Text,
    /// Two UTF-8 strings.
    Pair,
    /// Binary data.
    Binary,
}

/// A property's value, borrowed from the packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Value<'a> {
    /// Of every integer kind.
    Number(u32),
    /// Of [`Kind::Text`].
    Text(&'a str),
    /// Of [`Kind::Pair`].
    Pair(&'a str, &'a str),
    /// Of [`Kind::Binary`].
    Binary(&'a [u8]),
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The identifier on the wire.
    pub id: u8,
    /// The shape of the value.
    pub kind: Kind,
    /// Which packets may carry it.
    pub packets: u16,
    /// Whether it may stand more than once in a packet.
    pub repeats: bool,
}

macro_rules! properties {
    ($($name:ident = $id:literal, $kind:ident, $packets:expr, $repeats:literal;)*) => {
        /// The identifiers.
        pub mod id {
            #![allow(missing_docs)]
            $(pub const $name: u8 = $id;)*
        }

        /// The table, ordered by identifier.
        pub const TABLE: &[Row] = {
            use carrier::*;
            &[$(Row { id: $id, kind: Kind::$kind, packets: $packets, repeats: $repeats },)*]
        };
    };
}

properties! {
    PAYLOAD_FORMAT_INDICATOR = 0x01, Flag, PUBLISH | WILL, false;
    MESSAGE_EXPIRY_INTERVAL = 0x02, Four, PUBLISH | WILL, false;
    CONTENT_TYPE = 0x03, Text, PUBLISH | WILL, false;
    RESPONSE_TOPIC = 0x08, Text, PUBLISH | WILL, false;
    CORRELATION_DATA = 0x09, Binary, PUBLISH | WILL, false;
    SUBSCRIPTION_IDENTIFIER = 0x0B, NonZeroVarint, PUBLISH | SUBSCRIBE, true;
    SESSION_EXPIRY_INTERVAL = 0x11, Four, CONNECT | CONNACK | DISCONNECT, false;
    ASSIGNED_CLIENT_IDENTIFIER = 0x12, Text, CONNACK, false;
    SERVER_KEEP_ALIVE = 0x13, Two, CONNACK, false;
    AUTHENTICATION_METHOD = 0x15, Text, CONNECT | CONNACK | AUTH, false;
    AUTHENTICATION_DATA = 0x16, Binary, CONNECT | CONNACK | AUTH, false;
    REQUEST_PROBLEM_INFORMATION = 0x17, Flag, CONNECT, false;
    WILL_DELAY_INTERVAL = 0x18, Four, WILL, false;
    REQUEST_RESPONSE_INFORMATION = 0x19, Flag, CONNECT, false;
    RESPONSE_INFORMATION = 0x1A, Text, CONNACK, false;
    SERVER_REFERENCE = 0x1C, Text, CONNACK | DISCONNECT, false;
    REASON_STRING = 0x1F, Text, ANY & !(CONNECT | PUBLISH | SUBSCRIBE | UNSUBSCRIBE), false;
    RECEIVE_MAXIMUM = 0x21, NonZeroTwo, CONNECT | CONNACK, false;
    TOPIC_ALIAS_MAXIMUM = 0x22, Two, CONNECT | CONNACK, false;
    TOPIC_ALIAS = 0x23, Two, PUBLISH, false;
    MAXIMUM_QOS = 0x24, Flag, CONNACK, false;
    RETAIN_AVAILABLE = 0x25, Flag, CONNACK, false;
    USER_PROPERTY = 0x26, Pair, ANY | WILL, true;
    MAXIMUM_PACKET_SIZE = 0x27, NonZeroFour, CONNECT | CONNACK, false;
    WILDCARD_SUBSCRIPTION_AVAILABLE = 0x28, Flag, CONNACK, false;
    SUBSCRIPTION_IDENTIFIER_AVAILABLE = 0x29, Flag, CONNACK, false;
    SHARED_SUBSCRIPTION_AVAILABLE = 0x2A, Flag, CONNACK, false;
}

fn row(id: u8) -> Option<&'static Row> {
    TABLE.binary_search_by_key(&id, |row| row.id).ok().map(|index| &TABLE[index])
}

/// The property section of a packet: checked once, then read where it lies.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Properties<'a> {
    raw: &'a [u8],
}

impl<'a> Properties<'a> {
    /// Reads the length and checks every property against the table for the packet named by `carrier`.
    ///
    /// Unknown or misplaced: malformed; twice where once is allowed: protocol error (section 2.2.2.2).
    pub fn parse(reader: &mut Reader<'a>, carrier: u16) -> Decoded<Properties<'a>> {
        let length = reader.varint()? as usize;
        let raw = reader.take(length)?;
        let mut seen = 0_u64;
        let mut rest = Reader::new(raw);
        while !rest.is_empty() {
            let (row, _) = read_property(&mut rest)?;
            if row.packets & carrier == 0 {
                return Err(Violation::malformed("property in a packet that must not carry it"));
            }
            let bit = 1 << row.id;
            if seen & bit != 0 && !(row.repeats && carrier & carrier::SUBSCRIBE == 0 || row.id == id::USER_PROPERTY) {
                return Err(Violation::protocol("property stands twice"));
            }
            seen |= bit;
        }
        Ok(Properties { raw })
    }

    /// Takes bytes that were checked before, as a stored message holds them.
    pub fn trusted(raw: &'a [u8]) -> Properties<'a> {
        Properties { raw }
    }

    /// The bytes behind the length.
    pub fn raw(self) -> &'a [u8] {
        self.raw
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.raw.is_empty()
    }

    /// All properties in their order: identifier and value.
    pub fn iter(self) -> impl Iterator<Item = (u8, Value<'a>)> {
        let mut rest = Reader::new(self.raw);
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            // Checked by `parse`; a failure here would end the iteration early and harm nobody.
            read_property(&mut rest).ok().map(|(row, value)| (row.id, value))
        })
    }

    /// The first value of `id`.
    pub fn first(self, id: u8) -> Option<Value<'a>> {
        self.iter().find(|(found, _)| *found == id).map(|(_, value)| value)
    }

    /// The first value of an integer property.
    pub fn number(self, id: u8) -> Option<u32> {
        match self.first(id) {
            Some(Value::Number(number)) => Some(number),
            _ => None,
        }
    }

    /// The first value of a text property.
    pub fn text(self, id: u8) -> Option<&'a str> {
        match self.first(id) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }
}

fn read_property<'a>(reader: &mut Reader<'a>) -> Decoded<(&'static Row, Value<'a>)> {
    let id = reader.u8()?; // Every identifier in use fits one byte of the variable byte integer.
    let row = row(id).ok_or(Violation::malformed("unknown property identifier"))?;
    Ok((row, read_value(reader, row.kind)?))
}

fn read_value<'a>(reader: &mut Reader<'a>, kind: Kind) -> Decoded<Value<'a>> {
    let value = match kind {
        Kind::Flag => match reader.u8()? {
            flag @ 0..=1 => Value::Number(u32::from(flag)),
            _ => return Err(Violation::protocol("property other than 0 and 1")),
        },
        Kind::Two | Kind::NonZeroTwo => Value::Number(u32::from(reader.u16()?)),
        Kind::Four | Kind::NonZeroFour => Value::Number(reader.u32()?),
        Kind::NonZeroVarint => Value::Number(reader.varint()?),
        Kind::Text => Value::Text(text(reader.binary()?)?),
        Kind::Pair => Value::Pair(text(reader.binary()?)?, text(reader.binary()?)?),
        Kind::Binary => Value::Binary(reader.binary()?),
    };
    let must_not_be_zero = matches!(kind, Kind::NonZeroTwo | Kind::NonZeroFour | Kind::NonZeroVarint);
    if must_not_be_zero && value == Value::Number(0) {
        return Err(Violation::protocol("property that must not be 0"));
    }
    Ok(value)
}

/// Appends one property. `value` must have the shape of `id`'s row, which the tests check for every row.
pub fn put_property(out: &mut Vec<u8>, id: u8, value: Value<'_>) {
    let Some(row) = row(id) else { return };
    out.push(id);
    match (row.kind, value) {
        (Kind::Flag, Value::Number(number)) => out.push(number as u8),
        (Kind::Two | Kind::NonZeroTwo, Value::Number(number)) => out.extend_from_slice(&(number as u16).to_be_bytes()),
        (Kind::Four | Kind::NonZeroFour, Value::Number(number)) => out.extend_from_slice(&number.to_be_bytes()),
        (Kind::NonZeroVarint, Value::Number(number)) => put_varint(out, number),
        (Kind::Text, Value::Text(text)) => put_binary(out, text.as_bytes()),
        (Kind::Pair, Value::Pair(name, value)) => {
            put_binary(out, name.as_bytes());
            put_binary(out, value.as_bytes());
        }
        (Kind::Binary, Value::Binary(bytes)) => put_binary(out, bytes),
        _ => debug_assert!(false, "value of another shape than property {id:#04x} has"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(kind: Kind) -> Value<'static> {
        match kind {
            Kind::Text => Value::Text("text"),
            Kind::Pair => Value::Pair("name", "value"),
            Kind::Binary => Value::Binary(b"\x00\xFF"),
            _ => Value::Number(1),
        }
    }

    fn section(properties: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_varint(&mut bytes, properties.len() as u32);
        bytes.extend_from_slice(properties);
        bytes
    }

    fn parse(properties: &[u8], carrier: u16) -> Decoded<()> {
        Properties::parse(&mut Reader::new(&section(properties)), carrier).map(|_| ())
    }

    #[test]
    fn the_table_is_sorted_so_that_binary_search_finds_every_row() {
        assert!(TABLE.windows(2).all(|pair| pair[0].id < pair[1].id));
    }

    #[test]
    fn every_row_comes_back_as_written_and_only_in_its_packets() {
        for row in TABLE {
            let mut raw = Vec::new();
            put_property(&mut raw, row.id, sample(row.kind));
            for bit in 0..14 {
                let carrier = 1 << bit;
                assert_eq!(parse(&raw, carrier).is_ok(), row.packets & carrier != 0, "{row:?} in {bit}");
            }
            let value = Properties::trusted(&raw).first(row.id);
            assert_eq!(value, Some(sample(row.kind)), "{row:?}");
        }
    }

    #[test]
    fn a_property_stands_twice_only_where_the_table_says_so() {
        for row in TABLE {
            let mut raw = Vec::new();
            put_property(&mut raw, row.id, sample(row.kind));
            put_property(&mut raw, row.id, sample(row.kind));
            let carrier = 1 << row.packets.trailing_zeros();
            assert_eq!(parse(&raw, carrier).is_ok(), row.repeats, "{row:?}");
        }
    }

    #[test]
    fn a_subscription_identifier_stands_once_in_subscribe() {
        let raw = [id::SUBSCRIPTION_IDENTIFIER, 1, id::SUBSCRIPTION_IDENTIFIER, 2];
        assert!(parse(&raw, carrier::PUBLISH).is_ok());
        assert_eq!(parse(&raw, carrier::SUBSCRIBE), Err(Violation::protocol("property stands twice")));
    }
}
