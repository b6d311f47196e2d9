//! What both loops of the spike share: the MQTT core, the listening socket and the command line.
//!
//! Must not know which loop drives it. Nothing here is fit for production: no limits, no sessions, no wildcards.

pub mod broker;

use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};

use rustix::io::Result;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};

/// Bytes that one read may bring. One such buffer serves all sockets of a loop.
pub const READ_BYTES: usize = 256 * 1024;

const BACKLOG: i32 = 4096;

/// A non-blocking listener on loopback; its sockets inherit `TCP_NODELAY` (Linux copies it on accept).
pub fn listener(port: u16) -> Result<TcpListener> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))?;
    listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

/// The port of `--port N`, the only argument there is.
pub fn port_argument() -> u16 {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let port = match arguments.as_slice() {
        [name, number] if name == "--port" => number.parse().ok(),
        _ => None,
    };
    port.unwrap_or_else(|| {
        eprintln!("found arguments {arguments:?}, allowed is --port N (1 to 65535); for example: --port 18830");
        std::process::exit(2)
    })
}
