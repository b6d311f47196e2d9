//! How a client's socket comes to be: which address the broker is at, and from where we come.
//!
//! Knows addresses and what TLS and WebSocket begin with. A connection is returned while it may still be on its way.

use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with, sockopt};

use crate::failure::{Failure, Outcome};
use crate::options::Options;
use crate::tls::Offer;
use crate::websocket::WebSocket;
use crate::wire::Wire;

const CONNECT_MAX: Duration = Duration::from_secs(10);

enum Place {
    Tcp(SocketAddr),
    Unix(std::path::PathBuf),
}

/// Where the broker lets clients in.
pub struct Door {
    place: Place,
    sources: Vec<IpAddr>,
    tls: Option<Offer>,
    /// Host and path, where WebSocket is spoken.
    websocket: Option<(String, String)>,
    knocks: usize,
}

impl Door {
    /// Looks the broker up, and makes sure once that somebody accepts there.
    pub fn find(options: &Options) -> Outcome<Door> {
        let place = match &options.unix {
            Some(path) => {
                UnixStream::connect(path).map_err(|error| unreachable(&path.display(), &error))?;
                Place::Unix(path.clone())
            }
            None => Place::Tcp(accepting(&options.host, options.port)?),
        };
        if let Place::Tcp(address) = place
            && let Some(source) = options.sources.iter().find(|source| source.is_ipv4() != address.is_ipv4())
        {
            return Err(Failure::mistake(format!("source: {source} cannot reach {address}")));
        }
        let tls = options.tls.as_ref().map(|tls| Offer::new(tls, &options.host)).transpose()?;
        let websocket = options.websocket.clone().map(|path| (options.host.clone(), path));
        Ok(Door { place, sources: options.sources.clone(), tls, websocket, knocks: 0 })
    }

    /// A new connection that does not block, made or about to be.
    pub fn knock(&mut self) -> Outcome<Wire> {
        let tls = self.tls.as_ref().map(Offer::begin).transpose()?;
        let websocket = self.websocket.as_ref().map(|(host, path)| WebSocket::new(host, path));
        Ok(Wire::new(self.socket()?, tls, websocket))
    }

    fn socket(&mut self) -> Outcome<OwnedFd> {
        match &self.place {
            Place::Tcp(address) => {
                let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
                let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
                let socket = socket_with(family, SocketType::STREAM, flags, None).map_err(explained)?;
                sockopt::set_tcp_nodelay(&socket, true)?;
                if !self.sources.is_empty() {
                    let source = self.sources[self.knocks % self.sources.len()];
                    bind(&socket, &SocketAddr::new(source, 0)).map_err(|errno| unusable(source, errno))?;
                    self.knocks += 1;
                }
                match connect(&socket, address) {
                    Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
                    Err(errno) => Err(explained(errno)),
                }
            }
            Place::Unix(path) => {
                // Blocking: where the backlog is full we wait instead of trying again.
                let stream = UnixStream::connect(path).map_err(|error| unreachable(&path.display(), &error))?;
                stream.set_nonblocking(true)?;
                Ok(stream.into())
            }
        }
    }
}

fn accepting(host: &str, port: u16) -> Outcome<SocketAddr> {
    let place = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let mut last = std::io::Error::other("the name has no address");
    for address in (host, port).to_socket_addrs().map_err(|error| unreachable(&place, &error))? {
        match TcpStream::connect_timeout(&address, CONNECT_MAX) {
            Ok(_) => return Ok(address),
            Err(error) => last = error,
        }
    }
    Err(unreachable(&place, &last))
}

fn unreachable(place: &impl std::fmt::Display, error: &std::io::Error) -> Failure {
    format!("cannot connect to {place}: {error}").into()
}

fn unusable(source: IpAddr, errno: Errno) -> Failure {
    match errno {
        Errno::ADDRINUSE => explained(Errno::ADDRNOTAVAIL),
        _ => format!("source {source}: {errno}; it must be an address of this machine").into(),
    }
}

fn explained(errno: Errno) -> Failure {
    match errno {
        Errno::ADDRNOTAVAIL => {
            "no local port is left for another connection; give more addresses of this machine with --source"
                .to_owned()
                .into()
        }
        Errno::MFILE | Errno::NFILE => {
            "no descriptor is left for another connection; raise the limit (ulimit -n)".to_owned().into()
        }
        other => other.into(),
    }
}
