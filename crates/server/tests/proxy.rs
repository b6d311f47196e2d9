//! PROXY headers of both versions: what they say, what is refused, and that a header is the same however it is cut.

use proptest::prelude::*;
use whimbrel_server::transport::proxy::{HEADER_BYTES_MAX, Header, Network, Trusted, parse};

/// A header of version 2.
fn binary(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    bytes.extend_from_slice(&[command, family]);
    bytes.extend_from_slice(&(addresses.len() as u16).to_be_bytes());
    bytes.extend_from_slice(addresses);
    bytes
}

fn ipv4() -> Vec<u8> {
    vec![192, 0, 2, 7, 127, 0, 0, 1, 0x1F, 0x90, 0x07, 0x5B]
}

fn ipv6() -> Vec<u8> {
    let mut addresses = vec![0x20, 0x01, 0x0D, 0xB8];
    addresses.extend_from_slice(&[0; 27]);
    addresses.push(1);
    addresses.extend_from_slice(&[0x1F, 0x90, 0x07, 0x5B]);
    addresses
}

/// Length and client, "-" where there is none; "more" or "bad".
fn said(bytes: &[u8]) -> String {
    match parse(bytes) {
        Header::Incomplete => "more".into(),
        Header::Invalid(_) => "bad".into(),
        Header::Found { len, source: None } => format!("{len} -"),
        Header::Found { len, source: Some(source) } => format!("{len} {source}"),
    }
}

#[test]
fn each_header_says_who_is_behind_the_proxy() {
    let longest = "PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n";
    let extras = [ipv4(), vec![3, 0, 4, 1, 2, 3, 4]].concat();
    let rows: [(Vec<u8>, &str); 13] = [
        (b"PROXY TCP4 192.0.2.7 127.0.0.1 8080 1883\r\n".into(), "42 192.0.2.7:8080"),
        (b"PROXY TCP6 2001:db8::1 ::1 8080 1883\r\n".into(), "38 [2001:db8::1]:8080"),
        (b"PROXY UNKNOWN\r\n".into(), "15 -"),
        (longest.into(), "59 -"),
        (binary(0x21, 0x11, &ipv4()), "28 192.0.2.7:8080"),
        (binary(0x21, 0x11, &extras), "35 192.0.2.7:8080"),
        (binary(0x21, 0x21, &ipv6()), "52 [2001:db8::]:8080"),
        (binary(0x20, 0x11, &ipv4()), "28 -"),
        (binary(0x20, 0x00, &[]), "16 -"),
        (binary(0x21, 0x00, &[]), "16 -"),
        (binary(0x21, 0x12, &ipv4()), "28 -"),
        (binary(0x21, 0x31, &[b'/'; 216]), "232 -"),
        (binary(0x21, 0x00, &[0; HEADER_BYTES_MAX - 16]), "4096 -"),
    ];
    for (bytes, expected) in rows {
        assert_eq!(said(&bytes), expected, "{:?}", String::from_utf8_lossy(&bytes));
        let followed = [&bytes[..], b"\x10\x0c\x00\x04MQTT"].concat();
        assert_eq!(said(&followed), expected, "with MQTT behind it");
        for length in 0..bytes.len() {
            assert_eq!(said(&bytes[..length]), "more", "cut at {length}");
        }
    }
}

#[test]
fn what_is_no_header_is_refused_as_soon_as_it_can_be_seen() {
    let rows: [Vec<u8>; 17] = [
        b"\x10\x0c\x00\x04MQTT".into(),
        b"GET /mqtt HTTP/1.1\r\n".into(),
        b"\r\n\r\n\0\r\nQUIX".into(),
        b"PROXYTCP4".into(),
        b"PROXY TCP4 192.0.2.7 127.0.0.1 8080\r\n".into(),
        b"PROXY TCP4 192.0.2.7 127.0.0.1 8080 1883 1\r\n".into(),
        b"PROXY TCP4  192.0.2.7 127.0.0.1 8080 1883\r\n".into(),
        b"PROXY TCP4 192.0.2.007 127.0.0.1 8080 1883\r\n".into(),
        b"PROXY TCP4 ::1 ::1 8080 1883\r\n".into(),
        b"PROXY TCP6 192.0.2.7 127.0.0.1 8080 1883\r\n".into(),
        b"PROXY TCP4 192.0.2.7 127.0.0.1 65536 1883\r\n".into(),
        b"PROXY TCP4 192.0.2.7 127.0.0.1 +1 1883\r\n".into(),
        b"PROXY TCP4 192.0.2.7 localhost 8080 1883\r\n".into(),
        [&b"PROXY TCP4 192.0.2.7"[..], &[b' '; 100]].concat(),
        binary(0x31, 0x11, &ipv4()),
        binary(0x22, 0x11, &ipv4()),
        binary(0x21, 0x11, &ipv4()[..11]),
    ];
    for bytes in rows {
        assert_eq!(said(&bytes), "bad", "{:?}", String::from_utf8_lossy(&bytes));
    }
    assert_eq!(said(&binary(0x21, 0x00, &[0; HEADER_BYTES_MAX - 15])[..16]), "bad");
}

#[test]
fn a_network_holds_its_addresses_and_no_others() {
    let rows = [
        ("127.0.0.1/32", "127.0.0.1", true),
        ("127.0.0.1/32", "127.0.0.2", false),
        ("127.0.0.1/32", "::ffff:127.0.0.1", true),
        ("10.0.0.0/8", "10.255.0.1", true),
        ("10.0.0.0/8", "11.0.0.1", false),
        ("0.0.0.0/0", "203.0.113.9", true),
        ("0.0.0.0/0", "::1", false),
        ("::/0", "2001:db8::1", true),
        ("2001:db8::/32", "2001:db8:1::", true),
        ("2001:db8::/32", "2001:db9::", false),
        ("::1/128", "::1", true),
    ];
    for (network, address, expected) in rows {
        let network = Network::parse(network).unwrap();
        assert_eq!(network.contains(address.parse().unwrap()), expected, "{network:?} {address}");
    }
    for text in ["127.0.0.1", "127.0.0.1/33", "::1/129", "x/8", "10.0.0.0/-1"] {
        assert_eq!(Network::parse(text), None, "{text}");
    }
}

#[test]
fn a_user_is_trusted_on_this_machine_and_a_network_elsewhere() {
    let (user, network) = (Trusted::parse("user:33").unwrap(), Trusted::parse("0.0.0.0/0").unwrap());
    let address = Some("127.0.0.1".parse().unwrap());
    let rows = [
        (user, None, Some(33), true),
        (user, None, Some(0), false),
        (user, None, None, false),
        (user, address, Some(33), false),
        (network, address, None, true),
        (network, None, Some(33), false),
    ];
    for (trusted, address, uid, expected) in rows {
        assert_eq!(trusted.is(address, uid), expected, "{trusted:?} {address:?} {uid:?}");
    }
    for text in ["user:", "user:-1", "user:4294967296", "33", "root"] {
        assert_eq!(Trusted::parse(text), None, "{text}");
    }
}

proptest! {
    #[test]
    fn more_bytes_never_change_what_was_said(bytes in prop::collection::vec(any::<u8>(), 0..300), kind in 0..3) {
        let start: &[u8] = [&b""[..], b"PROXY TCP4 1.2.3.4 ", b"\r\n\r\n\0\r\nQUIT\n\x21"][kind as usize];
        let bytes = [start, &bytes].concat();
        let whole = said(&bytes);
        for length in 0..bytes.len() {
            let part = said(&bytes[..length]);
            prop_assert!(part == "more" || part == whole, "{} at {}, {} at the end", part, length, whole);
        }
    }
}
