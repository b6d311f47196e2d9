//! Space recovery in steps: dead chunks go, sparse and small ones are written together.
//!
//! Knows when a chunk may go: nothing in it is live, and what it settles elsewhere is gone or marked elsewhere. Must not know
//! threads and time. Driven by the committer, which puts a step into a commit that happens anyway, or into one
//! of its own when nothing else is to do.

use std::sync::Mutex;

use crate::chunk::{Builder, Built, Chunk, Name, TARGET_BYTES};
use crate::codec::{frame_slots, put_slots};
use crate::index::{Entry, Index};
use crate::journaled::Journaled;
use crate::shared::lock;
use crate::{Failure, Reclaiming, Slot};

/// One step.
#[derive(Debug, Default)]
pub(crate) struct Step {
    /// Chunks that go; their numbers in `built` stay.
    pub(crate) removed: Vec<u64>,
    /// Chunks whose live slots are written down, because a chunk that settled others goes.
    pub(crate) marks: Vec<(u64, Vec<u8>)>,
    /// Chunks written together, each with the lowest number of those that it replaces.
    pub(crate) built: Vec<Built>,
}

impl Step {
    pub(crate) fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.built.is_empty()
    }

    /// After the commit.
    pub(crate) fn apply(&self, index: &mut Index) {
        self.removed.iter().for_each(|&number| index.remove(number));
        self.marks.iter().for_each(|(number, _)| index.mark(*number));
        for built in &self.built {
            index.insert(built);
            settle_all(index, built);
            index.rebase(built.number);
        }
    }
}

/// Applies what a chunk settles.
pub(crate) fn settle_all(index: &mut Index, built: &Built) {
    for run in built.settled.chunk_by(|a, b| a.0 + 1 == b.0) {
        index.settle(built.number, run[0], run.len() as u64);
    }
}

/// Where the search for small neighbours goes on, and by which rules.
#[derive(Debug)]
pub(crate) struct Reclaimer {
    cursor: u64,
    moving: Option<u64>, // all chunks are being moved to the front of the file, from this number on
    moved: u64,          // length of the file when that was done last
    rules: Reclaiming,
    builder: Builder,
}

const SWEPT_MAX: usize = 256;
const LOOKED_AT_MAX: usize = 64;
const SMALL_BYTES: u64 = TARGET_BYTES as u64 / 4;

impl Reclaimer {
    pub(crate) fn new(rules: Reclaiming) -> Reclaimer {
        Reclaimer { cursor: 0, moving: None, moved: 0, rules, builder: Builder::default() }
    }

    /// Whether the search for small neighbours has come round.
    pub(crate) fn is_round(&self) -> bool {
        self.cursor == 0 && self.moving.is_none()
    }

    /// Plans a step; `next` is the number that the next new chunk will have. `is_idle`: nothing else is to be committed.
    pub(crate) fn plan(
        &mut self,
        (index, engine): (&Mutex<Index>, &Journaled),
        (next, commit): (u64, u64),
        is_idle: bool,
    ) -> Result<Step, Failure> {
        let mut step = Step::default();
        let runs = {
            let index = lock(index);
            if is_idle || index.dead.len() >= self.rules.sweep_from {
                self.sweep(&index, &mut step);
            }
            let file_bytes = engine.file_bytes();
            if is_idle && self.should_move(file_bytes, index.bytes) {
                self.moving = Some(0);
            }
            let mut runs = self.choose(&index, next, &step.removed);
            if is_idle && runs.is_empty() && step.removed.is_empty() {
                runs = self.next_to_move(&index, next, file_bytes);
            }
            runs
        };
        let floor = lock(index).floor().unwrap_or(next);
        for run in runs {
            self.rewrite((index, engine), &run, (commit, floor), &mut step)?;
        }
        // What is written anew says itself what is live in it; a mark of its number would deny its neighbours' slots.
        step.marks.retain(|(number, _)| !step.removed.contains(number));
        Ok(step)
    }

    /// Whether the file is far longer than what it holds.
    pub(crate) fn is_spacious(&self, file_bytes: u64, held_bytes: u64) -> bool {
        file_bytes > self.rules.slack_bytes + 3 * held_bytes
    }

    /// Whether moving may help: not where it was done at about this length.
    fn should_move(&self, file_bytes: u64, held_bytes: u64) -> bool {
        let is_new = file_bytes > self.moved + self.moved / 2 || file_bytes < self.moved / 2;
        self.moving.is_none() && is_new && self.is_spacious(file_bytes, held_bytes)
    }

    /// What is written anew lies in the lowest free pages, so the free ones gather at the end, and the engine cuts them off.
    fn next_to_move(&mut self, index: &Index, next: u64, file_bytes: u64) -> Vec<Vec<u64>> {
        let (mut runs, mut bytes) = (Vec::new(), 0);
        while let Some(from) = self.moving {
            let Some((start, _)) = index.from(from).next() else {
                self.moving = None;
                self.moved = file_bytes;
                break;
            };
            if bytes > self.rules.bytes as u64 {
                break;
            }
            let run = run_from(index, start, next);
            bytes += run.iter().filter_map(|&number| index.entry(number)).map(|entry| entry.bytes).sum::<u64>();
            self.moving = Some(run[run.len() - 1] + 1);
            runs.push(run);
        }
        runs
    }

    /// Dead chunks, the oldest first.
    fn sweep(&self, index: &Index, step: &mut Step) {
        let mut cost = 0;
        for &number in index.dead.iter().take(SWEPT_MAX) {
            let Some(entry) = index.entry(number) else { continue };
            for &target in &entry.targets {
                let is_marked_now = step.marks.iter().any(|(marked, _)| *marked == target);
                let Some(settled) = index.entry(target).filter(|target| target.live > 0 && !is_marked_now) else {
                    continue;
                };
                let mark = encode_live(settled);
                cost += mark.len();
                step.marks.push((target, mark));
            }
            step.removed.push(number);
            if cost > self.rules.bytes {
                return;
            }
        }
    }

    /// Runs of neighbours that are to be written together.
    fn choose(&mut self, index: &Index, next: u64, removed: &[u64]) -> Vec<Vec<u64>> {
        let mut starts: Vec<u64> = index.sparse.iter().copied().take(LOOKED_AT_MAX).collect();
        let mut looked = 0;
        for (number, entry) in index.from(self.cursor).take(LOOKED_AT_MAX) {
            looked += 1;
            self.cursor = number + 1;
            if entry.live > 0 && entry.bytes < SMALL_BYTES && number + self.rules.young < next {
                starts.push(number);
            }
        }
        if looked < LOOKED_AT_MAX {
            self.cursor = 0;
        }
        starts.sort_unstable();
        let mut runs: Vec<Vec<u64>> = Vec::new();
        let mut cost = 0;
        for start in starts {
            let is_taken = runs.last().is_some_and(|run| *run.last().expect("runs have a chunk") >= start);
            if is_taken || removed.contains(&start) || cost > self.rules.bytes as u64 {
                continue;
            }
            let run = run_from(index, start, next.saturating_sub(self.rules.young));
            let is_worth_it = run.len() > 1 || index.sparse.contains(&start);
            if is_worth_it && !run.iter().any(|number| removed.contains(number)) {
                cost += run.iter().filter_map(|&number| index.entry(number)).map(|entry| entry.bytes).sum::<u64>();
                runs.push(run);
            }
        }
        runs
    }

    fn rewrite(
        &mut self,
        (index, engine): (&Mutex<Index>, &Journaled),
        run: &[u64],
        (commit, floor): (u64, u64),
        step: &mut Step,
    ) -> Result<(), Failure> {
        self.builder.clear(); // a read that failed may have ended the run before
        for &number in run {
            let Some(bytes) = engine.chunk(number)? else { continue };
            let (chunk, _) = Chunk::read(bytes); // damage was reported at the start; what is whole goes on
            let index = lock(index);
            let Some(entry) = index.entry(number) else { continue };
            self.keep_records(&chunk, entry);
            self.keep_settlements(&chunk, run, &index);
        }
        step.removed.extend(run);
        if !self.builder.is_empty() {
            step.built.push(self.builder.finish(Name { number: run[0], until: run[run.len() - 1], commit, floor }));
        }
        Ok(())
    }

    fn keep_records(&mut self, chunk: &Chunk, entry: &Entry) {
        let mut places = chunk.offsets().to_vec();
        places.sort_unstable(); // as they were written, whoever wrote them
        for at in places {
            let frame = chunk.frame(at);
            let (first, count) = frame_slots(frame);
            let slots = (first..first + u64::from(count)).map(Slot);
            if slots.clone().any(|slot| entry.is_live(slot)) {
                self.builder.push(frame);
                self.builder.settled.extend(slots.filter(|&slot| !entry.is_live(slot)));
            }
        }
    }

    /// Settlements of slots that are still there, outside of `run`.
    fn keep_settlements(&mut self, chunk: &Chunk, run: &[u64], index: &Index) {
        for (first, count) in chunk.settled() {
            let slots = (first.0..first.0 + count).map(Slot);
            let is_needed = |slot: &Slot| index.holder_of(*slot).is_some_and(|number| !run.contains(&number));
            self.builder.settled.extend(slots.filter(is_needed));
        }
    }
}

/// `start` and its followers, as many as fit into one chunk together.
fn run_from(index: &Index, start: u64, old_until: u64) -> Vec<u64> {
    let mut run = Vec::new();
    let mut bytes = 0;
    for (number, entry) in index.from(start).take_while(|(number, _)| *number < old_until || *number == start) {
        bytes += entry.bytes * entry.live / entry.slots.max(1) + 64;
        if !run.is_empty() && bytes > TARGET_BYTES as u64 {
            break;
        }
        run.push(number);
    }
    run
}

pub(crate) fn encode_live(entry: &Entry) -> Vec<u8> {
    let mut mark = Vec::new();
    put_slots(&mut mark, &entry.live_slots());
    let check = crate::codec::check_of(&mark);
    mark.extend(check.to_le_bytes());
    mark
}
