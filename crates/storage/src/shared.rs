//! What the workers, the committer and the reader share: the inbox, the lanes' seats, the state, the figures.
//!
//! Knows which lock guards what; none is held while the disk works. Must not know how a group becomes chunks.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::index::Index;
use crate::journaled::Journaled;
use crate::{Batch, Failure, Fetch, Fetched, Lane, Options, Slot, State, Statistics, Ticket, Wake};

/// Lanes are numbered from 0; 255 would make slots that look like none.
const LANES_MAX: usize = 255;
/// Empty batches that are kept for the next turns.
const SPARE_MAX: usize = 64;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) engine: Journaled,
    pub(crate) index: Mutex<Index>,
    pub(crate) inbox: Mutex<Inbox>,
    pub(crate) work: Condvar, // with `inbox`: something was submitted, or the store closes
    pub(crate) fetches: Mutex<Fetches>,
    pub(crate) asked: Condvar, // with `fetches`: a request, a commit, or the store closes
    pub(crate) statistics: Mutex<Statistics>,
    pub(crate) first_slot: u64, // of every lane, without the lane
    seats: Mutex<Vec<Seat>>,
    state: Mutex<State>,
    is_refusing: AtomicBool, // what `state` says; ordered with the sleep of whoever is woken
    committed: AtomicU64,
    waiting_bytes: AtomicUsize, // submitted and not committed
}

/// What waits to be grouped.
#[derive(Debug)]
pub(crate) struct Inbox {
    pub(crate) batches: Vec<Batch>,
    spare: Vec<Batch>,
    pub(crate) bytes: usize,
    /// Slots of the batches' records.
    pub(crate) slots: u64,
    /// So many of them are a full group.
    pub(crate) enough: u64,
    /// The committer looks by itself when the pace is over: only a full group wakes it before.
    pub(crate) is_pacing: bool,
    /// Of the last submission.
    pub(crate) ticket: Ticket,
    pub(crate) is_closing: bool,
}

/// What waits to be read.
#[derive(Debug, Default)]
pub(crate) struct Fetches {
    pub(crate) waiting: VecDeque<(Fetch, Ticket)>,
    pub(crate) is_closing: bool,
}

struct Seat {
    wake: Wake,
    fetched: VecDeque<Fetched>,
}

impl std::fmt::Debug for Seat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seat")
    }
}

/// A lock whose data is whole after each statement, so a panic elsewhere does not spoil it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn new(options: Options, engine: Journaled, index: Index, first_slot: u64) -> Shared {
        let inbox = Inbox {
            batches: Vec::new(),
            spare: Vec::new(),
            bytes: 0,
            slots: 0,
            enough: u64::MAX,
            is_pacing: false,
            ticket: Ticket(0),
            is_closing: false,
        };
        Shared {
            options,
            engine,
            index: Mutex::new(index),
            inbox: Mutex::new(inbox),
            work: Condvar::new(),
            fetches: Mutex::default(),
            asked: Condvar::new(),
            statistics: Mutex::default(),
            first_slot,
            seats: Mutex::default(),
            state: Mutex::new(State::Serving),
            is_refusing: AtomicBool::new(false),
            committed: AtomicU64::new(0),
            waiting_bytes: AtomicUsize::new(0),
        }
    }

    pub(crate) fn join(&self, wake: Wake) -> Result<(Lane, Slot), Failure> {
        let mut seats = lock(&self.seats);
        if seats.len() == LANES_MAX {
            return Err(Failure::NoLane);
        }
        let lane = seats.len() as u8;
        seats.push(Seat { wake, fetched: VecDeque::new() });
        Ok((Lane(lane), Slot(u64::from(lane) << 56 | self.first_slot)))
    }

    pub(crate) fn submit(&self, batch: &mut Batch) -> Ticket {
        let bytes = batch.bytes();
        self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        let mut inbox = lock(&self.inbox);
        let empty = inbox.spare.pop().unwrap_or_default();
        let lane = batch.lane;
        let mut full = std::mem::replace(batch, empty);
        batch.lane = lane;
        inbox.ticket = Ticket(inbox.ticket.0 + 1);
        full.ticket = inbox.ticket;
        // One look is enough: the committer sleeps only while nothing waits, or until a moment that is near.
        let is_first = inbox.batches.is_empty() && !inbox.is_pacing;
        let was_short = inbox.slots < inbox.enough;
        inbox.slots += full.slots.end - full.slots.start;
        let is_full = was_short && inbox.slots >= inbox.enough;
        let must_tell = is_first || is_full || inbox.bytes + bytes > self.options.group_bytes;
        inbox.bytes += bytes;
        inbox.batches.push(full);
        let ticket = inbox.ticket;
        drop(inbox);
        if must_tell {
            self.work.notify_one();
        }
        ticket
    }

    /// The first `count` batches are durable: their buffers come back, their lanes are woken, readers look again.
    pub(crate) fn complete(&self, batches: &mut Vec<Batch>, count: usize) {
        let Some(last) = count.checked_sub(1) else { return };
        let ticket = batches[last].ticket;
        let mut lanes = [false; LANES_MAX];
        let mut bytes = 0;
        for batch in &mut batches[..count] {
            lanes[usize::from(batch.lane)] = true;
            bytes += batch.bytes();
            batch.clear();
        }
        self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        {
            let mut inbox = lock(&self.inbox);
            let room = SPARE_MAX.saturating_sub(inbox.spare.len());
            inbox.spare.extend(batches.drain(..count).take(room));
        }
        self.committed.store(ticket.0, Ordering::Release);
        self.wake(|lane| lanes[lane]);
        // A reader that found nothing a moment ago is asleep by now.
        if !lock(&self.fetches).waiting.is_empty() {
            self.asked.notify_all();
        }
    }

    pub(crate) fn committed(&self) -> Ticket {
        Ticket(self.committed.load(Ordering::Acquire))
    }

    pub(crate) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn state(&self) -> State {
        lock(&self.state).clone()
    }

    pub(crate) fn is_refusing(&self) -> bool {
        self.is_refusing.load(Ordering::SeqCst)
    }

    /// Every lane hears of a change.
    pub(crate) fn set_state(&self, state: State) {
        let mut place = lock(&self.state);
        if *place == state || *place == State::Closed {
            return;
        }
        self.is_refusing.store(matches!(state, State::Refusing(_)), Ordering::SeqCst);
        *place = state;
        drop(place);
        self.wake(|_| true);
    }

    /// Under no lock: who is woken may hold one that he also holds when he calls us.
    fn wake(&self, mut is_meant: impl FnMut(usize) -> bool) {
        let seats = lock(&self.seats);
        let meant = seats.iter().enumerate().filter(|(lane, _)| is_meant(*lane));
        let wakes: Vec<Wake> = meant.map(|(_, seat)| Arc::clone(&seat.wake)).collect();
        drop(seats);
        wakes.iter().for_each(|wake| wake());
    }

    pub(crate) fn fetch(&self, request: Fetch) {
        let ticket = lock(&self.inbox).ticket;
        lock(&self.fetches).waiting.push_back((request, ticket));
        self.asked.notify_all();
    }

    pub(crate) fn answer(&self, answer: Fetched) {
        let asker = usize::from(answer.lane.0);
        if let Some(seat) = lock(&self.seats).get_mut(asker) {
            seat.fetched.push_back(answer);
        }
        self.wake(|lane| lane == asker);
    }

    pub(crate) fn fetched(&self, lane: Lane, into: &mut Vec<Fetched>) {
        if let Some(seat) = lock(&self.seats).get_mut(usize::from(lane.0)) {
            into.extend(seat.fetched.drain(..));
        }
    }

    pub(crate) fn close(&self) {
        lock(&self.inbox).is_closing = true;
        self.work.notify_all();
    }

    pub(crate) fn end_reading(&self) {
        lock(&self.fetches).is_closing = true;
        self.asked.notify_all();
    }
}
