//! What a start finds in the store, put together again: sessions with their subscriptions and messages, retained messages.
//!
//! Knows how records belong to sessions. Must not know workers. Records of sessions that are gone, and what cannot be read,
//! are named as orphans, so that the store may forget them.

use std::collections::HashMap;
use std::sync::Arc;

use whimbrel_protocol::Message;
use whimbrel_protocol::session::Delivery;
use whimbrel_protocol::session::subscriptions::Subscription;
use whimbrel_storage::{Failure, Kind, Receiver, Record, Slot, Space, Store, StoredMessage, Visitor};

use super::record::{self, SessionRecord};

/// All of it.
#[derive(Default, Debug)]
pub(crate) struct Kept {
    pub(crate) sessions: Vec<KeptSession>,
    /// Retained messages and their slots, oldest first.
    pub(crate) retained: Vec<(Arc<Message>, u64)>,
    /// Slots that belong to nobody.
    pub(crate) orphans: Vec<u64>,
    pub(crate) highest_number: u32,
}

/// A session as it was.
#[derive(Default, Debug)]
pub(crate) struct KeptSession {
    pub(crate) client_id: Arc<str>,
    pub(crate) number: u32,
    pub(crate) expiry_s: u32,
    /// Unix milliseconds; 0: it had a connection.
    pub(crate) disconnected_ms: u64,
    pub(crate) username: Option<Box<str>>,
    pub(crate) will: Option<(Arc<Message>, u32)>,
    pub(crate) subscriptions: Vec<(Box<str>, Subscription)>,
    /// Identifiers of QoS 2 messages whose PUBREL is still to come, and their slots.
    pub(crate) received: Vec<(u16, u64)>,
    /// In flight at QoS 2, in their order: identifier, message (None: PUBREC had come), slot.
    pub(crate) inflight: Vec<(u16, Option<Delivery>, u64)>,
    /// What else waits, oldest first.
    pub(crate) queued: Vec<Delivery>,
    sent: Vec<(u64, Sent)>,
}

/// In flight: under this slot, this identifier.
#[derive(Clone, Copy, Debug)]
enum Sent {
    /// The message at this slot.
    Message(u16, u64),
    Released(u16),
}

/// Reads everything. Waits for the disk.
pub(crate) fn read_back(store: &dyn Store) -> Result<Kept, Failure> {
    let mut reading = Reading::default();
    store.replay(&mut reading)?;
    Ok(reading.finish())
}

#[derive(Default)]
struct Reading {
    kept: Kept,
    sessions: HashMap<u32, KeptSession>,
    publishers: HashMap<Box<str>, Arc<str>>, // one copy of each identifier, however many messages it sent
}

impl Visitor for Reading {
    fn record(&mut self, record: &Record<'_>, live: &[Slot]) {
        match record.kind {
            Kind::Message => self.message(record, live),
            Kind::Retained => self.retained(record, live),
            Kind::Received | Kind::Sent | Kind::Released => self.exchange(record, live),
            Kind::Other => self.kept.orphans.extend(live.iter().map(|slot| slot.0)),
        }
    }

    fn keyed(&mut self, space: Space, key: &[u8], value: &[u8]) {
        match space {
            Space::SESSION => drop(self.session(key, value)),
            Space::SUBSCRIPTION => drop(self.subscription(key, value)),
            _ => {}
        }
    }
}

impl Reading {
    fn session(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let found = SessionRecord::decode(value)?;
        let client_id: Arc<str> = std::str::from_utf8(key).ok()?.into();
        self.kept.highest_number = self.kept.highest_number.max(found.number);
        let will = found.will.map(|(will, delay_s)| (Arc::new(will.to_message(Arc::clone(&client_id))), delay_s));
        let session = self.sessions.entry(found.number).or_default();
        session.client_id = client_id;
        session.number = found.number;
        session.expiry_s = found.expiry_s;
        session.disconnected_ms = found.disconnected_ms;
        session.username = found.username.map(Into::into);
        session.will = will;
        Some(())
    }

    fn subscription(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let (number, filter) = record::subscription_key(key)?;
        let subscription = record::subscription(value)?;
        self.sessions.entry(number).or_default().subscriptions.push((filter.into(), subscription));
        Some(())
    }

    /// The message; None where its body cannot be read, and then nobody can be given it.
    fn owned(&mut self, record: &Record<'_>) -> Option<Arc<Message>> {
        let stored = StoredMessage::decode(record.body).ok()?;
        let known = self.publishers.get(stored.client_id).cloned();
        let client_id = known.unwrap_or_else(|| {
            let client_id: Arc<str> = stored.client_id.into();
            self.publishers.insert(stored.client_id.into(), Arc::clone(&client_id));
            client_id
        });
        Some(Arc::new(stored.to_message(client_id)))
    }

    fn message(&mut self, record: &Record<'_>, live: &[Slot]) {
        let Some(message) = self.owned(record) else {
            return self.kept.orphans.extend(live.iter().map(|slot| slot.0));
        };
        let is_live = |slot: &Slot| live.binary_search(slot).is_ok();
        for (slot, receiver) in record.receivers().filter(|(slot, _)| is_live(slot)) {
            let delivery = delivery_of(&message, &receiver, slot);
            self.sessions.entry(receiver.session as u32).or_default().queued.push(delivery);
        }
    }

    fn retained(&mut self, record: &Record<'_>, live: &[Slot]) {
        match self.owned(record) {
            Some(message) => self.kept.retained.push((message, live[0].0)),
            None => self.kept.orphans.extend(live.iter().map(|slot| slot.0)),
        }
    }

    fn exchange(&mut self, record: &Record<'_>, live: &[Slot]) {
        let slot = live[0].0;
        let Some((_, receiver)) = record.receivers().next() else { return };
        let session = self.sessions.entry(receiver.session as u32).or_default();
        let packet_id = record::packet_id(record.body);
        match (record.kind, packet_id, record::sent(record.body)) {
            (Kind::Received, Some(packet_id), _) => session.received.push((packet_id, slot)),
            (Kind::Released, Some(packet_id), _) => session.sent.push((slot, Sent::Released(packet_id))),
            (Kind::Sent, _, Some((packet_id, at))) => session.sent.push((slot, Sent::Message(packet_id, at))),
            _ => self.kept.orphans.push(slot),
        }
    }

    fn finish(mut self) -> Kept {
        self.hand_over_sent();
        let mut sessions: Vec<(u32, KeptSession)> = std::mem::take(&mut self.sessions).into_iter().collect();
        sessions.sort_unstable_by_key(|(number, _)| *number); // The same store leads to the same start.
        for (_, mut session) in sessions {
            session.gather_inflight();
            match session.client_id.is_empty() {
                // Its session is gone; a client identifier is never empty.
                true => self.kept.orphans.extend(session.slots()),
                false => self.kept.sessions.push(session),
            }
        }
        self.kept
    }
}

impl Reading {
    /// A message of a group lies with the member that had it first. Where another one was sent it at QoS 2, that one keeps
    /// it, and nobody else may get it [MQTT-4.8.2-5].
    fn hand_over_sent(&mut self) {
        let strangers = self.sessions.values().flat_map(KeptSession::sent_elsewhere);
        let wanted: HashMap<u64, u32> = strangers.collect();
        if wanted.is_empty() {
            return;
        }
        let mut moved = Vec::new();
        for session in self.sessions.values_mut() {
            moved.extend(session.queued.extract_if(.., |queued| wanted.contains_key(&queued.stored)));
        }
        for delivery in moved {
            let session = self.sessions.entry(wanted[&delivery.stored]).or_default();
            session.queued.push(Delivery { qos: delivery.message.qos, ..delivery });
        }
    }
}

impl KeptSession {
    /// Slots of messages in flight that lie with another session, and the number of this one.
    fn sent_elsewhere(&self) -> impl Iterator<Item = (u64, u32)> + '_ {
        let sent = self.sent.iter().filter_map(|(_, sent)| match sent {
            Sent::Message(_, at) => Some(*at),
            Sent::Released(_) => None,
        });
        let elsewhere = sent.filter(|at| self.queued.iter().all(|queued| queued.stored != *at));
        elsewhere.map(|at| (at, self.number))
    }

    /// Takes what was in flight out of the queue. Where a message was stored for nobody (a retained one that a subscription
    /// brought), its client may have it all the same: its identifier is released before it means another message.
    fn gather_inflight(&mut self) {
        for (slot, sent) in std::mem::take(&mut self.sent) {
            match sent {
                Sent::Released(packet_id) => self.inflight.push((packet_id, None, slot)),
                Sent::Message(packet_id, at) => {
                    let place = self.queued.iter().position(|queued| queued.stored == at);
                    let delivery = place.map(|place| self.queued.remove(place));
                    self.inflight.push((packet_id, delivery, slot));
                }
            }
        }
    }

    fn slots(&self) -> impl Iterator<Item = u64> + '_ {
        let queued = self.queued.iter().map(|queued| queued.stored);
        let received = self.received.iter().map(|(_, slot)| *slot);
        let inflight = self.inflight.iter();
        let messages =
            inflight.clone().filter_map(|(_, delivery, _)| delivery.as_ref()).map(|delivery| delivery.stored);
        queued.chain(received).chain(messages).chain(inflight.map(|(.., slot)| *slot))
    }
}

fn delivery_of(message: &Arc<Message>, receiver: &Receiver<'_>, slot: Slot) -> Delivery {
    let identifiers: Vec<u32> = receiver.identifiers.iter().collect();
    Delivery {
        message: Arc::clone(message),
        qos: receiver.qos,
        retain: receiver.retain,
        share: 0,
        identifiers: (!identifiers.is_empty()).then(|| identifiers.into()),
        stored: slot.0,
    }
}
