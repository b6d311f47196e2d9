//! The scenario of takeover: few client identifiers, many connections that want them, and everything that can come between.
//!
//! Knows which step comes next, from the seed alone. What a step does is [`crate::world`]'s; whether its outcome is right is
//! judged there.

use std::collections::HashMap;
use std::sync::Arc;

use whimbrel_protocol::session::QueueRules;
use whimbrel_protocol::{Limits, QoS, Strategy, Version};
use whimbrel_server::{Interest, LayerOptions, ListenerKind, ListenerOptions, Options};
use whimbrel_storage::Stepped;

use crate::books::{Draft, Fault};
use crate::line::Goodbye;
use crate::rng::Rng;
use crate::world::{Plan, RETAINED_TOPICS, World};

/// What one seed plays with.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    people: usize,
    pub(crate) steps: usize,
    narrow_percent: usize,
    large_percent: usize,
    is_calm: bool,
}

const TOPICS: [&str; 8] = ["p/0", "p/1", "p/2", "s/0", "s/1", "p/0", "r/0", "r/1"];
const FILTERS: [&str; 9] = ["p/0", "p/+", "p/#", "p/1", "r/#", "r/0", "w/#", "$share/g/s/+", "$share/g/s/+"];
const WILL_TOPICS: [&str; 2] = ["w/0", "p/0"];
const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
/// More than a packet that is copied, so that shared payloads and cut packets occur; bytes.
const LARGE_BYTES: usize = 17_000;

/// A broker of so many workers, whose clients all have these limits.
pub fn options(workers: u16, limits: Limits) -> Options {
    Options {
        node_name: "simulated".into(),
        workers,
        listeners: vec![ListenerOptions {
            kind: ListenerKind::Unix { path: "simulated".into() },
            name: "simulated".into(),
            zone: 0,
            is_anonymous_allowed: true,
            connections_max: 100_000,
            layers: LayerOptions::default(),
            max_conn_rate: 0,
        }],
        zones: vec![limits],
        question_deadline_ms: 5_000,
        sys: whimbrel_server::SysOptions::default(),
        flapping: None,
        retained_messages_max: 1000,
        retained_bytes_max: 1 << 24,
        storage: None,
    }
}

fn queue_rules(rng: &mut Rng) -> QueueRules {
    let priorities =
        if rng.chance(50) { HashMap::from([("p/0".into(), 9), ("s/1".into(), 1)]) } else { HashMap::new() };
    let (drops_newest, stores_qos0, max_bytes) = (rng.chance(50), rng.chance(50), 0);
    QueueRules { drops_newest, stores_qos0, max_bytes, priorities, default_priority: 0 }
}

/// The world of a seed before its first step.
pub fn begin(rng: &mut Rng) -> Result<(World, Setting), Fault> {
    begin_over(rng, None)
}

/// As `begin`, over a store.
pub fn begin_over(rng: &mut Rng, store: Option<Arc<Stepped>>) -> Result<(World, Setting), Fault> {
    let strategies =
        [Strategy::Random, Strategy::RoundRobin, Strategy::Sticky, Strategy::HashClientId, Strategy::HashTopic];
    let max_publish_rate = rng.pick(&[0, 0, 0, 0, 3]);
    let limits = Limits {
        max_inflight: rng.pick(&[1, 2, 5, 32]),
        max_mqueue_len: rng.pick(&[3, 1000, 1000, 1000]),
        receive_maximum: rng.pick(&[2, 10, 1024]),
        max_outbox_bytes: rng.pick(&[300, 2_000, 1 << 20, 1 << 20]),
        await_rel_timeout_s: 0,
        session_expiry_s: 7_200,
        share_strategy: rng.pick(&strategies),
        // A retry is always due some time, so that waiting for tokens would have no end beside it.
        retry_interval_ms: if max_publish_rate > 0 { 0 } else { rng.pick(&[0, 0, 0, 700]) },
        max_publish_rate,
        queue_rules: rng.chance(20).then(|| Arc::new(queue_rules(rng))),
        ..Limits::default()
    };
    let (enter, act) = (Interest::AUTHENTICATE.0, Interest::AUTHORIZE.0);
    // Where clients are paced, nobody could tell whether the broker waits for tokens or has refused.
    let asks = if max_publish_rate > 0 { [0, 0, enter] } else { rng.pick(&[[0, 0, enter], [enter, act, enter | act]]) };
    let interest = Interest(rng.pick(&asks));
    let setting = Setting {
        people: 2 + rng.below(3),
        steps: 200 + rng.below(400),
        narrow_percent: rng.pick(&[0, 0, 50]),
        large_percent: rng.pick(&[0, 0, 5]),
        is_calm: rng.chance(70),
    };
    let options = options(rng.pick(&[1, 2, 2, 2, 3]), limits);
    let world = World::over(options, rng.number(), (setting.people, interest, store))?;
    Ok((world, setting))
}

/// Everybody comes for the first time.
pub(crate) fn gather(world: &mut World, setting: Setting, rng: &mut Rng) -> Result<(), Fault> {
    for who in 0..setting.people {
        connect(world, (setting, who), rng)?;
        if setting.is_calm {
            settle_in(world, who, rng)?;
        }
    }
    Ok(())
}

/// All steps of a seed, and its end.
pub fn play(world: &mut World, setting: Setting, rng: &mut Rng) -> Result<(), Fault> {
    gather(world, setting, rng)?;
    for _ in 0..setting.steps {
        world.order += 1;
        step(world, setting, rng)?;
    }
    world.collect()?;
    world.clear_out()
}

/// A client that has what it wants before the others begin: most promises are made to such clients.
fn settle_in(world: &mut World, who: usize, rng: &mut Rng) -> Result<(), Fault> {
    world.settle()?;
    for _ in 0..1 + rng.below(4) {
        subscribe(world, who, rng);
    }
    world.settle()
}

/// One step, whatever it is.
pub(crate) fn step(world: &mut World, setting: Setting, rng: &mut Rng) -> Result<(), Fault> {
    let who = rng.below(setting.people);
    match rng.below(1000) {
        0..300 => {
            let worker = rng.below(world.worker_count());
            world.turn(worker).map(drop)
        }
        300..500 => carry(world, rng),
        500..610 => converse(world, who, rng),
        610..645 => connect(world, (setting, who), rng),
        645..648 => world.settle(),
        kind => {
            act(world, (setting, who), kind, rng);
            Ok(())
        }
    }
}

/// A step that nobody but the broker can judge, in its next turns.
fn act(world: &mut World, (setting, who): (Setting, usize), kind: usize, rng: &mut Rng) {
    match kind {
        ..800 => publish(world, (setting, who), rng),
        800..890 => subscribe(world, who, rng),
        890..910 => leave(world, who, rng),
        910..945 => pass_time(world, rng),
        945..952 => be_lazy(world, who, rng),
        _ => act_inside(world, (setting, who), rng),
    }
}

/// A client and the broker go on for a while without anything in between.
fn converse(world: &mut World, who: usize, rng: &mut Rng) -> Result<(), Fault> {
    let Some(line) = world.people[who].current.or_else(|| world.opening(who)) else { return Ok(()) };
    for _ in 0..1 + rng.below(3) {
        world.push(line, usize::MAX);
        world.hang_up_after_goodbye(line);
        for _ in 0..world.worker_count() {
            let worker = rng.below(world.worker_count());
            world.turn(worker)?;
        }
        world.pull(line, 1 << 16)?;
    }
    Ok(())
}

fn be_lazy(world: &mut World, who: usize, rng: &mut Rng) {
    world.people[who].is_lazy = rng.chance(50);
}

/// Bytes move between a client and its socket, in whatever pieces.
fn carry(world: &mut World, rng: &mut Rng) -> Result<(), Fault> {
    let alive: Vec<usize> = (0..world.lines.len()).filter(|line| world.lines[*line].is_alive()).collect();
    if alive.is_empty() {
        return Ok(());
    }
    let line = rng.pick(&alive);
    let max = rng.pick(&[1, 7, 60, 1 << 16, 1 << 16, 1 << 16]);
    if rng.chance(50) {
        world.push(line, max);
        world.hang_up_after_goodbye(line);
        return Ok(());
    }
    world.pull(line, max)?;
    world.lines[line].release(rng.pick(&[0, 1, 5]));
    Ok(())
}

fn connect(world: &mut World, (setting, who): (Setting, usize), rng: &mut Rng) -> Result<(), Fault> {
    let will = (WILL_TOPICS[rng.below(2)], rng.pick(&QOS), rng.pick(&[0, 0, 2, 20, 500]));
    let plan = Plan {
        who,
        version: rng.pick(&[Version::V5, Version::V5, Version::V5, Version::V311]),
        clean_start: rng.chance(25),
        expiry_s: rng.pick(&[0, 5, 600, 3_600, 3_600]),
        keep_alive_s: rng.pick(&[0, 0, 0, 10]),
        window: rng.pick(&[1, 3, 100]),
        will: rng.chance(40).then_some(will),
        is_narrow: rng.chance(setting.narrow_percent),
        worker: rng.below(world.worker_count()),
    };
    let line = world.connect(plan)?;
    if rng.chance(10) {
        let draft = draft(setting, rng);
        world.publish_hastily(line, draft);
    }
    if rng.chance(70) {
        world.push(line, usize::MAX);
    }
    Ok(())
}

fn draft(setting: Setting, rng: &mut Rng) -> Draft {
    let topic = rng.pick(&TOPICS);
    let retain = RETAINED_TOPICS.contains(&topic);
    Draft {
        topic,
        qos: rng.pick(&QOS),
        retain,
        expiry_s: (!retain && rng.chance(10)).then(|| rng.pick(&[1, 60, 100_000])),
        padding: if rng.chance(setting.large_percent) { LARGE_BYTES } else { rng.below(40) },
    }
}

fn publish(world: &mut World, (setting, who): (Setting, usize), rng: &mut Rng) {
    // Nobody could tell whether a client that is too fast still waits for this.
    if rng.chance(2) && !world.is_paced() {
        world.clear(who, rng.pick(&RETAINED_TOPICS));
        return;
    }
    for _ in 0..rng.pick(&[1, 1, 1, 4]) {
        let draft = draft(setting, rng);
        world.publish(who, draft);
    }
}

fn subscribe(world: &mut World, who: usize, rng: &mut Rng) {
    let filter = rng.pick(&FILTERS);
    if rng.chance(15) {
        world.unsubscribe(who, filter);
        return;
    }
    let is_shared = filter.starts_with("$share");
    // A member that takes QoS 0 alone may lose what it is given; that is another promise.
    let qos = if is_shared { rng.pick(&QOS[1..]) } else { rng.pick(&QOS) };
    let no_local = rng.chance(20);
    world.subscribe(who, (filter, qos, no_local));
}

fn leave(world: &mut World, who: usize, rng: &mut Rng) {
    let is_theirs = |line: &usize| world.lines[*line].entry.who == who && world.lines[*line].is_alive();
    let alive: Vec<usize> = (0..world.lines.len()).filter(is_theirs).collect();
    if alive.is_empty() {
        return;
    }
    let line = rng.pick(&alive);
    if world.lines[line].is_usable() && rng.chance(50) {
        let expiry_s = rng.pick(&[None, None, Some(0), Some(5), Some(900)]);
        world.disconnect(line, Goodbye { keeps_will: rng.chance(30), expiry_s });
    } else {
        world.hang_up(line);
    }
}

fn pass_time(world: &mut World, rng: &mut Rng) {
    let by_ms = rng.pick(&[1, 1, 3, 30, 300, 2_000, 6_000, 25_000]);
    let by_ms = if rng.chance(2) { 700_000 } else { by_ms };
    world.tell(format_args!("{by_ms} ms pass"));
    world.plane.advance(by_ms);
}

fn act_inside(world: &mut World, (setting, who): (Setting, usize), rng: &mut Rng) {
    match rng.below(10) {
        0 => {
            let by_ms = rng.pick(&[-3_600_000, -1_000, 1_000, 3_600_000]);
            world.tell(format_args!("the wall clock is set by {by_ms} ms"));
            world.plane.set_wall_clock(by_ms);
            world.is_wall_set = true;
        }
        1..4 => {
            let draft = draft(setting, rng);
            world.publish_inside(Draft { expiry_s: None, ..draft });
        }
        4 => world.kick(who),
        _ if world.questions.is_empty() => {}
        _ => {
            let place = rng.below(world.questions.len());
            let is_yes = rng.chance(85);
            world.answer(place, is_yes);
        }
    }
}
