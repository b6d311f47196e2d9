//! From rows to a store.
//!
//! Knows how much may wait for the disk, and that rows refer only to rows before them. The store is whole when `finish`
//! has returned, and not before.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use whimbrel_protocol::QoS;
use whimbrel_storage::{Failure, Kind, Receiver, Slot, Space, State, Store, Ticket, Writer};

use super::rows::STATES;
use super::{ExchangeRow, RawRow, ReceiverRow, RecordRow, Row};
use crate::durable;

/// Bytes of rows that are handed over together; the next ones wait until they are stored.
const PORTION_BYTES: usize = 4 << 20;
/// How often the state is looked at while the store is silent.
const LOOK: Duration = Duration::from_millis(100);

/// A store that is being filled.
pub struct Importer {
    store: Arc<dyn Store>,
    writer: Writer,
    bell: Arc<(Mutex<()>, Condvar)>,
    /// First slot of each message, in the order of the rows.
    messages: Vec<u64>,
    gathered_bytes: usize,
}

impl Importer {
    /// Begins a store in `folder`, in which there must be none. Waits for the disk.
    pub fn begin(folder: &Path) -> Result<Importer, Failure> {
        let (store, report) = super::open(folder)?;
        if report.chunks > 0 || report.live > 0 {
            return Err(Failure::Disk(format!("{} holds a store that is not empty", folder.display())));
        }
        let store: Arc<dyn Store> = Arc::new(store);
        let bell = Arc::new((Mutex::new(()), Condvar::new()));
        let rung = Arc::clone(&bell);
        let wake = Arc::new(move || {
            drop(rung.0.lock().unwrap_or_else(PoisonError::into_inner));
            rung.1.notify_all();
        });
        let writer = Writer::join(Arc::clone(&store), wake)?;
        Ok(Importer { store, writer, bell, messages: Vec::new(), gathered_bytes: 0 })
    }

    /// Adds a row. Waits for the disk now and then.
    pub fn add(&mut self, row: &Row) -> Result<(), Failure> {
        match row {
            Row::Session(row) => self.put(Space::SESSION, row.client_id.as_bytes(), &row.value()?),
            Row::Subscription(row) => {
                let (key, value) = row.entry()?;
                self.put(Space::SUBSCRIPTION, &key, &value);
            }
            Row::Control(row) => {
                let (name, value) = row.entry()?;
                self.put(Space::CONTROL, &name, value);
            }
            Row::Keyed(row) => self.put(Space(row.space), &row.key, &row.value),
            Row::Message(row) => self.message(Kind::Message, row)?,
            Row::Retained(row) => self.message(Kind::Retained, row)?,
            Row::Exchange(row) => self.exchange(row)?,
            Row::Raw(row) => self.raw(row)?,
        }
        match self.gathered_bytes >= PORTION_BYTES {
            true => self.hand_over(),
            false => Ok(()),
        }
    }

    /// Stores what is left and closes the store. Waits for the disk.
    pub fn finish(mut self) -> Result<(), Failure> {
        self.hand_over()?;
        self.store.close();
        Ok(())
    }

    fn put(&mut self, space: Space, key: &[u8], value: &[u8]) {
        self.gathered_bytes += key.len() + value.len();
        self.writer.put(space, key, value);
    }

    fn message(&mut self, kind: Kind, row: &RecordRow) -> Result<(), Failure> {
        let stored = row.message.stored()?;
        self.gathered_bytes += row.message.payload.len() + 64 * (1 + row.receivers.len());
        let receivers = read_all(&row.receivers)?;
        let mut record = self.writer.record(kind);
        let slots: Vec<Slot> = receivers.iter().map(|receiver| record.receiver(receiver)).collect();
        record.message(&stored);
        self.messages.push(slots[0].0);
        Ok(())
    }

    fn exchange(&mut self, row: &ExchangeRow) -> Result<(), Failure> {
        let named = STATES.into_iter().find(|(state, _)| *state == row.state);
        let (_, kind) = named.ok_or(Failure::Malformed("an exchange that is received, sent or released"))?;
        let mut record = self.writer.record(kind);
        record.receiver(&Receiver::of(row.session, QoS::AtMostOnce));
        let slot = row.message.and_then(|(number, place)| {
            let first = self.messages.get((number as usize).checked_sub(1)?)?;
            first.checked_add(u64::from(place))
        });
        match kind {
            Kind::Sent => record.finish(&durable::sent_body(row.packet_id, slot.unwrap_or(0))),
            _ => record.finish(&durable::packet_id_body(row.packet_id)),
        };
        self.gathered_bytes += 64;
        Ok(())
    }

    fn raw(&mut self, row: &RawRow) -> Result<(), Failure> {
        let kind = Kind::ALL.into_iter().find(|kind| *kind as u8 == row.kind);
        let kind = kind.ok_or(Failure::Malformed("a known kind of record"))?;
        self.gathered_bytes += row.body.len() + 64 * (1 + row.receivers.len());
        let receivers = read_all(&row.receivers)?;
        let mut record = self.writer.record(kind);
        for receiver in &receivers {
            record.receiver(receiver);
        }
        record.finish(&row.body);
        Ok(())
    }

    fn hand_over(&mut self) -> Result<(), Failure> {
        let ticket = self.writer.submit();
        self.gathered_bytes = 0;
        self.wait_for(ticket)
    }

    fn wait_for(&self, ticket: Ticket) -> Result<(), Failure> {
        let (lock, rung) = &*self.bell;
        let mut guard = lock.lock().unwrap_or_else(PoisonError::into_inner);
        while self.store.committed() < ticket {
            if let State::Refusing(why) = self.store.state() {
                return Err(Failure::Disk(why));
            }
            (guard, _) = rung.wait_timeout(guard, LOOK).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }
}

fn read_all(rows: &[ReceiverRow]) -> Result<Vec<Receiver<'_>>, Failure> {
    if rows.is_empty() {
        return Err(Failure::Malformed("at least one receiver"));
    }
    rows.iter().map(ReceiverRow::receiver).collect()
}
