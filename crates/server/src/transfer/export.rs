//! From a store to rows: sessions, subscriptions and other values by their keys, messages, then identifiers in use.
//!
//! Knows the order, which is that of the store and does not depend on its slots, so that a store filled with these rows
//! gives the same ones. Looks at the store three times instead of keeping anything but identifiers in memory.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use whimbrel_storage::{Failure, Kind, Receiver, Record, Report, Slot, Space, Statistics, Store, Visitor};

use super::rows::STATES;
use super::{
    ControlRow, ExchangeRow, KeyedRow, MessageRow, RawRow, ReceiverRow, RecordRow, Row, SessionRow, SubscriptionRow,
};
use crate::durable;

/// What is in a store.
#[derive(Clone, Default, Debug)]
pub struct Survey {
    /// What was damaged when it was opened, one sentence each.
    pub damaged: Vec<String>,
    /// Its figures.
    pub statistics: Statistics,
    /// Durable sessions.
    pub sessions: u64,
    /// Their subscriptions.
    pub subscriptions: u64,
    /// Stored messages, retained ones not among them.
    pub messages: u64,
    /// Deliveries that wait or are in flight.
    pub deliveries: u64,
    /// Retained messages.
    pub retained: u64,
    /// Packet identifiers in use.
    pub exchanges: u64,
    /// Rows of the control plane, by what they belong to.
    pub families: BTreeMap<String, u64>,
    /// Values of families of keys that this version does not know.
    pub others: u64,
    /// Records and values that cannot be read.
    pub unreadable: u64,
}

/// Shows every row of the store in `folder` to `see`; what was damaged comes back. Waits for the disk.
pub fn export(folder: &Path, mut see: impl FnMut(Row)) -> Result<Vec<String>, Failure> {
    let (store, report) = super::open(folder)?;
    show(&store, &mut see)?;
    store.close();
    Ok(report.damaged)
}

/// Counts what is in the store in `folder`. Waits for the disk.
pub fn survey(folder: &Path) -> Result<Survey, Failure> {
    let (store, Report { damaged, .. }) = super::open(folder)?;
    let mut found = Survey { damaged, statistics: store.statistics(), ..Survey::default() };
    show(&store, &mut |row| found.count(&row))?;
    store.close();
    Ok(found)
}

fn show(store: &dyn Store, see: &mut dyn FnMut(Row)) -> Result<(), Failure> {
    let mut referred = Referred::default();
    store.replay(&mut Values { see, referred: &mut referred })?;
    store.replay(&mut Messages { see, referred: &mut referred, count: 0 })?;
    store.replay(&mut Exchanges { see, referred: &referred })
}

impl Survey {
    fn count(&mut self, row: &Row) {
        match row {
            Row::Session(_) => self.sessions += 1,
            Row::Subscription(_) => self.subscriptions += 1,
            Row::Control(row) => *self.families.entry(row.family.clone()).or_default() += 1,
            Row::Keyed(row) if row.space == durable::MARK_SPACE.0 => {} // The broker's own.
            Row::Keyed(row) if row.space <= Space::CONTROL.0 => self.unreadable += 1,
            Row::Keyed(_) => self.others += 1,
            Row::Message(row) => {
                self.messages += 1;
                self.deliveries += row.receivers.len() as u64;
            }
            Row::Retained(_) => self.retained += 1,
            Row::Exchange(_) => self.exchanges += 1,
            Row::Raw(_) => self.unreadable += 1,
        }
    }
}

/// Slots of messages that are in flight, and where their rows are: number of the message and of its receiver.
type Referred = HashMap<u64, Option<(u64, u32)>>;

/// First: what has a key, and which messages are in flight.
struct Values<'a> {
    see: &'a mut dyn FnMut(Row),
    referred: &'a mut Referred,
}

impl Visitor for Values<'_> {
    fn record(&mut self, record: &Record<'_>, _: &[Slot]) {
        if let (Kind::Sent, Some((_, at))) = (record.kind, durable::sent(record.body)) {
            self.referred.insert(at, None);
        }
    }

    fn keyed(&mut self, space: Space, key: &[u8], value: &[u8]) {
        let read = match space {
            Space::SESSION => SessionRow::read(key, value).map(Row::Session),
            Space::SUBSCRIPTION => SubscriptionRow::read(key, value).map(Row::Subscription),
            Space::CONTROL => ControlRow::read(key, value).map(Row::Control),
            _ => None,
        };
        let bytes = || Row::Keyed(KeyedRow { space: space.0, key: key.to_vec(), value: value.to_vec() });
        (self.see)(read.unwrap_or_else(bytes));
    }
}

/// Second: messages.
struct Messages<'a> {
    see: &'a mut dyn FnMut(Row),
    referred: &'a mut Referred,
    count: u64,
}

impl Visitor for Messages<'_> {
    fn record(&mut self, record: &Record<'_>, live: &[Slot]) {
        if !matches!(record.kind, Kind::Message | Kind::Retained) {
            return;
        }
        let Some(message) = MessageRow::read(record.body) else { return (self.see)(raw(record, live)) };
        self.count += 1;
        for (place, slot) in (0..).zip(live) {
            self.referred.entry(slot.0).and_modify(|found| *found = Some((self.count, place)));
        }
        let row = RecordRow { receivers: receivers(record, live), message };
        (self.see)(if record.kind == Kind::Message { Row::Message(row) } else { Row::Retained(row) });
    }

    fn keyed(&mut self, _: Space, _: &[u8], _: &[u8]) {}
}

/// Third: identifiers in use, and what else there is.
struct Exchanges<'a> {
    see: &'a mut dyn FnMut(Row),
    referred: &'a Referred,
}

impl Visitor for Exchanges<'_> {
    fn record(&mut self, record: &Record<'_>, live: &[Slot]) {
        if matches!(record.kind, Kind::Message | Kind::Retained) {
            return;
        }
        let row = self.exchange(record).map(Row::Exchange);
        (self.see)(row.unwrap_or_else(|| raw(record, live)));
    }

    fn keyed(&mut self, _: Space, _: &[u8], _: &[u8]) {}
}

impl Exchanges<'_> {
    fn exchange(&self, record: &Record<'_>) -> Option<ExchangeRow> {
        let (_, receiver) = record.receivers().next()?;
        let is_plain = record.receivers == 1 && receiver == Receiver::of(receiver.session, receiver.qos);
        let (state, _) = STATES.into_iter().find(|(_, kind)| *kind == record.kind)?;
        let (packet_id, message) = match record.kind {
            Kind::Sent => {
                let (packet_id, at) = durable::sent(record.body)?;
                (packet_id, self.referred.get(&at).copied().flatten())
            }
            _ => (durable::packet_id(record.body)?, None),
        };
        let is_whole = record.body.len() == if record.kind == Kind::Sent { 10 } else { 2 };
        (is_plain && is_whole).then_some(ExchangeRow { state, session: receiver.session, packet_id, message })
    }
}

fn receivers(record: &Record<'_>, live: &[Slot]) -> Vec<ReceiverRow> {
    let live = record.receivers().filter(|(slot, _)| live.binary_search(slot).is_ok());
    live.map(|(_, receiver)| ReceiverRow::of(&receiver)).collect()
}

fn raw(record: &Record<'_>, live: &[Slot]) -> Row {
    Row::Raw(RawRow { kind: record.kind as u8, receivers: receivers(record, live), body: record.body.to_vec() })
}
