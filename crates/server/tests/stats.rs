//! Every statistic: what is there, and the most there was.
//!
//! Each test changes one thing and compares all statistics. Beside it, one that never lets a reader see a peak below a
//! number that he has seen.

mod house;
mod scene;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use house::{House, Wire, until};
use scene::{Scene, publish_with};
use whimbrel_protocol::packet::{Disconnect, Packet, Unsubscribe};
use whimbrel_protocol::properties::Properties;
use whimbrel_protocol::{Filter, Limits, QoS, ReasonCode, Version};

type Numbers = BTreeMap<&'static str, u64>;

fn stats(house: &House) -> Numbers {
    house.broker.stats().into_iter().collect()
}

/// Waits until exactly these differ from zero: (name without its ending, now, at most).
fn until_stats(house: &House, expected: &[(&str, u64, u64)]) {
    let mut wanted: BTreeMap<String, u64> = BTreeMap::new();
    for (name, now, peak) in expected {
        wanted.insert(format!("{name}.count"), *now);
        wanted.insert(format!("{name}.max"), *peak);
    }
    wanted.retain(|_, number| *number > 0);
    let found = || stats(house).into_iter().filter(|(_, number)| *number > 0);
    let end = std::time::Instant::now() + house::PATIENCE / 4;
    while !found().map(|(name, number)| (name.to_owned(), number)).eq(wanted.clone()) && std::time::Instant::now() < end
    {
        std::thread::park_timeout(std::time::Duration::from_millis(1));
    }
    assert_eq!(found().map(|(name, number)| (name.to_owned(), number)).collect::<BTreeMap<_, _>>(), wanted);
}

fn goodbye(mut wire: Wire) {
    wire.send(&Packet::Disconnect(Disconnect { reason: ReasonCode::SUCCESS, properties: Properties::default() }));
    assert_eq!(wire.read_type(14), None);
}

#[test]
fn connections_count_before_connect_already() {
    let house = House::start(2, Limits::default());
    let wires: Vec<Wire> = (0..3).map(|_| Wire::dial(&house.address(), Version::V5)).collect();
    until_stats(&house, &[("connections", 3, 3)]);
    drop(wires);
    until_stats(&house, &[("connections", 0, 3)]);
}

#[test]
fn sessions_and_those_that_outlive_their_connection() {
    for workers in [1, 3] {
        let mut scene = Scene::of(House::start(workers, Limits::default()));
        let short = scene.enter("short", Version::V5);
        let kept = scene.enter_kept("kept");
        let all = |connections, sessions, persistent| {
            [
                ("connections", connections, 2),
                ("channels", sessions, 2),
                ("sessions", sessions, 2),
                ("sessions.persistent", persistent, 1),
            ]
        };
        until_stats(&scene.house, &all(2, 2, 1));
        goodbye(short);
        until_stats(&scene.house, &all(1, 1, 1));
        drop(kept);
        until_stats(&scene.house, &all(0, 1, 1));
        assert!(scene.house.kick("kept"));
        until_stats(&scene.house, &all(0, 0, 0));
    }
}

/// One client, and these numbers: subscriptions, those that are not shared, shared ones, filters; then their peaks.
fn with_one_client(now: [u64; 4], peak: [u64; 4]) -> Vec<(&'static str, u64, u64)> {
    vec![
        ("connections", 1, 1),
        ("channels", 1, 1),
        ("sessions", 1, 1),
        ("subscriptions", now[0], peak[0]),
        ("suboptions", now[0], peak[0]),
        ("subscribers", now[1], peak[1]),
        ("subscriptions.shared", now[2], peak[2]),
        ("topics", now[3], peak[3]),
        ("routes", now[3], peak[3]),
    ]
}

#[test]
fn subscriptions_shared_and_not() {
    let scene = Scene::new(Limits::default());
    let mut wire = scene.enter("c", Version::V5);
    for filter in ["a", "b/#", "a", "$share/g/a", "$share/h/a"] {
        wire.subscribe(filter, QoS::AtMostOnce);
        wire.read_type(9).unwrap();
    }
    until_stats(&scene.house, &with_one_client([4, 2, 2, 2], [4, 2, 2, 2]));
    let filters = ["a", "$share/g/a"].map(|filter| Ok(Filter::new(filter).unwrap())).to_vec();
    wire.send(&Packet::Unsubscribe(Unsubscribe { packet_id: 2, properties: Properties::default(), filters }));
    wire.read_type(11).unwrap();
    until_stats(&scene.house, &with_one_client([2, 1, 1, 2], [4, 2, 2, 2]));
    goodbye(wire);
    let mut gone = with_one_client([0; 4], [4, 2, 2, 2]);
    gone.iter_mut().take(3).for_each(|(_, now, _)| *now = 0);
    until_stats(&scene.house, &gone);
}

#[test]
fn retained_messages() {
    let scene = Scene::new(Limits::default());
    let mut wire = scene.enter("c", Version::V5);
    let mut retain = |topic: &str, payload: &[u8]| {
        wire.send(&publish_with(topic, QoS::AtMostOnce, 0, (payload, true)));
        assert!(wire.is_alive());
    };
    retain("a", b"1");
    retain("b", b"1");
    retain("a", b"2");
    let client = [("connections", 1, 1), ("channels", 1, 1), ("sessions", 1, 1)];
    until_stats(&scene.house, &[&client[..], &[("retained", 2, 2)]].concat());
    retain("a", b"");
    until_stats(&scene.house, &[&client[..], &[("retained", 1, 2)]].concat());
}

#[test]
fn a_connection_that_goes_to_another_worker_is_counted_once() {
    let house = House::start(4, Limits::default());
    let wires: Vec<Wire> =
        (0..40).map(|number| Wire::connect(&house.address(), &format!("c{number}"), Version::V5, true)).collect();
    house.until_count("client.connected", 40);
    assert_eq!((house.count("connections.count"), house.count("connections.max")), (40, 40));
    drop(wires);
    house.until_count("connections.count", 0);
    assert_eq!(house.count("connections.max"), 40);
}

#[test]
fn no_peak_is_below_a_number_that_somebody_has_seen() {
    let scene = Scene::of(House::start(2, Limits::default()));
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (scene, is_over) = (&scene, &is_over);
            scope.spawn(move || {
                for round in 0..150 {
                    let mut wire = scene.enter(&format!("c{thread}-{}", round % 5), Version::V5);
                    wire.subscribe(&format!("t/{thread}/{round}"), QoS::AtMostOnce);
                    wire.read_type(9).unwrap();
                }
                is_over.store(true, Ordering::Relaxed);
            });
        }
        let mut seen = Numbers::new();
        while !is_over.load(Ordering::Relaxed) {
            for (name, number) in stats(&scene.house) {
                let highest = seen.entry(name).or_default();
                *highest = (*highest).max(number);
            }
            let now = stats(&scene.house);
            for (name, peak) in now.iter().filter(|(name, _)| name.ends_with(".max")) {
                let count = seen.get(name.replace(".max", ".count").as_str()).copied().unwrap_or_default();
                assert!(*peak >= count, "{name} is {peak} after {count} was seen");
            }
        }
        assert!(seen["sessions.max"] <= 10 && seen["sessions.max"] >= 1);
    });
    until("everybody is gone", || scene.house.count("sessions.count") == 0);
}

#[test]
fn every_statistic_has_a_test() {
    let names = whimbrel_server::meanings::STATS.iter().map(|(name, _)| name.trim_end_matches(".count").to_owned());
    scene::assert_all_named(names, &[include_str!("stats.rs")]);
}
