//! A broker whose numbers are compared before and after an event.
//!
//! Knows how to let a broker come to rest and which numbers always move. Each test binary uses its part of it.
#![allow(dead_code, reason = "no test binary needs all of it")]

use std::collections::BTreeMap;
use std::sync::Arc;

use whimbrel_protocol::message::{Origin, Publication};
use whimbrel_protocol::packet::{Packet, Publish};
use whimbrel_protocol::properties::Properties;
use whimbrel_protocol::{Limits, Message, QoS, Topic, Version};
use whimbrel_server::clock::steady_ms;
use whimbrel_server::{Event, ListenerOptions};

use crate::house::{House, Wire, loopback, until};

type Numbers = BTreeMap<&'static str, u64>;

/// They move with time or with every byte.
const RESTLESS: [&str; 5] =
    ["bytes.received", "bytes.sent", "whimbrel.memory.released", "whimbrel.worker.turns", "whimbrel.router.misses"];
const GAUGES: [&str; 1] = ["messages.retained"];

pub struct Scene {
    pub house: House,
    before: Numbers,
}

impl Scene {
    pub fn new(limits: Limits) -> Scene {
        Scene::behind(loopback(), limits)
    }

    pub fn behind(listener: ListenerOptions, limits: Limits) -> Scene {
        Scene::of(House::start_with(1, limits, listener))
    }

    pub fn of(house: House) -> Scene {
        let mut scene = Scene { house, before: Numbers::new() };
        scene.begin();
        scene
    }

    /// Questions stay unanswered for so long.
    pub fn with_deadline(deadline_ms: u32) -> Scene {
        let scene = Scene::new(Limits::default());
        scene.house.broker.reload(&[Limits::default()], deadline_ms);
        scene
    }

    fn numbers(&self) -> Numbers {
        self.house.broker.metrics().into_iter().collect()
    }

    /// Lets the broker come to rest and notes the numbers of that moment.
    pub fn begin(&mut self) {
        loop {
            let before = self.numbers();
            self.house.audit();
            self.before = self.numbers();
            if moves(&before, &self.before).is_empty() {
                return;
            }
        }
    }

    pub fn difference(&self, name: &str) -> u64 {
        self.numbers()[name] - self.before[name]
    }

    /// Waits until exactly these numbers have moved, by so much since `begin`; those of several lists are added up.
    pub fn moved(&mut self, lists: &[&[(&'static str, u64)]]) {
        self.check(lists, &[]);
    }

    pub fn moved_but_gauges(&mut self, lists: &[&[(&'static str, u64)]]) {
        self.check(lists, &GAUGES);
    }

    fn check(&mut self, lists: &[&[(&'static str, u64)]], but: &[&str]) {
        let mut expected = BTreeMap::new();
        for (name, count) in lists.iter().copied().flatten().filter(|(_, count)| *count > 0) {
            *expected.entry(*name).or_insert(0) += *count as i64;
        }
        let found = |scene: &Scene| {
            let mut found = moves(&scene.before, &scene.numbers());
            found.retain(|name, _| !but.contains(name));
            found
        };
        let end = std::time::Instant::now() + crate::house::PATIENCE / 4;
        while found(self) != expected && std::time::Instant::now() < end {
            // A number may be shown a turn later: this makes one.
            self.house.audit();
        }
        // What came later than expected would be seen here: the ledger is made in a turn of its own.
        let audit = self.house.audit();
        assert_eq!(found(self), expected, "left: moved, right: expected");
        for line in audit.lines() {
            assert_eq!(line.missing(), 0, "{line:?}");
        }
    }

    pub fn enter(&self, client_id: &str, version: Version) -> Wire {
        entered(Wire::connect_with(&self.house.address(), client_id, version, true, &[]))
    }

    /// With a session that outlives its connection.
    pub fn enter_kept(&self, client_id: &str) -> Wire {
        self.enter_again(client_id, true)
    }

    pub fn resume(&self, client_id: &str) -> Wire {
        self.enter_again(client_id, false)
    }

    pub fn enter_again(&self, client_id: &str, clean_start: bool) -> Wire {
        entered(Wire::connect(&self.house.address(), client_id, Version::V5, clean_start))
    }

    pub fn subscriber(&self, client_id: &str, filter: &str, qos: QoS) -> Wire {
        let mut wire = self.enter(client_id, Version::V5);
        wire.subscribe(filter, qos);
        assert!(wire.read_type(9).unwrap().last().unwrap() <= &2);
        wire
    }

    /// Publishes from inside; how many took it.
    pub fn publish(&mut self, topic: &str, qos: QoS, payload: &[u8]) -> u64 {
        let (topic, properties) = (Topic::new(topic).unwrap(), Properties::default());
        let publication = Publication { topic, properties, expiry_s: None, payload };
        let origin = Origin { client_id: Arc::from(""), received_ms: steady_ms() };
        let ticket = self.house.ticket();
        self.house.broker.publish(ticket, Arc::new(Message::new(&publication, qos, false, origin)));
        self.house.wait_for("reply", |event| match event {
            Event::Published { ticket: of, receivers } if *of == ticket => Some(*receivers),
            _ => None,
        })
    }

    pub fn until_moved(&self, name: &str, count: u64) {
        until(&format!("{name} moved by {count}"), || self.difference(name) == count);
    }
}

fn moves(before: &Numbers, after: &Numbers) -> BTreeMap<&'static str, i64> {
    let moved = after.iter().map(|(name, count)| (*name, *count as i64 - before[name] as i64));
    moved.filter(|(name, count)| *count != 0 && !RESTLESS[..].contains(name)).collect()
}

fn entered(mut wire: Wire) -> Wire {
    assert_eq!(wire.read_type(2).unwrap()[3], 0, "the client is let in");
    wire
}

pub fn publish(topic: &str, qos: QoS, packet_id: u16) -> Packet<'_> {
    publish_with(topic, qos, packet_id, (b"x", false))
}

/// With a payload and a retain flag.
pub fn publish_with<'a>(topic: &'a str, qos: QoS, packet_id: u16, (payload, retain): (&'a [u8], bool)) -> Packet<'a> {
    let (properties, topic) = (Properties::default(), Some(Topic::new(topic).unwrap()));
    Packet::Publish(Publish { dup: false, qos, retain, topic, packet_id, properties, payload })
}

/// Numbers that need more than a packet or two; each has its test in the named file.
const ELSEWHERE: [(&str, &str); 12] = [
    ("whimbrel.clients.shut_down", include_str!("../limits.rs")),
    ("whimbrel.connections.paced", include_str!("../limits.rs")),
    ("whimbrel.connections.rested", include_str!("../fairness.rs")),
    ("whimbrel.delivery.retried", include_str!("../limits.rs")),
    ("whimbrel.flapping.banned", include_str!("../limits.rs")),
    ("whimbrel.flapping.refused", include_str!("../limits.rs")),
    ("whimbrel.listeners.refused", include_str!("../limits.rs")),
    ("whimbrel.listeners.rested", include_str!("../limits.rs")),
    ("whimbrel.mailbox.throttled", include_str!("../../src/worker/mod.rs")),
    ("whimbrel.retained.expired", include_str!("../retained_expiry.rs")),
    ("whimbrel.sessions.refused", include_str!("../limits.rs")),
    ("whimbrel.taps.dropped", include_str!("../requests.rs")),
];

/// Fails for a name that stands in none of the texts.
pub fn assert_all_named(names: impl Iterator<Item = String>, texts: &[&str]) {
    let has = |name: &str, text: &str| text.contains(&format!("\"{name}\""));
    let elsewhere = |name: &str| ELSEWHERE.iter().any(|(known, text)| *known == name && has(name, text));
    let missing: Vec<String> =
        names.filter(|name| !texts.iter().any(|text| has(name, text)) && !elsewhere(name)).collect();
    assert_eq!(missing, [""; 0], "these numbers have no test");
}
