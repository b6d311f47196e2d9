//! What seeds have found, told again step by step: a seed's story changes with the scenario, these do not.
//!
//! Knows worlds of a few clients, driven by hand.

use whimbrel_protocol::{Limits, QoS, Version};
use whimbrel_server::Interest;
use whimbrel_sim::books::Draft;
use whimbrel_sim::takeover::options;
use whimbrel_sim::world::{Plan, World};

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
