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
    /// Builds the chunks of a group, numbered from `numbers.next` on.
    pub(crate) fn gather(&mut self, batches: &[Batch], numbers: Numbers) -> Gathered {
        self.sort_settlements(batches);
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
        for &slot in batches.iter().flat_map(|batch| &batch.settled) {
            match self.lanes.get_mut((slot.0 >> 56) as usize) {
                Some(lane) if lane.slots.contains(&slot.0) => lane.settle(slot.0),
                _ => self.outside.push(slot),
            }
        }
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
                gathered.elided += 1;
                continue;
            }
            if self.builder.is_full_for(frame.len()) {
                full.push(self.builder.finish(numbers.name(gathered.chunks.len() + full.len())));
            }
            self.builder.push(frame);
            gathered.written += 1;
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
