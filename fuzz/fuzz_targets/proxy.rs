//! Any bytes as a PROXY header: what is said of a beginning is never taken back when more comes, and a header has its bound.
//!
//! Driven by libFuzzer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use whimbrel_server::transport::proxy::{HEADER_BYTES_MAX, Header, parse};

fuzz_target!(|bytes: &[u8]| {
    let whole = parse(bytes);
    match whole {
        Header::Incomplete => assert!(bytes.len() < HEADER_BYTES_MAX),
        Header::Found { len, .. } => {
            assert!(len <= bytes.len() && len <= HEADER_BYTES_MAX);
            assert_eq!(parse(&bytes[..len]), whole);
        }
        Header::Invalid(_) => {}
    }
    for length in 0..bytes.len().min(300) {
        let part = parse(&bytes[..length]);
        assert!(part == Header::Incomplete || part == whole);
    }
});
