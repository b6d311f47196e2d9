//! What a worker gathers in a turn: records, settlements, keyed changes, in buffers that come back empty.
//!
//! Knows how slots are given and what a batch holds. Must not know groups, chunks, the disk. One thread each.

use std::sync::Arc;

use crate::codec::{self, Kind, Receiver};
use crate::{Failure, Lane, Slot, Space, Store, StoredMessage, Ticket, Wake};

/// The work of one turn. Made by [`Writer`]; a store empties it.
#[derive(Debug, Default)]
pub struct Batch {
    pub(crate) lane: u8,
    pub(crate) ticket: Ticket,              // given when it is submitted
    pub(crate) slots: std::ops::Range<u64>, // of its records
    pub(crate) records: Vec<u8>,            // frames without their checks
    pub(crate) settled: Vec<Slot>,
    pub(crate) superseded: Vec<Slot>,
    pub(crate) keyed: Vec<u8>, // see `put_keyed`
}

/// Buffers that grew beyond this are not kept: one giant message must not be remembered for ever.
const KEPT_BYTES: usize = 1 << 20;

impl Batch {
    /// Whether there is nothing to hand over.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.settled.is_empty() && self.superseded.is_empty() && self.keyed.is_empty()
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        self.records.len() + (self.settled.len() + self.superseded.len()) * size_of::<Slot>() + self.keyed.len()
    }

    /// Empties it, keeping buffers of moderate size.
    pub(crate) fn clear(&mut self) {
        self.slots = 0..0;
        self.records.clear();
        self.settled.clear();
        self.superseded.clear();
        self.keyed.clear();
        self.records.shrink_to(KEPT_BYTES);
        self.settled.shrink_to(KEPT_BYTES / size_of::<Slot>());
        self.superseded.shrink_to(KEPT_BYTES / size_of::<Slot>());
        self.keyed.shrink_to(KEPT_BYTES);
    }

    /// The keyed changes in their order; None removes.
    pub(crate) fn keyed_changes(&self) -> impl Iterator<Item = (Space, &[u8], Option<&[u8]>)> {
        let mut rest = &self.keyed[..];
        std::iter::from_fn(move || {
            let head = codec::take(&mut rest, 10)?;
            let key = codec::take(&mut rest, codec::u32_at(head, 2) as usize)?;
            let value = codec::take(&mut rest, codec::u32_at(head, 6) as usize)?;
            Some((Space(head[0]), key, (head[1] == 1).then_some(value)))
        })
    }

    fn put_keyed(&mut self, space: Space, key: &[u8], value: Option<&[u8]>) {
        self.keyed.extend([space.0, u8::from(value.is_some())]);
        self.keyed.extend((key.len() as u32).to_le_bytes());
        self.keyed.extend((value.map_or(0, <[u8]>::len) as u32).to_le_bytes());
        self.keyed.extend_from_slice(key);
        self.keyed.extend_from_slice(value.unwrap_or_default());
    }
}

/// One worker's way into a store.
pub struct Writer {
    store: Arc<dyn Store>,
    batch: Batch,
    next: Slot,
    last: Ticket,
}

impl Writer {
    /// A new lane of `store`; `wake` is called from the store's threads.
    pub fn join(store: Arc<dyn Store>, wake: Wake) -> Result<Writer, Failure> {
        let (lane, next) = store.join(wake)?;
        Ok(Writer { store, batch: Batch { lane: lane.0, ..Batch::default() }, next, last: Ticket(0) })
    }

    /// Its lane.
    pub fn lane(&self) -> Lane {
        Lane(self.batch.lane)
    }

    /// The store behind it.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Begins a record. It counts once it is finished and has a receiver; else it leaves no trace.
    pub fn record(&mut self, kind: Kind) -> RecordWriter<'_> {
        let start = self.batch.records.len();
        self.batch.records.resize(start + codec::HEAD, 0);
        RecordWriter { writer: self, start, kind, receivers: 0 }
    }

    /// Whoever has this slot needs its record no longer, whatever becomes of the rest of this turn: he has it, or it was
    /// dropped. Each slot is settled or superseded once.
    #[inline]
    pub fn settle(&mut self, slot: Slot) {
        self.batch.settled.push(slot);
    }

    /// What this turn writes takes the place of the slot's record: the one goes when the other is durable.
    #[inline]
    pub fn supersede(&mut self, slot: Slot) {
        self.batch.superseded.push(slot);
    }

    /// Sets the value of a key of at most 65,535 bytes, in place of what was there.
    pub fn put(&mut self, space: Space, key: &[u8], value: &[u8]) {
        self.batch.put_keyed(space, key, Some(value));
    }

    /// Removes a key, if it is there.
    pub fn remove(&mut self, space: Space, key: &[u8]) {
        self.batch.put_keyed(space, key, None);
    }

    /// Hands over what was gathered; returns the ticket under which it, and all before it, becomes durable.
    pub fn submit(&mut self) -> Ticket {
        if !self.batch.is_empty() {
            self.last = self.store.submit(&mut self.batch);
        }
        self.last
    }
}

/// A record that is being written.
pub struct RecordWriter<'a> {
    writer: &'a mut Writer,
    start: usize,
    kind: Kind,
    receivers: u32,
}

impl RecordWriter<'_> {
    /// Adds a receiver; returns its slot.
    #[inline]
    pub fn receiver(&mut self, receiver: &Receiver<'_>) -> Slot {
        codec::put_receiver(&mut self.writer.batch.records, receiver);
        let slot = Slot(self.writer.next.0 + u64::from(self.receivers));
        self.receivers += 1;
        slot
    }

    /// Ends the record with a message. False: it had no receiver, so there is nothing to store.
    pub fn message(self, message: &StoredMessage<'_>) -> bool {
        self.end(|out| message.encode(out))
    }

    /// Ends the record with a body of at most 2 GiB. False: it had no receiver.
    pub fn finish(self, body: &[u8]) -> bool {
        self.end(|out| out.extend_from_slice(body))
    }

    #[inline]
    fn end(mut self, put_body: impl FnOnce(&mut Vec<u8>)) -> bool {
        let receivers = std::mem::take(&mut self.receivers); // dropping `self` finds nothing left to undo
        if receivers == 0 {
            return false;
        }
        let Writer { batch, next, .. } = &mut *self.writer;
        let entries = (batch.records.len() - self.start - codec::HEAD) as u32;
        put_body(&mut batch.records);
        codec::close_frame(&mut batch.records, self.start, self.kind, (receivers, entries), *next);
        if batch.slots.is_empty() {
            batch.slots.start = next.0;
        }
        next.0 += u64::from(receivers);
        batch.slots.end = next.0;
        self.start = batch.records.len();
        true
    }
}

impl Drop for RecordWriter<'_> {
    fn drop(&mut self) {
        self.writer.batch.records.truncate(self.start);
    }
}
