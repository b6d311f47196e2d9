//! One client's end of a connection: a socket, and over it TLS, WebSocket, both or nothing.
//!
//! Knows that neither blocks. Must not know MQTT. A read that brings only a part of a TLS record brings nothing.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{Errno, read};
use rustix::net::{SendFlags, send, sockopt};

use crate::tls::{HELD_BACK_BYTES_MAX, Machine};
use crate::websocket::WebSocket;

/// What a read brought.
pub enum Brought {
    /// So many bytes; none where more has to come first.
    Bytes(usize),
    /// So many bytes, and behind them the end; why, where anybody said it.
    End(usize, Option<String>),
}

/// A connection.
pub struct Wire {
    socket: OwnedFd,
    tls: Option<Box<Machine>>,
    websocket: Option<Box<WebSocket>>,
}

impl Wire {
    /// Of a socket that is connected or about to be.
    pub fn new(socket: OwnedFd, tls: Option<Machine>, websocket: Option<WebSocket>) -> Wire {
        Wire { socket, tls: tls.map(Box::new), websocket: websocket.map(Box::new) }
    }

    /// Reads once. `into` has more room than [`HELD_BACK_BYTES_MAX`].
    pub fn read(&mut self, into: &mut [u8]) -> Brought {
        let brought = self.read_tls(into);
        let (Some(websocket), Brought::Bytes(count) | Brought::End(count, _)) = (&mut self.websocket, &brought) else {
            return brought;
        };
        match (websocket.receive(&mut into[..*count]), brought) {
            ((len, None), Brought::Bytes(_)) => Brought::Bytes(len),
            ((len, None), Brought::End(_, why)) | ((len, why), _) => Brought::End(len, why),
        }
    }

    fn read_tls(&mut self, into: &mut [u8]) -> Brought {
        let Some(tls) = &mut self.tls else {
            return self.read_socket(into);
        };
        // Records are read behind the place where their plaintext goes, so that it never reaches what is unread.
        let from = HELD_BACK_BYTES_MAX;
        match read(&self.socket, &mut into[from..]) {
            Ok(0) => self.ended(None),
            Ok(count) => match tls.receive(into, from..from + count) {
                (len, None) => Brought::Bytes(len),
                (len, why) => Brought::End(len, why),
            },
            Err(Errno::AGAIN | Errno::INTR) => Brought::Bytes(0),
            Err(errno) => self.ended(Some(errno)),
        }
    }

    fn read_socket(&self, into: &mut [u8]) -> Brought {
        match read(&self.socket, into) {
            Ok(0) => self.ended(None),
            Ok(count) => Brought::Bytes(count),
            Err(Errno::AGAIN | Errno::INTR) => Brought::Bytes(0),
            Err(errno) => self.ended(Some(errno)),
        }
    }

    fn ended(&self, errno: Option<Errno>) -> Brought {
        let errno = errno.or_else(|| sockopt::socket_error(&self.socket).ok()?.err());
        Brought::End(0, errno.map(|errno| std::io::Error::from(errno).to_string()))
    }

    /// Writes once, and takes out of `outbox` what is under way now; whether there is more to write once the socket can.
    pub fn write(&mut self, outbox: &mut Vec<u8>) -> bool {
        let is_taken = self.write_layers(outbox);
        let is_held = self.websocket.as_ref().is_some_and(|websocket| !websocket.is_open());
        !is_taken || self.has_frames() || (!outbox.is_empty() && !is_held)
    }

    /// Whether the socket has taken what it was given.
    fn write_layers(&mut self, outbox: &mut Vec<u8>) -> bool {
        let plain = match &mut self.websocket {
            None => outbox,
            Some(websocket) => websocket.frames(outbox),
        };
        let bytes = match &mut self.tls {
            None => plain,
            Some(tls) => tls.records(plain),
        };
        match send(&self.socket, bytes, SendFlags::NOSIGNAL) {
            Ok(count) if count == bytes.len() => bytes.clear(),
            Ok(count) => drop(bytes.drain(..count)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            // What the other side said before it closed is still to be read.
            Err(_) => bytes.clear(),
        }
        bytes.is_empty()
    }

    /// Whether nothing is left to write but what `outbox` holds.
    pub fn is_idle(&self) -> bool {
        self.tls.as_ref().is_none_or(|tls| tls.is_idle()) && !self.has_frames()
    }

    fn has_frames(&self) -> bool {
        self.websocket.as_ref().is_some_and(|websocket| websocket.has_frames())
    }

    /// Whether a layer has something to write besides what MQTT wrote.
    pub fn wants_write(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.wants_write())
            || self.websocket.as_ref().is_some_and(|websocket| websocket.wants_write())
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
