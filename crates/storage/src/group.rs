//! From the batches of a group to chunks: what is settled before it was written is left out.
//!
//! Knows batches and how a settlement finds its record within the group. Must not know the engine, threads, time.

use crate::chunk::{Builder, Built, Name};
use crate::{Batch, Slot, codec};

/// Buffers for building groups; reused.
#[derive(Debug, Default)]
pub(crate) struct Gatherer {
    lanes: Vec<Settled>, // by lane
    outside: Vec<Slot>,
    builder: Builder,
}

/// Which slots of a lane's part of the group are settled already.
#[derive(Debug, Default)]
struct Settled {
    slots: std::ops::Range<u64>,
    bits: Vec<u64>,
    count: u64,
}

impl Settled {
    fn begin(&mut self, slots: &std::ops::Range<u64>) {
        if slots.is_empty() {
            return;
        }
        let start = if self.slots.is_empty() { slots.start } else { self.slots.start };
        self.slots = start..slots.end;
        self.bits.resize((self.slots.end - start).div_ceil(64) as usize, 0);
    }

    fn clear(&mut self) {
        self.slots = 0..0;
        self.bits.clear();
        self.count = 0;
    }

    #[inline]
    fn settle(&mut self, slot: u64) {
        let at = slot - self.slots.start;
        self.bits[(at / 64) as usize] |= 1 << (at % 64);
        self.count += 1;
    }

    #[inline]
    fn is_settled(&self, slot: u64) -> bool {
        let at = slot - self.slots.start;
        self.bits[(at / 64) as usize] >> (at % 64) & 1 == 1
    }
}

/// The lane in whose part of the group a slot lies.
fn lane_of(lanes: &[Settled], slot: Slot) -> Option<&Settled> {
    lanes.get((slot.0 >> 56) as usize).filter(|lane| lane.slots.contains(&slot.0))
}

/// What a group came to.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    pub(crate) chunks: Vec<Built>,
    pub(crate) written: u64,
    pub(crate) elided: u64,
}

/// Numbers for the chunks of a group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbers {
    /// Of its first chunk.
    pub(crate) next: u64,
    /// Of the commit.
    pub(crate) commit: u64,
    /// The lowest chunk that is still there.
    pub(crate) floor: u64,
}

impl Numbers {
    fn name(&self, place: usize) -> Name {
        let number = self.next + place as u64;
        Name { number, until: number, commit: self.commit, floor: self.floor }
    }
}

impl Gatherer {
    /// Sorts what a group settles of itself; returns how many batches at its head need no write, whatever becomes of the rest.
    pub(crate) fn judge(&mut self, batches: &[Batch]) -> usize {
        self.sort_settlements(batches);
        batches.iter().position(|batch| !self.is_done(batch)).unwrap_or(batches.len())
    }

    /// Whether nothing of a batch needs a write.
    fn is_done(&self, batch: &Batch) -> bool {
        let is_inside = |slot: &Slot| lane_of(&self.lanes, *slot).is_some();
        let lane = &self.lanes[usize::from(batch.lane)];
        batch.keyed.is_empty()
            && batch.superseded.is_empty()
            && batch.slots.clone().all(|slot| lane.is_settled(slot))
            && batch.settled.iter().all(is_inside)
    }

    /// `due` is written: what `young` settles in it was taken into account and is of no interest any more.
    pub(crate) fn forget(&self, due: &[Batch], young: &mut [Batch]) {
        let mut ends = vec![0; self.lanes.len()];
        due.iter()
            .filter(|batch| !batch.slots.is_empty())
            .for_each(|batch| ends[usize::from(batch.lane)] = batch.slots.end);
        let is_over = |slot: &Slot| lane_of(&self.lanes, *slot).is_some() && slot.0 < ends[(slot.0 >> 56) as usize];
        young.iter_mut().for_each(|batch| batch.settled.retain(|slot| !is_over(slot)));
    }

    /// Builds the chunks of the oldest batches of a group that was judged, numbered from `numbers.next` on.
    pub(crate) fn gather(&mut self, batches: &[Batch], numbers: Numbers) -> Gathered {
        for batch in batches {
            let lanes = &self.lanes;
            self.outside.extend(batch.settled.iter().filter(|slot| lane_of(lanes, **slot).is_none()));
            for &slot in &batch.superseded {
                // All of it is one commit now.
                if !self.settle_inside(slot) {
                    self.outside.push(slot);
                }
            }
        }
        let mut gathered = Gathered::default();
        for batch in batches {
            self.take_records(batch, numbers, &mut gathered);
        }
        self.builder.settled.append(&mut self.outside);
        if !self.builder.is_empty() {
            self.finish_chunk(numbers, &mut gathered);
        }
        gathered
    }

    fn sort_settlements(&mut self, batches: &[Batch]) {
        let lanes = batches.iter().map(|batch| usize::from(batch.lane) + 1).max().unwrap_or(0);
        if self.lanes.len() < lanes {
            self.lanes.resize_with(lanes, Settled::default);
        }
        self.lanes.iter_mut().for_each(Settled::clear);
        batches.iter().for_each(|batch| self.lanes[usize::from(batch.lane)].begin(&batch.slots));
        for slot in batches.iter().flat_map(|batch| &batch.settled) {
            self.settle_inside(*slot);
        }
    }

    /// False: the slot's record is not in this group.
    fn settle_inside(&mut self, slot: Slot) -> bool {
        match self.lanes.get_mut((slot.0 >> 56) as usize) {
            Some(lane) if lane.slots.contains(&slot.0) => lane.settle(slot.0),
            _ => return false,
        }
        true
    }

    fn take_records(&mut self, batch: &Batch, numbers: Numbers, gathered: &mut Gathered) {
        let lane = &self.lanes[usize::from(batch.lane)];
        let mut rest = &batch.records[..];
        let has_settled = lane.count > 0;
        let mut full = Vec::new();
        while !rest.is_empty() {
            let (frame, tail) = rest.split_at(codec::frame_len(rest));
            rest = tail;
            let (first, count) = codec::frame_slots(frame);
            let slots = first..first + u64::from(count);
            let settled = if has_settled { slots.clone().filter(|&slot| lane.is_settled(slot)).count() } else { 0 };
            if settled == count as usize {
                gathered.elided += u64::from(count);
                continue;
            }
            if self.builder.is_full_for(frame.len()) {
                full.push(self.builder.finish(numbers.name(gathered.chunks.len() + full.len())));
            }
            self.builder.push(frame);
            gathered.written += u64::from(count) - settled as u64;
            gathered.elided += settled as u64;
            if settled > 0 {
                self.builder.settled.extend(slots.filter(|&slot| lane.is_settled(slot)).map(Slot));
            }
        }
        gathered.chunks.append(&mut full);
    }

    fn finish_chunk(&mut self, numbers: Numbers, gathered: &mut Gathered) {
        let name = numbers.name(gathered.chunks.len());
        gathered.chunks.push(self.builder.finish(name));
    }
}
