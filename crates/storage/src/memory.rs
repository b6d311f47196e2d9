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
struct Inside {
    ticket: u64,
    records: BTreeMap<u64, Held>, // by order of arrival
    holders: BTreeMap<Slot, u64>, // first slot of a record -> its place in `records`
    arrived: u64,
    keyed: BTreeMap<(Space, Vec<u8>), Vec<u8>>,
    seats: Vec<(Wake, Vec<Fetched>)>,
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
        let Some(place) = self.place_of(slot) else { return };
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
        inside.take(batch);
        batch.settled.iter().chain(&batch.superseded).for_each(|&slot| inside.settle(slot));
        batch.keyed_changes().for_each(|row| inside.change_keyed(row));
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
        let Fetch { lane, token, slots } = request;
        let mut answer = Fetched { lane, token, found: Vec::new(), missing: Vec::new() };
        for slot in slots {
            match inside.place_of(slot) {
                Some(place) => {
                    answer.found.push(Found::of_frame(slot, Arc::clone(&inside.records[&place].frame)));
                }
                None => answer.missing.push(slot),
            }
        }
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
        let inside = lock(&self.inside);
        let live = inside.records.values().map(|held| held.live.len() as u64).sum();
        let bytes = inside.records.values().map(|held| held.frame.len() as u64).sum();
        Statistics { slots: live, live, bytes, written: inside.arrived, ..Statistics::default() }
    }

    fn replay(&self, visitor: &mut dyn Visitor) -> Result<(), Failure> {
        let inside = lock(&self.inside);
        for held in inside.records.values() {
            let live: Vec<Slot> = held.live.iter().copied().collect();
            visitor.record(&trusted(&held.frame)?, &live);
        }
        inside.keyed.iter().for_each(|((space, key), value)| visitor.keyed(*space, key, value));
        Ok(())
    }

    fn backup(&self, path: &Path) -> Result<(), Failure> {
        Err(Failure::Disk(format!("{}: a store in memory has nothing to copy; choose sync or os", path.display())))
    }

    fn close(&self) {
        lock(&self.inside).is_closed = true;
    }
}
