//! Bound sockets that clients connect to.
//!
//! Knows how to bind, accept and give an address back. All workers accept from all listeners; the kernel wakes one.

use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, acceptfrom_with, bind, listen, socket_with, sockopt};

use crate::gate::Gate;
use crate::options::{ListenerKind, ListenerOptions};
use crate::socket::{Peer, Socket};
use crate::transport::{Layering, Transport};

/// Handshakes that the kernel completes ahead of us; it caps the number itself (net.core.somaxconn).
const BACKLOG: i32 = 4096;

/// A bound listener.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) options: ListenerOptions,
    pub(crate) label: String,
    pub(crate) address: String,
    pub(crate) layering: Layering,
    descriptor: OwnedFd,
    connections: AtomicU32,
    gate: Gate,
    opened: Instant,
}

/// What accept found.
pub(crate) enum Accepted {
    /// A connection.
    Client(Transport, Peer),
    /// Over the listener's limit: it was closed.
    Refused,
    /// None waits.
    Empty,
    /// Out of descriptors or memory; try later.
    Exhausted(Errno),
    /// Over the listener's rate: those that wait stay where they are; try again after so many milliseconds.
    TooFast(u64),
}

impl Listener {
    /// Binds. The error names the address.
    pub(crate) fn bind(options: &ListenerOptions, layering: Layering) -> Result<Listener, (String, std::io::Error)> {
        let (descriptor, address) = match &options.kind {
            ListenerKind::Tcp { host, port } => {
                bind_tcp(host, *port).map_err(|error| (format!("{host}:{port}"), error))?
            }
            ListenerKind::Unix { path } => bind_unix(path).map_err(|error| (path.display().to_string(), error))?,
        };
        let connections = AtomicU32::new(0);
        let gate = Gate::new(options.max_conn_rate);
        let opened = Instant::now();
        Ok(Listener {
            options: options.clone(),
            label: options.label(),
            address,
            layering,
            descriptor,
            connections,
            gate,
            opened,
        })
    }

    /// The port as bound; 0 for a unix socket.
    pub(crate) fn port(&self) -> u16 {
        match self.options.kind {
            ListenerKind::Tcp { .. } => self.address.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or(0),
            ListenerKind::Unix { .. } => 0,
        }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    /// Takes one waiting connection.
    pub(crate) fn accept(&self) -> Accepted {
        if !self.gate.is_limited() {
            return self.take();
        }
        if let Err(wait_us) = self.gate.enter(self.opened.elapsed().as_micros() as u64) {
            return Accepted::TooFast(wait_us.div_ceil(1000));
        }
        let accepted = self.take();
        if matches!(accepted, Accepted::Empty | Accepted::Exhausted(_)) {
            self.gate.give_back();
        }
        accepted
    }

    fn take(&self) -> Accepted {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let (descriptor, address) = match acceptfrom_with(&self.descriptor, flags) {
            Ok(accepted) => accepted,
            Err(error @ (Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => {
                return Accepted::Exhausted(error);
            }
            // Everything else concerns one connection that is gone already, or says that none waits.
            Err(_) => return Accepted::Empty,
        };
        if self.connections.fetch_add(1, Ordering::Relaxed) >= self.options.connections_max {
            self.release();
            return Accepted::Refused;
        }
        let peer = address.and_then(|address| SocketAddr::try_from(address).ok()).map_or(Peer::Local, Peer::from);
        match self.layering.lay_over(Socket::new(descriptor), &peer) {
            Some(transport) => Accepted::Client(transport, peer),
            None => {
                self.release();
                Accepted::Refused
            }
        }
    }

    /// One that nobody can connect to: its connections come from a simulation. `descriptor` is any.
    #[cfg(feature = "simulation")]
    pub(crate) fn unbound(options: &ListenerOptions, layering: Layering, descriptor: OwnedFd) -> Listener {
        Listener {
            options: options.clone(),
            label: options.label(),
            address: String::new(),
            layering,
            descriptor,
            connections: AtomicU32::new(0),
            gate: Gate::new(0),
            opened: Instant::now(),
        }
    }

    /// A connection came that nobody accepted.
    #[cfg(feature = "simulation")]
    pub(crate) fn admit(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// How many connections it has.
    #[cfg(feature = "simulation")]
    pub(crate) fn connection_count(&self) -> usize {
        self.connections.load(Ordering::Relaxed) as usize
    }

    /// A connection of this listener has ended.
    pub(crate) fn release(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let ListenerKind::Unix { path } = &self.options.kind {
            let _ = std::fs::remove_file(path); // Ours; a stale file would only puzzle the next start.
        }
    }
}

fn bind_tcp(host: &str, port: u16) -> std::io::Result<(OwnedFd, String)> {
    let mut last = std::io::Error::other("the name has no address");
    for address in (host, port).to_socket_addrs()? {
        match bind_address(address) {
            Ok(descriptor) => {
                let listener = TcpListener::from(descriptor);
                let address = listener.local_addr()?;
                return Ok((listener.into(), address.to_string()));
            }
            Err(error) => last = error.into(),
        }
    }
    Err(last)
}

fn bind_address(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let descriptor = socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&descriptor, true)?;
    // Accepted sockets inherit it, which saves a call for each connection.
    sockopt::set_tcp_nodelay(&descriptor, true)?;
    if address.is_ipv6() {
        // Else [::] would take the IPv4 addresses, too, which the settings name 0.0.0.0.
        sockopt::set_ipv6_v6only(&descriptor, true)?;
    }
    bind(&descriptor, &address)?;
    listen(&descriptor, BACKLOG)?;
    Ok(descriptor)
}

fn bind_unix(path: &Path) -> std::io::Result<(OwnedFd, String)> {
    let listener = UnixListener::bind(path).or_else(|error| {
        // A socket file that nobody answers is left over from a crash.
        let is_stale = error.kind() == std::io::ErrorKind::AddrInUse && is_refused(path);
        if !is_stale {
            return Err(error);
        }
        std::fs::remove_file(path)?;
        UnixListener::bind(path)
    })?;
    listener.set_nonblocking(true)?;
    Ok((listener.into(), PathBuf::from(path).display().to_string()))
}

fn is_refused(path: &Path) -> bool {
    // A plain file refuses a connection, too; only a socket may be removed, and not what a link points to.
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    is_socket && UnixStream::connect(path).is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_socket_is_never_taken_away() {
        let path = std::env::temp_dir().join(format!("whimbrel-plain-{}", std::process::id()));
        std::fs::write(&path, "mine").unwrap();
        let error = bind_unix(&path).unwrap_err();
        let kept = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!((error.kind(), kept.as_str()), (std::io::ErrorKind::AddrInUse, "mine"));
    }

    #[test]
    fn a_link_to_a_dead_socket_stays() {
        let directory = std::env::temp_dir();
        let socket = directory.join(format!("whimbrel-dead-{}.sock", std::process::id()));
        let link = directory.join(format!("whimbrel-link-{}.sock", std::process::id()));
        drop(UnixListener::bind(&socket).unwrap());
        std::os::unix::fs::symlink(&socket, &link).unwrap();
        let error = bind_unix(&link).unwrap_err();
        let is_kept = link.is_symlink();
        std::fs::remove_file(&link).unwrap();
        // The same socket under its own name is a left-over, and replaced.
        let is_replaced = bind_unix(&socket).is_ok();
        std::fs::remove_file(&socket).unwrap();
        assert_eq!((error.kind(), is_kept, is_replaced), (std::io::ErrorKind::AddrInUse, true, true));
    }

    #[test]
    fn every_address_of_ipv6_leaves_those_of_ipv4_alone() {
        // The port that the kernel gives for one family may be somebody's of the other.
        let is_beside = (0..20).any(|_| {
            // Where this machine has no IPv6 there is nothing to prove.
            let Ok((descriptor, address)) = bind_tcp("::", 0) else { return true };
            let port = address.parse::<SocketAddr>().unwrap().port();
            assert!(sockopt::ipv6_v6only(&descriptor).unwrap());
            bind_tcp("0.0.0.0", port).is_ok()
        });
        assert!(is_beside);
    }
}
