//! Sockets of clients: TCP and unix streams behind one face.
//!
//! Knows descriptors, non-blocking reads and vectored writes. Does not know MQTT.

use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, send, sendmsg};

/// What a read or write did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Moved {
    /// So many bytes.
    Bytes(usize),
    /// Nothing now; wait for readiness.
    Blocked,
    /// The peer is gone.
    Closed,
}

/// Reads that the end of a connection may take, of 4 KiB each.
const FINISH_READS_MAX: usize = 64;

/// A non-blocking stream socket.
#[derive(Debug)]
pub(crate) struct Socket(OwnedFd);

impl Socket {
    pub(crate) fn new(descriptor: OwnedFd) -> Socket {
        Socket(descriptor)
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// The user, by number, whose process made the connection; the kernel knows it for Unix sockets.
    pub(crate) fn peer_user(&self) -> Option<u32> {
        rustix::net::sockopt::socket_peercred(&self.0).ok().map(|peer| peer.uid.as_raw())
    }

    pub(crate) fn read(&self, buffer: &mut [u8]) -> Moved {
        loop {
            match rustix::io::read(&self.0, &mut *buffer) {
                Ok(0) => return Moved::Closed,
                Ok(count) => return Moved::Bytes(count),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Moved::Blocked,
                Err(_) => return Moved::Closed,
            }
        }
    }

    /// Ends our side and throws away what the peer has sent so far: a close with unread bytes would reset the connection,
    /// and the peer might never see what it was told.
    pub(crate) fn finish(&self) {
        let mut scrap = [0; 4096];
        let _ = rustix::net::shutdown(&self.0, rustix::net::Shutdown::Write);
        for _ in 0..FINISH_READS_MAX {
            if !matches!(self.read(&mut scrap), Moved::Bytes(_)) {
                return;
            }
        }
    }

    pub(crate) fn write(&self, bytes: &[u8]) -> Moved {
        outcome(|| send(&self.0, bytes, SendFlags::NOSIGNAL))
    }

    pub(crate) fn write_vectored(&self, slices: &[IoSlice<'_>]) -> Moved {
        outcome(|| sendmsg(&self.0, slices, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL))
    }
}

fn outcome(mut call: impl FnMut() -> Result<usize, Errno>) -> Moved {
    loop {
        match call() {
            Ok(count) => return Moved::Bytes(count),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Moved::Blocked,
            Err(_) => return Moved::Closed,
        }
    }
}

/// The other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Peer {
    /// TCP. Not a `SocketAddr`: that is twelve bytes more for each connection, to tell interfaces of one address apart.
    Net(IpAddr, u16),
    /// A unix socket has no name for its clients.
    Local,
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Peer {
        Peer::Net(address.ip(), address.port())
    }
}

impl std::fmt::Display for Peer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Peer::Net(host, port) => SocketAddr::new(*host, *port).fmt(formatter),
            Peer::Local => Ok(()),
        }
    }
}
