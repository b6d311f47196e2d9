//! The HTTP request that opens a WebSocket, and its answer (RFC 6455, section 4).
//!
//! Knows one request head. Every refusal says what was wrong, since a person reads it. Does not know frames or sockets.

use httparse::{Request, Status};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

/// Bytes that a request head may have.
pub const HEAD_BYTES_MAX: usize = 8 * 1024;
const HEADERS_MAX: usize = 64;
/// RFC 6455, section 1.3.
const KEY_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What is to be done with the bytes so far.
#[derive(PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The head is not whole.
    Incomplete,
    /// Frames follow behind the first `len` bytes; the peer gets `answer`.
    Accepted {
        /// Length of the head.
        len: usize,
        /// The response.
        answer: Vec<u8>,
    },
    /// The peer gets `answer`, and the connection ends.
    Refused {
        /// The response.
        answer: Vec<u8>,
        /// What was wrong.
        text: &'static str,
    },
}

struct Refusal {
    status: &'static str,
    header: &'static str,
    text: &'static str,
}

impl Refusal {
    const fn new(status: &'static str, text: &'static str) -> Refusal {
        Refusal { status, header: "", text }
    }
}

/// The best first. The second is how clients ask that speak MQTT 3.1, which has no word on WebSocket.
const SUBPROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];
const BAD: &str = "400 Bad Request";
const UPGRADE: &str = "426 Upgrade Required";

/// Judges the beginning of a connection; `path` is where MQTT is served.
pub fn judge(bytes: &[u8], path: &str) -> Verdict {
    match judge_head(bytes, path) {
        Ok(None) => Verdict::Incomplete,
        Ok(Some((len, answer))) => Verdict::Accepted { len, answer },
        Err(refusal) => Verdict::Refused { answer: refusal_answer(&refusal), text: refusal.text },
    }
}

fn judge_head(bytes: &[u8], path: &str) -> Result<Option<(usize, Vec<u8>)>, Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = Request::new(&mut headers);
    let head = &bytes[..bytes.len().min(HEAD_BYTES_MAX)];
    match request.parse(head) {
        Ok(Status::Complete(len)) => Ok(Some((len, accept(&request, path)?))),
        Ok(Status::Partial) if bytes.len() < HEAD_BYTES_MAX => Ok(None),
        Ok(Status::Partial) => {
            Err(Refusal::new("431 Request Header Fields Too Large", "the request head is longer than 8 KiB"))
        }
        Err(httparse::Error::TooManyHeaders) => {
            Err(Refusal::new("431 Request Header Fields Too Large", "the request has more than 64 header fields"))
        }
        Err(_) => Err(Refusal::new(BAD, "this is no HTTP request; MQTT over WebSocket is served here")),
    }
}

fn accept(request: &Request<'_, '_>, path: &str) -> Result<Vec<u8>, Refusal> {
    if request.method != Some("GET") {
        let header = "Allow: GET\r\n";
        return Err(Refusal { status: "405 Method Not Allowed", header, text: "a WebSocket is opened with GET" });
    }
    if request.version != Some(1) {
        return Err(Refusal::new("505 HTTP Version Not Supported", "a WebSocket is opened with HTTP/1.1"));
    }
    if request.path.and_then(|target| target.split('?').next()) != Some(path) {
        return Err(Refusal::new("404 Not Found", "no MQTT is served at this path"));
    }
    if !has_token(request, "upgrade", "websocket") {
        let header = "Upgrade: websocket\r\n";
        return Err(Refusal { status: UPGRADE, header, text: "MQTT over WebSocket is served here, and nothing else" });
    }
    if !has_token(request, "connection", "upgrade") || one(request, "host").is_none() {
        return Err(Refusal::new(BAD, "the header fields \"Connection: Upgrade\" and \"Host\" are needed"));
    }
    if one(request, "sec-websocket-version") != Some(b"13") {
        let header = "Sec-WebSocket-Version: 13\r\n";
        return Err(Refusal { status: UPGRADE, header, text: "the WebSocket version must be 13" });
    }
    let key = one(request, "sec-websocket-key").filter(|key| is_key(key));
    let key = key.ok_or(Refusal::new(BAD, "Sec-WebSocket-Key must be 16 bytes in base64, once"))?;
    // [MQTT-6.0.0-3]
    let is_offered = |name: &&&str| has_token(request, "sec-websocket-protocol", name);
    let refusal = Refusal::new(BAD, "the subprotocol must be offered: \"Sec-WebSocket-Protocol: mqtt\"");
    let subprotocol = SUBPROTOCOLS.iter().find(is_offered).ok_or(refusal)?;
    // [MQTT-6.0.0-4]
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\nSec-WebSocket-Protocol: {subprotocol}\r\n\r\n",
        accept_value(key)
    );
    Ok(answer.into_bytes())
}

fn fields<'a>(request: &'a Request<'_, '_>, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    request.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
}

/// A field that is there exactly once.
fn one<'a>(request: &'a Request<'_, '_>, name: &'a str) -> Option<&'a [u8]> {
    let mut found = fields(request, name);
    let first = found.next()?;
    found.next().is_none().then(|| first.trim_ascii())
}

fn has_token(request: &Request<'_, '_>, name: &str, token: &str) -> bool {
    let is_token = |one: &[u8]| one.trim_ascii().eq_ignore_ascii_case(token.as_bytes());
    fields(request, name).any(|value| value.split(|byte| *byte == b',').any(is_token))
}

/// 16 bytes in base64: 22 digits and two signs of equality.
fn is_key(key: &[u8]) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.len() == 24 && key.ends_with(b"==") && key[..22].iter().all(is_digit)
}

/// RFC 6455, section 4.2.2, point 5.4.
fn accept_value(key: &[u8]) -> String {
    base64(digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, KEY_SUFFIX].concat()).as_ref())
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0, |bits, place| bits << 8 | u32::from(group.get(place).copied().unwrap_or(0)));
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place)) as usize & 63];
            text.push(if place <= group.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

fn refusal_answer(refusal: &Refusal) -> Vec<u8> {
    let Refusal { status, header, text } = refusal;
    let length = text.len() + 1;
    format!(
        "HTTP/1.1 {status}\r\n{header}Connection: close\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {length}\r\n\r\n{text}\n"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: [&str; 7] = [
        "GET /mqtt HTTP/1.1",
        "Host: broker",
        "Upgrade: WebSocket",
        "Connection: keep-alive, Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Protocol: chat, mqtt",
    ];

    fn head(lines: &[&str]) -> String {
        lines.iter().chain([&""]).fold(String::new(), |head, line| head + line + "\r\n")
    }

    fn status(bytes: &[u8]) -> String {
        let answer = match judge(bytes, "/mqtt") {
            Verdict::Incomplete => return "incomplete".into(),
            Verdict::Accepted { answer, .. } | Verdict::Refused { answer, .. } => answer,
        };
        String::from_utf8(answer).unwrap().split(' ').nth(1).unwrap().into()
    }

    #[test]
    fn the_example_of_the_specification_is_accepted_and_what_follows_is_left() {
        let mut bytes = head(&WHOLE).into_bytes();
        let expected = bytes.len();
        bytes.extend_from_slice(b"\x82\x80rest");
        let Verdict::Accepted { len, answer } = judge(&bytes, "/mqtt") else { panic!("refused") };
        assert_eq!(len, expected);
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        assert!(answer.contains("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{answer}");
        assert!(answer.contains("\r\nSec-WebSocket-Protocol: mqtt\r\n"), "{answer}");
    }

    #[test]
    fn each_flaw_has_its_status() {
        let rows: [(usize, &str, &str); 16] = [
            (0, "POST /mqtt HTTP/1.1", "405"),
            (0, "GET /mqtt HTTP/1.0", "505"),
            (0, "GET /mqtt HTTP/2.0", "400"),
            (0, "GET /other HTTP/1.1", "404"),
            (0, "GET /mqtt/ HTTP/1.1", "404"),
            (0, "GET /mqtt?token=1 HTTP/1.1", "101"),
            (1, "X: y", "400"),
            (2, "Upgrade: h2c", "426"),
            (3, "Connection: close", "400"),
            (4, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ", "400"),
            (4, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j*Q==", "400"),
            (5, "Sec-WebSocket-Version: 8", "426"),
            (6, "Sec-WebSocket-Protocol: mqttv3.1", "101"),
            (6, "Sec-WebSocket-Protocol: mqttv5", "400"),
            (6, "X: y", "400"),
            (6, "bad header", "400"),
        ];
        for (line, written, expected) in rows {
            let mut lines = WHOLE;
            lines[line] = written;
            assert_eq!(status(head(&lines).as_bytes()), expected, "{written}");
        }
    }

    #[test]
    fn the_standard_subprotocol_is_chosen_before_that_of_old_clients() {
        for (offered, chosen) in [("mqttv3.1, mqtt", "mqtt"), ("mqttv3.1", "mqttv3.1")] {
            let field = format!("Sec-WebSocket-Protocol: {offered}");
            let mut lines = WHOLE;
            lines[6] = &field;
            let Verdict::Accepted { answer, .. } = judge(head(&lines).as_bytes(), "/mqtt") else {
                panic!("refused")
            };
            let answer = String::from_utf8(answer).unwrap();
            assert!(answer.contains(&format!("\r\nSec-WebSocket-Protocol: {chosen}\r\n")), "{answer}");
        }
    }

    #[test]
    fn a_key_that_comes_twice_is_refused() {
        let lines: Vec<&str> = WHOLE.into_iter().chain([WHOLE[4]]).collect();
        assert_eq!(status(head(&lines).as_bytes()), "400");
    }

    #[test]
    fn a_head_is_bounded_and_garbage_is_refused_at_once() {
        let whole = head(&WHOLE);
        for length in 0..whole.len() {
            assert_eq!(status(&whole.as_bytes()[..length]), "incomplete");
        }
        let long = format!("{}\r\nX: {}", WHOLE[0], "y".repeat(HEAD_BYTES_MAX));
        assert_eq!(status(long.as_bytes()), "431");
        let many = vec!["X: y"; HEADERS_MAX + 1];
        assert_eq!(status(head(&[&WHOLE[..1], &many].concat()).as_bytes()), "431");
        assert_eq!(status(b"\x16\x03\x01\x02\x00"), "400");
        assert_eq!(status(b"\x10\x0c\x00\x04MQTT"), "400");
    }

    #[test]
    fn base64_pads() {
        let rows = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")];
        for (bytes, text) in rows {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
