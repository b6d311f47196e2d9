//! The twin for the simulator: submissions gather, and somebody else says when they are committed, when that fails, and what
//! a crash leaves.
//!
//! Knows the contract of `Store` and nothing of chunks. No threads, no time: the same calls lead to the same wakes. It keeps
//! no promise that the store on disk does not keep: what survives is a prefix of the submissions, a submission is whole or
//! gone, and tickets may be durable before anybody is told.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::memory::Inside;
use crate::shared::lock;
use crate::{Batch, Failure, Fetch, Fetched, Lane, Slot, State, Statistics, Store, Ticket, Visitor, Wake};

/// A store that stands still between two calls of its driver.
#[derive(Default)]
pub struct Stepped {
    steps: Mutex<Steps>,
}

#[derive(Default)]
struct Steps {
    held: Inside,
    waiting: VecDeque<Batch>,
    /// Tickets given so far.
    submitted: u64,
    /// The newest that the workers may know of.
    announced: u64,
    seats: Vec<(Wake, Vec<Fetched>)>,
    asked: VecDeque<(u64, Fetch)>,
    is_refusing: bool,
    is_eager: bool,
    is_over: bool,
    /// The highest count of a slot that was ever given.
    highest: u64,
}

impl Steps {
    /// The oldest submissions reach the disk; how many did.
    fn write(&mut self, count: usize) -> usize {
        let count = count.min(self.waiting.len());
        let mut due: Vec<Batch> = self.waiting.drain(..count).collect();
        if self.is_eager {
            self.settle_early(&mut due);
        }
        due.iter().for_each(|batch| self.held.apply(batch));
        count
    }

    /// What is settled by a submission that still waits needs no write: a crash leaves neither.
    fn settle_early(&mut self, due: &mut [Batch]) {
        let written: Vec<_> = due.iter().map(|batch| batch.slots.clone()).collect();
        let is_written = |slot: &Slot| written.iter().any(|slots| slots.contains(&slot.0));
        let Some(last) = due.last_mut() else { return };
        for waiting in &mut self.waiting {
            let (early, later): (Vec<Slot>, Vec<Slot>) = waiting.settled.iter().partition(|slot| is_written(slot));
            waiting.settled = later;
            last.settled.extend(early);
        }
    }

    fn written(&self) -> u64 {
        self.submitted - self.waiting.len() as u64
    }

    fn answer(&mut self) {
        while self.asked.front().is_some_and(|(ticket, _)| *ticket <= self.announced) {
            let Some((_, request)) = self.asked.pop_front() else { return };
            let lane = usize::from(request.lane.0);
            let answer = self.held.find(request);
            if let Some((_, fetched)) = self.seats.get_mut(lane) {
                fetched.push(answer);
            }
        }
    }

    fn wakes(&self) -> Vec<Wake> {
        self.seats.iter().map(|(wake, _)| Arc::clone(wake)).collect()
    }
}

impl Stepped {
    /// Empty.
    pub fn new() -> Stepped {
        Stepped::default()
    }

    /// Submissions that no disk has.
    pub fn waiting_count(&self) -> usize {
        lock(&self.steps).waiting.len()
    }

    /// The newest ticket that was given.
    pub fn submitted(&self) -> Ticket {
        Ticket(lock(&self.steps).submitted)
    }

    /// Commits the oldest submissions, and tells the workers; how many submissions. None while it is refusing.
    pub fn commit(&self, count: usize) -> usize {
        let mut steps = lock(&self.steps);
        if steps.is_refusing {
            return 0;
        }
        let before = steps.announced;
        steps.write(count);
        steps.announced = steps.written();
        steps.answer();
        let (count, wakes) = (steps.announced - before, steps.wakes());
        drop(steps);
        wakes.iter().filter(|_| count > 0).for_each(|wake| wake());
        count as usize
    }

    /// From now on commits fail, or succeed again.
    pub fn refuse(&self, is_refusing: bool) {
        let mut steps = lock(&self.steps);
        steps.is_refusing = is_refusing;
        let wakes = steps.wakes();
        drop(steps);
        wakes.iter().for_each(|wake| wake());
    }

    /// From now on what is settled before it was written is not written, or is written all the same.
    pub fn be_eager(&self, is_eager: bool) {
        lock(&self.steps).is_eager = is_eager;
    }

    /// The power fails when so many of the waiting submissions have reached the disk. What a start will find, and the ticket
    /// up to which submissions are in it. This store takes part in nothing any more.
    pub fn crash(&self, survivors: usize) -> (Stepped, Ticket) {
        let mut steps = lock(&self.steps);
        steps.write(survivors);
        let kept = Ticket(steps.written());
        steps.is_over = true;
        steps.seats.clear();
        let held = std::mem::take(&mut steps.held);
        let (highest, is_eager) = (steps.highest, steps.is_eager);
        let after = Steps { held, highest, is_eager, ..Steps::default() };
        (Stepped { steps: Mutex::new(after) }, kept)
    }

    /// Settlements so far of slots that were not live: a worker that settled one twice, or before its record.
    pub fn stray_count(&self) -> u64 {
        lock(&self.steps).held.strays
    }

    /// Values that are kept by name.
    pub fn keyed_count(&self) -> usize {
        lock(&self.steps).held.keyed.len()
    }
}

impl Store for Stepped {
    fn join(&self, wake: Wake) -> Result<(Lane, Slot), Failure> {
        let mut steps = lock(&self.steps);
        let lane = steps.seats.len();
        if lane == 255 {
            return Err(Failure::NoLane);
        }
        steps.seats.push((wake, Vec::new()));
        Ok((Lane(lane as u8), Slot((lane as u64) << 56 | (steps.highest + 1))))
    }

    fn submit(&self, batch: &mut Batch) -> Ticket {
        let mut steps = lock(&self.steps);
        let fresh = Batch { lane: batch.lane, ..Batch::default() };
        let batch = std::mem::replace(batch, fresh);
        if !batch.slots.is_empty() {
            steps.highest = steps.highest.max(batch.slots.end & ((1 << 56) - 1));
        }
        steps.submitted += 1;
        if !steps.is_over {
            steps.waiting.push_back(batch);
        }
        Ticket(steps.submitted)
    }

    fn committed(&self) -> Ticket {
        Ticket(lock(&self.steps).announced)
    }

    fn fetch(&self, request: Fetch) {
        let mut steps = lock(&self.steps);
        let ticket = steps.submitted;
        steps.asked.push_back((ticket, request));
        steps.answer();
        let wakes = steps.wakes();
        drop(steps);
        wakes.iter().for_each(|wake| wake());
    }

    fn fetched(&self, lane: Lane, into: &mut Vec<Fetched>) {
        if let Some((_, fetched)) = lock(&self.steps).seats.get_mut(usize::from(lane.0)) {
            into.append(fetched);
        }
    }

    fn state(&self) -> State {
        let steps = lock(&self.steps);
        match (steps.is_over, steps.is_refusing) {
            (true, _) => State::Closed,
            (false, true) => State::Refusing("the simulated disk is full: wait".into()),
            (false, false) => State::Serving,
        }
    }

    fn is_pressed(&self) -> bool {
        false
    }

    fn statistics(&self) -> Statistics {
        lock(&self.steps).held.figures()
    }

    fn replay(&self, visitor: &mut dyn Visitor) -> Result<(), Failure> {
        lock(&self.steps).held.show(visitor)
    }

    fn backup(&self, path: &Path) -> Result<(), Failure> {
        Err(Failure::Disk(format!("{}: a simulated store has nothing to copy", path.display())))
    }

    fn close(&self) {
        self.commit(usize::MAX);
        lock(&self.steps).is_over = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Kind, Receiver, Writer};
    use whimbrel_protocol::QoS;

    fn put(writer: &mut Writer) -> Slot {
        let mut record = writer.record(Kind::Other);
        let slot = record.receiver(&Receiver::of(1, QoS::AtLeastOnce));
        record.finish(b"body");
        writer.submit();
        slot
    }

    #[test]
    fn a_crash_leaves_a_prefix_and_no_slot_is_given_twice() {
        let store = Arc::new(Stepped::new());
        let shared: Arc<dyn Store> = store.clone();
        let mut writer = Writer::join(shared, Arc::new(|| ())).unwrap();
        let slots: Vec<Slot> = (0..3).map(|_| put(&mut writer)).collect();
        assert_eq!((store.commit(1), store.committed(), store.waiting_count()), (1, Ticket(1), 2));
        store.refuse(true);
        assert_eq!((store.commit(1), store.committed()), (0, Ticket(1)));
        let (after, kept) = store.crash(1);
        assert_eq!((kept, after.statistics().live, after.committed()), (Ticket(2), 2, Ticket(0)));
        let mut writer = Writer::join(Arc::new(after), Arc::new(|| ())).unwrap();
        assert!(!slots.contains(&put(&mut writer)));
    }
}
