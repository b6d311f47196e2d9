//! The data plane without threads and without time: every turn and every millisecond comes from outside.
//!
//! Knows how to make the production workers stand still between turns. Behind the feature `simulation`, which only
//! `crates/sim` asks for: nothing of this is in the product. Must not know what is simulated. One thread drives all of it;
//! the same calls in the same order lead to the same bytes, events and counters.

use std::cell::Cell;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::{Arc, PoisonError};

use rustix::event::{EventfdFlags, eventfd};
use whimbrel_protocol::Topic;
use whimbrel_router::{Retained, Router};
use whimbrel_storage::Store;

use crate::broker::{Broker, duties, take_store};
use crate::clock::{Clock, Now};
use crate::listener::Listener;
use crate::options::Options;
use crate::placement::Placement;
use crate::shared::Shared;
use crate::transport::Layering;
use crate::worker::Worker;
pub use crate::worker::{Held, HeldSession};

/// Unix time at which every simulation begins; milliseconds.
pub const EPOCH_MS: u64 = 1_700_000_000_000;

/// Whether a worker is between two turns or asleep.
#[derive(Clone, Copy, Debug)]
enum State {
    Awake,
    /// Until then by the simulation's clock, in milliseconds; None: until something happens.
    Asleep(Option<u64>),
}

struct Driven {
    worker: Worker,
    state: State,
    clock: Rc<Cell<Now>>,
    /// When it had its last turn; milliseconds of the simulation.
    acted_ms: u64,
    /// What its own clock showed when the simulation began; milliseconds.
    zero_ms: u64,
}

/// What a worker's clocks show.
fn shown(zero_ms: u64, now_ms: u64, wall_offset_ms: i64) -> Now {
    let steady_ms = EPOCH_MS + now_ms;
    Now { ms: zero_ms + now_ms, unix_ms: steady_ms.saturating_add_signed(wall_offset_ms), steady_ms }
}

/// When and with what a broker starts.
#[derive(Default)]
pub struct Beginning {
    /// What survived; None: no store.
    pub store: Option<Arc<dyn Store>>,
    /// By the simulation's clock; milliseconds.
    pub now_ms: u64,
    /// How far the wall clock is from where it would be; milliseconds.
    pub wall_offset_ms: i64,
}

/// A data plane that stands still.
pub struct Plane {
    broker: Broker,
    shared: Arc<Shared>,
    workers: Vec<Driven>,
    now_ms: u64,
    wall_offset_ms: i64,
}

impl Plane {
    /// As many workers as `options` say; `options.listeners[0]` is what connections belong to, and is not bound. `key`
    /// places clients on workers. Fails where descriptors cannot be had.
    pub fn new(options: &Options, key: u64) -> std::io::Result<Plane> {
        Plane::start(options, key, Beginning::default())
    }

    /// As `new`, at some time and with what a store holds, as a broker's start finds it.
    pub fn start(options: &Options, key: u64, beginning: Beginning) -> std::io::Result<Plane> {
        let layering = Layering::load(&options.listeners[0].layers).map_err(std::io::Error::other)?;
        let descriptor = eventfd(0, EventfdFlags::CLOEXEC)?;
        let listener = Listener::unbound(&options.listeners[0], layering, descriptor);
        let retained = Retained::new(options.retained_messages_max, options.retained_bytes_max);
        let place = (options.workers, Placement::Seeded(key));
        let mut shared = Shared::placed(Router::new(retained), vec![listener], &options.zones, place)?;
        shared.set_question_deadline_ms(u64::from(options.question_deadline_ms));
        shared.flapping = options.flapping;
        let kept = beginning.store.map(|store| take_store(&mut shared, store));
        let kept = kept.transpose().map_err(std::io::Error::other)?.unwrap_or_default();
        let shared = Arc::new(shared);
        let duties = duties(&shared, kept).map_err(std::io::Error::other)?;
        let mut workers = Vec::new();
        for (index, duty) in (0..options.workers).zip(duties) {
            let mut worker = Worker::new(&shared, index, Worker::prepare(&shared, index)?);
            // Each worker's clock has its own zero, as in a real broker.
            let zero_ms = key.rotate_left(u32::from(index) * 16) % 100_000;
            let clock = Rc::new(Cell::new(shown(zero_ms, beginning.now_ms, beginning.wall_offset_ms)));
            worker.set_clock(Clock::Set(Rc::clone(&clock)));
            worker.keep_in(duty.writer);
            worker.record_in(duty.recorder);
            worker.restore(duty.sessions, &duty.orphans);
            worker.inherit(duty.estates);
            workers.push(Driven { worker, state: State::Awake, clock, acted_ms: 0, zero_ms });
        }
        let broker = Broker::unthreaded(Arc::clone(&shared));
        let Beginning { now_ms, wall_offset_ms, .. } = beginning;
        Ok(Plane { broker, shared, workers, now_ms, wall_offset_ms })
    }

    /// What each worker knows of the sessions that it owns, by client identifier.
    pub fn sessions(&self) -> Vec<HeldSession> {
        let of_worker = |driven: &Driven| {
            let zero_ms = driven.zero_ms;
            let to_simulation = move |ms: u64| ms.saturating_sub(zero_ms);
            driven.worker.held_sessions().into_iter().map(move |held| HeldSession {
                will_due_ms: held.will_due_ms.map(to_simulation),
                expires_ms: held.expires_ms.map(to_simulation),
                ..held
            })
        };
        let mut sessions: Vec<HeldSession> = self.workers.iter().flat_map(of_worker).collect();
        sessions.sort_unstable_by(|left, right| left.client_id.cmp(&right.client_id));
        sessions
    }

    /// How far the wall clock is from where it would be; milliseconds.
    pub fn wall_offset_ms(&self) -> i64 {
        self.wall_offset_ms
    }

    /// The broker's front: everything that Python asks, tells and reads.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// How long the simulation has run; milliseconds.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Time passes. Nobody acts on it before his turn.
    pub fn advance(&mut self, by_ms: u64) {
        self.now_ms += by_ms;
        self.set_clocks();
    }

    /// Somebody sets the wall clock, by so many milliseconds. What the broker promised in milliseconds stays.
    pub fn set_wall_clock(&mut self, by_ms: i64) {
        self.wall_offset_ms += by_ms;
        self.set_clocks();
    }

    fn set_clocks(&mut self) {
        for driven in &self.workers {
            driven.clock.set(shown(driven.zero_ms, self.now_ms, self.wall_offset_ms));
        }
    }

    /// Hands a connected, non-blocking stream socket to a worker, as if it had just accepted it.
    pub fn take_in(&mut self, worker: usize, socket: OwnedFd) {
        self.workers[worker].worker.take_in(socket);
    }

    /// Gives a worker the chance of a turn; whether it had a reason to take it. One that sleeps needs readiness, mail or its
    /// deadline, exactly as on a thread: what would be lost there is lost here.
    pub fn turn(&mut self, worker: usize) -> bool {
        let now_ms = self.now_ms;
        let driven = &mut self.workers[worker];
        if let State::Awake = driven.state {
            // A thread would have begun to wait at once; only mail may have come since.
            let until_ms = driven.worker.would_wait().map(|wait| driven.acted_ms + wait.as_millis() as u64);
            driven.state = State::Asleep(until_ms);
        }
        let State::Asleep(until_ms) = driven.state else { return false };
        let is_due = until_ms.is_some_and(|until_ms| until_ms <= now_ms);
        if !driven.worker.look() && !is_due {
            return false;
        }
        (driven.state, driven.acted_ms) = (State::Awake, now_ms);
        driven.worker.act_now();
        true
    }

    /// When the next sleeping worker wakes by itself; None: never. Milliseconds of the simulation.
    pub fn next_wake_ms(&self) -> Option<u64> {
        let wake = |driven: &Driven| match driven.state {
            State::Awake => None,
            State::Asleep(until_ms) => until_ms,
        };
        self.workers.iter().filter_map(wake).min()
    }

    /// What each worker holds.
    pub fn held(&self) -> Vec<Held> {
        self.workers.iter().map(|driven| driven.worker.held()).collect()
    }

    /// Connections that the listener counts.
    pub fn accepted_count(&self) -> usize {
        self.shared.listeners[0].connection_count()
    }

    /// Sessions that are counted as ones that may outlive their connection.
    pub fn kept_count(&self) -> usize {
        self.shared.gauges.persistent.now() as usize
    }

    /// The payload of the retained message of a topic.
    pub fn retained(&self, topic: &str) -> Option<Vec<u8>> {
        let retained = self.shared.router.retained.read().unwrap_or_else(PoisonError::into_inner);
        let topic = Topic::new(topic).ok()?;
        retained.get(topic).map(|message| message.payload().to_vec())
    }
}
