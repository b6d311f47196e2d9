//! WebSocket frames as a server reads and writes them (RFC 6455, section 5).
//!
//! Knows headers, masks, fragments and control frames. What MQTT needs of a data frame is its bytes, in order, so these
//! pass through while they arrive: no frame is ever gathered, and its length bounds nothing here (the packet size does,
//! behind). Does not know sockets, HTTP or MQTT.

/// Why a connection is closed (RFC 6455, section 7.4.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CloseCode(pub u16);

impl CloseCode {
    /// All is well.
    pub const NORMAL: CloseCode = CloseCode(1000);
    /// Frames that break the protocol.
    pub const PROTOCOL_ERROR: CloseCode = CloseCode(1002);
    /// Text: MQTT is binary [MQTT-6.0.0-1].
    pub const UNSUPPORTED: CloseCode = CloseCode(1003);
    /// Text that is not UTF-8.
    pub const INVALID_TEXT: CloseCode = CloseCode(1007);
}

/// What a piece of the stream held.
#[derive(PartialEq, Eq, Debug, Default)]
pub struct Decoded {
    /// Bytes of data, moved to the front of the piece.
    pub len: usize,
    /// What the last PING in it wants back; older ones need no answer.
    pub pong: Option<Vec<u8>>,
    /// The connection ends, and the peer is told this code; whatever follows is not read.
    pub close: Option<CloseCode>,
}

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

const CONTROL_BYTES_MAX: u64 = 125;
const HEADER_BYTES_MAX: usize = 14;

/// The reading side of a connection.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The beginning of a header whose end has not come.
    header: [u8; HEADER_BYTES_MAX],
    header_len: u8,
    /// The frame in progress; None between frames.
    frame: Option<Frame>,
    /// The payload of a control frame in progress.
    control: Vec<u8>,
    /// A message's first fragment came and its last did not.
    is_fragmented: bool,
    is_closed: bool,
}

#[derive(Debug)]
struct Frame {
    opcode: u8,
    left: u64,
    /// Turned so that its first byte belongs to the next byte of the payload.
    mask: [u8; 4],
}

impl Decoder {
    /// Reads a piece of the stream, cut anywhere, and leaves its data at its front.
    pub fn decode(&mut self, bytes: &mut [u8]) -> Decoded {
        let mut decoded = Decoded::default();
        let mut at = 0;
        while at < bytes.len() && !self.is_closed {
            match self.frame.take() {
                None => self.take_header_byte(bytes[at], &mut decoded),
                Some(frame) => {
                    at += self.take_payload(frame, bytes, at, &mut decoded);
                    continue;
                }
            }
            at += 1;
        }
        decoded
    }

    fn take_header_byte(&mut self, byte: u8, decoded: &mut Decoded) {
        self.header[usize::from(self.header_len)] = byte;
        self.header_len += 1;
        let header = &self.header[..usize::from(self.header_len)];
        match self.read_header(header) {
            Ok(None) => {}
            Ok(Some(frame)) => {
                self.header_len = 0;
                self.begin(frame, decoded);
            }
            Err(code) => self.close(code, decoded),
        }
    }

    /// The frame that a whole header announces; None while bytes of it are missing.
    fn read_header(&self, header: &[u8]) -> Result<Option<Frame>, CloseCode> {
        let opcode = header[0] & 0x0F;
        self.check_first(header[0])?;
        let Some(&second) = header.get(1) else { return Ok(None) };
        if second & 0x80 == 0 {
            return Err(CloseCode::PROTOCOL_ERROR); // A client masks [RFC 6455, section 5.1].
        }
        let Some((left, at)) = length(header, second & 0x7F)? else { return Ok(None) };
        if opcode >= CLOSE && left > CONTROL_BYTES_MAX {
            return Err(CloseCode::PROTOCOL_ERROR);
        }
        let mask = header.get(at..at + 4).and_then(|mask| mask.try_into().ok());
        Ok(mask.map(|mask| Frame { opcode, left, mask }))
    }

    fn check_first(&self, first: u8) -> Result<(), CloseCode> {
        let (is_final, opcode) = (first & 0x80 != 0, first & 0x0F);
        let is_allowed = match opcode {
            TEXT if !self.is_fragmented => return Err(CloseCode::UNSUPPORTED),
            CONTINUATION => self.is_fragmented,
            BINARY => !self.is_fragmented,
            CLOSE | PING | PONG => is_final,
            _ => false,
        };
        // No extension was agreed on that could give the reserved bits a meaning.
        if is_allowed && first & 0x70 == 0 { Ok(()) } else { Err(CloseCode::PROTOCOL_ERROR) }
    }

    fn begin(&mut self, frame: Frame, decoded: &mut Decoded) {
        if frame.opcode < CLOSE {
            self.is_fragmented = self.header[0] & 0x80 == 0;
        }
        if frame.left > 0 {
            self.frame = Some(frame);
        } else {
            self.finish(frame.opcode, decoded);
        }
    }

    /// Takes what is there of a payload; returns how much that was.
    fn take_payload(&mut self, mut frame: Frame, bytes: &mut [u8], at: usize, decoded: &mut Decoded) -> usize {
        let count = usize::try_from(frame.left).unwrap_or(usize::MAX).min(bytes.len() - at);
        let taken = &mut bytes[at..at + count];
        for (place, byte) in taken.iter_mut().enumerate() {
            *byte ^= frame.mask[place & 3];
        }
        if frame.opcode >= CLOSE {
            self.control.extend_from_slice(taken);
        } else {
            bytes.copy_within(at..at + count, decoded.len);
            decoded.len += count;
        }
        frame.mask.rotate_left(count & 3);
        frame.left -= count as u64;
        if frame.left > 0 {
            self.frame = Some(frame);
        } else {
            self.finish(frame.opcode, decoded);
        }
        count
    }

    fn finish(&mut self, opcode: u8, decoded: &mut Decoded) {
        if opcode < CLOSE {
            return;
        }
        let payload = std::mem::take(&mut self.control);
        match opcode {
            PING => decoded.pong = Some(payload),
            CLOSE => self.close(answer_to_close(&payload), decoded),
            _ => {}
        }
    }

    fn close(&mut self, code: CloseCode, decoded: &mut Decoded) {
        self.is_closed = true;
        decoded.close = Some(code);
    }
}

/// The payload's length and where the mask begins; None while bytes of it are missing.
fn length(header: &[u8], short: u8) -> Result<Option<(u64, usize)>, CloseCode> {
    let (bytes, least) = match short {
        126 => (2, 126),
        127 => (8, 1 << 16),
        short => return Ok(Some((u64::from(short), 2))),
    };
    let Some(written) = header.get(2..2 + bytes) else { return Ok(None) };
    let length = written.iter().fold(0, |length, byte| length << 8 | u64::from(*byte));
    // The shortest form is the only one, and the highest bit stays 0 [RFC 6455, section 5.2].
    if length < least || length >> 63 != 0 {
        return Err(CloseCode::PROTOCOL_ERROR);
    }
    Ok(Some((length, 2 + bytes)))
}

fn answer_to_close(payload: &[u8]) -> CloseCode {
    let Some((code, text)) = payload.split_first_chunk::<2>() else {
        return if payload.is_empty() { CloseCode::NORMAL } else { CloseCode::PROTOCOL_ERROR };
    };
    let code = u16::from_be_bytes(*code);
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return CloseCode::PROTOCOL_ERROR;
    }
    if std::str::from_utf8(text).is_ok() { CloseCode(code) } else { CloseCode::INVALID_TEXT }
}

/// Appends a whole binary message.
pub fn put_data(out: &mut Vec<u8>, payload: &[u8]) {
    put(out, BINARY, payload);
}

/// Appends a PONG; `payload` has at most 125 bytes, as every PING has.
pub fn put_pong(out: &mut Vec<u8>, payload: &[u8]) {
    put(out, PONG, payload);
}

/// Appends a CLOSE.
pub fn put_close(out: &mut Vec<u8>, code: CloseCode) {
    put(out, CLOSE, &code.0.to_be_bytes());
}

fn put(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    out.push(0x80 | opcode);
    match payload.len() {
        length @ 0..126 => out.push(length as u8),
        length @ 126..0x1_0000 => {
            out.push(126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}
