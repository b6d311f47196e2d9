//! A WebSocket as a layer: the upgrade first, then frames.
//!
//! Knows the order of the two and what waits to be sent. Does not know sockets or MQTT.

use std::sync::Arc;

use super::frames::{CloseCode, Decoder, put_close, put_data, put_pong};
use super::upgrade::{HEAD_BYTES_MAX, Verdict, judge};

/// The state of one connection's layer.
#[derive(Debug)]
pub(super) struct WebSocket {
    path: Arc<str>,
    /// The beginning of the request whose end has not come.
    head: Vec<u8>,
    phase: Phase,
    decoder: Decoder,
    /// The answer to the last PING, until there is room to send it: pings that nobody reads the answers of must not pile up.
    pong: Option<Vec<u8>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Upgrading,
    Open,
    Closed,
}

/// What a piece of the stream was good for: bytes of data at its front, and whether it is the end and why.
pub(super) struct Passed {
    pub(super) len: usize,
    pub(super) end: Option<&'static str>,
}

impl WebSocket {
    pub(super) fn new(path: &Arc<str>) -> WebSocket {
        WebSocket {
            path: Arc::clone(path),
            head: Vec::new(),
            phase: Phase::Upgrading,
            decoder: Decoder::default(),
            pong: None,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.phase != Phase::Upgrading
    }

    /// Takes a piece of the stream; what the peer must get is appended to `out`.
    pub(super) fn receive(&mut self, bytes: &mut [u8], out: &mut Vec<u8>) -> Passed {
        let skipped = match self.phase {
            Phase::Upgrading => match self.upgrade(bytes, out) {
                Ok(Some(skipped)) => skipped,
                Ok(None) => return Passed { len: 0, end: None },
                Err(end) => return Passed { len: 0, end: Some(end) },
            },
            Phase::Open => 0,
            Phase::Closed => return Passed { len: 0, end: Some("frames behind the last one") },
        };
        let decoded = self.decoder.decode(&mut bytes[skipped..]);
        bytes.copy_within(skipped..skipped + decoded.len, 0);
        self.pong = decoded.pong.or(self.pong.take());
        if let Some(code) = decoded.close {
            self.close(code, out);
            return Passed { len: decoded.len, end: Some("the WebSocket was closed") };
        }
        Passed { len: decoded.len, end: None }
    }

    /// How many of these bytes belong to the request; None while its end is missing.
    fn upgrade(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Option<usize>, &'static str> {
        let held = self.head.len();
        // A line's end must be new, or a head that comes byte by byte would be read anew for each of them.
        let is_worth_it = held == 0 || bytes.contains(&b'\n') || held + bytes.len() >= HEAD_BYTES_MAX;
        self.head.extend_from_slice(&bytes[..bytes.len().min(HEAD_BYTES_MAX - held)]);
        if !is_worth_it {
            return Ok(None);
        }
        match judge(&self.head, &self.path) {
            Verdict::Incomplete => Ok(None),
            Verdict::Accepted { len, answer } => {
                self.head = Vec::new();
                self.phase = Phase::Open;
                out.extend_from_slice(&answer);
                Ok(Some(len - held))
            }
            Verdict::Refused { answer, text } => {
                out.extend_from_slice(&answer);
                Err(text)
            }
        }
    }

    /// Makes a frame of bytes for the peer.
    pub(super) fn wrap(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        if self.phase == Phase::Open {
            put_data(out, bytes);
        }
    }

    /// What waits for room: the answer to a PING.
    pub(super) fn put_waiting(&mut self, out: &mut Vec<u8>) {
        if let Some(payload) = self.pong.take_if(|_| self.phase == Phase::Open) {
            put_pong(out, &payload);
        }
    }

    pub(super) fn has_waiting(&self) -> bool {
        self.pong.is_some() && self.phase == Phase::Open
    }

    /// Says goodbye, once.
    pub(super) fn close(&mut self, code: CloseCode, out: &mut Vec<u8>) {
        if self.phase == Phase::Open {
            self.phase = Phase::Closed;
            put_close(out, code);
        }
    }
}
