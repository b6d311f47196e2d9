//! When a will is published, as what, and who takes it back (MQTT 5.0 sections 3.1.2.5, 3.1.3.2, 3.14.2.2.2, 3.14.4; 3.1.1
//! sections 3.1.2.5 to 3.1.2.7, 3.14.4): the shorter of its delay and the session's time, takeovers, changed expiries.
//!
//! Knows what a watcher reads. Times that must pass are proven on a clock of their own, beside the code.

mod house;

use std::io::Write;
use std::net::TcpStream;

use house::{House, Wire};
use whimbrel_protocol::encode::encode;
use whimbrel_protocol::packet::{Connect, Disconnect, Packet, Publish, Subscribe, SubscriptionOptions, Will};
use whimbrel_protocol::properties::{Properties, Value, id, put_property};
use whimbrel_protocol::{Filter, Limits, QoS, ReasonCode, Topic, Version};

const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];
const GOODBYE: ReasonCode = ReasonCode::SUCCESS;
const WITH_WILL: ReasonCode = ReasonCode::DISCONNECT_WITH_WILL;

fn number(id: u8, value: u32) -> Vec<u8> {
    let mut raw = Vec::new();
    put_property(&mut raw, id, Value::Number(value));
    raw
}

/// A client with a will "gone" on topic "will".
#[derive(Clone, Copy)]
struct Dying {
    version: Version,
    clean_start: bool,
    expiry_s: u32,
    delay_s: u32,
    retain: bool,
    has_will: bool,
}

impl Dying {
    const fn of(version: Version) -> Dying {
        Dying { version, clean_start: true, expiry_s: 0, delay_s: 0, retain: false, has_will: true }
    }

    fn enter(self, house: &House) -> Wire {
        let is_5 = self.version == Version::V5;
        let raw = if is_5 { number(id::SESSION_EXPIRY_INTERVAL, self.expiry_s) } else { Vec::new() };
        let of_will = if is_5 { number(id::WILL_DELAY_INTERVAL, self.delay_s) } else { Vec::new() };
        let will = Will {
            topic: Topic::new("will").unwrap(),
            payload: b"gone",
            qos: QoS::AtLeastOnce,
            retain: self.retain,
            properties: Properties::trusted(&of_will),
        };
        self.send(house, &raw, self.has_will.then_some(will))
    }

    fn send(self, house: &House, raw: &[u8], will: Option<Will<'_>>) -> Wire {
        let connect = Connect {
            version: self.version,
            clean_start: self.clean_start,
            keep_alive_s: 0,
            client_id: "dying",
            will,
            username: None,
            password: None,
            properties: Properties::trusted(raw),
        };
        let mut bytes = Vec::new();
        encode(&mut bytes, self.version, &Packet::Connect(Box::new(connect)));
        let mut stream = TcpStream::connect(house.address()).expect("the broker listens");
        stream.write_all(&bytes).unwrap();
        let mut wire = Wire::over(stream, self.version);
        assert_eq!(wire.read().expect("CONNACK")[3], 0);
        wire
    }
}

/// Reads everything, with the retain flag as published.
struct Watcher(Wire);

impl Watcher {
    fn new(house: &House) -> Watcher {
        let mut wire = Wire::connect_with(&house.address(), "watcher", Version::V5, true, b"");
        let options = SubscriptionOptions { retain_as_published: true, ..SubscriptionOptions::plain(QoS::AtMostOnce) };
        let filters = vec![(Ok(Filter::new("#").unwrap()), options)];
        wire.send(&Packet::Subscribe(Subscribe { packet_id: 1, properties: Properties::default(), filters }));
        wire.read_type(9).expect("SUBACK");
        Watcher(wire)
    }

    /// The next message, whatever it is.
    fn next(&mut self) -> Vec<u8> {
        self.0.read_type(3).expect("a PUBLISH")
    }

    /// What a mark, published after everything that was to happen, finds before it.
    fn seen(&mut self) -> Vec<Vec<u8>> {
        let (topic, properties) = (Some(Topic::new("mark").unwrap()), Properties::default());
        let qos = QoS::AtMostOnce;
        let mark = Publish { dup: false, qos, retain: false, topic, packet_id: 0, properties, payload: b"" };
        self.0.send(&Packet::Publish(mark));
        let mut seen = Vec::new();
        loop {
            let bytes = self.next();
            if is_of(&bytes, b"mark") {
                return seen;
            }
            seen.push(bytes);
        }
    }
}

fn is_of(bytes: &[u8], topic: &[u8]) -> bool {
    bytes[4..].starts_with(topic)
}

fn is_will(bytes: &[u8]) -> bool {
    is_of(bytes, b"will") && bytes.ends_with(b"gone")
}

fn disconnect(wire: &mut Wire, reason: ReasonCode, raw: &[u8]) {
    wire.send(&Packet::Disconnect(Disconnect { reason, properties: Properties::trusted(raw) }));
}

#[test]
fn a_will_is_retained_where_it_says_so_and_only_there() {
    let house = House::start(1, Limits::default());
    for version in VERSIONS {
        for retain in [false, true] {
            let mut watcher = Watcher::new(&house);
            drop(Dying { retain, ..Dying::of(version) }.enter(&house));
            let will = watcher.next();
            assert!(is_will(&will), "{will:02X?}");
            assert_eq!(will[0] & 1 == 1, retain, "{version:?}");
            let mut late = Watcher::new(&house);
            assert_eq!(late.seen().len(), usize::from(retain), "{version:?}");
        }
        let mut watcher = Watcher::new(&house);
        let (topic, properties) = (Some(Topic::new("will").unwrap()), Properties::default());
        let (qos, retain) = (QoS::AtMostOnce, true);
        let cleared = Publish { dup: false, qos, retain, topic, packet_id: 0, properties, payload: b"" };
        watcher.0.send(&Packet::Publish(cleared));
        watcher.seen();
    }
}

#[test]
fn the_properties_of_a_will_are_published_with_it_in_their_order_and_its_delay_is_not() {
    let house = House::start(1, Limits::default());
    let mut watcher = Watcher::new(&house);
    let mut passed_on = Vec::new();
    put_property(&mut passed_on, id::USER_PROPERTY, Value::Pair("z", "1"));
    put_property(&mut passed_on, id::PAYLOAD_FORMAT_INDICATOR, Value::Number(1));
    put_property(&mut passed_on, id::CONTENT_TYPE, Value::Text("text/plain"));
    put_property(&mut passed_on, id::USER_PROPERTY, Value::Pair("a", "2"));
    put_property(&mut passed_on, id::RESPONSE_TOPIC, Value::Text("answers"));
    put_property(&mut passed_on, id::CORRELATION_DATA, Value::Binary(b"\x00\xFF"));
    put_property(&mut passed_on, id::USER_PROPERTY, Value::Pair("z", "1"));
    let raw = [number(id::WILL_DELAY_INTERVAL, 60), passed_on.clone()].concat();
    let topic = Topic::new("will").unwrap();
    let (qos, properties) = (QoS::AtMostOnce, Properties::trusted(&raw));
    let will = Will { topic, payload: b"gone", qos, retain: false, properties };
    drop(Dying::of(Version::V5).send(&house, b"", Some(will)));
    let body = [&b"\x00\x04will"[..], &[passed_on.len() as u8], &passed_on, b"gone"].concat();
    assert_eq!(watcher.next()[2..], body);
}

#[test]
fn a_will_whose_session_ends_with_the_connection_does_not_wait_for_its_delay() {
    let house = House::start(1, Limits::default());
    let mut watcher = Watcher::new(&house);
    drop(Dying { delay_s: 3_600, ..Dying::of(Version::V5) }.enter(&house));
    assert!(is_will(&watcher.next()));
    let mut dying = Dying { delay_s: 3_600, expiry_s: 600, ..Dying::of(Version::V5) }.enter(&house);
    // The goodbye that keeps the will takes the session's time away, and with it the delay.
    disconnect(&mut dying, WITH_WILL, &number(id::SESSION_EXPIRY_INTERVAL, 0));
    assert!(is_will(&watcher.next()));
    house.until_count("sessions.count", 1);
}

#[test]
fn a_will_that_waits_is_taken_back_by_a_resumed_session_and_published_for_a_new_one() {
    let house = House::start(1, Limits::default());
    let waiting = Dying { delay_s: 3_600, expiry_s: 7_200, ..Dying::of(Version::V5) };
    for (clean_start, wills) in [(false, 0), (true, 1)] {
        let mut watcher = Watcher::new(&house);
        drop(waiting.enter(&house));
        house::until("it is away", || house.count("connections.count") == 1);
        assert!(watcher.seen().is_empty());
        let mut back = Dying { clean_start, has_will: false, ..waiting }.enter(&house);
        assert!(back.is_alive());
        assert_eq!(watcher.seen().len(), wills, "clean start {clean_start}");
        // The will belonged to the connection before.
        disconnect(&mut back, WITH_WILL, b"");
        assert_eq!(back.read(), None);
        assert!(watcher.seen().is_empty());
    }
}

/// What a takeover publishes: (delay, session expiry, clean start of the newcomer).
#[test]
fn a_takeover_publishes_the_will_unless_it_waits_and_the_session_goes_on() {
    let house = House::start(1, Limits::default());
    let table = [
        ((0, 600, false), true, "no delay: published although the session goes on"),
        ((60, 600, false), false, "the newcomer came before the delay was over"),
        ((60, 600, true), true, "the session has ended"),
        ((0, 600, true), true, "the session has ended, and no delay"),
        ((60, 0, false), true, "the session ends with its connection"),
        ((0, 0, true), true, "a session that would have ended anyway"),
    ];
    for ((delay_s, expiry_s, clean_start), is_published, what) in table {
        let mut watcher = Watcher::new(&house);
        let first = Dying { delay_s, expiry_s, ..Dying::of(Version::V5) };
        let mut displaced = first.enter(&house);
        let mut newcomer = Dying { clean_start, has_will: false, ..first }.enter(&house);
        assert_eq!(displaced.read_type(14).expect("DISCONNECT")[2], 0x8E, "{what}");
        assert_eq!(displaced.read(), None);
        assert!(newcomer.is_alive());
        let seen = watcher.seen();
        assert_eq!(seen.iter().filter(|bytes| is_will(bytes)).count(), usize::from(is_published), "{what}");
        disconnect(&mut newcomer, GOODBYE, &number(id::SESSION_EXPIRY_INTERVAL, 0));
        newcomer.read();
    }
}

#[test]
fn in_old_versions_a_takeover_publishes_the_will_of_the_connection_that_goes() {
    let house = House::start(1, Limits::default());
    for version in [Version::V31, Version::V311] {
        for clean_start in [false, true] {
            let mut watcher = Watcher::new(&house);
            let mut displaced = Dying { clean_start, ..Dying::of(version) }.enter(&house);
            let mut newcomer = Dying { clean_start, has_will: false, ..Dying::of(version) }.enter(&house);
            assert_eq!(displaced.read(), None);
            assert!(newcomer.is_alive());
            assert!(watcher.seen().iter().any(|bytes| is_will(bytes)), "{version:?}");
            drop(newcomer);
            house::until("it is gone", || house.count("connections.count") == 1);
            // A connection without a will leaves none, and the first one's is spent.
            assert!(watcher.seen().is_empty());
        }
    }
}

#[test]
fn a_goodbye_takes_the_will_back_and_any_other_reason_leaves_it() {
    let house = House::start(1, Limits::default());
    for (reason, wills) in [(GOODBYE, 0), (WITH_WILL, 1), (ReasonCode::UNSPECIFIED_ERROR, 1), (ReasonCode(3), 1)] {
        let mut watcher = Watcher::new(&house);
        let mut dying = Dying::of(Version::V5).enter(&house);
        disconnect(&mut dying, reason, b"");
        // The last one is no code of DISCONNECT, which ends the connection as an error.
        assert_eq!(dying.read().map(|bytes| bytes[2]), (reason == ReasonCode(3)).then_some(0x82));
        assert_eq!(watcher.seen().len(), wills, "{reason:?}");
    }
}

#[test]
fn a_disconnect_may_change_the_time_of_a_session_and_not_revive_one() {
    let house = House::start(1, Limits { session_expiry_max_s: 1_000, ..Limits::default() });
    let full = House::start(1, Limits { max_sessions: 0, ..Limits::default() });
    let mut watcher = Watcher::new(&full);
    let mut dying = Dying { expiry_s: 600, ..Dying::of(Version::V5) }.enter(&full);
    disconnect(&mut dying, GOODBYE, &number(id::SESSION_EXPIRY_INTERVAL, 600));
    assert_eq!(dying.read(), None, "asked for in CONNECT and not granted: no error, and no session");
    full.until_count("sessions.count", 1);
    assert!(watcher.seen().is_empty());
    let table = [
        (600, Some(0), None, 0, "0 ends it"),
        (600, Some(100), None, 1, "less"),
        (600, Some(900), None, 1, "more"),
        (600, None, None, 1, "unchanged"),
        (600, Some(u32::MAX), None, 1, "for ever, as far as the operator allows it"),
        (0, Some(0), None, 0, "0 stays 0"),
        (0, None, None, 0, "unchanged 0"),
        (0, Some(1), Some(0x82), 0, "0 cannot become more"),
    ];
    for (expiry_s, changed_s, code, sessions, what) in table {
        let mut watcher = Watcher::new(&house);
        let mut dying = Dying { expiry_s, ..Dying::of(Version::V5) }.enter(&house);
        let raw = changed_s.map(|changed_s| number(id::SESSION_EXPIRY_INTERVAL, changed_s));
        disconnect(&mut dying, GOODBYE, &raw.unwrap_or_default());
        assert_eq!(dying.read().map(|bytes| bytes[2]), code, "{what}");
        assert_eq!(dying.read(), None);
        house.until_count("sessions.count", sessions + 1);
        // What breaks the protocol is no goodbye.
        assert_eq!(watcher.seen().len(), usize::from(code.is_some()), "{what}");
    }
}
