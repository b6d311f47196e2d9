//! How one record lies in bytes: a frame with a checksum around kind, slots, receivers and body.
//!
//! Knows the layout, little-endian throughout:
//! `length u32 | check u32 | kind u8 | 0 u8 x 3 | receivers u32 | bytes of receivers u32 | first slot u64 | receivers | body`;
//! `length` counts what follows `check`, `check` is the lower half of XXH3-64 of it. A receiver is
//! `session u64 | flags u8 | group u32, if flagged | count u16 and identifiers u32, if flagged`.
//! Must not know chunks, slots' fate, or what a body means.

use whimbrel_protocol::QoS;
use xxhash_rust::xxh3::xxh3_64;

use crate::{Failure, Slot};

/// Bytes before the receivers.
pub(crate) const HEAD: usize = 28;
const CHECKED_FROM: usize = 8;

/// What a record is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// A message that waits for its receivers.
    Message = 1,
    /// A retained message.
    Retained = 2,
    /// The identifier of a QoS 2 message that came in and whose PUBREL is still to come.
    Received = 3,
    /// A delivery in flight: its packet identifier and the slot of its message.
    Sent = 4,
    /// A QoS 2 delivery that waits for PUBCOMP.
    Released = 5,
    /// Anything else of the server's; the body says what.
    Other = 6,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 6] = [Kind::Message, Kind::Retained, Kind::Received, Kind::Sent, Kind::Released, Kind::Other];

    fn from_byte(byte: u8) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// Who needs a record, and how it is to be delivered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Receiver<'a> {
    /// Durable number of the session; 0 where no session is meant.
    pub session: u64,
    /// Quality of the delivery.
    pub qos: QoS,
    /// Retain flag of the delivery.
    pub retain: bool,
    /// Durable number of the group through which it came; 0: none.
    pub group: u32,
    /// Subscription identifiers.
    pub identifiers: Identifiers<'a>,
}

impl<'a> Receiver<'a> {
    /// Of a session, with nothing special.
    pub fn of(session: u64, qos: QoS) -> Receiver<'a> {
        Receiver { session, qos, retain: false, group: 0, identifiers: Identifiers::Numbers(&[]) }
    }
}

/// Subscription identifiers, in memory or as they were stored; at most 65,535.
#[derive(Clone, Copy, Debug)]
pub enum Identifiers<'a> {
    /// To be written.
    Numbers(&'a [u32]),
    /// As stored: four bytes each.
    Stored(&'a [u8]),
}

impl<'a> Identifiers<'a> {
    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Identifiers::Numbers(numbers) => numbers.len(),
            Identifiers::Stored(bytes) => bytes.len() / 4,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// In their order.
    pub fn iter(self) -> impl Iterator<Item = u32> + 'a {
        let (numbers, stored): (&[u32], &[u8]) = match self {
            Identifiers::Numbers(numbers) => (numbers, &[]),
            Identifiers::Stored(bytes) => (&[], bytes),
        };
        numbers.iter().copied().chain(stored.chunks_exact(4).map(|bytes| u32_at(bytes, 0)))
    }
}

impl PartialEq for Identifiers<'_> {
    fn eq(&self, other: &Identifiers<'_>) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Identifiers<'_> {}

/// A record, read in place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// What it is.
    pub kind: Kind,
    /// Slot of its first receiver.
    pub first: Slot,
    /// How many receivers it has; 1 or more.
    pub receivers: u32,
    entries: &'a [u8],
    /// What it says.
    pub body: &'a [u8],
}

impl<'a> Record<'a> {
    /// Its receivers with their slots, in the order in which they were written.
    pub fn receivers(&self) -> impl Iterator<Item = (Slot, Receiver<'a>)> + use<'a> {
        let mut rest = self.entries;
        let slots = self.first.0..self.first.0 + u64::from(self.receivers);
        slots.map_while(move |slot| Some((Slot(slot), take_receiver(&mut rest)?)))
    }

    /// The receiver that has `slot`.
    pub fn receiver(&self, slot: Slot) -> Option<Receiver<'a>> {
        self.receivers().find(|(found, _)| *found == slot).map(|(_, receiver)| receiver)
    }

    /// Its slots.
    pub fn slots(&self) -> impl Iterator<Item = Slot> + use<> {
        (self.first.0..self.first.0 + u64::from(self.receivers)).map(Slot)
    }
}

const HAS_GROUP: u8 = 8;
const HAS_IDENTIFIERS: u8 = 16;

pub(crate) fn put_receiver(out: &mut Vec<u8>, receiver: &Receiver<'_>) {
    let mut flags = receiver.qos as u8 | u8::from(receiver.retain) << 2;
    flags |= if receiver.group == 0 { 0 } else { HAS_GROUP };
    flags |= if receiver.identifiers.is_empty() { 0 } else { HAS_IDENTIFIERS };
    out.extend(receiver.session.to_le_bytes());
    out.push(flags);
    if receiver.group != 0 {
        out.extend(receiver.group.to_le_bytes());
    }
    if !receiver.identifiers.is_empty() {
        let count = receiver.identifiers.len().min(usize::from(u16::MAX));
        out.extend((count as u16).to_le_bytes());
        receiver.identifiers.iter().take(count).for_each(|number| out.extend(number.to_le_bytes()));
    }
}

fn take_receiver<'a>(rest: &mut &'a [u8]) -> Option<Receiver<'a>> {
    let session = u64_at(take(rest, 8)?, 0);
    let flags = take(rest, 1)?[0];
    let qos = QoS::from_bits(flags & 3)?;
    let group = if flags & HAS_GROUP != 0 { u32_at(take(rest, 4)?, 0) } else { 0 };
    let count = if flags & HAS_IDENTIFIERS != 0 { usize::from(u16_at(take(rest, 2)?, 0)) } else { 0 };
    let identifiers = Identifiers::Stored(take(rest, count * 4)?);
    Some(Receiver { session, qos, retain: flags & 4 != 0, group, identifiers })
}

/// Fills in the head of the frame that begins at `start` and ends with `out`; the check comes later.
pub(crate) fn close_frame(out: &mut [u8], start: usize, kind: Kind, sizes: (u32, u32), first: Slot) {
    let length = (out.len() - start - CHECKED_FROM) as u32;
    let head = &mut out[start..start + HEAD];
    head[0..4].copy_from_slice(&length.to_le_bytes());
    head[4..8].fill(0);
    head[8..12].copy_from_slice(&[kind as u8, 0, 0, 0]);
    head[12..16].copy_from_slice(&sizes.0.to_le_bytes());
    head[16..20].copy_from_slice(&sizes.1.to_le_bytes());
    head[20..28].copy_from_slice(&first.0.to_le_bytes());
}

/// Length of the frame at the head of `bytes`, itself included; the bytes are our own and whole.
pub(crate) fn frame_len(bytes: &[u8]) -> usize {
    CHECKED_FROM + u32_at(bytes, 0) as usize
}

/// First slot and number of slots of a frame that is our own and whole.
pub(crate) fn frame_slots(frame: &[u8]) -> (u64, u32) {
    (u64_at(frame, 20), u32_at(frame, 12))
}

pub(crate) fn seal_frame(frame: &mut [u8]) {
    let check = check_of(&frame[CHECKED_FROM..]);
    frame[4..8].copy_from_slice(&check.to_le_bytes());
}

pub(crate) fn check_of(bytes: &[u8]) -> u32 {
    xxh3_64(bytes) as u32
}

/// Reads the record at the head of `bytes`, which may be anything; also returns the length of its frame.
pub fn decode(bytes: &[u8]) -> Result<(Record<'_>, usize), Failure> {
    if bytes.len() < HEAD {
        return Err(Failure::Malformed("the head of a record"));
    }
    let length = CHECKED_FROM + u32_at(bytes, 0) as usize;
    let Some(frame) = bytes.get(..length).filter(|frame| frame.len() >= HEAD) else {
        return Err(Failure::Malformed("a record of the length in its head"));
    };
    if check_of(&frame[CHECKED_FROM..]) != u32_at(frame, 4) {
        return Err(Failure::Malformed("a record that its checksum confirms"));
    }
    Ok((parse(frame)?, length))
}

fn parse(frame: &[u8]) -> Result<Record<'_>, Failure> {
    let kind = Kind::from_byte(frame[8]).ok_or(Failure::Malformed("a known kind of record"))?;
    let (first, receivers) = frame_slots(frame);
    let entries_end = HEAD.checked_add(u32_at(frame, 16) as usize);
    let entries = entries_end.and_then(|end| frame.get(HEAD..end)).ok_or(Failure::Malformed("whole receivers"))?;
    let record = Record { kind, first: Slot(first), receivers, entries, body: &frame[HEAD + entries.len()..] };
    let is_whole = receivers > 0 && first.checked_add(u64::from(receivers)).is_some();
    if !is_whole || record.receivers().count() != receivers as usize {
        return Err(Failure::Malformed("as many receivers as its head says"));
    }
    Ok(record)
}

/// Reads a record that was checked when its chunk was read.
pub(crate) fn trusted(bytes: &[u8]) -> Result<Record<'_>, Failure> {
    bytes.get(..frame_len(bytes)).ok_or(Failure::Malformed("a whole frame")).and_then(parse)
}

pub(crate) fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some(head)
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// A number in groups of seven bits, the lowest first.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 128 {
        out.push(number as u8 | 128);
        number >>= 7;
    }
    out.push(number as u8);
}

pub(crate) fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(rest, 1)?[0];
        number |= u64::from(byte & 127).checked_shl(shift)?;
        if byte < 128 {
            return Some(number);
        }
    }
    None
}

/// Rising slots as runs: distance from the end of the run before, and length.
pub(crate) fn put_slots(out: &mut Vec<u8>, slots: &[Slot]) {
    let mut at = 0;
    for run in slots.chunk_by(|a, b| a.0 + 1 == b.0) {
        put_varint(out, run[0].0 - at);
        put_varint(out, run.len() as u64);
        at = run[0].0 + run.len() as u64;
    }
}

/// The runs of `put_slots`: first slot and length; ends at the first that makes no sense.
pub(crate) fn slot_runs(bytes: &[u8]) -> impl Iterator<Item = (Slot, u64)> + '_ {
    let (mut rest, mut at) = (bytes, 0_u64);
    std::iter::from_fn(move || {
        let first = at.checked_add(take_varint(&mut rest)?)?;
        let length = take_varint(&mut rest)?;
        at = first.checked_add(length)?;
        Some((Slot(first), length))
    })
}

/// Writes length and check of a frame that fills `frame`, whatever its content; at least 8 bytes. For tests and fuzzing.
pub fn seal(frame: &mut [u8]) {
    let length = (frame.len() - CHECKED_FROM) as u32;
    frame[0..4].copy_from_slice(&length.to_le_bytes());
    seal_frame(frame);
}
