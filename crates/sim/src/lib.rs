//! The seeded simulator: the production workers in one thread, with a clock, an order of turns and clients that a seed
//! decides. For development only; nothing of it is in the product.
//!
//! Knows how to run a seed and how to tell of one that failed. What happens in a run is [`takeover`]'s or [`crash`]'s, what must
//! be true [`sessions`]', [`books`]' and [`aftermath`]'s. No threads, no time of the kernel, no random numbers but the seed's:
//! a seed that fails once fails always.

pub mod aftermath;
pub mod books;
pub mod crash;
mod hearing;
pub mod line;
pub mod quiet;
pub mod rng;
pub mod sessions;
pub mod story;
pub mod takeover;
pub mod wire;
pub mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use books::Fault;
use rng::Rng;
use world::World;

/// Lines of the story that a failure shows.
const TAIL_LINES: usize = 80;

/// What a seed led to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// The whole story.
    pub story: String,
    /// What was wrong; None: nothing.
    pub fault: Option<String>,
    /// Steps and rounds.
    pub steps: u64,
    /// What had to arrive: at clients, at groups.
    pub promises: (usize, usize),
}

/// What is simulated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scenario {
    /// See [`takeover`].
    Takeover,
    /// See [`crash`].
    Crash,
}

impl Scenario {
    /// By its name; None: there is no such scenario.
    pub fn named(name: &str) -> Option<Scenario> {
        match name {
            "takeover" => Some(Scenario::Takeover),
            "crash" => Some(Scenario::Crash),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Scenario::Takeover => "takeover",
            Scenario::Crash => "crash",
        }
    }
}

/// Runs one seed.
pub fn run(scenario: Scenario, seed: u64) -> Outcome {
    let mut rng = Rng::new(seed);
    match scenario {
        Scenario::Takeover => {
            finish(takeover::begin(&mut rng), |world, setting| takeover::play(world, setting, &mut rng))
        }
        Scenario::Crash => finish(crash::begin(&mut rng), |world, weather| crash::play(world, weather, &mut rng)),
    }
}

fn finish<T>(begun: Result<(World, T), Fault>, play: impl FnOnce(&mut World, T) -> Result<(), Fault>) -> Outcome {
    let (mut world, setting) = match begun {
        Ok(begun) => begun,
        Err(fault) => return Outcome { story: String::new(), fault: Some(fault), steps: 0, promises: (0, 0) },
    };
    let played = catch_unwind(AssertUnwindSafe(|| play(&mut world, setting)));
    // A panic has said on standard error where it was.
    let fault = played.unwrap_or_else(|_| Err("the broker panicked".to_owned())).err();
    let story = world.story.text().to_owned();
    Outcome { story, fault, steps: world.order, promises: world.books.promises() }
}

/// What somebody needs who is to mend it: the fault, the end of the story, and how to see it again.
pub fn report(scenario: Scenario, seed: u64, outcome: &Outcome) -> String {
    let fault = outcome.fault.as_deref().unwrap_or("nothing");
    let tail = story::tail(&outcome.story, TAIL_LINES);
    format!(
        "seed {seed}: {fault}\nthe last {TAIL_LINES} lines of its story:\n{tail}\nthis seed alone: \
         make simulate SCENARIO={} SEED={seed}\n",
        scenario.name()
    )
}

/// Runs `count` seeds from `first` on with so many threads, each seed on one of them; the first that fails, if one does.
pub fn run_all(scenario: Scenario, (first, count): (u64, u64), threads: u64) -> Result<Sum, (u64, Outcome)> {
    let run_part = |part: u64| {
        let mut sum = Sum::default();
        for seed in (first + part..first + count).step_by(threads as usize) {
            let outcome = run(scenario, seed);
            if outcome.fault.is_some() {
                return Err((seed, outcome));
            }
            sum.seeds += 1;
            sum.steps += outcome.steps;
            sum.promises += outcome.promises.0 + outcome.promises.1;
        }
        Ok(sum)
    };
    let parts: Vec<_> = std::thread::scope(|scope| {
        let started: Vec<_> = (0..threads).map(|part| scope.spawn(move || run_part(part))).collect();
        started.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    let mut total = Sum::default();
    for part in parts {
        let sum = part?;
        total.seeds += sum.seeds;
        total.steps += sum.steps;
        total.promises += sum.promises;
    }
    Ok(total)
}

/// How much was looked at.
#[derive(Clone, Copy, Default, Debug)]
pub struct Sum {
    /// Seeds.
    pub seeds: u64,
    /// Their steps.
    pub steps: u64,
    /// Deliveries that had to be made.
    pub promises: usize,
}
