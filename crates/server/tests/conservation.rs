//! The conservation ledger under everything that may happen to a delivery at the same time.
//!
//! Knows a cast of clients that subscribe, share, read or do not, acknowledge or do not, leave, come back, take each other
//! over; and asks for the ledger again and again meanwhile. Each line must be even at every moment, with one worker and
//! with several, and every way to lose a message must have been gone.

mod house;

use std::collections::BTreeMap;
use std::sync::Arc;

use house::{House, Wire, loopback, until};
use whimbrel_protocol::decode::{Split, decode, split};
use whimbrel_protocol::message::{Origin, Publication};
use whimbrel_protocol::packet::{Ack, Disconnect, Packet, Publish, Subscribe, SubscriptionOptions, Unsubscribe};
use whimbrel_protocol::properties::{Properties, Value, id, put_property};
use whimbrel_protocol::{Filter, Limits, Message, QoS, ReasonCode, Topic, Version};
use whimbrel_server::clock::steady_ms;

const ACTORS: usize = 10;
const STEPS: usize = 4_000;
const FILTERS: [&str; 8] = ["t/0", "t/1", "t/+", "t/#", "$share/g/t/+", "$share/h/t/1", "$queue/t/2", "$share/g/+/0"];
const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

/// Splitmix64: the same steps for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % sides as u64) as usize
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.roll(from.len())]
    }
}

/// A client of the cast; odd ones speak MQTT 5.
struct Actor {
    name: String,
    version: Version,
    wire: Option<Wire>,
    next_id: u16,
}

impl Actor {
    fn new(number: usize) -> Actor {
        let version = if number.is_multiple_of(2) { Version::V311 } else { Version::V5 };
        Actor { name: format!("a{number}"), version, wire: None, next_id: 0 }
    }

    /// Comes, or comes once more while the old connection is open.
    fn connect(&mut self, address: &str, dice: &mut Dice) {
        let mut raw = Vec::new();
        if self.version == Version::V5 {
            put_property(&mut raw, id::SESSION_EXPIRY_INTERVAL, Value::Number(dice.pick(&[0, 600])));
            put_property(&mut raw, id::RECEIVE_MAXIMUM, Value::Number(dice.pick(&[1, 3, 100])));
            put_property(&mut raw, id::MAXIMUM_PACKET_SIZE, Value::Number(dice.pick(&[120, 1 << 20])));
        }
        let mut wire = Wire::connect_with(address, &self.name, self.version, dice.roll(4) == 0, &raw);
        wire.read_type(2).expect("CONNACK");
        self.wire = Some(wire);
    }

    fn id(&mut self) -> u16 {
        self.next_id = self.next_id % 60_000 + 1;
        self.next_id
    }

    fn subscribe(&mut self, dice: &mut Dice) {
        let filter = Filter::new(dice.pick(&FILTERS)).unwrap();
        let is_plain = !filter.is_shared() && self.version == Version::V5;
        let options = SubscriptionOptions {
            no_local: is_plain && dice.roll(2) == 0,
            ..SubscriptionOptions::plain(dice.pick(&QOS))
        };
        let packet_id = self.id();
        let properties = Properties::default();
        self.send(&Packet::Subscribe(Subscribe { packet_id, properties, filters: vec![(Ok(filter), options)] }));
    }

    fn unsubscribe(&mut self, dice: &mut Dice) {
        let filters = vec![Ok(Filter::new(dice.pick(&FILTERS)).unwrap())];
        let packet_id = self.id();
        self.send(&Packet::Unsubscribe(Unsubscribe { packet_id, properties: Properties::default(), filters }));
    }

    fn publish(&mut self, dice: &mut Dice, payload: &[u8]) {
        let topic = format!("t/{}", dice.roll(4));
        let mut raw = Vec::new();
        if self.version == Version::V5 && dice.roll(4) == 0 {
            put_property(&mut raw, id::MESSAGE_EXPIRY_INTERVAL, Value::Number(0));
        }
        let (qos, retain, properties) = (dice.pick(&QOS), dice.roll(6) == 0, Properties::trusted(&raw));
        let is_repeated = qos == QoS::ExactlyOnce && dice.roll(3) == 0;
        let packet_id = match qos {
            QoS::AtMostOnce => 0,
            _ if is_repeated && self.next_id > 0 => self.next_id, // Perhaps one that still waits for its PUBREL.
            _ => self.id(),
        };
        let topic = Some(Topic::new(&topic).unwrap());
        self.send(&Packet::Publish(Publish { dup: false, qos, retain, topic, packet_id, properties, payload }));
        if qos == QoS::ExactlyOnce && dice.roll(3) > 0 {
            self.send(&Packet::PubRel(Ack::new(packet_id, ReasonCode::SUCCESS)));
        }
    }

    fn send(&mut self, packet: &Packet<'_>) {
        if let Some(wire) = &mut self.wire {
            wire.send(packet);
        }
    }

    /// Reads what is there and acknowledges most of it.
    fn read(&mut self, dice: &mut Dice) {
        let Some(wire) = &mut self.wire else { return };
        let version = self.version;
        let answers: Vec<Packet<'static>> =
            wire.read_waiting().iter().filter_map(|frame| answer(frame, version, dice)).collect();
        answers.iter().for_each(|packet| wire.send(packet));
    }

    fn leave(&mut self, dice: &mut Dice) {
        if dice.roll(2) == 0 {
            self.send(&Packet::Disconnect(Disconnect {
                reason: ReasonCode::SUCCESS,
                properties: Properties::default(),
            }));
        }
        self.wire = None;
    }
}

fn answer(frame: &[u8], version: Version, dice: &mut Dice) -> Option<Packet<'static>> {
    let Ok(Split::Frame(whole)) = split(frame, u32::MAX) else { return None };
    let is_careful = dice.roll(4) > 0;
    let reason =
        if version == Version::V5 && dice.roll(5) == 0 { ReasonCode::QUOTA_EXCEEDED } else { ReasonCode::SUCCESS };
    match decode(whole, version) {
        Ok(Packet::Publish(publish)) if is_careful => match publish.qos {
            QoS::AtMostOnce => None,
            QoS::AtLeastOnce => Some(Packet::PubAck(Ack::new(publish.packet_id, ReasonCode::SUCCESS))),
            QoS::ExactlyOnce => Some(Packet::PubRec(Ack::new(publish.packet_id, reason))),
        },
        Ok(Packet::PubRel(ack)) if is_careful => Some(Packet::PubComp(Ack::new(ack.packet_id, ReasonCode::SUCCESS))),
        _ => None,
    }
}

fn publish_inside(house: &mut House, dice: &mut Dice) {
    let topic = format!("t/{}", dice.roll(4));
    let (topic, properties) = (Topic::new(&topic).unwrap(), Properties::default());
    let publication = Publication { topic, properties, expiry_s: None, payload: &[b'i'; 20] };
    let origin = Origin { client_id: Arc::from(""), received_ms: steady_ms() };
    let ticket = house.ticket();
    house.broker.publish(ticket, Arc::new(Message::new(&publication, dice.pick(&QOS), false, origin)));
}

/// The ledger is even, and a look at the clients finds in their queues what it finds there.
fn check(house: &mut House, step: usize) {
    for line in house.audit().lines() {
        assert_eq!(line.missing(), 0, "after {step} steps: {line:?}");
    }
    house.drain();
}

/// Plays; the metrics at the end.
fn play(seed: u64, workers: u16) -> BTreeMap<&'static str, u64> {
    let limits = Limits { max_mqueue_len: 12, max_outbox_bytes: 64 * 1024, max_awaiting_rel: 40, ..Limits::default() };
    let mut house = House::start_with(workers, limits, loopback());
    let address = house.address();
    let mut dice = Dice(seed);
    let mut cast: Vec<Actor> = (0..ACTORS).map(Actor::new).collect();
    let mut loud = Actor::new(101); // Subscribes to nothing, so nothing ever holds it back.
    loud.wire = Some(Wire::connect_with(&address, "loud", Version::V5, true, &[]));
    let large = vec![b'x'; 100_000];
    for step in 0..STEPS {
        let actor = &mut cast[dice.roll(ACTORS)];
        match dice.roll(24) {
            0..=2 => actor.connect(&address, &mut dice),
            3 => actor.leave(&mut dice),
            4..=6 => actor.subscribe(&mut dice),
            7 => actor.unsubscribe(&mut dice),
            8..=11 => actor.publish(&mut dice, b"small"),
            12..=17 => actor.read(&mut dice),
            18 => loud.publish(&mut dice, &large),
            19 => loud.publish(&mut dice, &[b'm'; 200]),
            20 => loud.read(&mut dice),
            21 => publish_inside(&mut house, &mut dice),
            22 => {
                house.broker.kick(1 << 40, &actor.name);
            }
            _ => check(&mut house, step),
        }
    }
    drop((cast, loud));
    house.until_count("connections.count", 0);
    until("nothing is on its way", || house.audit().on_the_way() == 0);
    check(&mut house, STEPS);
    let waiting: usize = house.clients(100).iter().map(|record| record.mqueue_len).sum();
    let counted =
        house.audit().lines().into_iter().flat_map(|line| line.became).find(|(name, _)| name.starts_with("waiting"));
    assert_eq!(counted.map(|(_, count)| count), Some(waiting as u64));
    house.broker.metrics().into_iter().collect()
}

/// What must have happened for the ledger to have been tested.
const HAPPENED: [&str; 23] = [
    "messages.delivered",
    "messages.acked",
    "packets.publish.inuse",
    "delivery.dropped.no_local",
    "delivery.dropped.too_large",
    "delivery.dropped.qos0_msg",
    "delivery.dropped.queue_full",
    "delivery.dropped.expired",
    "delivery.dropped.session_ended",
    "session.takeovered",
    "session.discarded",
    "session.resumed",
    "session.terminated",
    "whimbrel.acks.completed",
    "whimbrel.acks.missing",
    "whimbrel.acks.moved",
    "whimbrel.deliveries.moved",
    "whimbrel.deliveries.offered_again",
    "whimbrel.deliveries.passed_over",
    "whimbrel.deliveries.posted",
    "whimbrel.deliveries.arrived",
    "whimbrel.shared.moved",
    "messages.dropped.no_subscribers",
];

#[test]
fn nothing_is_lost_without_a_reason_whatever_happens() {
    let mut total: BTreeMap<&'static str, u64> = BTreeMap::new();
    for (seed, workers) in (0..9).zip([1, 2, 3].into_iter().cycle()) {
        for (name, count) in play(seed, workers) {
            *total.entry(name).or_default() += count;
        }
    }
    let unseen: Vec<&str> = HAPPENED.into_iter().filter(|name| total[name] == 0).collect();
    assert_eq!(unseen, [""; 0], "the cast never saw these happen");
}
