//! WebSocket frames: a table of what is refused, and that no cut of the stream changes what it says.

use proptest::prelude::*;
use whimbrel_server::transport::frames::{CloseCode, Decoded, Decoder, put_close, put_data, put_pong};

const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

/// A masked frame as a client sends it.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..126 => bytes.push(0x80 | length as u8),
        length @ 126..0x1_0000 => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            bytes.push(0x80 | 127);
            bytes.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(&MASK);
    bytes.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ MASK[at & 3]));
    bytes
}

/// Data, last PONG and close code of a stream that comes in pieces.
fn read(stream: &[u8], lengths: &[usize]) -> Decoded {
    let (mut decoder, mut whole, mut rest) = (Decoder::default(), Decoded::default(), stream);
    let mut data = Vec::new();
    for length in lengths.iter().copied().chain([usize::MAX]) {
        let (piece, later) = rest.split_at(length.min(rest.len()));
        let mut piece = piece.to_vec();
        let decoded = decoder.decode(&mut piece);
        data.extend_from_slice(&piece[..decoded.len]);
        whole.pong = decoded.pong.or(whole.pong);
        whole.close = whole.close.or(decoded.close);
        rest = later;
    }
    whole.len = data.len();
    assert_eq!(data, expected_data(stream)[..data.len()]);
    whole
}

/// The same data, taken by one call.
fn expected_data(stream: &[u8]) -> Vec<u8> {
    let mut bytes = stream.to_vec();
    let decoded = Decoder::default().decode(&mut bytes);
    bytes.truncate(decoded.len);
    bytes
}

#[test]
fn data_passes_and_control_frames_may_stand_between_fragments() {
    let stream = [frame(0x02, b"ab"), frame(0x89, b"hi"), frame(0x00, b""), frame(0x80, b"cd"), frame(0x82, b"e")];
    let stream = stream.concat();
    assert_eq!(expected_data(&stream), b"abcde");
    assert_eq!(read(&stream, &[1; 30]), Decoded { len: 5, pong: Some(b"hi".to_vec()), close: None });
}

#[test]
fn each_breach_has_its_code_and_what_came_before_it_counts() {
    let protocol_error = CloseCode::PROTOCOL_ERROR;
    let rows: [(&str, Vec<u8>, CloseCode); 19] = [
        ("text", frame(0x81, b"x"), CloseCode::UNSUPPORTED),
        ("text in fragments", frame(0x01, b"x"), CloseCode::UNSUPPORTED),
        ("not masked", vec![0x82, 0x01, b'x'], protocol_error),
        ("reserved bit", frame(0xC2, b"x"), protocol_error),
        ("reserved opcode", frame(0x83, b"x"), protocol_error),
        ("reserved control opcode", frame(0x8B, b"x"), protocol_error),
        ("PING in fragments", frame(0x09, b"x"), protocol_error),
        ("PING of 126 bytes", frame(0x89, &[0; 126]), protocol_error),
        ("continuation of nothing", frame(0x80, b"x"), protocol_error),
        ("a message inside a message", [frame(0x02, b""), frame(0x82, b"x")].concat(), protocol_error),
        ("a text inside a message", [frame(0x02, b""), frame(0x81, b"x")].concat(), protocol_error),
        ("16 bits of length where 7 do", vec![0x82, 0xFE, 0, 125], protocol_error),
        ("64 bits of length where 16 do", vec![0x82, 0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF], protocol_error),
        ("the highest bit of the length", vec![0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0], protocol_error),
        ("CLOSE without a code", frame(0x88, b""), CloseCode::NORMAL),
        ("CLOSE with a code", frame(0x88, &[0x03, 0xE9, b'x']), CloseCode(1001)),
        ("CLOSE with half a code", frame(0x88, &[0x03]), protocol_error),
        ("CLOSE with a code that is never sent", frame(0x88, &[0x03, 0xED]), protocol_error),
        ("CLOSE with a text that is not UTF-8", frame(0x88, &[0x03, 0xE8, 0xFF]), CloseCode::INVALID_TEXT),
    ];
    for (what, bytes, code) in rows {
        let stream = [frame(0x82, b"before"), bytes, frame(0x82, b"behind")].concat();
        for lengths in [vec![], vec![1; stream.len()]] {
            assert_eq!(read(&stream, &lengths), Decoded { len: 6, pong: None, close: Some(code) }, "{what}");
        }
    }
}

#[test]
fn a_frame_may_be_longer_than_any_buffer() {
    let mut decoder = Decoder::default();
    let mut header = vec![0x82, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF];
    header.extend_from_slice(&MASK);
    assert_eq!(decoder.decode(&mut header), Decoded::default());
    assert_eq!(decoder.decode(&mut [0; 1000]), Decoded { len: 1000, pong: None, close: None });
}

#[test]
fn frames_of_ours_have_the_shortest_header_and_no_mask() {
    for (length, header) in [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
        let (mut out, payload) = (Vec::new(), vec![7; length]);
        put_data(&mut out, &payload);
        assert_eq!((out.len(), out[0], out[1] & 0x80), (header + length, 0x82, 0));
        assert_eq!(out[header..], payload);
    }
    let mut out = Vec::new();
    put_pong(&mut out, b"hi");
    put_close(&mut out, CloseCode::PROTOCOL_ERROR);
    assert_eq!(out, [0x8A, 2, b'h', b'i', 0x88, 2, 0x03, 0xEA]);
}

proptest! {
    #[test]
    fn any_cut_of_any_bytes_gives_the_same(
        stream in prop::collection::vec(any::<u8>(), 0..200),
        lengths in prop::collection::vec(0_usize..20, 0..40),
    ) {
        prop_assert_eq!(read(&stream, &lengths), read(&stream, &[]));
    }

    #[test]
    fn any_cut_of_messages_in_fragments_gives_their_bytes(
        messages in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..4), 0..6),
        lengths in prop::collection::vec(0_usize..100, 0..60),
    ) {
        let mut stream = Vec::new();
        for fragments in &messages {
            for (at, fragment) in fragments.iter().enumerate() {
                let opcode = if at == 0 { 2 } else { 0 };
                let last = if at + 1 == fragments.len() { 0x80 } else { 0 };
                stream.extend(frame(opcode | last, fragment));
                stream.extend(frame(0x89, b"between"));
            }
        }
        let data = messages.concat().concat();
        prop_assert_eq!(expected_data(&stream), data.clone());
        let pong = (!messages.is_empty()).then(|| b"between".to_vec());
        prop_assert_eq!(read(&stream, &lengths), Decoded { len: data.len(), pong, close: None });
    }
}
