//! A stream of chunks into the request and the frames of a WebSocket: the same data, answer and end as when all comes at once.
//!
//! Knows that only the last PING is answered, which is the one thing a cut may change. Driven by libFuzzer.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use whimbrel_server::transport::frames::{CloseCode, Decoder};
use whimbrel_server::transport::upgrade::{HEAD_BYTES_MAX, Verdict, judge};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    chunk_lengths: Vec<u8>,
    stream: &'a [u8],
}

fuzz_target!(|input: Input<'_>| {
    check_head(input.stream);
    let lengths: Vec<usize> = input.chunk_lengths.iter().map(|length| usize::from(*length)).collect();
    assert_eq!(received(input.stream, &lengths), received(input.stream, &[]));
});

fn check_head(stream: &[u8]) {
    match judge(stream, "/mqtt") {
        Verdict::Incomplete => assert!(stream.len() < HEAD_BYTES_MAX),
        Verdict::Accepted { len, answer } => {
            assert!(len <= stream.len() && answer.starts_with(b"HTTP/1.1 101 "));
            assert_eq!(judge(&stream[..len - 1], "/mqtt"), Verdict::Incomplete);
        }
        Verdict::Refused { answer, text } => {
            assert!(answer.starts_with(b"HTTP/1.1 ") && answer.ends_with(b"\n") && !text.is_empty());
        }
    }
}

fn received(stream: &[u8], lengths: &[usize]) -> (Vec<u8>, Option<CloseCode>) {
    let (mut decoder, mut data, mut close, mut rest) = (Decoder::default(), Vec::new(), None, stream);
    for length in lengths.iter().copied().chain([usize::MAX]) {
        let (chunk, later) = rest.split_at(length.min(rest.len()));
        let mut chunk = chunk.to_vec();
        let decoded = decoder.decode(&mut chunk);
        data.extend_from_slice(&chunk[..decoded.len]);
        assert!(decoded.pong.is_none_or(|payload| payload.len() <= 125));
        close = close.or(decoded.close);
        rest = later;
    }
    (data, close)
}
