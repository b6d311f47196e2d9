//! What carries a connection's bytes: a socket, and layers over it where its listener asks for them.
//!
//! Knows the order of the layers (PROXY header, TLS, WebSocket) and what of their output still waits for the socket. The
//! layers do no I/O of their own: the worker's loop drives them all, as it drives plain sockets, which pay one branch and
//! eight bytes for it. Does not know MQTT.

pub mod frames;
pub mod proxy;
pub(crate) mod tls;
pub mod upgrade;
mod websocket;

use std::borrow::Cow;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use crate::options::LayerOptions;
use crate::socket::{Moved, Peer, Socket};
use frames::CloseCode;
use proxy::{Proxy, Trusted};
use tls::{Certificates, HELD_BACK_BYTES_MAX, Tls};
use websocket::WebSocket;

/// Wrapped bytes that may wait for the socket before more are wrapped; also the most that one frame holds.
const WRAPPED_BYTES_MAX: usize = 64 * 1024;

/// What a listener lays over each of its sockets.
#[derive(Debug)]
pub(crate) struct Layering {
    proxies: Option<Vec<Trusted>>,
    pub(crate) certificates: Option<Certificates>,
    path: Option<Arc<str>>,
}

impl Layering {
    /// Reads the certificates. The error is a sentence that names the file.
    pub(crate) fn load(options: &LayerOptions) -> Result<Layering, String> {
        Ok(Layering {
            proxies: options.trusted_proxies.clone(),
            certificates: options.tls.as_ref().map(Certificates::load).transpose()?,
            path: options.websocket_path.as_deref().map(Arc::from),
        })
    }

    /// A connection's transport; None where this peer may not connect.
    pub(crate) fn lay_over(&self, socket: Socket, peer: &Peer) -> Option<Transport> {
        if self.proxies.is_none() && self.certificates.is_none() && self.path.is_none() {
            return Some(Transport { socket, layers: None });
        }
        if !self.is_trusted(&socket, peer) {
            return None;
        }
        let layers = Layers {
            proxy: self.proxies.is_some().then(Proxy::default),
            proxied: None,
            tls: self.certificates.as_ref().map(Tls::new).transpose().ok()?,
            websocket: self.path.as_ref().map(WebSocket::new),
            out: Vec::new(),
            end: None,
        };
        Some(Transport { socket, layers: Some(Box::new(layers)) })
    }

    fn is_trusted(&self, socket: &Socket, peer: &Peer) -> bool {
        let Some(proxies) = &self.proxies else { return true };
        let (address, user) = match peer {
            Peer::Net(host, _) => (Some(*host), None),
            Peer::Local => (None, socket.peer_user()),
        };
        proxies.iter().any(|trusted| trusted.is(address, user))
    }
}

/// A socket with its layers.
#[derive(Debug)]
pub(crate) struct Transport {
    socket: Socket,
    layers: Option<Box<Layers>>,
}

#[derive(Debug)]
struct Layers {
    /// Until its header came.
    proxy: Option<Proxy>,
    /// The client behind the proxy, until somebody takes note.
    proxied: Option<SocketAddr>,
    tls: Option<Tls>,
    websocket: Option<WebSocket>,
    /// Wrapped bytes that the socket has not taken.
    out: Vec<u8>,
    /// Nothing more is read, and why.
    end: Option<Cow<'static, str>>,
}

impl Transport {
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.fd()
    }

    /// The bare socket where nothing lies over it.
    #[inline]
    pub(crate) fn plain(&self) -> Option<&Socket> {
        self.layers.is_none().then_some(&self.socket)
    }

    /// One read. Layers leave nothing behind: whatever they let pass is in the buffer, so it must have far more room than
    /// [`HELD_BACK_BYTES_MAX`], as the worker's has. `Blocked` may also mean that nothing passed.
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

    /// The client behind a proxy, told once; layers that have nothing more to do go.
    pub(crate) fn take_proxied(&mut self) -> Option<SocketAddr> {
        let layers = self.layers.as_mut().filter(|layers| layers.proxy.is_none())?;
        let proxied = layers.proxied.take();
        if layers.tls.is_none() && layers.websocket.is_none() {
            self.layers = None;
        }
        proxied
    }

    /// Whether bytes wait that are not the outbox's.
    pub(crate) fn has_waiting(&self) -> bool {
        self.layers.as_ref().is_some_and(|layers| layers.has_waiting())
    }

    /// Why the layers never let a byte of MQTT pass; None where they did or nothing lies over the socket.
    pub(crate) fn failure(&self) -> Option<&str> {
        let layers = self.layers.as_ref().filter(|layers| !layers.is_open())?;
        Some(layers.end.as_deref().unwrap_or("it ended before it was complete"))
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
        let start = if self.tls.is_some() { HELD_BACK_BYTES_MAX } else { 0 };
        let count = match socket.read(&mut buffer[start..]) {
            Moved::Bytes(count) => count,
            other => return other,
        };
        match self.pass(buffer, start..start + count) {
            0 if self.end.is_some() => Moved::Closed,
            0 => Moved::Blocked,
            len => Moved::Bytes(len),
        }
    }

    /// Lets a piece of the stream through all layers; returns the length of what is at the buffer's front then.
    fn pass(&mut self, buffer: &mut [u8], mut raw: Range<usize>) -> usize {
        if let Some(proxy) = &mut self.proxy {
            match proxy.receive(&buffer[raw.clone()]) {
                Ok(None) => return 0,
                Ok(Some((len, source))) => {
                    raw.start += len;
                    (self.proxy, self.proxied) = (None, source);
                }
                Err(text) => {
                    self.end = Some(text.into());
                    return 0;
                }
            }
        }
        let mut len = raw.len();
        match &mut self.tls {
            None => buffer.copy_within(raw, 0),
            Some(tls) => {
                let end;
                (len, end) = tls.receive(buffer, raw);
                self.end = end.map(Cow::Owned);
            }
        }
        if let Some(websocket) = self.websocket.as_mut().filter(|_| len > 0) {
            let out = if self.tls.is_some() { &mut Vec::new() } else { &mut self.out };
            let passed = websocket.receive(&mut buffer[..len], out);
            if let Some(tls) = &mut self.tls {
                tls.wrap(out);
            }
            len = passed.len;
            self.end = passed.end.map(Cow::Borrowed).or(self.end.take());
        }
        len
    }

    fn is_open(&self) -> bool {
        self.proxy.is_none()
            && self.tls.as_ref().is_none_or(Tls::is_open)
            && self.websocket.as_ref().is_none_or(WebSocket::is_open)
    }

    fn has_waiting(&self) -> bool {
        !self.out.is_empty()
            || self.tls.as_ref().is_some_and(Tls::wants_write)
            || self.websocket.as_ref().is_some_and(WebSocket::has_waiting)
    }

    fn wrap(&mut self, bytes: &[u8]) {
        self.put(|websocket, out| match websocket {
            Some(websocket) => websocket.wrap(bytes, out),
            None => out.extend_from_slice(bytes),
        });
    }

    fn put_waiting(&mut self) {
        if !self.out.is_empty() {
            return;
        }
        self.put(|websocket, out| {
            if let Some(websocket) = websocket {
                websocket.put_waiting(out);
            }
        });
    }

    fn close(&mut self) {
        self.put(|websocket, out| {
            if let Some(websocket) = websocket {
                websocket.close(CloseCode::NORMAL, out);
            }
        });
        if let Some(tls) = &mut self.tls {
            tls.close();
            tls.put_records(&mut self.out);
        }
    }

    /// What the WebSocket, if there is one, writes goes through TLS, if there is that.
    fn put(&mut self, write: impl FnOnce(Option<&mut WebSocket>, &mut Vec<u8>)) {
        let Some(tls) = &mut self.tls else {
            return write(self.websocket.as_mut(), &mut self.out);
        };
        let mut plain = Vec::new();
        write(self.websocket.as_mut(), &mut plain);
        tls.wrap(&plain);
        tls.put_records(&mut self.out);
    }
}
