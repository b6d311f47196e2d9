//! A store that is in the mood that a test says.
//!
//! Knows the contract of a store, not when a disk is full.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use whimbrel_storage::{
    Batch, Failure, Fetch, Fetched, Kind, Lane, Memory, Record, Slot, Space, State, Statistics, Store, Ticket, Visitor,
    Wake,
};

/// A store in memory whose commits stand still while it is told to refuse.
pub struct Moody {
    inner: Memory,
    is_refusing: AtomicBool,
    is_pressed: AtomicBool,
    /// What is committed at most.
    standing: AtomicU64,
    wakes: Mutex<Vec<Wake>>,
    seen: Mutex<Vec<Vec<Kind>>>,
}

/// What kinds of records are there.
#[derive(Default)]
struct Kinds(Vec<Kind>);

impl Visitor for Kinds {
    fn record(&mut self, record: &Record<'_>, _: &[Slot]) {
        self.0.push(record.kind);
    }

    fn keyed(&mut self, _: Space, _: &[u8], _: &[u8]) {}
}

impl Moody {
    /// In a good mood.
    pub fn new() -> Moody {
        Moody {
            inner: Memory::new(),
            is_refusing: AtomicBool::new(false),
            is_pressed: AtomicBool::new(false),
            standing: AtomicU64::new(u64::MAX),
            wakes: Mutex::default(),
            seen: Mutex::default(),
        }
    }

    /// The kinds of all records that a crash would have left behind each submission.
    pub fn seen(&self) -> Vec<Vec<Kind>> {
        self.seen.lock().unwrap().clone()
    }

    /// From now on nothing is committed; nobody is told.
    pub fn stall(&self) {
        self.standing.store(self.inner.committed().0, Ordering::SeqCst);
    }

    /// Nothing is committed from now on and everybody is told; or all is well again.
    pub fn refuse(&self, is_refusing: bool) {
        if is_refusing {
            self.standing.fetch_min(self.inner.committed().0, Ordering::SeqCst);
        } else {
            self.standing.store(u64::MAX, Ordering::SeqCst);
        }
        self.is_refusing.store(is_refusing, Ordering::SeqCst);
        self.wakes.lock().unwrap().iter().for_each(|wake| wake());
    }

    /// Nobody is woken: the workers look by themselves.
    pub fn press(&self, is_pressed: bool) {
        self.is_pressed.store(is_pressed, Ordering::SeqCst);
    }
}

impl Store for Moody {
    fn join(&self, wake: Wake) -> Result<(Lane, Slot), Failure> {
        self.wakes.lock().unwrap().push(Arc::clone(&wake));
        self.inner.join(wake)
    }

    fn submit(&self, batch: &mut Batch) -> Ticket {
        let ticket = self.inner.submit(batch);
        let mut kinds = Kinds::default();
        self.inner.replay(&mut kinds).unwrap();
        self.seen.lock().unwrap().push(kinds.0);
        ticket
    }

    fn committed(&self) -> Ticket {
        self.inner.committed().min(Ticket(self.standing.load(Ordering::SeqCst)))
    }

    fn fetch(&self, request: Fetch) {
        self.inner.fetch(request);
    }

    fn fetched(&self, lane: Lane, into: &mut Vec<Fetched>) {
        self.inner.fetched(lane, into);
    }

    fn state(&self) -> State {
        match self.is_refusing.load(Ordering::SeqCst) {
            true => State::Refusing("no room on the test's disk".to_owned()),
            false => State::Serving,
        }
    }

    fn is_pressed(&self) -> bool {
        self.is_pressed.load(Ordering::SeqCst)
    }

    fn statistics(&self) -> Statistics {
        self.inner.statistics()
    }

    fn replay(&self, visitor: &mut dyn Visitor) -> Result<(), Failure> {
        self.inner.replay(visitor)
    }

    fn backup(&self, path: &Path) -> Result<(), Failure> {
        self.inner.backup(path)
    }

    fn close(&self) {
        self.inner.close();
    }
}
