//! The journal: each commit as one frame at the end of a short file, so that a commit costs one write and one sync.
//!
//! Knows frames, the two halves of the file, what a crash may leave of the last frame. Must not know the engine, threads, what
//! became of a change. Driven by [`crate::journaled::Journaled`], which carries frames over into the engine and then
//! writes over them.
//!
//! A frame begins at a multiple of 4,096 bytes, so that no write touches a block of an older frame. Little-endian: `magic 8 |
//! identity u64 | sequence u64 | floor u64 | bytes of the body u64 | check of the head u64`, then sections, each
//! `check u32 | tag u8 | bytes u32 | content`.
//!
//! A frame is written when all before it are synced. So of the frames that the engine does not have, only the newest may be
//! torn, and nothing in it was acknowledged; any other that is not whole was damaged later.

use std::collections::BTreeMap;
use std::io;

use redb::StorageBackend;
use xxhash_rust::xxh3::xxh3_64;

use crate::chunk;
use crate::codec::{check_of, u32_at, u64_at};
use crate::engine::{Change, unwrap_keyed, wrap_keyed};
use crate::overlay::Overlay;

const BLOCK: usize = 4096;
/// The file grows by so much at a time.
const STEP_BYTES: u64 = 1 << 20;
const MAGIC: [u8; 8] = *b"WHMBJRNL";
const HEAD: usize = 48;
const HEAD_CHECK: usize = HEAD - 8;
const SECTION_HEAD: usize = 9;

/// Tags of sections; never given to anything else.
mod tag {
    pub(super) const REMOVED: u8 = 1; // numbers of chunks, u64 each
    pub(super) const CHUNK: u8 = 2; // number u64 | bytes
    pub(super) const MARK: u8 = 3; // number u64 | bytes
    pub(super) const KEYED: u8 = 4; // wrapped value
    pub(super) const KEY_REMOVED: u8 = 5; // key with its space
    pub(super) const RESERVED: u8 = 6; // u64
}

/// The file, and where its next frame goes.
pub(crate) struct Journal {
    bytes: Box<dyn StorageBackend>,
    identity: u64,
    sequence: u64, // of the last frame
    half_bytes: u64,
    half: u64,
    used: u64,   // bytes of the half
    length: u64, // of the file
    frame: Vec<u8>,
}

/// A frame that was found.
struct Place {
    at: u64,
    length: usize,
    is_whole: bool,
    floor: u64,
}

/// What a journal holds that the engine does not have.
pub(crate) struct Replay {
    pub(crate) overlay: Overlay,
    /// Bytes that are not whole: a name, a sentence, the bytes.
    pub(crate) damaged: Vec<(String, String, Vec<u8>)>,
}

impl Journal {
    /// Reads the frames of the store `identity` that are newer than `applied`. What they say must be in the engine before the
    /// first is written; the file grows to `length` bytes.
    pub(crate) fn open(
        bytes: Box<dyn StorageBackend>,
        (identity, applied): (u64, u64),
        length: usize,
    ) -> io::Result<(Journal, Replay)> {
        let (places, _) = search(&*bytes, Some(identity))?;
        let replay = read(&*bytes, &places, applied)?;
        let newest = places.keys().next_back().copied().unwrap_or(0);
        let sequence = newest.max(applied);
        let half_bytes = (length / 2).next_multiple_of(BLOCK) as u64;
        let length = bytes.len()?;
        Ok((Journal { bytes, identity, sequence, half_bytes, half: 0, used: 0, length, frame: Vec::new() }, replay))
    }

    /// Which store's the newest frame is, and up to which change its engine had everything; for an engine that lost both.
    pub(crate) fn owner(bytes: &dyn StorageBackend) -> io::Result<Option<(u64, u64)>> {
        let (places, identity) = search(bytes, None)?;
        Ok(places.values().next_back().map(|place| (identity, place.floor)))
    }

    /// Makes the frame of a change; `floor`: the newest change that the engine has. False: it is so long that writing it twice
    /// is not worth while.
    pub(crate) fn encode(&mut self, change: &Change<'_>, floor: u64) -> bool {
        self.frame.clear();
        self.frame.shrink_to(1 << 20);
        self.frame.resize(HEAD, 0);
        put_change(&mut self.frame, change);
        let words = [self.identity, self.sequence + 1, floor, (self.frame.len() - HEAD) as u64];
        let head: Vec<u8> = MAGIC.into_iter().chain(words.into_iter().flat_map(u64::to_le_bytes)).collect();
        self.frame[..HEAD_CHECK].copy_from_slice(&head);
        self.frame[HEAD_CHECK..HEAD].copy_from_slice(&xxh3_64(&head).to_le_bytes());
        self.frame.resize(self.frame.len().next_multiple_of(BLOCK), 0);
        self.frame.len() as u64 * 2 <= self.half_bytes
    }

    /// Length of the frame in the file.
    pub(crate) fn frame_bytes(&self) -> u64 {
        self.frame.len() as u64
    }

    /// Whether the frame fits behind the last one.
    pub(crate) fn has_room(&self) -> bool {
        self.used + self.frame.len() as u64 <= self.half_bytes
    }

    /// Writes and syncs the frame; returns its number. One that failed is written again at the same place.
    pub(crate) fn write(&mut self) -> io::Result<u64> {
        let at = self.half * self.half_bytes + self.used;
        self.bytes.write(at, &self.frame)?;
        self.grow_beyond(at + self.frame.len() as u64);
        self.bytes.sync_data()?;
        self.used += self.frame.len() as u64;
        Ok(self.count())
    }

    /// A sync that finds the file longer than before also writes the file system's own journal: 60 us of CPU instead of 40. So
    /// it grows in steps. Where there is no room for a step, there may be for the frame.
    fn grow_beyond(&mut self, end: u64) {
        if end <= self.length {
            return;
        }
        let half_end = (self.half + 1) * self.half_bytes;
        let length = (end + STEP_BYTES).min(half_end);
        let is_there = self.bytes.write(end, &vec![0; (length - end) as usize]).is_ok();
        self.length = if is_there { length } else { end };
    }

    /// The engine has all of the other half: the next frames may be written over it.
    pub(crate) fn turn(&mut self) {
        self.half = 1 - self.half;
        self.used = 0;
    }

    /// The engine has all of both halves.
    pub(crate) fn rewind(&mut self) {
        self.used = 0;
    }

    /// The number that the next change will have.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.sequence + 1
    }

    /// A change has its number, in a frame or in the engine.
    pub(crate) fn count(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }
}

fn put_change(frame: &mut Vec<u8>, change: &Change<'_>) {
    if !change.removed.is_empty() {
        let numbers: Vec<u8> = change.removed.iter().flat_map(|number| number.to_le_bytes()).collect();
        put_section(frame, tag::REMOVED, &[&numbers]);
    }
    for built in &change.chunks {
        put_section(frame, tag::CHUNK, &[&built.number.to_le_bytes(), &built.bytes]);
    }
    for (number, mark) in &change.marks {
        put_section(frame, tag::MARK, &[&number.to_le_bytes(), mark]);
    }
    for (space, name, value) in change.batches.iter().flat_map(|batch| batch.keyed_changes()) {
        let key = [&[space.0], name].concat();
        match value {
            Some(value) => put_section(frame, tag::KEYED, &[&wrap_keyed(change.commit, &key, value)]),
            None => put_section(frame, tag::KEY_REMOVED, &[&key]),
        }
    }
    if let Some(reserved) = change.reserved {
        put_section(frame, tag::RESERVED, &[&reserved.to_le_bytes()]);
    }
}

fn put_section(frame: &mut Vec<u8>, tag: u8, parts: &[&[u8]]) {
    let start = frame.len();
    let length: usize = parts.iter().map(|part| part.len()).sum();
    frame.extend([0, 0, 0, 0, tag]);
    frame.extend((length as u32).to_le_bytes());
    parts.iter().for_each(|part| frame.extend_from_slice(part));
    let check = check_of(&frame[start + 4..]);
    frame[start..start + 4].copy_from_slice(&check.to_le_bytes());
}

/// A section as it was found.
struct Section<'a> {
    tag: u8,
    content: &'a [u8],
    is_whole: bool,
}

/// Ends early where a length leads out of the body.
fn sections(body: &[u8]) -> impl Iterator<Item = Section<'_>> {
    let mut rest = body;
    std::iter::from_fn(move || {
        let head = rest.get(..SECTION_HEAD)?;
        let (section, tail) = rest.split_at_checked(SECTION_HEAD + u32_at(head, 5) as usize)?;
        rest = tail;
        let is_whole = check_of(&section[4..]) == u32_at(head, 0);
        Some(Section { tag: head[4], content: &section[SECTION_HEAD..], is_whole })
    })
}

fn is_whole(body: &[u8]) -> bool {
    let mut length = 0;
    let all = sections(body).all(|section| {
        length += SECTION_HEAD + section.content.len();
        section.is_whole
    });
    all && length == body.len()
}

/// Identity, sequence, floor and length of the body, if this is the head of a frame.
fn read_head(head: &[u8; HEAD]) -> Option<(u64, u64, u64, u64)> {
    let is_head = head[..8] == MAGIC && xxh3_64(&head[..HEAD_CHECK]) == u64_at(head, HEAD_CHECK);
    is_head.then(|| (u64_at(head, 8), u64_at(head, 16), u64_at(head, 24), u64_at(head, 32)))
}

type Places = BTreeMap<u64, Place>;

/// The frames of a store by their sequence; without an identity, of the store that the newest frame names.
fn search(bytes: &dyn StorageBackend, identity: Option<u64>) -> io::Result<(Places, u64)> {
    let mut found: BTreeMap<u64, Places> = BTreeMap::new();
    let (end, mut at) = (bytes.len()?, 0);
    while at + HEAD as u64 <= end {
        let mut head = [0; HEAD];
        bytes.read(at, &mut head)?;
        let frame = read_head(&head).filter(|(.., length)| *length <= end - at - HEAD as u64);
        at += match frame {
            Some(head) => take_frame(bytes, at, head, &mut found)?,
            None => BLOCK as u64,
        };
    }
    let newest = |places: &Places| places.keys().next_back().copied();
    let owner = found.iter().max_by_key(|(_, places)| newest(places)).map_or(0, |(owner, _)| *owner);
    let identity = identity.unwrap_or(owner);
    Ok((found.remove(&identity).unwrap_or_default(), identity))
}

/// Returns how far it is to where the next frame may begin: behind this one only if it is whole.
fn take_frame(
    bytes: &dyn StorageBackend,
    at: u64,
    (owner, sequence, floor, length): (u64, u64, u64, u64),
    found: &mut BTreeMap<u64, Places>,
) -> io::Result<u64> {
    let mut body = vec![0; length as usize];
    bytes.read(at + HEAD as u64, &mut body)?;
    let place = Place { at, length: body.len(), is_whole: is_whole(&body), floor };
    let distance = if place.is_whole { HEAD as u64 + length } else { 1 };
    let places = found.entry(owner).or_default();
    // One that was cut off and one written later may have the same number: the whole one counts.
    if place.is_whole || !places.contains_key(&sequence) {
        places.insert(sequence, place);
    }
    Ok(distance.next_multiple_of(BLOCK as u64))
}

/// All that is newer than `applied` and than what the newest frame says to be in the engine.
fn read(bytes: &dyn StorageBackend, places: &BTreeMap<u64, Place>, applied: u64) -> io::Result<Replay> {
    let mut replay = Replay { overlay: Overlay::new(u64::MAX), damaged: Vec::new() };
    let whole = places.iter().rev().find(|(_, place)| place.is_whole);
    let Some((&last, newest)) = whole else { return Ok(replay) };
    let mut expected = applied.max(newest.floor) + 1;
    for (&sequence, place) in places.range(expected..).take_while(|(sequence, _)| **sequence <= last) {
        if sequence > expected {
            let what = format!("commits {expected} to {} of the journal: their frames are damaged", sequence - 1);
            replay.damaged.push((format!("journal-{expected}"), what, Vec::new()));
        }
        expected = sequence + 1;
        let mut body = vec![0; place.length];
        bytes.read(place.at + HEAD as u64, &mut body)?;
        take_body(&mut replay, (sequence, place.at), &body);
    }
    Ok(replay)
}

fn take_body(replay: &mut Replay, (sequence, at): (u64, u64), body: &[u8]) {
    let mut read = 0;
    let mut losses = Vec::new();
    for section in sections(body) {
        read += SECTION_HEAD + section.content.len();
        if take_section(&mut replay.overlay, &section).is_none() {
            losses.push(what_is_lost(&section));
        }
    }
    replay.overlay.sequence = sequence;
    if read < body.len() {
        losses.push("what came behind a damaged length");
    }
    if !losses.is_empty() {
        let what = format!("commit {sequence} of the journal, byte {at}: {}", losses.join(", "));
        replay.damaged.push((format!("journal-{sequence}"), what, body.to_vec()));
    }
}

fn what_is_lost(section: &Section<'_>) -> &'static str {
    match section.tag {
        tag::REMOVED => "a list of dead chunks: settled records may come back",
        tag::CHUNK => "a chunk of records whose head cannot be read",
        tag::MARK => "a mark: settled records may come back",
        tag::KEYED => "a keyed value",
        tag::KEY_REMOVED => "the removal of a keyed value",
        tag::RESERVED => "a block of reserved slots",
        _ => "a section of an unknown kind",
    }
}

/// None: what the section says cannot be told. A damaged chunk is taken if its own head is whole: it knows which of its
/// records are.
fn take_section(overlay: &mut Overlay, section: &Section<'_>) -> Option<()> {
    let content = section.content;
    let number = || content.get(..8).filter(|_| section.is_whole).map(|bytes| u64_at(bytes, 0));
    match section.tag {
        tag::REMOVED if section.is_whole => {
            content.chunks_exact(8).for_each(|bytes| overlay.remove_chunk(u64_at(bytes, 0)));
        }
        tag::CHUNK => {
            let (_, bytes) = content.split_at_checked(8)?;
            let named = chunk::read_head(bytes).map(|(name, ..)| name.number);
            overlay.put_chunk(number().or(named)?, bytes);
        }
        tag::MARK => overlay.put_mark(number()?, &content[8..]),
        tag::KEYED => {
            let (_, key, _) = unwrap_keyed(content)?;
            overlay.keyed.insert(key.to_vec(), Some(content.to_vec()));
        }
        tag::KEY_REMOVED if section.is_whole => drop(overlay.keyed.insert(content.to_vec(), None)),
        tag::RESERVED => overlay.reserved = Some(number()?),
        _ => return None,
    }
    Some(())
}
