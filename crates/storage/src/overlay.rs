//! What was committed to the journal and is not in the engine yet: the newest state of each entry that changed.
//!
//! Knows entries by key, and that the newest change of one replaces those before it. Must not know the journal's bytes, the
//! engine, threads. A chunk that came and went within one overlay leaves nothing behind.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::engine::{Change, wrap_keyed};

/// Changes since some moment; None stands for an entry that goes.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    pub(crate) chunks: BTreeMap<u64, Option<Arc<[u8]>>>,
    pub(crate) marks: BTreeMap<u64, Option<Vec<u8>>>,
    /// By key with its space in front; wrapped.
    pub(crate) keyed: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    pub(crate) reserved: Option<u64>,
    /// The newest change in it.
    pub(crate) sequence: u64,
    /// Bytes of the frames that it came from.
    pub(crate) frame_bytes: u64,
    born_from: u64, // chunks from here on are in no older overlay and not in the engine
}

impl Overlay {
    /// An empty one; every chunk from `born_from` on is new.
    pub(crate) fn new(born_from: u64) -> Overlay {
        Overlay { born_from, ..Overlay::default() }
    }

    /// Where the overlay after this one begins.
    pub(crate) fn next_born(&self) -> u64 {
        self.chunks.keys().next_back().map_or(self.born_from, |last| self.born_from.max(last + 1))
    }

    /// The chunks of `other` went into the engine before anything of this one.
    pub(crate) fn follow(&mut self, other: &Overlay) {
        self.born_from = other.chunks.keys().next_back().map_or(self.born_from, |last| self.born_from.max(last + 1));
    }

    pub(crate) fn is_empty(&self) -> bool {
        let has_rows = !self.chunks.is_empty() || !self.marks.is_empty() || !self.keyed.is_empty();
        !has_rows && self.reserved.is_none()
    }

    /// The change numbered `sequence` happened.
    pub(crate) fn take(&mut self, change: &Change<'_>, sequence: u64) {
        change.removed.iter().for_each(|&number| self.remove_chunk(number));
        change.chunks.iter().for_each(|built| self.put_chunk(built.number, &built.bytes));
        change.marks.iter().for_each(|(number, mark)| self.put_mark(*number, mark));
        for (space, name, value) in change.batches.iter().flat_map(|batch| batch.keyed_changes()) {
            let key = [&[space.0], name].concat();
            let value = value.map(|value| wrap_keyed(change.commit, &key, value));
            self.keyed.insert(key, value);
        }
        self.reserved = change.reserved.or(self.reserved);
        self.sequence = sequence;
    }

    pub(crate) fn remove_chunk(&mut self, number: u64) {
        if number >= self.born_from {
            self.chunks.remove(&number);
            self.marks.remove(&number);
        } else {
            self.chunks.insert(number, None);
            self.marks.insert(number, None);
        }
    }

    pub(crate) fn put_chunk(&mut self, number: u64, bytes: &[u8]) {
        self.chunks.insert(number, Some(bytes.into()));
    }

    pub(crate) fn put_mark(&mut self, number: u64, mark: &[u8]) {
        self.marks.insert(number, Some(mark.to_vec()));
    }
}
