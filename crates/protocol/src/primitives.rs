//! The data representations of MQTT (5.0 section 1.5, 3.1.1 section 1.5): integers, strings, variable byte integers.
//!
//! Knows how a value stands in bytes. Does not know packets.

use crate::violation::Violation;

/// The largest value of a variable byte integer (four bytes of seven bits).
pub const VARINT_MAX: u32 = 268_435_455;

/// What decoding functions return.
pub type Decoded<T> = Result<T, Violation>;

/// A cursor over the bytes of one packet; every read checks what is left.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes }
    }

    /// Whether everything was read.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What is left, without reading it.
    pub fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// Reads exactly `count` bytes.
    pub fn take(&mut self, count: usize) -> Decoded<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or(TRUNCATED)?;
        self.bytes = rest;
        Ok(taken)
    }

    /// One byte.
    pub fn u8(&mut self) -> Decoded<u8> {
        let (first, rest) = self.bytes.split_first().ok_or(TRUNCATED)?;
        self.bytes = rest;
        Ok(*first)
    }

    /// Two Byte Integer, section 1.5.2.
    pub fn u16(&mut self) -> Decoded<u16> {
        let (value, rest) = self.bytes.split_first_chunk::<2>().ok_or(TRUNCATED)?;
        self.bytes = rest;
        Ok(u16::from_be_bytes(*value))
    }

    /// Four Byte Integer, section 1.5.3.
    pub fn u32(&mut self) -> Decoded<u32> {
        let (value, rest) = self.bytes.split_first_chunk::<4>().ok_or(TRUNCATED)?;
        self.bytes = rest;
        Ok(u32::from_be_bytes(*value))
    }

    /// Variable Byte Integer, section 1.5.5.
    pub fn varint(&mut self) -> Decoded<u32> {
        let (value, length) = varint(self.bytes)?.ok_or(TRUNCATED)?;
        self.bytes = &self.bytes[length..];
        Ok(value)
    }

    /// Binary Data, section 1.5.6.
    pub fn binary(&mut self) -> Decoded<&'a [u8]> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }

    /// UTF-8 Encoded String, section 1.5.4.
    pub fn string(&mut self) -> Decoded<&'a str> {
        text(self.binary()?)
    }

    /// A packet identifier, which must not be 0 [MQTT-2.2.1-3].
    pub fn packet_id(&mut self) -> Decoded<u16> {
        match self.u16()? {
            0 => Err(Violation::protocol("packet identifier 0")),
            id => Ok(id),
        }
    }
}

const TRUNCATED: Violation = Violation::malformed("packet ends inside a field");

/// Reads a variable byte integer: (value, its length), or None when more bytes are needed.
///
/// An encoding longer than needed is malformed [MQTT-1.5.5-1].
pub fn varint(bytes: &[u8]) -> Decoded<Option<(u32, usize)>> {
    let mut value = 0;
    for (index, byte) in bytes.iter().enumerate().take(4) {
        value |= u32::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return if *byte == 0 && index > 0 {
                Err(Violation::malformed("length encoded in more bytes than needed"))
            } else {
                Ok(Some((value, index + 1)))
            };
        }
    }
    if bytes.len() >= 4 { Err(Violation::malformed("length of more than four bytes")) } else { Ok(None) }
}

/// Checks a UTF-8 string: well-formed [MQTT-1.5.4-1] and without U+0000 [MQTT-1.5.4-2].
pub fn text(bytes: &[u8]) -> Decoded<&str> {
    let text = std::str::from_utf8(bytes).map_err(|_| Violation::malformed("string is not UTF-8"))?;
    if bytes.contains(&0) {
        return Err(Violation::malformed("string contains U+0000"));
    }
    Ok(text)
}

/// Appends a variable byte integer; `value` is at most [`VARINT_MAX`].
pub fn put_varint(out: &mut Vec<u8>, mut value: u32) {
    debug_assert!(value <= VARINT_MAX);
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// How many bytes [`put_varint`] writes.
pub fn varint_len(value: u32) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}

/// Appends binary data or a string with its two-byte length; at most 65,535 bytes.
pub fn put_binary(out: &mut Vec<u8>, bytes: &[u8]) {
    debug_assert!(bytes.len() <= usize::from(u16::MAX));
    out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
    out.extend_from_slice(bytes);
}
