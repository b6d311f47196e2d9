//! The journal before the engine: a commit is one frame of the journal, and what is still needed of many frames goes into the
//! engine in one change, on a thread of its own.
//!
//! Knows what the engine does not have yet, and that a half of the journal may be written over only when it has. Must not
//! know records, settlements, tickets. Driven by the committer; read by anyone.
//!
//! What is committed lies in one of three places, the newest first: `fresh` (its frames are in the journal's current half),
//! `aging` (being carried over), the engine.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::engine::{Change, Disk, Engine};
use crate::journal::Journal;
use crate::overlay::Overlay;
use crate::shared::lock;
use crate::{Failure, Options, Space};

/// Bytes up to which the engine is asked to move what lies at the end of its file: it does so in one go, while readers wait.
const COMPACTED_MAX: u64 = 16 << 20;

/// An engine with its journal. Locks are taken in the order of the fields.
pub(crate) struct Journaled {
    journal: Mutex<Journal>,
    writing: Mutex<()>, // held while the engine is written or opened anew
    pending: Mutex<Pending>,
    turned: Condvar, // with `pending`: something ages or does no more, or there is other work for `run`
    applied: AtomicU64, // the newest change that the engine has
    carried: AtomicU64,
    is_unsound: AtomicBool, // with `writing`: the engine failed and was not opened anew
    engine: Engine,
    retry: Duration,
}

struct Pending {
    fresh: Overlay,
    aging: Option<Arc<Overlay>>,
    failure: Option<Failure>, // of the last attempt to carry `aging` over
    is_compacting: bool,      // or about to
    is_closing: bool,
}

impl std::fmt::Debug for Journaled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Journaled")
    }
}

impl Journaled {
    /// Opens both and carries over what the engine lacks; also returns what of the journal is damaged, in a sentence each.
    pub(crate) fn open(disk: Arc<dyn Disk>, options: &Options) -> Result<(Journaled, Vec<String>), Failure> {
        let engine = Engine::open(Arc::clone(&disk), options.cache_bytes)?;
        let (identity, applied) = (engine.number("identity")?, engine.number("applied")?);
        let (journal, mut replay) = Journal::open(disk.open_journal()?, (identity, applied), options.journal_bytes)?;
        // Whatever is in the file, a frame of this run has a higher number.
        replay.overlay.sequence = journal.next_sequence() - 1;
        if replay.overlay.sequence > applied {
            engine.write(&[&replay.overlay])?;
        }
        let damaged =
            replay.damaged.into_iter().map(|(name, what, bytes)| set_apart(&*disk, &name, what, &bytes)).collect();
        let pending = Pending {
            fresh: Overlay::new(engine.last_chunk()? + 1),
            aging: None,
            failure: None,
            is_compacting: false,
            is_closing: false,
        };
        let journaled = Journaled {
            journal: Mutex::new(journal),
            writing: Mutex::default(),
            pending: Mutex::new(pending),
            turned: Condvar::new(),
            applied: AtomicU64::new(replay.overlay.sequence),
            carried: AtomicU64::new(0),
            is_unsound: AtomicBool::new(false),
            engine,
            retry: options.retry,
        };
        Ok((journaled, damaged))
    }

    pub(crate) fn disk(&self) -> &dyn Disk {
        self.engine.disk()
    }

    /// Length of the engine's file.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.engine.file_bytes()
    }

    /// Bytes of the journal that the engine does not have yet.
    pub(crate) fn journal_bytes(&self) -> u64 {
        let pending = lock(&self.pending);
        pending.fresh.frame_bytes + pending.aging.as_ref().map_or(0, |aging| aging.frame_bytes)
    }

    /// How often the engine took over what was in the journal.
    pub(crate) fn carried(&self) -> u64 {
        self.carried.load(Ordering::Relaxed)
    }

    /// Makes a change durable, whole or not at all. May be called again with the same change after a failure.
    pub(crate) fn commit(&self, change: &Change<'_>) -> Result<(), Failure> {
        let mut journal = lock(&self.journal);
        if !journal.encode(change, self.applied.load(Ordering::Relaxed)) {
            return self.carry_over(&mut journal, change);
        }
        if !journal.has_room() {
            self.turn(&mut journal)?;
        }
        let sequence = journal.write()?;
        let fresh = &mut lock(&self.pending).fresh;
        fresh.take(change, sequence);
        fresh.frame_bytes += journal.frame_bytes();
        Ok(())
    }

    /// As `commit`, into the engine, with all that it does not have yet.
    pub(crate) fn commit_to_engine(&self, change: &Change<'_>) -> Result<(), Failure> {
        self.carry_over(&mut lock(&self.journal), change)
    }

    fn carry_over(&self, journal: &mut Journal, change: &Change<'_>) -> Result<(), Failure> {
        let _writing = lock(&self.writing);
        self.write_aging()?;
        let mut last = Overlay::new(u64::MAX);
        last.take(change, journal.next_sequence());
        let aging = {
            let mut pending = lock(&self.pending);
            pending.age();
            pending.aging.clone()
        };
        let changes: Vec<&Overlay> = aging.as_deref().into_iter().chain([&last]).collect();
        let written = self.write(&changes);
        if written.is_ok() {
            journal.count();
            journal.rewind();
            lock(&self.pending).fresh.follow(&last);
        }
        self.tell(written)
    }

    /// Lets what is fresh age, and goes on in the other half; waits until the engine has what aged before, or failed.
    fn turn(&self, journal: &mut Journal) -> Result<(), Failure> {
        let mut pending = lock(&self.pending);
        while pending.aging.is_some() {
            if let Some(failure) = &pending.failure {
                return Err(failure.clone());
            }
            pending = self.turned.wait(pending).unwrap_or_else(PoisonError::into_inner);
        }
        pending.age();
        journal.turn();
        self.turned.notify_all();
        Ok(())
    }

    /// Begins to carry over what is fresh, without waiting. False: the engine has everything.
    pub(crate) fn begin_to_settle(&self) -> Result<bool, Failure> {
        let mut journal = lock(&self.journal);
        let pending = lock(&self.pending);
        let (is_settled, is_aging) = (pending.is_settled(), pending.aging.is_some());
        drop(pending);
        if !is_settled && !is_aging {
            self.turn(&mut journal)?;
        }
        Ok(!is_settled)
    }

    /// Until the engine has all that is committed now. Waits for the disk.
    fn settle(&self) -> Result<(), Failure> {
        let journal = lock(&self.journal);
        let _writing = lock(&self.writing);
        self.write_aging()?;
        lock(&self.pending).age();
        drop(journal);
        self.write_aging()
    }

    /// The thread that carries over, until the store closes.
    pub(crate) fn run(&self) {
        while self.wait_for_aging() {
            let _writing = lock(&self.writing);
            if self.write_aging().is_err() {
                self.wait_to_try_again();
            } else if self.is_compacting() {
                let compacted = self.make_sound().and_then(|()| guarded(|| self.engine.compact(COMPACTED_MAX)));
                self.is_unsound.store(compacted.is_err(), Ordering::Relaxed);
                lock(&self.pending).is_compacting = false;
            }
        }
    }

    /// Whether who reads in the engine may have to wait.
    pub(crate) fn is_compacting(&self) -> bool {
        lock(&self.pending).is_compacting
    }

    /// Makes the engine's file shorter, soon, while commits go on.
    pub(crate) fn ask_to_compact(&self) {
        lock(&self.pending).is_compacting = true;
        self.turned.notify_all();
    }

    /// False: the store closes.
    fn wait_for_aging(&self) -> bool {
        let mut pending = lock(&self.pending);
        while pending.aging.is_none() && !pending.is_compacting && !pending.is_closing {
            pending = self.turned.wait(pending).unwrap_or_else(PoisonError::into_inner);
        }
        !pending.is_closing
    }

    fn wait_to_try_again(&self) {
        let pending = lock(&self.pending);
        if !pending.is_closing {
            drop(self.turned.wait_timeout(pending, self.retry));
        }
    }

    /// Only with `writing`.
    fn write_aging(&self) -> Result<(), Failure> {
        let aging = lock(&self.pending).aging.clone();
        let Some(aging) = aging else { return Ok(()) };
        let written = self.write(&[&aging]);
        self.tell(written)
    }

    fn write(&self, changes: &[&Overlay]) -> Result<(), Failure> {
        self.make_sound()?;
        let written = guarded(|| self.engine.write(changes));
        self.is_unsound.store(written.is_err(), Ordering::Relaxed);
        if let (Ok(()), Some(last)) = (&written, changes.last()) {
            self.applied.store(last.sequence, Ordering::Relaxed);
        }
        written
    }

    /// After a failure the engine refuses everything until it is opened anew.
    fn make_sound(&self) -> Result<(), Failure> {
        if self.is_unsound.load(Ordering::Relaxed) {
            guarded(|| self.engine.reopen())?;
            self.is_unsound.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    /// What became of an attempt to write what ages.
    fn tell(&self, written: Result<(), Failure>) -> Result<(), Failure> {
        let mut pending = lock(&self.pending);
        pending.failure = written.clone().err();
        if written.is_ok() && pending.aging.take().is_some() {
            self.carried.fetch_add(1, Ordering::Relaxed);
        }
        self.turned.notify_all();
        written
    }

    /// After a failed commit: whether another is worth trying.
    pub(crate) fn reopen(&self) -> Result<(), Failure> {
        let _writing = lock(&self.writing);
        self.make_sound()
    }

    /// Ends `run`.
    pub(crate) fn end(&self) {
        lock(&self.pending).is_closing = true;
        self.turned.notify_all();
    }

    /// Carries over what it can, and gives the files back. What does not get through is in the journal.
    pub(crate) fn shut(&self) {
        let _writing = lock(&self.writing);
        if self.write_aging().is_ok() {
            lock(&self.pending).age();
            drop(self.write_aging());
        }
        self.engine.shut();
    }

    /// A number of the store's own; those that change are told by the engine alone.
    pub(crate) fn number(&self, name: &str) -> Result<u64, Failure> {
        self.engine.number(name)
    }

    /// A chunk's bytes.
    pub(crate) fn chunk(&self, number: u64) -> Result<Option<Arc<[u8]>>, Failure> {
        let pending = lock(&self.pending);
        let aging = pending.aging.as_ref().and_then(|aging| aging.chunks.get(&number));
        if let Some(known) = pending.fresh.chunks.get(&number).or(aging) {
            return Ok(known.clone());
        }
        drop(pending);
        self.engine.chunk(number)
    }

    /// Every chunk, by rising number, until `see` says no. Waits for the disk.
    pub(crate) fn chunks(&self, see: impl FnMut(u64, &[u8]) -> Result<(), Failure>) -> Result<(), Failure> {
        self.settle()?;
        self.engine.chunks(see)
    }

    /// The marks: chunk, and its live slots as they were encoded. Waits for the disk.
    pub(crate) fn marks(&self) -> Result<Vec<(u64, Vec<u8>)>, Failure> {
        self.settle()?;
        self.engine.marks()
    }

    /// Every keyed value by rising key; None where its bytes are damaged. Waits for the disk.
    pub(crate) fn keyed(&self, see: impl FnMut(Space, &[u8], Option<&[u8]>)) -> Result<(), Failure> {
        self.settle()?;
        self.engine.keyed(see)
    }

    /// Copies everything as of now into a new file. Waits for the disk.
    pub(crate) fn copy_to(&self, path: &Path) -> Result<(), Failure> {
        self.settle()?;
        self.engine.copy_to(path)
    }
}

impl Pending {
    fn is_settled(&self) -> bool {
        self.aging.is_none() && self.fresh.is_empty()
    }

    /// What is fresh ages, if nothing does.
    fn age(&mut self) {
        if self.aging.is_none() && !self.fresh.is_empty() {
            let next = Overlay::new(self.fresh.next_born());
            self.aging = Some(Arc::new(std::mem::replace(&mut self.fresh, next)));
        }
    }
}

/// A panic of the engine (damaged pages) is a failure like others.
fn guarded(work: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    let panicked = || Err(Failure::Engine("it panicked; see standard error".to_owned()));
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| panicked())
}

fn set_apart(disk: &dyn Disk, name: &str, what: String, bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return what;
    }
    match disk.quarantine(name, bytes) {
        Ok(place) => format!("{what}; kept in {place}"),
        Err(error) => format!("{what}; it could not be kept apart ({error})"),
    }
}
