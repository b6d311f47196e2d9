//! A chunk: what one commit, or one step of space recovery, writes as a single entry of the engine.
//!
//! Knows the layout, little-endian: `magic 8 | format u16 | 0 x 6 | number u64 | until u64 | commit u64 | floor
//! u64 | bytes of records u32 |
//! records u32 | bytes of settlements u32 | check of the tables u32 | check of the head u64`, then the frames, the table of
//! their offsets (u32 each, by rising slot), then the runs of settled slots. Must not know which slots are settled.

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use crate::codec::{self, Record, u32_at, u64_at};
use crate::{Failure, Slot};

/// First bytes of every chunk, so that chunks are found even where the engine's own tables are damaged.
pub(crate) const MAGIC: [u8; 8] = *b"WHMBCHNK";
/// The newest layout of chunks and keyed values that this program knows.
pub(crate) const FORMAT: u64 = 1;
pub(crate) const HEAD: usize = 72;
const HEAD_CHECK: usize = HEAD - 8;
/// A chunk ends before it grows beyond this, so that it fits an engine page of 64 KiB with the engine's own bytes.
pub(crate) const TARGET_BYTES: usize = (64 << 10) - 128;

/// Gathers frames and settlements; reused.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    bytes: Vec<u8>,
    offsets: Vec<u32>,
    /// First slot and number of slots of each frame, beside `offsets`.
    pub(crate) frames: Vec<(u64, u32)>,
    pub(crate) settled: Vec<Slot>,
}

impl Builder {
    pub(crate) fn is_empty(&self) -> bool {
        self.offsets.is_empty() && self.settled.is_empty()
    }

    /// Forgets what was gathered for a chunk that comes to nothing.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(1 << 20);
        self.offsets.clear();
        self.frames.clear();
        self.settled.clear();
    }

    /// Bytes that the chunk will have, about.
    pub(crate) fn len(&self) -> usize {
        HEAD + self.bytes.len() + 4 * self.offsets.len() + 2 * self.settled.len()
    }

    /// Whether a frame of `length` bytes should go to the next chunk.
    pub(crate) fn is_full_for(&self, length: usize) -> bool {
        !self.offsets.is_empty() && self.len() + length + 4 > TARGET_BYTES
    }

    /// Copies a frame, without or with its check.
    pub(crate) fn push(&mut self, frame: &[u8]) {
        let start = self.bytes.len();
        self.offsets.push((HEAD + start) as u32);
        self.frames.push(codec::frame_slots(frame));
        self.bytes.extend_from_slice(frame);
        codec::seal_frame(&mut self.bytes[start..]);
    }

    /// Writes the chunk and is empty again; the frames' slots are returned, rising.
    pub(crate) fn finish(&mut self, name: Name) -> Built {
        let Name { number, until, commit, floor } = name;
        let mut order: Vec<u32> = (0..self.frames.len() as u32).collect();
        order.sort_unstable_by_key(|&place| self.frames[place as usize]);
        self.settled.sort_unstable();
        self.settled.dedup();
        let mut tables = Vec::with_capacity(4 * order.len() + 2 * self.settled.len());
        order.iter().for_each(|&place| tables.extend(self.offsets[place as usize].to_le_bytes()));
        let offsets_len = tables.len();
        codec::put_slots(&mut tables, &self.settled);
        let mut bytes = Vec::with_capacity(HEAD + self.bytes.len() + tables.len());
        bytes.extend(MAGIC);
        bytes.extend(FORMAT.to_le_bytes()); // 2 bytes of format, 6 zero bytes
        [number, until, commit, floor].iter().for_each(|word| bytes.extend(word.to_le_bytes()));
        let sizes = [self.bytes.len(), order.len(), tables.len() - offsets_len];
        sizes.iter().for_each(|&size| bytes.extend((size as u32).to_le_bytes()));
        bytes.extend(codec::check_of(&tables).to_le_bytes());
        bytes.extend(xxh3_64(&bytes).to_le_bytes());
        bytes.extend_from_slice(&self.bytes);
        bytes.extend_from_slice(&tables);
        let frames = order.iter().map(|&place| self.frames[place as usize]).collect();
        let settled = std::mem::take(&mut self.settled);
        self.clear();
        Built { number, bytes, frames, settled }
    }
}

/// Where a chunk belongs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Name {
    /// Its key in the engine.
    pub(crate) number: u64,
    /// It takes the place of all chunks from `number` up to this one.
    pub(crate) until: u64,
    /// The commit that wrote it; rises, over all runs.
    pub(crate) commit: u64,
    /// No chunk below this was there any more.
    pub(crate) floor: u64,
}

/// A chunk that is ready to be written, and what the index must know of it.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) number: u64,
    pub(crate) bytes: Vec<u8>,
    pub(crate) frames: Vec<(u64, u32)>,
    pub(crate) settled: Vec<Slot>,
}

/// A chunk as it was read. Its bytes are shared by all who read records in it.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    bytes: Arc<[u8]>,
    offsets: Arc<[u32]>,           // of whole frames, by rising slot
    settled: std::ops::Range<u32>, // where the settlements lie
}

/// What was wrong with a chunk that could be read in part.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Damage {
    /// Records whose bytes are damaged, with the kind that their heads name.
    pub(crate) records: Vec<(u32, u8)>,
    /// Head, table or settlements: what had to be done without.
    pub(crate) parts: Vec<&'static str>,
}

impl Damage {
    pub(crate) fn is_none(&self) -> bool {
        self.records.is_empty() && self.parts.is_empty()
    }
}

impl Chunk {
    /// Reads what can be read, checking every byte that it keeps.
    pub(crate) fn read(bytes: Arc<[u8]>) -> (Chunk, Damage) {
        let mut damage = Damage::default();
        let layout = Layout::of(&bytes).unwrap_or_else(|| {
            damage.parts.push("head");
            Layout { records_end: bytes.len(), count: 0, end: bytes.len() }
        });
        let tables_end = layout.records_end + 4 * layout.count;
        let is_table_whole =
            damage.is_none() && codec::check_of(&bytes[layout.records_end..layout.end]) == u32_at(&bytes, 60);
        let mut offsets: Vec<u32> = if is_table_whole {
            bytes[layout.records_end..tables_end].chunks_exact(4).map(|bytes| u32_at(bytes, 0)).collect()
        } else {
            damage.parts.push("tables");
            walk(&bytes, layout.records_end)
        };
        let records = &bytes[..layout.records_end];
        offsets.retain(|&at| {
            let frame = records.get(at as usize..).unwrap_or_default();
            let is_whole = codec::decode(frame).is_ok();
            if !is_whole {
                damage.records.push((at, frame.get(8).copied().unwrap_or(0)));
            }
            is_whole
        });
        offsets.sort_by_key(|&at| u64_at(&bytes, at as usize + 20));
        let settled = if is_table_whole { tables_end as u32..layout.end as u32 } else { 0..0 };
        (Chunk { bytes, offsets: offsets.into(), settled }, damage)
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len() + 4 * self.offsets.len()
    }

    /// Where the records lie, by rising slot.
    pub(crate) fn offsets(&self) -> &[u32] {
        &self.offsets
    }

    pub(crate) fn frame(&self, at: u32) -> &[u8] {
        let rest = &self.bytes[at as usize..];
        &rest[..codec::frame_len(rest)]
    }

    pub(crate) fn record(&self, at: u32) -> Result<Record<'_>, Failure> {
        codec::trusted(self.frame(at))
    }

    /// Where the record lies that has `slot`.
    pub(crate) fn find(&self, slot: Slot) -> Option<u32> {
        let slots = |at: u32| codec::frame_slots(&self.bytes[at as usize..]);
        let after = self.offsets.partition_point(|&at| slots(at).0 <= slot.0);
        let at = *self.offsets.get(after.checked_sub(1)?)?;
        let (first, count) = slots(at);
        (slot.0 < first + u64::from(count)).then_some(at)
    }

    /// The slots that are settled here: first and length of each run.
    pub(crate) fn settled(&self) -> impl Iterator<Item = (Slot, u64)> + '_ {
        codec::slot_runs(&self.bytes[self.settled.start as usize..self.settled.end as usize])
    }
}

struct Layout {
    records_end: usize,
    count: usize,
    end: usize,
}

/// What the head of a chunk says, if `bytes` begins with a whole one: name, layout, and length of the chunk.
pub(crate) fn read_head(bytes: &[u8]) -> Option<(Name, u64, usize)> {
    if bytes.len() < HEAD || bytes[..8] != MAGIC || xxh3_64(&bytes[..HEAD_CHECK]) != u64_at(bytes, HEAD_CHECK) {
        return None;
    }
    let [number, until, commit, floor] = [16, 24, 32, 40].map(|at| u64_at(bytes, at));
    let [records, count, settled] = [48, 52, 56].map(|at| u32_at(bytes, at) as usize);
    Some((Name { number, until, commit, floor }, u64_at(bytes, 8), HEAD + records + 4 * count + settled))
}

impl Layout {
    /// None: the head is damaged, or the bytes are fewer than it says.
    fn of(bytes: &[u8]) -> Option<Layout> {
        let (_, format, end) = read_head(bytes)?;
        let (records, count) = (u32_at(bytes, 48) as usize, u32_at(bytes, 52) as usize);
        let is_known = format <= FORMAT;
        (is_known && end == bytes.len()).then_some(Layout { records_end: HEAD + records, count, end })
    }
}

/// Where frames begin if each begins where the one before it ends; stops where no frame can be.
fn walk(bytes: &[u8], end: usize) -> Vec<u32> {
    let (mut offsets, mut at) = (Vec::new(), HEAD);
    while at + codec::HEAD <= end {
        offsets.push(at as u32);
        at += codec::frame_len(&bytes[at..]);
    }
    offsets
}

/// Reads bytes that should be a chunk and may be anything; calls `see` for every record that is whole, returns one word for
/// each part that is damaged. For tools that look into a store from outside.
pub fn examine(bytes: &[u8], mut see: impl FnMut(Record<'_>)) -> Vec<&'static str> {
    let (chunk, damage) = Chunk::read(bytes.into());
    chunk.offsets().iter().filter_map(|&at| chunk.record(at).ok()).for_each(&mut see);
    damage.parts.into_iter().chain(damage.records.iter().map(|_| "record")).collect()
}
