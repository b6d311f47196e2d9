//! Packets for property tests: one draw of ingredients makes a packet of every type.
//!
//! Knows which fields a version has room for, so that every packet it makes must come back as it went. Driven by the
//! property tests of this crate.

use proptest::prelude::*;
use proptest::sample::Index;
use whimbrel_protocol::packet::{
    Ack, ConnAck, Connect, Disconnect, Packet, Publish, SubAck, Subscribe, SubscriptionOptions, Unsubscribe, Will,
};
use whimbrel_protocol::properties::{Kind, Properties, Row, TABLE, Value, carrier, id, put_property};
use whimbrel_protocol::{Filter, QoS, ReasonCode, Subscribed, Topic, Version};

/// Carriers with a section of their own: the bits of [`carrier`].
const CARRIERS: usize = 14;

/// A property to be: which of the allowed ones, and values for every shape.
#[derive(Clone, Debug)]
struct Seed {
    pick: Index,
    number: u32,
    text: String,
    bytes: Vec<u8>,
}

impl Seed {
    fn value(&self, kind: Kind) -> Value<'_> {
        match kind {
            Kind::Flag => Value::Number(self.number & 1),
            Kind::Two => Value::Number(self.number & 0xFFFF),
            Kind::NonZeroTwo => Value::Number((self.number & 0xFFFF).max(1)),
            Kind::Four => Value::Number(self.number),
            Kind::NonZeroFour => Value::Number(self.number.max(1)),
            Kind::NonZeroVarint => Value::Number((self.number & 0x0FFF_FFFF).max(1)),
            Kind::Text => Value::Text(&self.text),
            Kind::Pair => Value::Pair(&self.text, "value"),
            Kind::Binary => Value::Binary(&self.bytes),
        }
    }
}

/// Properties that `carrier` may hold, but not `left_out` (0: none).
fn section(seeds: &[Seed], carrier: u16, left_out: u8) -> Vec<u8> {
    let is_allowed = |row: &&Row| row.packets & carrier != 0 && row.id != left_out;
    let allowed: Vec<&Row> = TABLE.iter().filter(is_allowed).collect();
    let mut raw = Vec::new();
    let mut used = Vec::new();
    for seed in seeds {
        let row = seed.pick.get(&allowed);
        let repeats = row.repeats && (carrier != carrier::SUBSCRIBE || row.id == id::USER_PROPERTY);
        if repeats || !used.contains(&row.id) {
            put_property(&mut raw, row.id, seed.value(row.kind));
            used.push(row.id);
        }
    }
    raw
}

/// What the packets of one draw are made of.
#[derive(Clone, Debug)]
pub struct Ingredients {
    /// Of the connection.
    pub version: Version,
    sections: Vec<Vec<u8>>,
    from_client: Vec<u8>,
    topic: Option<String>,
    filters: Vec<(String, u8)>,
    texts: [String; 2],
    payload: Vec<u8>,
    packet_id: u16,
    keep_alive_s: u16,
    reason: u8,
    codes: Vec<u8>,
    qos: QoS,
    flags: [bool; 6],
}

/// One of the codes that the packet may carry.
fn fitting(seed: u8, carrier: u16) -> ReasonCode {
    let all: Vec<ReasonCode> = (0..=255).map(ReasonCode).filter(|reason| reason.fits(carrier)).collect();
    all[usize::from(seed) % all.len()]
}

impl Ingredients {
    /// One packet of every type that the version has.
    pub fn packets(&self) -> Vec<Packet<'_>> {
        let mut packets = vec![Packet::Connect(Box::new(self.connect()))];
        packets.extend(self.of_servers());
        packets.extend(self.of_open_clients());
        packets
    }

    /// Those that a broker takes from a client that it let in.
    pub fn of_open_clients(&self) -> Vec<Packet<'_>> {
        let mut packets = vec![
            Packet::Publish(self.publish_of_client()),
            Packet::PubAck(self.ack(carrier::PUBACK)),
            Packet::PubRec(self.ack(carrier::PUBREC)),
            Packet::PubRel(self.ack(carrier::PUBREL)),
            Packet::PubComp(self.ack(carrier::PUBCOMP)),
            Packet::Subscribe(self.subscribe()),
            Packet::Unsubscribe(self.unsubscribe()),
            Packet::PingReq,
            Packet::Disconnect(self.farewell(carrier::DISCONNECT)),
        ];
        if self.version == Version::V5 {
            packets.push(Packet::Auth(self.farewell(carrier::AUTH)));
        }
        packets
    }

    fn of_servers(&self) -> Vec<Packet<'_>> {
        let connack = ConnAck {
            // 3.1 has no place for it.
            session_present: self.flags[0] && self.version > Version::V31,
            reason: self.reason(carrier::CONNACK),
            properties: self.properties(carrier::CONNACK),
        };
        let unsuback_codes: &[u8] = if self.version == Version::V5 { &self.codes } else { &[] };
        vec![
            Packet::ConnAck(connack),
            Packet::Publish(self.publish()),
            Packet::SubAck(self.suback(&self.codes, carrier::SUBACK)),
            Packet::UnsubAck(self.suback(unsuback_codes, carrier::UNSUBACK)),
            Packet::PingResp,
        ]
    }

    fn properties(&self, carrier: u16) -> Properties<'_> {
        match self.version {
            Version::V5 => Properties::trusted(&self.sections[carrier.trailing_zeros() as usize]),
            Version::V31 | Version::V311 => Properties::default(),
        }
    }

    /// 3.1.1 has no place for one in most packets, and writes another in CONNACK.
    fn reason(&self, carrier: u16) -> ReasonCode {
        match self.version {
            Version::V5 => fitting(self.reason, carrier),
            Version::V31 | Version::V311 => ReasonCode::SUCCESS,
        }
    }

    fn topic(&self) -> Topic<'_> {
        Topic::new(self.topic.as_deref().unwrap_or("t")).unwrap()
    }

    fn will(&self) -> Will<'_> {
        Will {
            topic: self.topic(),
            payload: &self.payload,
            qos: self.qos,
            retain: self.flags[1],
            properties: self.properties(carrier::WILL),
        }
    }

    fn connect(&self) -> Connect<'_> {
        let has_username = self.flags[3];
        let has_password = self.flags[4] && (has_username || self.version == Version::V5);
        Connect {
            version: self.version,
            clean_start: self.flags[0],
            keep_alive_s: self.keep_alive_s,
            client_id: &self.texts[0],
            will: self.flags[2].then(|| self.will()),
            username: has_username.then_some(&self.texts[1]),
            password: has_password.then_some(&self.payload),
            properties: self.properties(carrier::CONNECT),
        }
    }

    fn publish(&self) -> Publish<'_> {
        let topic = match self.version {
            Version::V5 => self.topic.as_deref().map(|topic| Topic::new(topic).unwrap()),
            Version::V31 | Version::V311 => Some(self.topic()),
        };
        let is_acknowledged = self.qos != QoS::AtMostOnce;
        Publish {
            dup: self.flags[5] && is_acknowledged,
            qos: self.qos,
            retain: self.flags[1],
            topic,
            packet_id: if is_acknowledged { self.packet_id } else { 0 },
            properties: self.properties(carrier::PUBLISH),
            payload: &self.payload,
        }
    }

    /// Without subscription identifiers, which only a server sends [MQTT-3.3.4-6].
    fn publish_of_client(&self) -> Publish<'_> {
        match self.version {
            Version::V5 => Publish { properties: Properties::trusted(&self.from_client), ..self.publish() },
            Version::V31 | Version::V311 => self.publish(),
        }
    }

    fn ack(&self, carrier: u16) -> Ack<'_> {
        Ack { packet_id: self.packet_id, reason: self.reason(carrier), properties: self.properties(carrier) }
    }

    fn options(&self, bits: u8) -> SubscriptionOptions {
        let plain = SubscriptionOptions::plain(QoS::from_bits(bits % 3).unwrap());
        match self.version {
            Version::V31 | Version::V311 => plain,
            Version::V5 => SubscriptionOptions {
                no_local: bits & 4 != 0,
                retain_as_published: bits & 8 != 0,
                retain_handling: bits / 16 % 3,
                ..plain
            },
        }
    }

    fn subscribe(&self) -> Subscribe<'_> {
        let filters = self.filters.iter();
        let filters = filters.map(|(text, bits)| {
            let filter = Filter::new(text).unwrap();
            let options = self.options(*bits);
            (Ok(filter), SubscriptionOptions { no_local: options.no_local && !filter.is_shared(), ..options })
        });
        Subscribe {
            packet_id: self.packet_id,
            properties: self.properties(carrier::SUBSCRIBE),
            filters: filters.collect(),
        }
    }

    fn unsubscribe(&self) -> Unsubscribe<'_> {
        let filters = self.filters.iter().map(|(text, _)| Ok(Filter::new(text).unwrap()));
        Unsubscribe {
            packet_id: self.packet_id,
            properties: self.properties(carrier::UNSUBSCRIBE),
            filters: filters.collect(),
        }
    }

    fn suback(&self, codes: &[u8], carrier: u16) -> SubAck<'_> {
        let known = |code: &u8| match self.version {
            Version::V5 => fitting(*code, carrier),
            Version::V31 => ReasonCode(*code % 3),
            Version::V311 => ReasonCode([0, 1, 2, 0x80][usize::from(*code % 4)]),
        };
        SubAck {
            packet_id: self.packet_id,
            properties: self.properties(carrier),
            reasons: codes.iter().map(known).collect(),
        }
    }

    fn farewell(&self, carrier: u16) -> Disconnect<'_> {
        Disconnect { reason: self.reason(carrier), properties: self.properties(carrier) }
    }
}

/// Texts without wildcards, because one of them may become a response topic.
fn seed() -> impl Strategy<Value = Seed> {
    let bytes = prop::collection::vec(any::<u8>(), 0..6);
    (any::<Index>(), any::<u32>(), "[^\\x00+#]{0,6}", bytes).prop_map(|(pick, number, text, bytes)| Seed {
        pick,
        number,
        text,
        bytes,
    })
}

/// The sections by carrier, and that of a client's PUBLISH.
fn sections() -> impl Strategy<Value = (Vec<Vec<u8>>, Vec<u8>)> {
    prop::collection::vec(seed(), 0..6).prop_map(|seeds| {
        let by_carrier = (0..CARRIERS).map(|bit| section(&seeds, 1 << bit, 0)).collect();
        (by_carrier, section(&seeds, carrier::PUBLISH, id::SUBSCRIPTION_IDENTIFIER))
    })
}

fn filter() -> impl Strategy<Value = String> {
    let level = prop::sample::select(vec!["", "a", "é", "+", "$share", "$queue"]);
    let is_valid = |filter: &str| Filter::new(filter).and_then(Subscribed::new).is_ok();
    (prop::collection::vec(level, 1..4), any::<bool>())
        .prop_map(|(levels, ends_with_hash)| levels.join("/") + if ends_with_hash { "/#" } else { "" })
        .prop_filter("a filter and a group have at least one character", move |filter| is_valid(filter))
}

/// All of them, in both versions.
pub fn ingredients() -> impl Strategy<Value = Ingredients> {
    let version = prop::sample::select(vec![Version::V31, Version::V311, Version::V5]);
    let qos = prop::sample::select(vec![QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]);
    let texts = (
        prop::option::of("[^\\x00+#]{1,12}"),
        prop::collection::vec((filter(), any::<u8>()), 1..4),
        ["[^\\x00]{0,9}", "[^\\x00]{0,9}"],
        prop::collection::vec(any::<u8>(), 0..200),
    );
    let numbers = (1..=u16::MAX, any::<u16>(), any::<u8>(), prop::collection::vec(any::<u8>(), 1..4));
    (version, sections(), texts, numbers, qos, any::<[bool; 6]>()).prop_map(
        |(
            version,
            (sections, from_client),
            (topic, filters, texts, payload),
            (packet_id, keep_alive_s, reason, codes),
            qos,
            flags,
        )| {
            Ingredients {
                version,
                sections,
                from_client,
                topic,
                filters,
                texts,
                payload,
                packet_id,
                keep_alive_s,
                reason,
                codes,
                qos,
                flags,
            }
        },
    )
}
