//! The scenario of crashes: that of takeover over a store whose commits the seed decides, and now and then the power fails.
//!
//! Knows when submissions are committed, when that fails for a while, and when all ends. What must be true afterwards is
//! [`crate::aftermath`]'s.

use std::sync::Arc;

use whimbrel_storage::Stepped;

use crate::books::Fault;
use crate::rng::Rng;
use crate::takeover::{self, Setting};
use crate::world::World;

/// What one seed plays with.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    setting: Setting,
    /// Of a thousand steps, like the others.
    commits: usize,
    /// The disk becomes full, or has room again.
    refusals: usize,
    crashes: usize,
}

/// The world of a seed before its first step.
pub fn begin(rng: &mut Rng) -> Result<(World, Weather), Fault> {
    let (world, setting) = takeover::begin_over(rng, Some(Arc::new(Stepped::new())))?;
    world.store.iter().for_each(|store| store.be_eager(rng.chance(50)));
    let (commits, refusals) = (rng.pick(&[50, 250, 600]), rng.pick(&[0, 3, 10]));
    let crashes = rng.pick(&[0, 5, 15]).min(rng.pick(&[0, 100, 100, 100]));
    Ok((world, Weather { setting, commits, refusals, crashes }))
}

/// All steps of a seed, and its end.
pub fn play(world: &mut World, weather: Weather, rng: &mut Rng) -> Result<(), Fault> {
    takeover::gather(world, weather.setting, rng)?;
    for _ in 0..weather.setting.steps {
        world.order += 1;
        step(world, weather, rng)?;
    }
    if weather.crashes > 0 && rng.chance(50) {
        crash(world, rng)?;
    }
    world.collect()?;
    world.clear_out()
}

fn step(world: &mut World, weather: Weather, rng: &mut Rng) -> Result<(), Fault> {
    let Weather { setting, commits, refusals, crashes } = weather;
    if rng.below(1000) < commits {
        world.commit(rng.pick(&[1, 1, 2, 5, usize::MAX]))?;
    }
    match rng.below(1000) {
        kind if kind < refusals => {
            let is_refusing = rng.chance(60);
            world.refuse(is_refusing);
            Ok(())
        }
        kind if kind < refusals + crashes => crash(world, rng),
        _ => takeover::step(world, setting, rng),
    }
}

fn crash(world: &mut World, rng: &mut Rng) -> Result<(), Fault> {
    let survivors = rng.pick(&[0, 0, 1, 3, usize::MAX]);
    let is_heard = rng.chance(60);
    world.crash(survivors, is_heard)
}
