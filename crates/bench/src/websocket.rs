//! WebSocket of the clients: the upgrade, then binary frames around whatever MQTT writes (RFC 6455).
//!
//! Pure. Knows bytes in and out; no socket. What MQTT writes before the upgrade waits in its outbox.

/// Of the broker's answer to the upgrade.
const ANSWER_MAX_BYTES: usize = 8 * 1024;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;
const FINAL: u8 = 0x80;

/// One connection's.
pub struct WebSocket {
    is_open: bool,
    /// What is not complete yet: the answer to the upgrade, then a frame's head.
    head: Vec<u8>,
    /// Of the frame that is coming.
    opcode: u8,
    left: u64,
    control: Vec<u8>,
    /// Of the last frame that was sent.
    mask: u32,
    framed: Vec<u8>,
    /// The upgrade has just succeeded, so that the outbox can go.
    is_released: bool,
}

impl WebSocket {
    /// Begins with the request to upgrade.
    pub fn new(host: &str, path: &str) -> WebSocket {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: d2hpbWJyZWwtYmVuY2gtMQ==\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Protocol: mqtt\r\n\r\n"
        );
        WebSocket {
            is_open: false,
            head: Vec::new(),
            opcode: 0,
            left: 0,
            control: Vec::new(),
            mask: 0x9E37_79B9,
            framed: request.into_bytes(),
            is_released: false,
        }
    }

    /// Whether the broker has agreed.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// Takes what came and leaves MQTT's bytes at the front; returns their length, and why nothing more comes.
    pub fn receive(&mut self, came: &mut [u8]) -> (usize, Option<String>) {
        let (mut at, mut len) = (0, 0);
        while at < came.len() {
            if self.left > 0 {
                let end = at + (came.len() - at).min(usize::try_from(self.left).unwrap_or(usize::MAX));
                len += self.take(came, at..end, len);
                at = end;
            } else {
                self.head.push(came[at]);
                at += 1;
                if let Err(why) = self.look_at_head() {
                    return (len, Some(why));
                }
            }
            if self.left == 0 && self.opcode == CLOSE {
                return (len, Some("the broker closed the connection".into()));
            }
        }
        (len, None)
    }

    /// A part of a frame's payload; how much of it is MQTT's.
    fn take(&mut self, came: &mut [u8], part: std::ops::Range<usize>, to: usize) -> usize {
        self.left -= part.len() as u64;
        if self.opcode < CLOSE {
            let count = part.len();
            came.copy_within(part, to);
            return count;
        }
        self.control.extend_from_slice(&came[part]);
        if self.left == 0 {
            self.answer();
        }
        0
    }

    fn look_at_head(&mut self) -> Result<(), String> {
        if !self.is_open {
            return self.look_at_answer();
        }
        let &[first, second, ref rest @ ..] = self.head.as_slice() else {
            return Ok(());
        };
        let wanted = match second & 0x7F {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if rest.len() < wanted {
            return Ok(());
        }
        let long = rest.iter().fold(0, |length, byte| length << 8 | u64::from(*byte));
        self.left = if wanted == 0 { u64::from(second & 0x7F) } else { long };
        self.opcode = first & 0x0F;
        self.head.clear();
        self.control.clear();
        if self.opcode >= CLOSE && self.left > 125 {
            return Err("the broker sent a control frame of more than 125 bytes".into());
        }
        if self.left == 0 {
            self.answer();
        }
        Ok(())
    }

    fn look_at_answer(&mut self) -> Result<(), String> {
        if !self.head.ends_with(b"\r\n\r\n") {
            return if self.head.len() < ANSWER_MAX_BYTES { Ok(()) } else { Err("no end of the HTTP answer".into()) };
        }
        if !self.head.starts_with(b"HTTP/1.1 101 ") {
            let line = self.head.split(|byte| *byte == b'\r').next().unwrap_or_default();
            return Err(format!("the broker did not upgrade to WebSocket: {}", String::from_utf8_lossy(line)));
        }
        self.head.clear();
        self.is_open = true;
        self.is_released = true;
        Ok(())
    }

    fn answer(&mut self) {
        if self.opcode == PING {
            let payload = std::mem::take(&mut self.control);
            self.put_frame(PONG, &payload);
        }
    }

    /// What goes out next; fetches the outbox where everything before has gone.
    pub fn frames(&mut self, outbox: &mut Vec<u8>) -> &mut Vec<u8> {
        if self.is_open && self.framed.is_empty() && !outbox.is_empty() {
            self.put_frame(BINARY, outbox);
            outbox.clear();
        }
        self.is_released = false;
        &mut self.framed
    }

    fn put_frame(&mut self, opcode: u8, payload: &[u8]) {
        self.framed.push(FINAL | opcode);
        match payload.len() {
            length @ 0..126 => self.framed.push(FINAL | length as u8),
            length @ 126..0x1_0000 => {
                self.framed.push(FINAL | 126);
                self.framed.extend_from_slice(&(length as u16).to_be_bytes());
            }
            length => {
                self.framed.push(FINAL | 127);
                self.framed.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        // Another one for each frame; that nobody can guess it protects proxies, of which a bench has none.
        self.mask = self.mask.wrapping_mul(0x9E37_79B9).rotate_left(7);
        let mask = self.mask.to_be_bytes();
        self.framed.extend_from_slice(&mask);
        self.framed.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    }

    /// Whether it has frames that are not under way.
    pub fn has_frames(&self) -> bool {
        !self.framed.is_empty()
    }

    /// Whether there is something to write that did not come from MQTT just now.
    pub fn wants_write(&self) -> bool {
        self.has_frames() || self.is_released
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";

    fn opened() -> WebSocket {
        let mut socket = WebSocket::new("broker", "/mqtt");
        socket.framed.clear();
        assert_eq!(socket.receive(&mut ANSWER.to_vec()), (0, None));
        assert!(socket.is_open() && socket.wants_write());
        socket
    }

    #[test]
    fn what_mqtt_writes_waits_for_the_upgrade() {
        let mut socket = WebSocket::new("broker", "/mqtt");
        let mut outbox = b"CONNECT".to_vec();
        let request = std::mem::take(socket.frames(&mut outbox));
        assert!(request.starts_with(b"GET /mqtt HTTP/1.1\r\nHost: broker\r\n"));
        assert_eq!(socket.frames(&mut outbox).len(), 0);
        socket.receive(&mut ANSWER.to_vec());
        let frame = std::mem::take(socket.frames(&mut outbox));
        let unmasked: Vec<u8> =
            frame[6..].iter().zip(frame[2..6].iter().cycle()).map(|(byte, key)| byte ^ key).collect();
        assert_eq!((&frame[..2], unmasked.as_slice()), ([0x82, 0x87].as_slice(), b"CONNECT".as_slice()));
        assert!(outbox.is_empty());
    }

    #[test]
    fn frames_may_be_cut_anywhere() {
        let mut wire = vec![0x02, 3, b'a', b'b', b'c', 0x80, 126, 0, 200];
        wire.extend([b'd'; 200]);
        wire.extend([0x89, 1, b'p', 0x82, 1, b'e']);
        let mut socket = opened();
        let mut came = Vec::new();
        for byte in &wire {
            let mut one = [*byte];
            let (len, end) = socket.receive(&mut one);
            assert_eq!(end, None);
            came.extend_from_slice(&one[..len]);
        }
        let mut whole = wire.clone();
        let (len, _) = opened().receive(&mut whole);
        assert_eq!(came, whole[..len]);
        assert_eq!(came, [b"abc".as_slice(), [b'd'; 200].as_slice(), b"e"].concat());
        assert_eq!(socket.framed[..2], [0x8A, 0x81], "the ping was answered");
    }

    #[test]
    fn a_refusal_and_a_close_frame_end_it() {
        let mut socket = WebSocket::new("broker", "/wrong");
        let (_, why) = socket.receive(&mut b"HTTP/1.1 404 Not Found\r\n\r\n".to_vec());
        assert_eq!(why.unwrap(), "the broker did not upgrade to WebSocket: HTTP/1.1 404 Not Found");
        let (len, why) = opened().receive(&mut [0x82, 1, b'x', 0x88, 2, 3, 232]);
        assert_eq!((len, why.is_some()), (1, true));
    }
}
