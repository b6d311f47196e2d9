//! Finds chunks and keyed values in the bytes of a store whose engine cannot read them any more.
//!
//! Knows how both begin and how each proves that it is whole. Must not know the engine's pages: what is found may be stale,
//! so the newest of each number and key counts, and what a newer chunk took the place of does not.

use std::collections::BTreeMap;

use redb::StorageBackend;

use crate::Failure;
use crate::chunk::{self, Chunk, FORMAT, MAGIC, Name};
use crate::codec::{frame_slots, u32_at};
use crate::engine::{Engine, KEYED_HEAD, KEYED_MAGIC, unwrap_keyed, wrapped_len};

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Saved {
    chunks: Vec<Place>,  // by rising number
    keyed: Vec<Vec<u8>>, // wrapped values, the newest of each key
    /// The highest slot, without its lane, or commit, whichever is higher.
    pub(crate) highest: u64,
}

const WINDOW_BYTES: usize = 4 << 20;
/// The longest beginning that must lie in one window.
const OVERLAP_BYTES: usize = 128;

/// Where a chunk lies.
#[derive(Clone, Copy, Debug)]
struct Place {
    name: Name,
    at: u64,
    length: u64,
}

#[derive(Default)]
struct Search {
    chunks: BTreeMap<u64, Place>,
    keyed: BTreeMap<Vec<u8>, (u64, Vec<u8>)>,
}

/// Reads all bytes once.
pub(crate) fn search(bytes: &dyn StorageBackend) -> Result<Saved, Failure> {
    let length = bytes.len()?;
    let mut search = Search::default();
    let mut at = 0;
    let mut window = Vec::new();
    while at < length {
        window.resize(WINDOW_BYTES.min((length - at) as usize), 0);
        bytes.read(at, &mut window)?;
        search.look_through(bytes, at, &window)?;
        let is_last = at + window.len() as u64 == length;
        at += if is_last { window.len() } else { window.len() - OVERLAP_BYTES } as u64;
    }
    Ok(search.sort())
}

impl Search {
    fn look_through(&mut self, bytes: &dyn StorageBackend, from: u64, window: &[u8]) -> Result<(), Failure> {
        for (place, head) in window.windows(MAGIC.len()).enumerate() {
            if head == MAGIC {
                self.take_chunk(bytes, from + place as u64, &window[place..])?;
            } else if head[..4] == KEYED_MAGIC {
                self.take_keyed(bytes, from + place as u64, &window[place..])?;
            }
        }
        Ok(())
    }

    fn take_chunk(&mut self, bytes: &dyn StorageBackend, at: u64, head: &[u8]) -> Result<(), Failure> {
        let Some((name, format, length)) = chunk::read_head(head) else { return Ok(()) };
        if format > FORMAT {
            return Err(Failure::NewerFormat { found: format, known: FORMAT });
        }
        let length = length as u64;
        let is_newest = self.chunks.get(&name.number).is_none_or(|known| known.name.commit < name.commit);
        if is_newest && at + length <= bytes.len()? {
            self.chunks.insert(name.number, Place { name, at, length });
        }
        Ok(())
    }

    fn take_keyed(&mut self, bytes: &dyn StorageBackend, at: u64, head: &[u8]) -> Result<(), Failure> {
        if head.len() < KEYED_HEAD || u32_at(head, 16) == 0 {
            return Ok(());
        }
        let Some(found) = piece(bytes, at, wrapped_len(head)) else { return Ok(()) };
        if let Some((commit, key, _)) = unwrap_keyed(&found)
            && self.keyed.get(key).is_none_or(|(known, _)| *known <= commit)
        {
            self.keyed.insert(key.to_vec(), (commit, found));
        }
        Ok(())
    }

    fn sort(self) -> Saved {
        let names: Vec<Name> = self.chunks.values().map(|place| place.name).collect();
        let floor = names.iter().max_by_key(|name| name.commit).map_or(0, |name| name.floor);
        let merged: Vec<&Name> = names.iter().filter(|name| name.until > name.number).collect();
        let is_replaced = |name: &Name| {
            let follows = |newer: &Name| (newer.number + 1..=newer.until).contains(&name.number);
            merged.iter().any(|newer| follows(newer) && newer.commit > name.commit)
        };
        let commits = self.keyed.values().map(|(commit, _)| *commit).chain(names.iter().map(|name| name.commit));
        let highest = commits.max().unwrap_or(0);
        let is_needed = |place: &Place| place.name.number >= floor && !is_replaced(&place.name);
        let chunks = self.chunks.into_values().filter(is_needed).collect();
        Saved { chunks, keyed: self.keyed.into_values().map(|(_, bytes)| bytes).collect(), highest }
    }
}

/// Bytes of chunks that are copied in one commit.
const COPIED_BYTES: u64 = 8 << 20;

impl Saved {
    /// Copies all of it; returns how many chunks and keyed values there were. Then `highest` knows the slots, too.
    pub(crate) fn copy_into(&mut self, bytes: &dyn StorageBackend, engine: &Engine) -> Result<(usize, usize), Failure> {
        let (mut chunks, mut waiting) = (Vec::new(), 0);
        for place in &self.chunks {
            let Some(found) = piece(bytes, place.at, place.length) else { continue };
            self.highest = self.highest.max(highest_slot(&found));
            chunks.push((place.name.number, found));
            waiting += place.length;
            if waiting > COPIED_BYTES {
                engine.restore(&chunks, &[])?;
                chunks.clear();
                waiting = 0;
            }
        }
        engine.restore(&chunks, &self.keyed)?;
        Ok((self.chunks.len(), self.keyed.len()))
    }
}

/// Bytes that may reach beyond the end; None where they do.
fn piece(bytes: &dyn StorageBackend, at: u64, length: u64) -> Option<Vec<u8>> {
    let is_there = bytes.len().is_ok_and(|end| at.checked_add(length).is_some_and(|until| until <= end));
    let mut found = vec![0; usize::try_from(length).ok().filter(|_| is_there)?];
    bytes.read(at, &mut found).ok().map(|()| found)
}

fn highest_slot(bytes: &[u8]) -> u64 {
    let (chunk, _) = Chunk::read(bytes.into());
    let records = chunk.offsets().iter().map(|&at| frame_slots(chunk.frame(at)));
    let settled = chunk.settled().map(|(first, count)| (first.0 & (u64::MAX >> 8)) + count);
    records.map(|(first, count)| (first & (u64::MAX >> 8)) + u64::from(count)).chain(settled).max().unwrap_or(0)
}
