//! What carries a connection's bytes: a socket, and layers over it where its listener asks for them.
//!
//! Knows the order of the layers (PROXY header, TLS, WebSocket) and what of their output still waits for the socket. The
//! layers do no I/O of their own: the worker's loop drives them all, as it drives plain sockets, which pay one branch and
//! eight bytes for it. Does not know MQTT.

pub mod frames;
pub mod upgrade;
mod websocket;

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use crate::socket::{Moved, Socket};
use frames::CloseCode;
use websocket::WebSocket;

/// Wrapped bytes that may wait for the socket before more are wrapped; also the most that one frame holds.
const WRAPPED_BYTES_MAX: usize = 64 * 1024;

/// What a listener lays over each of its sockets.
#[derive(Debug, Default)]
pub(crate) struct Layering {
    /// Where WebSockets are served.
    pub(crate) websocket: Option<Arc<str>>,
}

/// A socket with its layers.
#[derive(Debug)]
pub(crate) struct Transport {
    socket: Socket,
    layers: Option<Box<Layers>>,
}

#[derive(Debug, Default)]
struct Layers {
    websocket: Option<WebSocket>,
    /// Wrapped bytes that the socket has not taken.
    out: Vec<u8>,
    /// Nothing more is read, and why.
    end: Option<&'static str>,
}

impl Transport {
    pub(crate) fn new(socket: Socket, layering: &Layering) -> Transport {
        let websocket = layering.websocket.as_ref().map(WebSocket::new);
        let layers = websocket.is_some().then(|| Box::new(Layers { websocket, ..Layers::default() }));
        Transport { socket, layers }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.fd()
    }

    /// The bare socket where nothing lies over it.
    #[inline]
    pub(crate) fn plain(&self) -> Option<&Socket> {
        self.layers.is_none().then_some(&self.socket)
    }

    /// One read. Layers leave nothing behind: whatever they let pass is in the buffer, so it must have the room of
    /// [`crate::worker`]'s read buffer. `Blocked` may also mean that nothing passed.
    #[inline]
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Moved {
        match &mut self.layers {
            None => self.socket.read(buffer),
            Some(layers) => layers.read(&self.socket, buffer),
        }
    }

    /// Whether the layers said that nothing more comes.
    pub(crate) fn is_over(&self) -> bool {
        self.layers.as_ref().is_some_and(|layers| layers.end.is_some())
    }

    /// Whether bytes wait that are not the outbox's.
    pub(crate) fn has_waiting(&self) -> bool {
        self.layers.as_ref().is_some_and(|layers| layers.has_waiting())
    }

    /// Why the layers never let a byte of MQTT pass; None where they did or nothing lies over the socket.
    pub(crate) fn failure(&self) -> Option<&'static str> {
        let layers = self.layers.as_ref().filter(|layers| !layers.is_open())?;
        Some(layers.end.unwrap_or("it ended before it was complete"))
    }

    /// Room for wrapped bytes.
    pub(crate) fn wrap_room(&self) -> usize {
        self.layers.as_ref().map_or(0, |layers| WRAPPED_BYTES_MAX.saturating_sub(layers.out.len()))
    }

    /// Takes bytes of the outbox, at most [`Transport::wrap_room`] of them.
    pub(crate) fn wrap(&mut self, bytes: &[u8]) {
        if let Some(layers) = &mut self.layers {
            layers.wrap(bytes);
        }
    }

    /// Writes what was wrapped; `Bytes` says that nothing waits any more.
    pub(crate) fn send_wrapped(&mut self) -> Moved {
        let Some(layers) = &mut self.layers else { return Moved::Bytes(0) };
        loop {
            layers.put_waiting();
            if layers.out.is_empty() {
                return Moved::Bytes(0);
            }
            match self.socket.write(&layers.out) {
                Moved::Bytes(count) if count == layers.out.len() => layers.out = Vec::new(),
                Moved::Bytes(count) => drop(layers.out.drain(..count)),
                other => return other,
            }
        }
    }

    /// Says goodbye in the layers' words, as far as the socket takes them, and ends our side where the peer was told
    /// something.
    pub(crate) fn finish(&mut self, is_told: bool) {
        if let Some(layers) = &mut self.layers {
            layers.close();
            self.send_wrapped();
        }
        if is_told || self.layers.is_some() {
            self.socket.finish();
        }
    }
}

impl Layers {
    fn read(&mut self, socket: &Socket, buffer: &mut [u8]) -> Moved {
        if self.end.is_some() {
            return Moved::Closed;
        }
        let mut len = match socket.read(buffer) {
            Moved::Bytes(count) => count,
            other => return other,
        };
        if let Some(websocket) = &mut self.websocket {
            let passed = websocket.receive(&mut buffer[..len], &mut self.out);
            (len, self.end) = (passed.len, passed.end);
        }
        if len == 0 { Moved::Blocked } else { Moved::Bytes(len) }
    }

    fn is_open(&self) -> bool {
        self.websocket.as_ref().is_none_or(WebSocket::is_open)
    }

    fn has_waiting(&self) -> bool {
        !self.out.is_empty() || self.websocket.as_ref().is_some_and(WebSocket::has_waiting)
    }

    fn wrap(&mut self, bytes: &[u8]) {
        match &mut self.websocket {
            Some(websocket) => websocket.wrap(bytes, &mut self.out),
            None => self.out.extend_from_slice(bytes),
        }
    }

    fn put_waiting(&mut self) {
        if let Some(websocket) = self.websocket.as_mut().filter(|_| self.out.is_empty()) {
            websocket.put_waiting(&mut self.out);
        }
    }

    fn close(&mut self) {
        if let Some(websocket) = &mut self.websocket {
            websocket.close(CloseCode::NORMAL, &mut self.out);
        }
    }
}
