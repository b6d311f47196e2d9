//! The twin: the same promises kept by plain maps, so that tests can compare and `off` needs no disk.
//!
//! Knows the contract of `Store` and nothing of chunks. Every submission is committed at once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::codec::{frame_len, seal_frame, trusted};
use crate::shared::lock;
use crate::{
    Batch, Failure, Fetch, Fetched, Found, Lane, Slot, Space, State, Statistics, Store, Ticket, Visitor, Wake,
};

/// A store that forgets everything when it is dropped.
#[derive(Default)]
pub struct Memory {
    inside: Mutex<Inside>,
}

#[derive(Default)]
pub(crate) struct Inside {
    ticket: u64,
    records: BTreeMap<u64, Held>, // by order of arrival
    holders: BTreeMap<Slot, u64>, // first slot of a record -> its place in `records`
    arrived: u64,
    pub(crate) keyed: BTreeMap<(Space, Vec<u8>), Vec<u8>>,
    seats: Vec<(Wake, Vec<Fetched>)>,
    /// Settlements of slots that were not live.
    #[cfg(feature = "simulation")]
    pub(crate) strays: u64,
    is_closed: bool,
}

struct Held {
    frame: Arc<[u8]>,
    live: BTreeSet<Slot>,
}

impl Memory {
    /// Empty.
    pub fn new() -> Memory {
        Memory::default()
    }
}

impl Inside {
    /// What a submission says is so from now on.
    pub(crate) fn apply(&mut self, batch: &Batch) {
        self.take(batch);
        batch.settled.iter().chain(&batch.superseded).for_each(|&slot| self.settle(slot));
        batch.keyed_changes().for_each(|row| self.change_keyed(row));
    }

    /// What is asked for, as far as it is there.
    pub(crate) fn find(&self, request: Fetch) -> Fetched {
        let Fetch { lane, token, slots } = request;
        let mut answer = Fetched { lane, token, found: Vec::new(), missing: Vec::new() };
        for slot in slots {
            match self.place_of(slot) {
                Some(place) => {
                    answer.found.push(Found::of_frame(slot, Arc::clone(&self.records[&place].frame)));
                }
                None => answer.missing.push(slot),
            }
        }
        answer
    }

    /// Everything, to `visitor`.
    pub(crate) fn show(&self, visitor: &mut dyn Visitor) -> Result<(), Failure> {
        for held in self.records.values() {
            let live: Vec<Slot> = held.live.iter().copied().collect();
            visitor.record(&trusted(&held.frame)?, &live);
        }
        self.keyed.iter().for_each(|((space, key), value)| visitor.keyed(*space, key, value));
        Ok(())
    }

    /// Figures of what is there.
    pub(crate) fn figures(&self) -> Statistics {
        let live = self.records.values().map(|held| held.live.len() as u64).sum();
        let bytes = self.records.values().map(|held| held.frame.len() as u64).sum();
        Statistics { slots: live, live, bytes, written: self.arrived, ..Statistics::default() }
    }

    fn take(&mut self, batch: &Batch) {
        let mut rest = &batch.records[..];
        while !rest.is_empty() {
            let (frame, tail) = rest.split_at(frame_len(rest));
            rest = tail;
            let mut frame = frame.to_vec();
            seal_frame(&mut frame);
            let record = trusted(&frame).expect("a batch holds whole frames");
            let (first, live) = (record.first, record.slots().collect());
            self.arrived += 1;
            self.holders.insert(first, self.arrived);
            self.records.insert(self.arrived, Held { frame: frame.into(), live });
        }
    }

    fn place_of(&self, slot: Slot) -> Option<u64> {
        let (_, &place) = self.holders.range(..=slot).next_back()?;
        self.records[&place].live.contains(&slot).then_some(place)
    }

    fn settle(&mut self, slot: Slot) {
        let Some(place) = self.place_of(slot) else {
            #[cfg(feature = "simulation")]
            {
                self.strays += 1;
            }
            return;
        };
        let held = self.records.get_mut(&place).expect("holders name records that are there");
        held.live.remove(&slot);
        if held.live.is_empty() {
            let first = trusted(&held.frame).expect("checked when it came").first;
            self.holders.remove(&first);
            self.records.remove(&place);
        }
    }

    fn change_keyed(&mut self, (space, key, value): (Space, &[u8], Option<&[u8]>)) {
        match value {
            Some(value) => drop(self.keyed.insert((space, key.to_vec()), value.to_vec())),
            None => drop(self.keyed.remove(&(space, key.to_vec()))),
        }
    }
}

impl Store for Memory {
    fn join(&self, wake: Wake) -> Result<(Lane, Slot), Failure> {
        let mut inside = lock(&self.inside);
        let lane = inside.seats.len();
        if lane == 255 {
            return Err(Failure::NoLane);
        }
        inside.seats.push((wake, Vec::new()));
        Ok((Lane(lane as u8), Slot((lane as u64) << 56 | 1)))
    }

    fn submit(&self, batch: &mut Batch) -> Ticket {
        let mut inside = lock(&self.inside);
        inside.apply(batch);
        batch.clear();
        inside.ticket += 1;
        let ticket = Ticket(inside.ticket);
        let wake = inside.seats.get(usize::from(batch.lane)).map(|(wake, _)| Arc::clone(wake));
        drop(inside);
        if let Some(wake) = wake {
            wake();
        }
        ticket
    }

    fn committed(&self) -> Ticket {
        Ticket(lock(&self.inside).ticket)
    }

    fn fetch(&self, request: Fetch) {
        let mut inside = lock(&self.inside);
        let lane = request.lane;
        let answer = inside.find(request);
        let Some((wake, fetched)) = inside.seats.get_mut(usize::from(lane.0)) else { return };
        fetched.push(answer);
        let wake = Arc::clone(wake);
        drop(inside);
        wake();
    }

    fn fetched(&self, lane: Lane, into: &mut Vec<Fetched>) {
        if let Some((_, fetched)) = lock(&self.inside).seats.get_mut(usize::from(lane.0)) {
            into.append(fetched);
        }
    }

    fn state(&self) -> State {
        if lock(&self.inside).is_closed { State::Closed } else { State::Serving }
    }

    fn is_pressed(&self) -> bool {
        false
    }

    fn statistics(&self) -> Statistics {
        lock(&self.inside).figures()
    }

    fn replay(&self, visitor: &mut dyn Visitor) -> Result<(), Failure> {
        lock(&self.inside).show(visitor)
    }

    fn backup(&self, path: &Path) -> Result<(), Failure> {
        Err(Failure::Disk(format!("{}: a store in memory has nothing to copy; choose sync or os", path.display())))
    }

    fn close(&self) {
        lock(&self.inside).is_closed = true;
    }
}
