//! Which chunk holds a slot, and which slots are not settled: the part of the store that lives in memory.
//!
//! Knows one bit for each stored slot, or eight bytes for each live one where they lie far apart, and a few dozen bytes
//! for each chunk. Must not know records' contents, the engine, threads. Driven by the committer; readers look up.

use std::collections::{BTreeMap, BTreeSet};

use crate::Slot;
use crate::chunk::Built;

/// Chunks by slot, and what is live in them.
#[derive(Debug, Default)]
pub(crate) struct Index {
    chunks: BTreeMap<u64, Entry>,
    spans: BTreeMap<u64, u64>, // first slot of a span -> its chunk; spans of different chunks never overlap
    /// Chunks without a live slot.
    pub(crate) dead: BTreeSet<u64>,
    /// Chunks of which more than half is dead.
    pub(crate) sparse: BTreeSet<u64>,
    pub(crate) slots: u64,
    pub(crate) live: u64,
    pub(crate) bytes: u64,
}

/// What is known of a chunk.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) bytes: u64,
    pub(crate) slots: u64,
    pub(crate) live: u64,
    base: u64, // live slots when it was written anew: a record with one live receiver of ten cannot get smaller
    spans: Vec<Span>,
    /// Chunks whose slots are settled in this one; itself is not among them.
    pub(crate) targets: Vec<u64>,
    /// Whether the engine holds a list of its live slots apart from it.
    pub(crate) is_marked: bool,
}

/// Slots of one lane in one chunk.
#[derive(Debug)]
struct Span {
    first: u64,
    end: u64,
    live: Live,
}

#[derive(Debug)]
enum Live {
    Dense(Box<[u64]>), // one bit for each slot of the span
    Sparse(Vec<u64>),  // rising
}

impl Span {
    fn new(slots: &[u64]) -> Span {
        let (first, end) = (slots[0], slots[slots.len() - 1] + 1);
        let words = (end - first).div_ceil(64);
        if words > slots.len() as u64 {
            return Span { first, end, live: Live::Sparse(slots.to_vec()) };
        }
        let mut bits = vec![0; words as usize].into_boxed_slice();
        slots.iter().for_each(|slot| bits[((slot - first) / 64) as usize] |= 1 << ((slot - first) % 64));
        Span { first, end, live: Live::Dense(bits) }
    }

    /// Whether the slot was live.
    fn settle(&mut self, slot: u64) -> bool {
        match &mut self.live {
            Live::Dense(bits) => {
                let (word, mask) = (&mut bits[((slot - self.first) / 64) as usize], 1 << ((slot - self.first) % 64));
                let was_live = *word & mask != 0;
                *word &= !mask;
                was_live
            }
            Live::Sparse(slots) => slots.binary_search(&slot).map(|place| slots.remove(place)).is_ok(),
        }
    }

    fn is_live(&self, slot: u64) -> bool {
        match &self.live {
            Live::Dense(bits) => bits[((slot - self.first) / 64) as usize] >> ((slot - self.first) % 64) & 1 == 1,
            Live::Sparse(slots) => slots.binary_search(&slot).is_ok(),
        }
    }

    fn live_slots(&self, into: &mut Vec<Slot>) {
        match &self.live {
            Live::Dense(_) => into.extend((self.first..self.end).filter(|&slot| self.is_live(slot)).map(Slot)),
            Live::Sparse(slots) => into.extend(slots.iter().map(|&slot| Slot(slot))),
        }
    }
}

impl Entry {
    fn span_of(&self, slot: Slot) -> Option<usize> {
        self.spans.iter().position(|span| (span.first..span.end).contains(&slot.0))
    }

    pub(crate) fn is_live(&self, slot: Slot) -> bool {
        self.span_of(slot).is_some_and(|place| self.spans[place].is_live(slot.0))
    }

    pub(crate) fn live_slots(&self) -> Vec<Slot> {
        let mut slots = Vec::with_capacity(self.live as usize);
        self.spans.iter().for_each(|span| span.live_slots(&mut slots));
        slots
    }
}

impl Index {
    /// A chunk was written, in place of the one with its number, if there is one. Its settlements are not applied.
    pub(crate) fn insert(&mut self, built: &Built) {
        self.remove(built.number);
        let slots: Vec<u64> = built.frames.iter().flat_map(|&(first, n)| first..first + u64::from(n)).collect();
        let spans: Vec<Span> = slots.chunk_by(|a, b| a >> 56 == b >> 56).map(Span::new).collect();
        self.spans.extend(spans.iter().map(|span| (span.first, built.number)));
        let (bytes, count) = (built.bytes.len() as u64, slots.len() as u64);
        let entry =
            Entry { bytes, slots: count, live: count, base: count, spans, targets: Vec::new(), is_marked: false };
        self.bytes += bytes;
        self.slots += count;
        self.live += count;
        if count == 0 {
            self.dead.insert(built.number);
        }
        self.chunks.insert(built.number, entry);
    }

    /// A chunk is gone.
    pub(crate) fn remove(&mut self, number: u64) {
        let Some(entry) = self.chunks.remove(&number) else { return };
        for span in &entry.spans {
            self.spans.remove(&span.first);
        }
        self.bytes -= entry.bytes;
        self.slots -= entry.slots;
        self.live -= entry.live;
        self.dead.remove(&number);
        self.sparse.remove(&number);
    }

    /// The chunk `by` says that `count` slots from `first` on are settled.
    pub(crate) fn settle(&mut self, by: u64, first: Slot, count: u64) {
        let end = first.0.saturating_add(count);
        let mut at = first.0;
        while at < end {
            let Some((number, place)) = self.locate(Slot(at)) else {
                // Nothing is there: go on at the next span.
                let Some((&next, _)) = self.spans.range(at + 1..end).next() else { return };
                at = next;
                continue;
            };
            at = self.settle_in(by, (number, place), at..end);
        }
    }

    /// Settles what of `slots` lies in one span; returns where it ends.
    fn settle_in(&mut self, by: u64, (number, place): (u64, usize), slots: std::ops::Range<u64>) -> u64 {
        let entry = self.chunks.get_mut(&number).expect("spans name chunks that are there");
        let span = &mut entry.spans[place];
        let end = slots.end.min(span.end);
        let settled = (slots.start..end).filter(|&slot| span.settle(slot)).count() as u64;
        entry.live -= settled;
        self.live -= settled;
        if entry.live == 0 {
            self.sparse.remove(&number);
            self.dead.insert(number);
        } else if entry.live * 2 < entry.base {
            self.sparse.insert(number);
        }
        if by != number
            && let Some(settling) = self.chunks.get_mut(&by)
            && !settling.targets.contains(&number)
        {
            settling.targets.push(number);
        }
        end
    }

    fn locate(&self, slot: Slot) -> Option<(u64, usize)> {
        let (_, &number) = self.spans.range(..=slot.0).next_back()?;
        Some((number, self.chunks[&number].span_of(slot)?))
    }

    /// The chunk that holds a slot, settled or not.
    pub(crate) fn holder_of(&self, slot: Slot) -> Option<u64> {
        self.locate(slot).map(|(number, _)| number)
    }

    /// The chunk that holds a slot that is not settled.
    pub(crate) fn chunk_of(&self, slot: Slot) -> Option<u64> {
        let (number, place) = self.locate(slot)?;
        self.chunks[&number].spans[place].is_live(slot.0).then_some(number)
    }

    /// A chunk was written anew and what it settles was applied: it is as small as it can be.
    pub(crate) fn rebase(&mut self, number: u64) {
        if let Some(entry) = self.chunks.get_mut(&number) {
            entry.base = entry.live;
            self.sparse.remove(&number);
        }
    }

    /// Of a chunk with a mark, only the slots in `runs` are live.
    pub(crate) fn restrict(&mut self, number: u64, runs: impl Iterator<Item = (Slot, u64)>) {
        let Some(entry) = self.chunks.get(&number) else { return };
        let kept: BTreeMap<u64, u64> = runs.map(|(first, count)| (first.0, first.0 + count)).collect();
        let is_kept = |slot: &Slot| kept.range(..=slot.0).next_back().is_some_and(|(_, &end)| slot.0 < end);
        let gone: Vec<Slot> = entry.live_slots().into_iter().filter(|slot| !is_kept(slot)).collect();
        gone.into_iter().for_each(|slot| self.settle(number, slot, 1));
        self.mark(number);
    }

    pub(crate) fn entry(&self, number: u64) -> Option<&Entry> {
        self.chunks.get(&number)
    }

    /// The bytes of a chunk that was read.
    pub(crate) fn weigh(&mut self, number: u64, bytes: u64) {
        if let Some(entry) = self.chunks.get_mut(&number) {
            self.bytes += bytes - entry.bytes;
            entry.bytes = bytes;
        }
    }

    /// Without its lane; 0: there is none.
    pub(crate) fn highest_slot(&self) -> u64 {
        let ends = self.chunks.values().flat_map(|entry| &entry.spans).map(|span| (span.end - 1) & (u64::MAX >> 8));
        ends.max().unwrap_or(0)
    }

    /// A number above all that are there.
    pub(crate) fn next_number(&self) -> u64 {
        self.chunks.keys().next_back().map_or(1, |last| last + 1)
    }

    pub(crate) fn mark(&mut self, number: u64) {
        if let Some(entry) = self.chunks.get_mut(&number) {
            entry.is_marked = true;
        }
    }

    pub(crate) fn chunk_count(&self) -> u64 {
        self.chunks.len() as u64
    }

    /// The lowest number of a chunk.
    pub(crate) fn floor(&self) -> Option<u64> {
        self.chunks.keys().next().copied()
    }

    /// The chunks from `number` on.
    pub(crate) fn from(&self, number: u64) -> impl Iterator<Item = (u64, &Entry)> {
        self.chunks.range(number..).map(|(&number, entry)| (number, entry))
    }
}
