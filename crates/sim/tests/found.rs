//! What seeds have found, told again step by step: a seed's story changes with the scenario, these do not.
//!
//! Knows worlds of a few clients, driven by hand.

use std::sync::Arc;

use whimbrel_protocol::{Limits, QoS, Version};
use whimbrel_server::Interest;
use whimbrel_sim::books::Draft;
use whimbrel_sim::line::Goodbye;
use whimbrel_sim::takeover::options;
use whimbrel_sim::world::{Plan, World};
use whimbrel_storage::Stepped;

fn world(workers: u16) -> World {
    World::new(options(workers, Limits::default()), 1, (2, Interest(0))).expect("descriptors")
}

fn plan(who: usize) -> Plan {
    Plan {
        who,
        version: Version::V5,
        clean_start: false,
        expiry_s: 100_000,
        keep_alive_s: 0,
        window: 100,
        will: None,
        is_narrow: false,
        worker: 0,
    }
}

/// Lets a client in and subscribes it; the number of its connection.
fn enter(world: &mut World, who: usize, filter: &'static str) -> usize {
    let line = world.connect(plan(who)).unwrap();
    world.settle().unwrap();
    assert!(world.subscribe(who, (filter, QoS::AtLeastOnce, false)));
    world.settle().unwrap();
    line
}

#[test]
fn a_message_that_moves_on_within_its_group_expires_by_the_steady_clock_whoever_sets_the_other() {
    for workers in [1, 3] {
        let mut world = world(workers);
        let first = enter(&mut world, 0, "$share/g/s/+");
        world.hang_up(first);
        world.settle().unwrap();
        let author = enter(&mut world, 1, "p/0");
        let draft = Draft { topic: "s/0", qos: QoS::AtLeastOnce, retain: false, expiry_s: Some(60), padding: 0 };
        assert!(world.publish(1, draft));
        world.settle().unwrap();
        world.plane.set_wall_clock(3_600_000);
        world.subscribe(1, ("$share/g/s/+", QoS::AtLeastOnce, false));
        world.settle().unwrap();
        world.plane.advance(150); // Now and then absent members give away what they have.
        world.collect().unwrap_or_else(|fault| panic!("{workers} workers: {fault}\n{}", world.story.text()));
        assert!(world.story.text().contains("c1 has message 0"), "it went from the absent member to the connected one");
        assert!(world.lines[author].is_alive());
    }
}

#[test]
fn a_client_that_says_goodbye_and_leaves_while_somebody_is_asked_about_its_message_has_said_everything() {
    let mut world = World::new(options(1, Limits::default()), 1, (2, Interest::AUTHORIZE)).unwrap();
    let line = world.connect(Plan { will: Some(("w/0", QoS::AtMostOnce, 0)), ..plan(0) }).unwrap();
    world.settle().unwrap();
    let reader = enter(&mut world, 1, "p/0");
    for _ in 0..2 {
        let draft = Draft { topic: "p/0", qos: QoS::AtMostOnce, retain: false, expiry_s: None, padding: 0 };
        assert!(world.publish(0, draft));
    }
    world.disconnect(line, Goodbye { keeps_will: false, expiry_s: None });
    world.push(line, usize::MAX);
    world.hang_up(line);
    assert!(world.turn(0).unwrap(), "it asks");
    while world.turn(0).unwrap() {}
    world.settle().unwrap_or_else(|fault| panic!("{fault}\n{}", world.story.text()));
    for number in [1, 2] {
        assert!(world.story.text().contains(&format!("c1 has message {number}")), "{}", world.story.text());
    }
    assert!(world.lines[reader].is_alive());
}

#[test]
fn a_client_that_says_goodbye_and_leaves_while_its_outbox_is_full_has_said_everything() {
    let limits = Limits { max_outbox_bytes: 300, ..Limits::default() };
    let mut world = World::new(options(1, limits), 1, (2, Interest(0))).unwrap();
    let narrow = Plan { is_narrow: true, will: Some(("w/0", QoS::AtMostOnce, 0)), ..plan(0) };
    let line = world.connect(narrow).unwrap();
    world.settle().unwrap();
    world.subscribe(0, ("p/0", QoS::AtLeastOnce, false));
    world.settle().unwrap();
    for _ in 0..20 {
        world.publish_inside(Draft {
            topic: "p/0",
            qos: QoS::AtLeastOnce,
            retain: false,
            expiry_s: None,
            padding: 1000,
        });
    }
    while world.turn(0).unwrap() {}
    world.disconnect(line, Goodbye { keeps_will: false, expiry_s: None });
    world.push(line, usize::MAX);
    while world.pull(line, 1 << 16).unwrap() > 0 {}
    world.hang_up(line);
    world.settle().unwrap_or_else(|fault| panic!("{fault}\n{}", world.story.text()));
    assert!(world.story.text().contains("k0 has left: normal"), "{}", world.story.text());
}

/// A world whose broker has a store; nothing is committed unless a test says so.
fn world_over_a_store(limits: Limits) -> World {
    world_over(Stepped::new(), limits)
}

fn world_over(store: Stepped, limits: Limits) -> World {
    World::over(options(1, limits), 1, (2, Interest(0), Some(Arc::new(store)))).expect("descriptors")
}

/// Bytes move both ways until nothing does; the disk is left as it is.
fn go_on(world: &mut World) {
    for _ in 0..4 {
        for line in 0..world.lines.len() {
            world.push(line, usize::MAX);
            while world.turn(0).unwrap() {}
            world.pull(line, 1 << 16).unwrap_or_else(|fault| panic!("{fault}\n{}", world.story.text()));
        }
    }
}

fn crash(world: &mut World, survivors: usize) {
    world.crash(survivors, true).unwrap_or_else(|fault| panic!("{fault}\n{}", world.story.text()));
}

fn draft(topic: &'static str, qos: QoS) -> Draft {
    Draft { topic, qos, retain: false, expiry_s: None, padding: 0 }
}

#[test]
fn a_session_whose_beginning_is_not_stored_is_not_confirmed_to_its_next_connection_while_the_disk_is_full() {
    let mut world = world_over_a_store(Limits::default());
    world.connect(plan(0)).unwrap();
    go_on(&mut world);
    world.refuse(true);
    let line = world.connect(plan(0)).unwrap();
    go_on(&mut world);
    assert!(!world.lines[line].is_ready, "nothing of it is stored");
    crash(&mut world, 0);
    world.settle().unwrap();
}

#[test]
fn a_session_that_is_stored_is_resumed_at_once_while_the_disk_is_full() {
    let mut world = world_over_a_store(Limits::default());
    world.connect(plan(0)).unwrap();
    world.settle().unwrap();
    world.connect(plan(1)).unwrap();
    go_on(&mut world);
    world.refuse(true);
    let line = world.connect(plan(0)).unwrap();
    go_on(&mut world);
    assert!(world.lines[line].is_ready);
    crash(&mut world, 0);
    world.settle().unwrap();
}

#[test]
fn a_client_that_waited_for_room_is_watched_again() {
    let mut world = world_over_a_store(Limits::default());
    enter(&mut world, 1, "p/0");
    let watched = Plan { version: Version::V311, keep_alive_s: 10, ..plan(0) };
    let line = world.connect(watched).unwrap();
    world.settle().unwrap();
    world.refuse(true);
    assert!(world.publish(0, draft("p/0", QoS::AtLeastOnce)));
    go_on(&mut world);
    world.plane.advance(16_000);
    go_on(&mut world);
    assert!(world.lines[line].is_alive(), "it cannot be heard, and is not taken for dead");
    world.settle().unwrap();
    assert!(world.story.text().contains("c1 has message 0"), "{}", world.story.text());
    world.plane.advance(16_000);
    world.settle().unwrap();
    assert!(world.story.text().contains("has left: keepalive_timeout"), "{}", world.story.text());
    world.clear_out().unwrap_or_else(|fault| panic!("{fault}"));
}

#[test]
fn a_session_that_would_begin_with_a_takeover_is_refused_while_the_disk_is_full() {
    let mut world = world_over_a_store(Limits::default());
    world.connect(Plan { expiry_s: 0, ..plan(0) }).unwrap();
    world.settle().unwrap();
    world.refuse(true);
    let line = world.connect(plan(0)).unwrap(); // the one before ends with its connection
    go_on(&mut world);
    assert!(world.lines[line].is_refused, "{}", world.story.text());
    crash(&mut world, 0);
    world.settle().unwrap();
}

#[test]
fn the_messages_of_a_session_that_ends_go_with_it_and_not_before() {
    let store = Stepped::new();
    store.be_eager(true);
    let mut world = world_over(store, Limits::default());
    let reader = enter(&mut world, 1, "p/0");
    let author = world.connect(plan(0)).unwrap();
    world.settle().unwrap();
    world.hang_up(reader);
    world.settle().unwrap();
    assert!(world.publish(0, draft("p/0", QoS::AtLeastOnce)));
    go_on(&mut world);
    // It comes back only to end with its connection, and loses that one before it hears anything.
    let last = world.connect(Plan { expiry_s: 0, ..plan(1) }).unwrap();
    world.push(last, usize::MAX);
    while world.turn(0).unwrap() {}
    world.hang_up(last);
    while world.turn(0).unwrap() {}
    world.commit(1).unwrap();
    while world.turn(0).unwrap() {}
    world.pull(author, 1 << 16).unwrap();
    assert!(world.story.text().contains("c0 hears that message 0 was taken"), "{}", world.story.text());
    crash(&mut world, 0);
    world.collect().unwrap_or_else(|fault| panic!("{fault}\n{}", world.story.text()));
    assert!(world.story.text().contains("c1 has message 0"), "{}", world.story.text());
}
