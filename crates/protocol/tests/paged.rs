//! A queue whose bodies lie in a store does what a queue with its bodies does, and lets go of each slot once.
//!
//! Knows the sending half of a session; the store is a map, and pages come back at once, late, or with holes.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use proptest::prelude::*;
use whimbrel_protocol::message::{Origin, Publication};
use whimbrel_protocol::properties::Properties;
use whimbrel_protocol::session::stubs::NEVER_MS;
use whimbrel_protocol::session::{Delivery, DropReason, Offered, Outbound, QueueRules, Released, Settled, Stub};
use whimbrel_protocol::{Message, QoS, ReasonCode, Topic};

const TOPICS: [&str; 4] = ["t0", "t1", "t2", "t3"];
const LARGE: usize = 60_000;

#[derive(Clone, Copy, Debug)]
struct Offer {
    topic: usize,
    size: usize,
    qos: QoS,
    is_stored: bool,
    expiry_s: Option<u32>,
}

#[derive(Clone, Debug)]
enum Step {
    Offer(Offer),
    Attach(u16),
    Detach,
    Next(usize),
    /// A page is asked for.
    Ask,
    /// What was asked for is there.
    Answer,
    Wait(u64),
    Limit(u32, u32),
}

/// A session with a store, and one without.
struct Pair {
    plain: Outbound,
    paged: Outbound,
    released: Released,
    store: HashMap<u64, Delivery>,
    pages: Vec<(u16, Vec<u64>)>,
    count: u64,
    now_ms: u64,
    is_away: bool,
}

fn message(offer: &Offer, number: u64, now_ms: u64) -> Arc<Message> {
    let mut payload = vec![0; offer.size];
    payload[..8].copy_from_slice(&number.to_le_bytes());
    let publication = Publication {
        topic: Topic::new(TOPICS[offer.topic]).unwrap(),
        properties: Properties::default(),
        expiry_s: offer.expiry_s,
        payload: &payload,
    };
    Arc::new(Message::new(&publication, offer.qos, false, Origin { client_id: "p".into(), received_ms: now_ms }))
}

fn number_of(delivery: &Delivery) -> u64 {
    u64::from_le_bytes(delivery.message.payload()[..8].try_into().unwrap())
}

fn acknowledge(outbound: &mut Outbound, packet_id: u16, qos: QoS) {
    match qos {
        QoS::AtMostOnce => {}
        QoS::AtLeastOnce => assert_eq!(outbound.on_puback(packet_id), Settled::Yes),
        QoS::ExactlyOnce => {
            outbound.on_pubrec(packet_id, ReasonCode::SUCCESS);
            assert_eq!(outbound.on_pubcomp(packet_id), Settled::Yes);
        }
    }
}

impl Pair {
    fn new(max: u32, max_bytes: u32, rules: &Option<Arc<QueueRules>>) -> Pair {
        let mut pair = Pair {
            plain: Outbound::new(max, rules.clone()),
            paged: Outbound::new(max, rules.clone()),
            released: Released::default(),
            store: HashMap::new(),
            pages: Vec::new(),
            count: 0,
            now_ms: 1_000,
            is_away: true,
        };
        pair.paged.keep(pair.released.clone());
        pair.limit(max, max_bytes, rules);
        pair
    }

    fn limit(&mut self, max: u32, max_bytes: u32, rules: &Option<Arc<QueueRules>>) {
        self.plain.limit(max, max_bytes, rules.clone());
        self.paged.limit(max, max_bytes, rules.clone());
    }

    fn attach(&mut self, window: u16) {
        self.plain.attach(window, true);
        self.paged.attach(window, true);
        self.is_away = false;
    }

    fn detach(&mut self) {
        self.plain.detach();
        self.paged.detach();
        self.is_away = true;
        assert_eq!(self.plain.shed(), self.paged.shed());
    }

    fn offer(&mut self, offer: &Offer) -> Offered {
        self.count += 1;
        let number = self.count;
        let slot = if offer.is_stored && offer.qos != QoS::AtMostOnce { number } else { 0 };
        let message = message(offer, number, self.now_ms);
        let qos = offer.qos;
        let plain = Delivery { message, qos, retain: false, share: 0, identifiers: None, stored: 0 };
        let stored = Delivery { stored: slot, ..plain.clone() };
        if slot != 0 {
            self.store.insert(slot, stored.clone());
        }
        let offered = self.plain.offer(qos, true, || plain);
        let paged = if slot != 0 && self.paged.is_away() {
            let message = &stored.message;
            let expires_ms = message.expires_ms().unwrap_or(NEVER_MS);
            let stub = Stub { slot, expires_ms, size: message.size_bytes() as u32, qos };
            self.paged.offer_stub(stub, message.topic_bytes())
        } else {
            self.paged.offer(qos, true, || stored)
        };
        assert_eq!(offered, paged);
        if let Offered::Send(packet_id) = offered {
            acknowledge(&mut self.plain, packet_id, qos);
            acknowledge(&mut self.paged, packet_id, qos);
        }
        offered
    }

    fn ask(&mut self) {
        if !self.is_away && self.paged.wants_page() {
            let mut slots = Vec::new();
            let priority = self.paged.ask(&mut slots);
            assert!(!slots.is_empty());
            self.pages.push((priority, slots));
        }
    }

    fn answer(&mut self) {
        for (priority, slots) in std::mem::take(&mut self.pages) {
            self.paged.note_answer();
            for slot in slots.into_iter().filter(|_| !self.is_away) {
                if self.paged.first_stub(priority) == Some(slot) {
                    self.paged.fill(priority, self.store[&slot].clone());
                }
            }
        }
    }

    /// What the one sends next, or drops, the other does, too.
    fn next(&mut self) -> Option<Result<u64, DropReason>> {
        let plain = self.plain.next(self.now_ms);
        let mut paged = self.paged.next(self.now_ms);
        for _ in 0..3 {
            if paged.is_none() {
                self.ask();
                self.answer();
                paged = self.paged.next(self.now_ms);
            }
        }
        let named = |next: &Option<Result<(u16, Delivery), DropReason>>| {
            next.as_ref().map(|next| next.as_ref().map(|(id, delivery)| (*id, number_of(delivery))).map_err(|no| *no))
        };
        assert_eq!(named(&plain), named(&paged));
        let number = named(&plain)?.map(|(_, number)| number);
        if let (Some(Ok((packet_id, delivery))), Some(Ok((_, other)))) = (plain, paged) {
            assert_eq!((delivery.qos, delivery.message.payload()), (other.qos, other.message.payload()));
            acknowledge(&mut self.plain, packet_id, delivery.qos);
            acknowledge(&mut self.paged, packet_id, delivery.qos);
        }
        Some(number)
    }

    /// The store may forget what no longer waits, and nothing else, and hears it once.
    fn check(&mut self) {
        let mut forgotten = Vec::new();
        self.released.drain(|slot| forgotten.push(slot));
        for slot in forgotten {
            assert!(self.store.remove(&slot).is_some(), "{slot} was let go of twice");
        }
        assert_eq!(self.plain.queue_len(), self.paged.queue_len());
        assert_eq!(self.plain.queue_bytes(), self.paged.queue_bytes());
    }

    fn finish(&mut self) {
        self.detach();
        self.attach(100);
        while self.next().is_some() {}
        self.check();
        assert_eq!(self.paged.queue_len(), 0);
        assert!(self.store.is_empty(), "{:?} are kept for nobody", self.store.keys());
    }
}

fn offer() -> impl Strategy<Value = Step> {
    let size = prop_oneof![3 => 8..100_usize, 1 => Just(LARGE)];
    let qos = prop_oneof![4 => Just(QoS::AtLeastOnce), 1 => Just(QoS::ExactlyOnce), 1 => Just(QoS::AtMostOnce)];
    let expiry_s = prop_oneof![3 => Just(None), 1 => (1..4_u32).prop_map(Some)];
    (0..4_usize, size, qos, prop::bool::weighted(0.9), expiry_s).prop_map(|(topic, size, qos, is_stored, expiry_s)| {
        Step::Offer(Offer { topic, size, qos, is_stored, expiry_s })
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        24 => offer(),
        1 => (1..40_u16).prop_map(Step::Attach),
        1 => Just(Step::Detach),
        2 => (0..20_usize).prop_map(Step::Next),
        2 => Just(Step::Ask),
        2 => Just(Step::Answer),
        1 => (0..1500_u64).prop_map(Step::Wait),
        1 => (1..60_u32, 0..900_000_u32).prop_map(|(max, bytes)| Step::Limit(max, bytes)),
    ]
}

fn rules() -> impl Strategy<Value = Option<Arc<QueueRules>>> {
    (any::<[bool; 4]>(), 0..2_usize).prop_map(|([is_some, drops_newest, stores_qos0, is_ranked], budget)| {
        let ranks = TOPICS[1..].iter().zip([9, 200, 255]).map(|(topic, rank)| ((*topic).into(), rank)).collect();
        let priorities = if is_ranked { ranks } else { HashMap::new() };
        let max_bytes = budget * 500_000;
        let rules = QueueRules { drops_newest, stores_qos0, max_bytes, priorities, default_priority: 0 };
        is_some.then(|| Arc::new(rules))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]
    #[test]
    fn a_paged_queue_delivers_and_drops_what_a_plain_one_does(
        rules in rules(),
        max in prop_oneof![1..40_u32, Just(10_000)],
        steps in prop::collection::vec(step(), 0..150),
    ) {
        let mut pair = Pair::new(max, 0, &rules);
        for step in steps {
            match step {
                Step::Offer(offer) => {
                    pair.offer(&offer);
                }
                Step::Attach(window) => pair.attach(window),
                Step::Detach => pair.detach(),
                Step::Next(count) => for _ in 0..count {
                    pair.next();
                },
                Step::Ask => pair.ask(),
                Step::Answer => pair.answer(),
                Step::Wait(ms) => pair.now_ms += ms,
                Step::Limit(max, max_bytes) => pair.limit(max, max_bytes, &rules),
            }
            pair.check();
        }
        pair.finish();
    }
}

const SMALL: Offer = Offer { topic: 0, size: 8, qos: QoS::AtLeastOnce, is_stored: true, expiry_s: None };

#[test]
fn a_long_queue_drains_in_order_page_by_page() {
    let mut pair = Pair::new(100_000, 0, &None);
    (0..10_000).for_each(|_| assert_eq!(pair.offer(&SMALL), Offered::Queued));
    pair.attach(10);
    assert!(pair.paged.next(0).is_none() && !pair.paged.can_go_on(), "its bodies are to be read first");
    for number in 1..=10_000 {
        assert_eq!(pair.next(), Some(Ok(number)));
    }
    pair.finish();
}

#[test]
fn what_comes_while_a_page_is_read_is_not_read_back() {
    let mut pair = Pair::new(100_000, 0, &None);
    (0..3).for_each(|_| assert_eq!(pair.offer(&SMALL), Offered::Queued));
    pair.attach(10);
    pair.ask();
    (0..500).for_each(|_| assert_eq!(pair.offer(&SMALL), Offered::Queued));
    pair.answer();
    assert!(!pair.paged.wants_page());
    (1..=503).for_each(|number| assert_eq!(pair.next(), Some(Ok(number))));
}

#[test]
fn a_client_that_does_not_acknowledge_costs_the_memory_of_a_window_however_much_waits() {
    let mut outbound = Outbound::new(1_000_000, None);
    outbound.keep(Released::default());
    outbound.attach(1, true);
    let messages: Vec<_> = (1..=20_000).map(|number| message(&SMALL, number, 0)).collect();
    for (message, slot) in messages.iter().zip(1..) {
        let (message, qos) = (Arc::clone(message), QoS::AtLeastOnce);
        outbound.offer(qos, true, || Delivery {
            message,
            qos,
            retain: false,
            share: 0,
            identifiers: None,
            stored: slot,
        });
    }
    let held: usize =
        messages.iter().filter(|message| Arc::strong_count(message) > 1).map(|message| message.size_bytes()).sum();
    assert!((400_000..600_000).contains(&held), "{held}");
    outbound.detach();
    let held = messages.iter().filter(|message| Arc::strong_count(message) > 1).count();
    assert_eq!((held, outbound.queue_len()), (1, 19_999), "only what is in flight has its body");
}

#[test]
fn a_stored_message_expires_at_the_same_moment_as_one_in_memory() {
    for (waited_ms, is_expired) in [(1_999, false), (2_000, true)] {
        let mut pair = Pair::new(10, 0, &None);
        pair.offer(&Offer { expiry_s: Some(2), ..SMALL });
        pair.now_ms += waited_ms;
        pair.attach(1);
        assert_eq!(pair.next(), Some(if is_expired { Err(DropReason::Expired) } else { Ok(1) }));
    }
}

#[test]
fn a_message_without_a_body_is_dropped_and_the_rest_goes_on() {
    let mut pair = Pair::new(100, 0, &None);
    (0..5).for_each(|_| assert_eq!(pair.offer(&SMALL), Offered::Queued));
    pair.attach(10);
    let mut slots = Vec::new();
    let priority = pair.paged.ask(&mut slots);
    assert_eq!(slots, [1, 2, 3, 4, 5]);
    for slot in slots {
        match slot {
            1 | 3 | 5 => pair.paged.lose(priority),
            _ => pair.paged.fill(priority, pair.store[&slot].clone()),
        }
    }
    pair.paged.note_answer();
    let sent = std::iter::from_fn(|| pair.paged.next(0)).map(|next| number_of(&next.unwrap().1));
    assert_eq!(sent.collect::<Vec<_>>(), [2, 4]);
    assert_eq!((pair.paged.queue_len(), pair.paged.queue_bytes()), (0, 0));
    let mut lost = HashSet::new();
    pair.released.drain(|slot| assert!(lost.insert(slot)));
    assert_eq!(lost, HashSet::from([1, 3, 5]));
}

#[test]
fn a_session_that_ends_lets_go_of_all_that_waits_and_one_that_goes_on_still_sends_it() {
    for goes_on in [false, true] {
        let mut pair = Pair::new(1_000, 0, &None);
        (0..300).for_each(|_| assert_eq!(pair.offer(&SMALL), Offered::Queued));
        pair.attach(400);
        pair.paged.let_go(goes_on).unwrap();
        pair.paged.keep(pair.released.clone());
        if goes_on {
            (1..=300).for_each(|number| assert_eq!(pair.next(), Some(Ok(number))));
        }
        let mut count = 0;
        pair.released.drain(|_| count += 1);
        assert_eq!(count, 300);
    }
}

#[test]
fn messages_of_a_group_stay_at_hand_for_other_members() {
    let mut outbound = Outbound::new(1_000, None);
    outbound.keep(Released::default());
    for number in 1..=20 {
        let message = message(&SMALL, number, 0);
        let share = (number % 2) as u32 * 7;
        let qos = QoS::AtLeastOnce;
        let delivery = Delivery { message, qos, retain: false, share, identifiers: None, stored: number };
        outbound.offer(qos, true, || delivery);
    }
    let taken: Vec<u64> = outbound.take_shared(100, |share| share == 7).iter().map(number_of).collect();
    assert_eq!(taken, (1..=20).filter(|number| number % 2 == 1).collect::<Vec<_>>());
    assert_eq!(outbound.queue_len(), 10);
}

#[test]
fn other_rules_leave_what_lies_in_the_store_where_it_was() {
    let ranked = QueueRules { priorities: [("t1".into(), 9)].into(), ..QueueRules::default() };
    let mut pair = Pair::new(1_000, 0, &None);
    (0..200).for_each(|_| assert_eq!(pair.offer(&SMALL), Offered::Queued));
    pair.limit(1_000, 0, &Some(Arc::new(ranked)));
    pair.offer(&Offer { topic: 1, ..SMALL });
    pair.attach(10);
    assert_eq!(pair.next(), Some(Ok(201)));
    (1..=200).for_each(|number| assert_eq!(pair.next(), Some(Ok(number))));
    pair.finish();
}
