//! The PROXY protocol: who is behind the proxy that connects (HAProxy's specification, versions 1 and 2).
//!
//! Knows the header that a proxy sends before anything else, and who may send it. Does not know sockets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Bytes that a header may have; version 2 could carry 64 KiB of extras, which nobody sends.
pub const HEADER_BYTES_MAX: usize = 4096;
/// Section 2.1: the longest line of version 1, with its end.
const LINE_BYTES_MAX: usize = 107;
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// What the beginning of a connection says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Header {
    /// The header is not whole.
    Incomplete,
    /// The first `len` bytes are the header.
    Found {
        /// Its length.
        len: usize,
        /// The client; None where the proxy speaks for itself or for somebody without an address.
        source: Option<SocketAddr>,
    },
    /// This is no header, and why.
    Invalid(&'static str),
}

/// Reads the header at the beginning of a connection.
pub fn parse(bytes: &[u8]) -> Header {
    let signature = &SIGNATURE[..bytes.len().min(SIGNATURE.len())];
    if bytes.is_empty() {
        Header::Incomplete
    } else if bytes.starts_with(signature) {
        parse_binary(bytes)
    } else if bytes.starts_with(&b"PROXY "[..bytes.len().min(6)]) {
        parse_line(bytes)
    } else {
        Header::Invalid("the connection does not begin with a PROXY header")
    }
}

fn parse_line(bytes: &[u8]) -> Header {
    let window = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let Some(end) = window.windows(2).position(|pair| pair == b"\r\n") else {
        let is_short = bytes.len() < LINE_BYTES_MAX;
        return if is_short { Header::Incomplete } else { Header::Invalid("the PROXY line has no end") };
    };
    let words = std::str::from_utf8(&window[..end]).unwrap_or_default();
    let words: Vec<&str> = words.split(' ').collect();
    let source = match words[..] {
        ["PROXY", "UNKNOWN", ..] => None,
        ["PROXY", "TCP4", source, target, port, target_port] => {
            both::<Ipv4Addr>(source, target).zip(ports(port, target_port))
        }
        ["PROXY", "TCP6", source, target, port, target_port] => {
            both::<Ipv6Addr>(source, target).zip(ports(port, target_port))
        }
        _ => return Header::Invalid("the PROXY line is malformed"),
    };
    match (words[1], source) {
        ("UNKNOWN", _) => Header::Found { len: end + 2, source: None },
        (_, Some((host, port))) => Header::Found { len: end + 2, source: Some(SocketAddr::new(host, port)) },
        (_, None) => Header::Invalid("the PROXY line is malformed"),
    }
}

/// The first of two addresses of one family.
fn both<T: std::str::FromStr + Into<IpAddr>>(source: &str, target: &str) -> Option<IpAddr> {
    target.parse::<T>().ok()?;
    source.parse::<T>().ok().map(Into::into)
}

fn ports(source: &str, target: &str) -> Option<u16> {
    let port = |text: &str| text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    port(target).and(port(source))
}

fn parse_binary(bytes: &[u8]) -> Header {
    let Some((&[.., command, family, high, low], rest)) = bytes.split_first_chunk::<16>() else {
        return Header::Incomplete;
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if command >> 4 != 2 || command & 0x0F > 1 || family >> 4 > 3 || family & 0x0F > 2 {
        return Header::Invalid("the PROXY header is malformed");
    }
    if 16 + length > HEADER_BYTES_MAX {
        return Header::Invalid("the PROXY header is longer than 4 KiB");
    }
    let Some(addresses) = rest.get(..length) else { return Header::Incomplete };
    let is_local = command & 0x0F == 0; // The proxy's own connection, such as a health check.
    let source = match (is_local, family) {
        (true, _) => None,
        (false, 0x11) => binary_source::<4>(addresses),
        (false, 0x21) => binary_source::<16>(addresses),
        (false, _) => return Header::Found { len: 16 + length, source: None },
    };
    if source.is_none() && !is_local {
        return Header::Invalid("the PROXY header is malformed");
    }
    Header::Found { len: 16 + length, source }
}

fn binary_source<const LEN: usize>(addresses: &[u8]) -> Option<SocketAddr>
where
    IpAddr: From<[u8; LEN]>,
{
    let (host, rest) = addresses.split_first_chunk::<LEN>()?;
    let port = rest.get(LEN..LEN + 2)?;
    rest.get(LEN + 2..LEN + 4)?;
    Some(SocketAddr::new(IpAddr::from(*host), u16::from_be_bytes([port[0], port[1]])))
}

/// A set of addresses with a common prefix.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Network {
    first: IpAddr,
    prefix: u8,
}

impl Network {
    /// Reads "10.0.0.0/8" or "::1/128".
    pub fn parse(text: &str) -> Option<Network> {
        let (first, prefix) = text.split_once('/')?;
        let (first, prefix): (IpAddr, u8) = (first.parse().ok()?, prefix.parse().ok()?);
        let width = if first.is_ipv4() { 32 } else { 128 };
        (prefix <= width).then_some(Network { first, prefix })
    }

    /// Whether an address belongs to it; an IPv4 address that came through an IPv6 socket is one of IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.first, address.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                (u32::from(first) ^ u32::from(address)).checked_shr(32 - u32::from(self.prefix)).unwrap_or(0) == 0
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                (u128::from(first) ^ u128::from(address)).checked_shr(128 - u32::from(self.prefix)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

/// Who may connect with a header: anybody else could claim any address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trusted {
    /// Proxies that come over the network.
    Network(Network),
    /// The user, by number, whose processes may come through a Unix socket.
    User(u32),
}

impl Trusted {
    /// Reads "10.0.0.0/8" or "user:1000".
    pub fn parse(text: &str) -> Option<Trusted> {
        match text.strip_prefix("user:") {
            Some(number) => number.parse().ok().map(Trusted::User),
            None => Network::parse(text).map(Trusted::Network),
        }
    }

    /// Whether it is the proxy at this address; None: a process of this machine, of `user` where the kernel says so.
    pub fn is(&self, address: Option<IpAddr>, user: Option<u32>) -> bool {
        match (self, address) {
            (Trusted::Network(network), Some(address)) => network.contains(address),
            (Trusted::User(trusted), None) => user == Some(*trusted),
            _ => false,
        }
    }
}

/// The layer: what came of the header so far.
#[derive(Debug, Default)]
pub(super) struct Proxy {
    held: Vec<u8>,
}

impl Proxy {
    /// Takes a piece of the stream: the header's length in it and the client, None while its end is missing.
    pub(super) fn receive(&mut self, bytes: &[u8]) -> Result<Option<(usize, Option<SocketAddr>)>, &'static str> {
        let held = self.held.len();
        self.held.extend_from_slice(&bytes[..bytes.len().min(HEADER_BYTES_MAX - held)]);
        match parse(&self.held) {
            Header::Incomplete => Ok(None),
            Header::Found { len, source } => Ok(Some((len - held, source))),
            Header::Invalid(text) => Err(text),
        }
    }
}
