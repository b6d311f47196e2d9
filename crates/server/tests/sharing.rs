//! Shared subscriptions across four workers: each message to one member, and none is stranded, whoever goes.
//!
//! Knows what members see on the wire, and compares it with what was published.

mod house;

use std::collections::BTreeMap;

use house::{House, Wire, until};
use whimbrel_protocol::decode::{Split, decode, split};
use whimbrel_protocol::packet::{Ack, Packet, Subscribe, SubscriptionOptions, Unsubscribe};
use whimbrel_protocol::properties::{Properties, Value, id, put_property};
use whimbrel_protocol::{Filter, Limits, QoS, ReasonCode, Strategy, Version};

const WORKERS: u16 = 4;
const GROUP: &str = "$share/g/news/+";

/// A PUBLISH as it came: packet identifier (0 for QoS 0), QoS, retain flag, payload.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Got {
    packet_id: u16,
    qos: u8,
    dup: bool,
    retain: bool,
    payload: String,
}

fn got(frame: &[u8], version: Version) -> Option<Got> {
    let Ok(Split::Frame(whole)) = split(frame, u32::MAX) else { panic!("frames are whole") };
    let Ok(Packet::Publish(publish)) = decode(whole, version) else { return None };
    Some(Got {
        packet_id: publish.packet_id,
        qos: publish.qos as u8,
        dup: publish.dup,
        retain: publish.retain,
        payload: String::from_utf8(publish.payload.to_vec()).unwrap(),
    })
}

/// A member that acknowledges only when it is told to.
struct Sharer {
    wire: Wire,
    version: Version,
}

impl Sharer {
    /// MQTT 5: the session outlives the connection; 3.1.1 with `clean_start`: it ends with it.
    fn connect(house: &House, client_id: &str, version: Version, clean_start: bool) -> Sharer {
        let mut wire = Wire::connect(&house.address(), client_id, version, clean_start);
        assert_eq!(wire.read().unwrap()[0], 0x20);
        Sharer { wire, version }
    }

    fn join(house: &House, client_id: &str, version: Version, filter: &str) -> Sharer {
        let mut sharer = Sharer::connect(house, client_id, version, true);
        assert_eq!(sharer.subscribe(filter, QoS::ExactlyOnce), 2);
        sharer
    }

    fn subscribe(&mut self, filter: &str, qos: QoS) -> u8 {
        self.wire.subscribe(filter, qos);
        *self.wire.read_type(9).unwrap().last().unwrap()
    }

    fn unsubscribe(&mut self, filter: &str) {
        let filters = vec![Ok(Filter::new(filter).unwrap())];
        let packet = Unsubscribe { packet_id: 2, properties: Properties::default(), filters };
        self.wire.send(&Packet::Unsubscribe(packet));
        self.wire.read_type(11).unwrap();
    }

    fn next(&mut self) -> Got {
        got(&self.wire.read_type(3).expect("the connection lives"), self.version).unwrap()
    }

    fn waiting(&mut self) -> Vec<Got> {
        let version = self.version;
        self.wire.read_waiting().iter().filter_map(|frame| got(frame, version)).collect()
    }

    fn ack(&mut self, packet_id: u16) {
        self.wire.send(&Packet::PubAck(Ack::new(packet_id, ReasonCode::SUCCESS)));
    }

    /// Takes what came until now and acknowledges it.
    fn take(&mut self) -> Vec<String> {
        let waiting = self.waiting();
        waiting.iter().filter(|got| got.qos == 1).for_each(|got| self.ack(got.packet_id));
        waiting.into_iter().map(|got| got.payload).collect()
    }

    fn goodbye(mut self) {
        use whimbrel_protocol::packet::Disconnect;
        let properties = Properties::default();
        self.wire.send(&Packet::Disconnect(Disconnect { reason: ReasonCode::SUCCESS, properties }));
        assert_eq!(self.wire.read_type(14), None);
    }
}

fn publish(house: &House, client_id: &str, numbers: std::ops::Range<usize>, qos: QoS) {
    let mut publisher = house.client(client_id, Version::V311);
    for number in numbers {
        publisher.publish("news/x", format!("{number}").as_bytes(), qos, false).unwrap();
    }
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    let mut numbers: Vec<String> = range.map(|number| number.to_string()).collect();
    numbers.sort_unstable();
    numbers
}

/// Waits until the members together have taken `expected`, each once.
fn until_all_taken(members: &mut [Sharer], expected: &[String]) -> Vec<Vec<String>> {
    let mut taken: Vec<Vec<String>> = members.iter().map(|_| Vec::new()).collect();
    until("every message is with a member", || {
        members.iter_mut().zip(&mut taken).for_each(|(member, taken)| taken.extend(member.take()));
        taken.iter().map(Vec::len).sum::<usize>() >= expected.len()
    });
    let mut all: Vec<String> = taken.concat();
    all.sort_unstable();
    assert_eq!(all, expected);
    taken
}

fn is_rising(payloads: &[String]) -> bool {
    let numbers: Vec<usize> = payloads.iter().map(|payload| payload.parse().unwrap()).collect();
    numbers.is_sorted()
}

#[test]
fn each_message_goes_to_one_member_in_order_and_round_robin_is_fair_across_workers() {
    for (filter, version) in [(GROUP, Version::V5), ("$queue/news/+", Version::V311)] {
        let house = House::start(WORKERS, Limits { max_inflight: 1000, ..Limits::default() });
        let mut members: Vec<Sharer> =
            (0..8).map(|number| Sharer::join(&house, &format!("m{number}"), version, filter)).collect();
        house.until_count("subscriptions.shared.count", 8);
        publish(&house, "p", 0..800, QoS::AtLeastOnce);
        let taken = until_all_taken(&mut members, &numbers(0..800));
        assert!(taken.iter().all(|taken| taken.len() == 100 && is_rising(taken)));
        assert_eq!((house.count("topics.count"), house.count("subscriptions.count")), (1, 8));
    }
}

#[test]
fn every_group_and_every_plain_subscriber_gets_its_own_copy() {
    let house = House::start(WORKERS, Limits::default());
    let mut both = Sharer::join(&house, "both", Version::V5, GROUP);
    both.subscribe("news/#", QoS::AtLeastOnce);
    let mut other = Sharer::join(&house, "other", Version::V5, "$share/h/news/x");
    publish(&house, "p", 0..1, QoS::AtLeastOnce);
    assert_eq!([both.next().payload, both.next().payload, other.next().payload], ["0", "0", "0"]);
    house.until_count("messages.delivered", 3);
    publish(&house, "p", 0..1, QoS::AtMostOnce);
    house.until_count("messages.delivered", 6);
}

#[test]
fn each_strategy_shares_out_as_its_name_says() {
    let spread = |strategy, publishers: usize| {
        let house = House::start(WORKERS, Limits { share_strategy: strategy, ..Limits::default() });
        let mut members: Vec<Sharer> =
            (0..6).map(|number| Sharer::join(&house, &format!("m{number}"), Version::V5, GROUP)).collect();
        for number in 0..publishers {
            publish(&house, &format!("p{number}"), number * 20..number * 20 + 20, QoS::AtLeastOnce);
        }
        let taken = until_all_taken(&mut members, &numbers(0..publishers * 20));
        taken.iter().filter(|taken| !taken.is_empty()).count()
    };
    assert_eq!(spread(Strategy::Sticky, 5), 1);
    assert_eq!(spread(Strategy::HashClientId, 1), 1);
    assert!(spread(Strategy::HashClientId, 12) > 1);
    assert_eq!(spread(Strategy::HashTopic, 12), 1);
    assert_eq!(spread(Strategy::RoundRobin, 12), 6);
    assert!(spread(Strategy::Random, 12) > 3);
}

#[test]
fn a_member_that_is_away_gets_nothing_while_another_is_there() {
    let house = House::start(WORKERS, Limits::default());
    let away: Vec<Sharer> =
        (0..4).map(|number| Sharer::join(&house, &format!("away{number}"), Version::V5, GROUP)).collect();
    drop(away);
    house.until_count("connections.count", 0);
    let mut here = [Sharer::join(&house, "here", Version::V5, GROUP)];
    publish(&house, "p", 0..20, QoS::AtLeastOnce);
    until_all_taken(&mut here, &numbers(0..20));
}

#[test]
fn messages_wait_for_members_that_are_all_away_and_come_when_they_return() {
    let house = House::start(WORKERS, Limits::default());
    let members: Vec<Sharer> =
        (0..4).map(|number| Sharer::join(&house, &format!("m{number}"), Version::V5, GROUP)).collect();
    drop(members);
    house.until_count("connections.count", 0);
    publish(&house, "p", 0..20, QoS::AtLeastOnce);
    let connect = |number| Sharer::connect(&house, &format!("m{number}"), Version::V5, false);
    let mut members: Vec<Sharer> = (0..4).map(connect).collect();
    until_all_taken(&mut members, &numbers(0..20));
}

#[test]
fn what_waits_for_members_that_are_away_comes_to_the_first_that_is_there() {
    let house = House::start(WORKERS, Limits { max_inflight: 3, ..Limits::default() });
    for number in 0..4 {
        drop(Sharer::join(&house, &format!("m{number}"), Version::V5, GROUP));
    }
    house.until_count("connections.count", 0);
    publish(&house, "p", 0..1000, QoS::AtLeastOnce);
    let mut newcomer = [Sharer::join(&house, "newcomer", Version::V5, GROUP)];
    until_all_taken(&mut newcomer, &numbers(0..1000));
    assert_eq!(house.count("delivery.dropped"), 0);
}

/// A member that holds 10 messages unacknowledged and has more waiting goes: `leave` says how. The rest gets them all.
fn all_goes_to_the_rest(version: Version, leave: impl FnOnce(&mut House, Sharer)) {
    let mut house = House::start(WORKERS, Limits { max_inflight: 10, ..Limits::default() });
    let mut leaver = Sharer::join(&house, "leaver", version, GROUP);
    publish(&house, "p", 0..30, QoS::AtLeastOnce);
    let held: Vec<Got> = (0..10).map(|_| leaver.next()).collect();
    leaver.ack(held[0].packet_id);
    assert_eq!(leaver.next().payload, "10", "the acknowledgement made room");
    let mut rest: Vec<Sharer> =
        (0..5).map(|number| Sharer::join(&house, &format!("rest{number}"), Version::V5, GROUP)).collect();
    leave(&mut house, leaver);
    until_all_taken(&mut rest, &numbers(1..30));
    assert_eq!(house.count("delivery.dropped"), 0);
    until("what moved is counted", || house.count("whimbrel.shared.moved") >= 29);
}

#[test]
fn what_a_member_did_not_acknowledge_goes_to_the_rest_when_its_session_ends_with_its_connection() {
    all_goes_to_the_rest(Version::V311, |_, leaver| drop(leaver));
    all_goes_to_the_rest(Version::V311, |_, leaver| leaver.goodbye());
}

#[test]
fn what_a_member_did_not_acknowledge_goes_to_the_rest_when_it_is_away() {
    all_goes_to_the_rest(Version::V5, |_, leaver| drop(leaver));
}

#[test]
fn what_a_member_did_not_acknowledge_goes_to_the_rest_when_it_is_kicked() {
    all_goes_to_the_rest(Version::V5, |house, leaver| {
        assert!(house.kick("leaver"));
        drop(leaver);
    });
}

#[test]
fn what_a_member_did_not_acknowledge_goes_to_the_rest_when_it_starts_anew() {
    all_goes_to_the_rest(Version::V5, |house, _| {
        Sharer::connect(house, "leaver", Version::V5, true);
    });
}

#[test]
fn what_waits_for_a_session_that_expires_goes_to_the_rest() {
    let house = House::start(WORKERS, Limits { session_expiry_max_s: 1, ..Limits::default() });
    drop(Sharer::join(&house, "expires", Version::V5, GROUP));
    let mut stays = Sharer::connect(&house, "stays", Version::V311, false);
    stays.subscribe(GROUP, QoS::ExactlyOnce);
    drop(stays);
    house.until_count("connections.count", 0);
    publish(&house, "p", 0..10, QoS::ExactlyOnce);
    house.until_count("session.terminated", 2);
    let mut stays = Sharer::connect(&house, "stays", Version::V311, false);
    let mut payloads: Vec<String> = (0..10).map(|_| stays.next().payload).collect();
    payloads.sort_unstable();
    assert_eq!(payloads, numbers(0..10));
}

#[test]
fn qos_2_that_was_sent_once_is_sent_to_nobody_else_but_what_waits_is() {
    let house = House::start(WORKERS, Limits { max_inflight: 3, ..Limits::default() });
    let mut leaver = Sharer::join(&house, "leaver", Version::V311, GROUP);
    publish(&house, "p", 0..10, QoS::ExactlyOnce);
    assert_eq!([leaver.next().payload, leaver.next().payload, leaver.next().payload], ["0", "1", "2"]);
    let mut rest = Sharer::join(&house, "rest", Version::V5, GROUP);
    drop(leaver);
    let mut taken = Vec::new();
    while taken.len() < 7 {
        let frame = rest.wire.read().unwrap();
        if let Some(got) = got(&frame, Version::V5) {
            rest.wire.send(&Packet::PubRec(Ack::new(got.packet_id, ReasonCode::SUCCESS)));
            taken.push(got.payload);
        } else if frame[0] >> 4 == 6 {
            let packet_id = u16::from_be_bytes([frame[2], frame[3]]);
            rest.wire.send(&Packet::PubComp(Ack::new(packet_id, ReasonCode::SUCCESS)));
        }
    }
    assert_eq!(taken, ["3", "4", "5", "6", "7", "8", "9"]);
    assert!(rest.wire.is_alive() && rest.waiting().is_empty());
}

#[test]
fn a_member_whose_window_is_closed_is_passed_over_and_one_that_is_full_loses_nothing() {
    let mut house = House::start(WORKERS, Limits { max_inflight: 2, max_mqueue_len: 3, ..Limits::default() });
    let mut stuck: Vec<Sharer> =
        (0..4).map(|number| Sharer::join(&house, &format!("stuck{number}"), Version::V5, GROUP)).collect();
    publish(&house, "p", 0..20, QoS::AtLeastOnce);
    let held: Vec<Got> = stuck.iter_mut().flat_map(|member| [member.next(), member.next()]).collect();
    until("all windows and queues are full", || {
        house.clients(100).iter().map(|record| record.inflight + record.mqueue_len).sum::<usize>() == 20
    });
    let mut here = [Sharer::join(&house, "here", Version::V5, GROUP)];
    for number in 20..60 {
        publish(&house, "p", number..number + 1, QoS::AtLeastOnce);
        until_all_taken(&mut here, &numbers(number..number + 1));
    }
    assert_eq!(house.count("delivery.dropped"), 0);
    drop(stuck);
    // What the stuck members held goes, in parts as large as its window and queue, to the one that takes it.
    until_all_taken(&mut here, &numbers(0..20));
    assert_eq!((held.len(), house.count("delivery.dropped")), (8, 0));
}

#[test]
fn a_group_of_full_members_drops_the_oldest_as_a_plain_subscriber_would() {
    let house = House::start(1, Limits { max_inflight: 1, max_mqueue_len: 2, ..Limits::default() });
    let mut member = Sharer::join(&house, "m", Version::V5, GROUP);
    publish(&house, "p", 0..10, QoS::AtLeastOnce);
    house.until_count("delivery.dropped.queue_full", 7);
    let mut payloads = Vec::new();
    for _ in 0..3 {
        let got = member.next();
        member.ack(got.packet_id);
        payloads.push(got.payload);
    }
    assert_eq!(payloads, ["0", "8", "9"]);
}

#[test]
fn qos_0_goes_to_a_member_that_is_there() {
    let house = House::start(WORKERS, Limits::default());
    drop(Sharer::join(&house, "away", Version::V5, GROUP));
    house.until_count("connections.count", 0);
    publish(&house, "p", 0..1, QoS::AtMostOnce);
    house.until_count("delivery.dropped.qos0_msg", 1);
    let mut here = [Sharer::join(&house, "here", Version::V5, GROUP)];
    publish(&house, "p", 0..30, QoS::AtMostOnce);
    until_all_taken(&mut here, &numbers(0..30));
}

#[test]
fn a_member_that_is_taken_over_keeps_its_messages() {
    let house = House::start(WORKERS, Limits::default());
    let mut first = Sharer::join(&house, "m", Version::V5, GROUP);
    publish(&house, "p", 0..1, QoS::AtLeastOnce);
    let once = first.next();
    let _other = Sharer::join(&house, "other", Version::V5, GROUP);
    let mut second = Sharer::connect(&house, "m", Version::V5, false);
    assert_eq!(second.next(), Got { dup: true, ..once });
    assert_eq!(house.count("whimbrel.shared.moved"), 0);
}

#[test]
fn after_unsubscribing_nothing_new_comes_and_an_empty_group_is_no_subscriber() {
    let house = House::start(WORKERS, Limits::default());
    let mut leaver = Sharer::join(&house, "leaver", Version::V5, GROUP);
    let mut stays = [Sharer::join(&house, "stays", Version::V5, GROUP)];
    leaver.unsubscribe(GROUP);
    publish(&house, "p", 0..10, QoS::AtLeastOnce);
    until_all_taken(&mut stays, &numbers(0..10));
    assert!(leaver.wire.is_alive() && leaver.waiting().is_empty());
    stays[0].unsubscribe(GROUP);
    let before = house.count("messages.dropped.no_subscribers");
    publish(&house, "p", 0..1, QoS::AtLeastOnce);
    house.until_count("messages.dropped.no_subscribers", before + 1);
    assert_eq!((house.count("subscriptions.shared.count"), house.count("topics.count")), (0, 0));
}

#[test]
fn retained_messages_are_not_sent_to_a_shared_subscription() {
    let house = House::start(1, Limits::default());
    let mut publisher = house.client("p", Version::V5);
    publisher.publish("news/x", b"old", QoS::AtLeastOnce, true).unwrap();
    let mut member = Sharer::join(&house, "m", Version::V5, GROUP);
    assert!(member.wire.is_alive() && member.waiting().is_empty());
    member.subscribe("news/x", QoS::AtLeastOnce);
    assert_eq!(member.next().payload, "old");
}

#[test]
fn subscription_identifiers_of_a_shared_subscription_are_sent() {
    let house = House::start(WORKERS, Limits::default());
    let mut member = Sharer::connect(&house, "m", Version::V5, true);
    let mut raw = Vec::new();
    put_property(&mut raw, id::SUBSCRIPTION_IDENTIFIER, Value::Number(77));
    let filters = vec![(Ok(Filter::new(GROUP).unwrap()), SubscriptionOptions::plain(QoS::AtLeastOnce))];
    member.wire.send(&Packet::Subscribe(Subscribe { packet_id: 1, properties: Properties::trusted(&raw), filters }));
    member.wire.read_type(9).unwrap();
    publish(&house, "p", 0..1, QoS::AtLeastOnce);
    let frame = member.wire.read_type(3).unwrap();
    assert!(frame.windows(2).any(|pair| pair == [id::SUBSCRIPTION_IDENTIFIER, 77]), "{frame:?}");
}

#[test]
fn a_shared_subscription_with_no_local_ends_the_connection() {
    let house = House::start(1, Limits::default());
    for filter in [GROUP, "$queue/a"] {
        let mut wire = Wire::connect(&house.address(), "m", Version::V5, true);
        wire.read_type(2).unwrap();
        let options = SubscriptionOptions { no_local: true, ..SubscriptionOptions::plain(QoS::AtMostOnce) };
        let filters = vec![(Ok(Filter::new(filter).unwrap()), options)];
        wire.send(&Packet::Subscribe(Subscribe { packet_id: 1, properties: Properties::default(), filters }));
        assert_eq!(wire.read().unwrap()[2], 0x82);
        assert_eq!(wire.read(), None);
    }
}

#[test]
fn an_invalid_group_is_refused_alone_and_all_are_where_the_operator_said_so() {
    let house = House::start(1, Limits::default());
    let mut member = Sharer::connect(&house, "m", Version::V5, true);
    for filter in ["$share/g", "$share//a", "$share/+/a", "$queue/"] {
        assert_eq!(member.subscribe(filter, QoS::AtMostOnce), 0x8F, "{filter}");
    }
    assert_eq!(member.subscribe("$share/g/a", QoS::AtMostOnce), 0);
    let house = House::start(1, Limits { is_shared_available: false, ..Limits::default() });
    for (version, code) in [(Version::V5, 0x9E), (Version::V311, 0x80)] {
        let mut member = Sharer::connect(&house, "m", version, true);
        assert_eq!(member.subscribe(GROUP, QoS::AtMostOnce), code);
        assert_eq!(member.subscribe("$queue/a", QoS::AtMostOnce), code);
        assert_eq!(member.subscribe("a", QoS::AtMostOnce), 0);
    }
}

#[test]
fn waiting_messages_cost_no_turns_while_nobody_can_take_them() {
    let house = House::start(1, Limits { max_inflight: 1, ..Limits::default() });
    let mut busy = Sharer::join(&house, "busy", Version::V5, GROUP);
    publish(&house, "p", 0..5, QoS::AtLeastOnce);
    busy.next();
    let mut other = Wire::connect(&house.address(), "other", Version::V5, true);
    let before = house.count("whimbrel.worker.turns");
    (0..100).for_each(|_| assert!(other.is_alive()));
    let turns = house.count("whimbrel.worker.turns") - before;
    assert!(turns <= 300, "{turns} turns for 100 pings");
}

#[test]
fn every_message_arrives_once_while_members_come_and_go() {
    let house = House::start(WORKERS, Limits { max_inflight: 5, max_mqueue_len: 3000, ..Limits::default() });
    let mut stays = Sharer::join(&house, "stays", Version::V5, GROUP);
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut note = |payloads: Vec<String>| {
        payloads.into_iter().for_each(|payload| *counts.entry(payload).or_default() += 1);
        counts.len()
    };
    std::thread::scope(|scope| {
        let publishing = scope.spawn(|| publish(&house, "p", 0..3000, QoS::AtLeastOnce));
        let mut round = 0;
        while !publishing.is_finished() {
            round += 1;
            // It acknowledges nothing and goes: by a closed socket, with a session that stays, or with a new start.
            let version = if round % 2 == 0 { Version::V5 } else { Version::V311 };
            drop(Sharer::join(&house, &format!("goes{}", round % 7), version, GROUP));
            note(stays.take());
        }
        publishing.join().unwrap();
    });
    until("every message is there", || note(stays.take()) == 3000);
    assert!(counts.values().all(|times| *times == 1));
}
