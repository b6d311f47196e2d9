//! The thread that commits: takes all that waits, writes it as one change of the engine, completes its ticket.
//!
//! Knows the pace, failures and their repetition, when space recovery may work. Must not know records' contents.

use std::collections::VecDeque;
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::engine::Change;
use crate::group::{Gathered, Gatherer, Numbers};
use crate::patience::Patience;
use crate::reclaim::{Reclaimer, Step, settle_all};
use crate::shared::{Inbox, Shared, lock};
use crate::{Batch, Failure, State, Ticket};

/// Commits that only make the file smaller, after each step of space recovery.
const TRIMS: u32 = 8;
/// Looks at what waits to be settled, in one pace.
const LOOKS: u32 = 4;
/// A full disk is tried all the same after so many looks: what is committed may need no more room.
const LOOKS_BEFORE_A_TRY: u32 = 20;
/// Slots are reserved in blocks, so that a later run never gives away one that an earlier run gave.
pub(crate) const RESERVED_BLOCK: u64 = 1 << 32;

/// The thread's own things.
pub(crate) struct Committer<'a> {
    shared: &'a Shared,
    gatherer: Gatherer,
    reclaimer: Reclaimer,
    batches: Vec<Batch>, // taken and not completed, oldest first
    patience: Patience,
    looks: VecDeque<(Instant, Ticket)>, // when what waits was looked at, and the newest batch there was
    may_carry: bool,
    trims_left: u32,
    may_compact: bool, // room was given back since the engine was asked to
    next_chunk: u64,
    commits: u64,
    reserved: u64, // slots below this are ours, in every lane
    last_start: Instant,
    may_reclaim: bool, // something happened since space recovery found nothing to do
}

/// Where a run begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    pub(crate) next_chunk: u64,
    /// Number of the last commit; the first slot of a run is above all commits of earlier runs.
    pub(crate) commits: u64,
    pub(crate) reserved: u64,
}

/// What the wait ended with.
enum Woken {
    Work,
    Idle,
    Closing,
}

impl<'a> Committer<'a> {
    pub(crate) fn new(shared: &'a Shared, start: Start) -> Committer<'a> {
        Committer {
            shared,
            gatherer: Gatherer::default(),
            reclaimer: Reclaimer::new(shared.options.reclaiming),
            batches: Vec::new(),
            patience: Patience::default(),
            looks: VecDeque::new(),
            may_carry: true,
            trims_left: 0,
            may_compact: true,
            next_chunk: start.next_chunk,
            commits: start.commits,
            reserved: start.reserved,
            last_start: Instant::now().checked_sub(shared.options.pace).unwrap_or_else(Instant::now),
            may_reclaim: true,
        }
    }

    /// Until the store closes.
    pub(crate) fn run(&mut self) {
        loop {
            match self.wait() {
                Woken::Work => self.commit_group(),
                Woken::Idle => self.reclaim(),
                Woken::Closing => return,
            }
        }
    }

    /// Until there is work and its time has come.
    fn wait(&mut self) -> Woken {
        let shared = self.shared;
        let mut inbox = self.wait_for_pace();
        let mut has_slept = false;
        loop {
            if !inbox.batches.is_empty() || !self.batches.is_empty() {
                let is_urgent = inbox.is_closing || inbox.bytes > shared.options.group_bytes;
                self.batches.append(&mut inbox.batches);
                let was_idle = has_slept && self.last_start.elapsed() >= shared.options.pace;
                self.may_carry = self.patience.pays() && !is_urgent && !was_idle;
                (inbox.bytes, inbox.slots) = (0, 0);
                return Woken::Work;
            }
            if inbox.is_closing {
                return Woken::Closing;
            }
            has_slept = true;
            if !self.may_reclaim {
                inbox = shared.work.wait(inbox).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let idle_after = shared.options.reclaiming.idle_after;
            let (guard, waited) = shared.work.wait_timeout(inbox, idle_after).unwrap_or_else(PoisonError::into_inner);
            inbox = guard;
            if waited.timed_out() && inbox.batches.is_empty() && !inbox.is_closing {
                return Woken::Idle;
            }
        }
    }

    /// Sleeps once for the rest of the pace, instead of being woken by a first submission to sleep again.
    fn wait_for_pace(&self) -> MutexGuard<'a, Inbox> {
        let shared = self.shared;
        let mut inbox = lock(&shared.inbox);
        loop {
            let pace = shared.options.pace;
            let pace = if self.patience.pays() { pace / LOOKS } else { pace };
            let left = pace.saturating_sub(self.last_start.elapsed());
            inbox.enough = self.patience.enough();
            let has_enough = inbox.slots >= inbox.enough || inbox.bytes > shared.options.group_bytes;
            if left.is_zero() || inbox.is_closing || has_enough {
                inbox.is_pacing = false;
                return inbox;
            }
            inbox.is_pacing = true;
            inbox = shared.work.wait_timeout(inbox, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn commit_group(&mut self) {
        self.last_start = Instant::now();
        let done = self.gatherer.judge(&self.batches);
        let count = self.due(done);
        let mut batches = std::mem::take(&mut self.batches);
        let (due, young) = batches.split_at_mut(count);
        let floor = lock(&self.shared.index).floor().unwrap_or(self.next_chunk);
        let numbers = Numbers { next: self.next_chunk, commit: self.commits + 1, floor };
        let gathered = self.gatherer.gather(due, numbers);
        self.gatherer.forget(due, young);
        if !gathered.chunks.is_empty() || due.iter().any(|batch| !batch.keyed.is_empty()) {
            let step = self.plan(false);
            self.trims_left = if step.is_empty() { self.trims_left } else { TRIMS };
            let reserved = self.reserve(due);
            if !self.write(due, (&gathered, step), reserved) {
                return; // the store closes; what could not be written was never acknowledged
            }
            self.may_reclaim = true;
        }
        self.patience.note(gathered.elided, gathered.written);
        let mut statistics = lock(&self.shared.statistics);
        statistics.written += gathered.written;
        statistics.elided += gathered.elided;
        drop(statistics);
        self.shared.complete(&mut batches, count);
        self.batches = batches;
    }

    /// How many batches are to be committed now. Where waiting pays: those at the head of which nothing needs a write any
    /// more, and those that have waited for a pace.
    fn due(&mut self, done: usize) -> usize {
        let newest = self.batches.last().map(|batch| batch.ticket);
        self.looks.extend(newest.map(|newest| (self.last_start, newest)));
        let (now, pace) = (self.last_start, self.shared.options.pace);
        let past = self.looks.partition_point(|(at, _)| now.duration_since(*at) >= pace);
        let old = self.looks.drain(..past).next_back().map_or(Ticket(0), |(_, ticket)| ticket);
        if !self.may_carry {
            return self.batches.len();
        }
        done.max(self.batches.partition_point(|batch| batch.ticket <= old))
    }

    /// A step of space recovery; none when the engine fails to read, because the commit will meet the same trouble, or lets
    /// nobody read.
    fn plan(&mut self, is_idle: bool) -> Step {
        if self.shared.engine.is_compacting() {
            return Step::default();
        }
        let numbers = (self.next_chunk, self.commits + 1);
        let source = (&self.shared.index, &self.shared.engine);
        self.reclaimer.plan(source, numbers, is_idle).unwrap_or_default()
    }

    fn reserve(&mut self, batches: &[Batch]) -> Option<u64> {
        let highest = batches.iter().map(|batch| batch.slots.end & (u64::MAX >> 8)).max()?;
        (highest + RESERVED_BLOCK / 2 > self.reserved).then(|| {
            self.reserved = highest + RESERVED_BLOCK;
            self.reserved
        })
    }

    /// Commits, again and again where it fails. False: the store closed before it succeeded.
    fn write(&mut self, batches: &[Batch], (gathered, mut step): (&Gathered, Step), reserved: Option<u64>) -> bool {
        loop {
            let change = Change {
                commit: self.commits + 1,
                chunks: step.built.iter().chain(&gathered.chunks).collect(),
                removed: step.removed.clone(),
                marks: step.marks.clone(),
                batches,
                reserved,
            };
            let before = Instant::now();
            match self.try_commit(&change) {
                Ok(()) => {
                    self.count(before.elapsed());
                    self.apply(gathered, &step);
                    self.shared.set_state(State::Serving);
                    return true;
                }
                Err(failure) => {
                    if !self.stand_by(&failure) {
                        return false;
                    }
                    step = Step::default(); // first what was promised
                }
            }
        }
    }

    /// Space recovery alone goes to the engine at once.
    fn try_commit(&self, change: &Change<'_>) -> Result<(), Failure> {
        let engine = &self.shared.engine;
        if change.batches.is_empty() { engine.commit_to_engine(change) } else { engine.commit(change) }
    }

    fn apply(&mut self, gathered: &Gathered, step: &Step) {
        self.commits += 1;
        self.next_chunk += gathered.chunks.len() as u64;
        let mut index = lock(&self.shared.index);
        step.apply(&mut index);
        gathered.chunks.iter().for_each(|built| index.insert(built));
        gathered.chunks.iter().for_each(|built| settle_all(&mut index, built));
    }

    fn count(&self, took: Duration) {
        let mut statistics = lock(&self.shared.statistics);
        statistics.commits += 1;
        statistics.commit_us = took.as_micros() as u64;
        statistics.commit_max_us = statistics.commit_max_us.max(statistics.commit_us);
    }

    /// Says so, waits, and opens the engine again. False: the store closes.
    fn stand_by(&self, failure: &Failure) -> bool {
        lock(&self.shared.statistics).failures += 1;
        self.shared.set_state(State::Refusing(format!(
            "{failure}; nothing durable is taken in until a commit succeeds: make room or mend the disk"
        )));
        let mut looks = 0;
        loop {
            let inbox = lock(&self.shared.inbox);
            if inbox.is_closing {
                return false;
            }
            let waited =
                self.shared.work.wait_timeout(inbox, self.shared.options.retry).unwrap_or_else(PoisonError::into_inner);
            drop(waited);
            looks += 1;
            let engine = &self.shared.engine;
            let is_worth_it = looks % LOOKS_BEFORE_A_TRY == 0 || engine.disk().has_room();
            if is_worth_it && engine.reopen().is_ok() {
                return true;
            }
        }
    }

    /// A commit of nothing but space recovery.
    fn reclaim(&mut self) {
        if self.shared.engine.is_compacting() || self.shared.engine.begin_to_settle().unwrap_or(true) {
            return; // only in the engine itself can room be given back
        }
        let step = self.plan(true);
        if step.is_empty() {
            self.may_reclaim = !self.reclaimer.is_round() || self.trim();
            return;
        }
        self.trims_left = TRIMS;
        self.may_compact = true;
        lock(&self.shared.statistics).reclaimed += step.removed.len() as u64;
        self.write(&[], (&Gathered::default(), step), None);
    }

    /// The engine cuts free pages off the end of its file in the commit after the one that freed them, half of them at a
    /// time. False: there is nothing more to gain.
    fn trim(&mut self) -> bool {
        let held = lock(&self.shared.index).bytes;
        if !self.reclaimer.is_spacious(self.shared.engine.file_bytes(), held) {
            return false;
        }
        if self.trims_left == 0 {
            // A single page that nobody writes anew, of keyed values, keeps the file as long as it is.
            if std::mem::take(&mut self.may_compact) {
                self.shared.engine.ask_to_compact();
            }
            return false;
        }
        self.trims_left -= 1;
        self.write(&[], (&Gathered::default(), Step::default()), Some(self.reserved))
    }
}
