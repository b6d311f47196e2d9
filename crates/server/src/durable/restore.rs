//! What a start finds in the store, put together again: sessions with their subscriptions and messages, retained messages.
//!
//! Knows how records belong to sessions. Must not know workers. Records of sessions that are gone, and what cannot be read,
//! are named as orphans, so that the store may forget them. Of a message that waits only what its queue must know is kept;
//! its body stays in the store.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use whimbrel_protocol::session::stubs::NEVER_MS;
use whimbrel_protocol::session::subscriptions::Subscription;
use whimbrel_protocol::session::{Delivery, QueueRules, Stub, Stubs};
use whimbrel_protocol::{Message, QoS};
use whimbrel_storage::{Failure, Kind, Record, Slot, Space, Store, StoredMessage, Visitor};

use super::bodies::{self, Publishers};
use super::record::{self, SessionRecord};
use crate::rows::KeptRow;

/// All of it.
#[derive(Default, Debug)]
pub(crate) struct Kept {
    pub(crate) sessions: Vec<KeptSession>,
    /// Retained messages and their slots, oldest first.
    pub(crate) retained: Vec<(Arc<Message>, u64)>,
    /// Slots that belong to nobody.
    pub(crate) orphans: Vec<u64>,
    pub(crate) highest_number: u32,
    /// Of the control plane: name and value, by name.
    pub(crate) rows: Vec<KeptRow>,
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
    /// What waits, by rising priority, oldest first; with those that are `inflight`. Most sessions have one priority.
    queued: Vec<(u16, Stubs)>,
    /// Slots of the messages that are in flight to anybody.
    taken: Arc<HashSet<u64>>,
    sent: Vec<(u64, Sent)>,
}

/// In flight: under this slot, this identifier.
#[derive(Clone, Copy, Debug)]
enum Sent {
    /// The message at this slot.
    Message(u16, u64),
    Released(u16),
}

/// Reads everything. Priorities are those of `rules`. Waits for the disk.
pub(crate) fn read_back(store: &dyn Store, rules: Option<Arc<QueueRules>>) -> Result<Kept, Failure> {
    let mut reading = Reading { rules, ..Reading::default() };
    store.replay(&mut reading)?;
    let slots = reading.sessions.values().flat_map(KeptSession::sent_slots).map(Slot).collect();
    let bodies = bodies::read(store, slots)?;
    Ok(reading.finish(bodies))
}

#[derive(Default)]
struct Reading {
    kept: Kept,
    rules: Option<Arc<QueueRules>>,
    sessions: HashMap<u32, KeptSession>,
    publishers: Publishers,
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
            Space::CONTROL => self.kept.rows.push((key.into(), value.into())),
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

    fn message(&mut self, record: &Record<'_>, live: &[Slot]) {
        let Ok(message) = StoredMessage::decode(record.body) else {
            // Nobody can be given it.
            return self.kept.orphans.extend(live.iter().map(|slot| slot.0));
        };
        let publication = &message.publication;
        let expires_ms = |expiry_s: u32| message.received_ms + u64::from(expiry_s) * 1000;
        let expires_ms = publication.expiry_s.map_or(NEVER_MS, expires_ms);
        let size = publication.size_bytes() as u32;
        let rules = self.rules.as_deref();
        let priority = rules.map_or(0, |rules| rules.priority(publication.topic.as_str().as_bytes()));
        let is_live = |slot: &Slot| live.binary_search(slot).is_ok();
        for (slot, receiver) in record.receivers().filter(|(slot, _)| is_live(slot)) {
            let stub = Stub { slot: slot.0, expires_ms, size, qos: receiver.qos };
            let session = self.sessions.entry(receiver.session as u32).or_default();
            session.queue_of(priority).push_back(stub);
        }
    }

    fn retained(&mut self, record: &Record<'_>, live: &[Slot]) {
        match self.publishers.message(record) {
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

    fn finish(mut self, mut bodies: HashMap<u64, Delivery>) -> Kept {
        let mut taken = HashSet::new();
        for session in self.sessions.values_mut() {
            session.gather_inflight(&mut bodies, &mut taken);
        }
        // A message of a group lies with the member that had it first. Where another one was sent it at QoS 2, that one
        // keeps it, and nobody else may get it [MQTT-4.8.2-5].
        let taken = Arc::new(taken);
        let mut sessions: Vec<(u32, KeptSession)> = std::mem::take(&mut self.sessions).into_iter().collect();
        sessions.sort_unstable_by_key(|(number, _)| *number); // The same store leads to the same start.
        for (_, mut session) in sessions {
            session.taken = Arc::clone(&taken);
            match session.client_id.is_empty() {
                // Its session is gone; a client identifier is never empty.
                true => self.kept.orphans.extend(session.slots()),
                false => self.kept.sessions.push(session),
            }
        }
        self.kept
    }
}

impl KeptSession {
    fn sent_slots(&self) -> impl Iterator<Item = u64> {
        self.sent.iter().filter_map(|(_, sent)| match sent {
            Sent::Message(_, at) => Some(*at),
            Sent::Released(_) => None,
        })
    }

    /// Puts together what was in flight. Where a message was stored for nobody, or cannot be read, its client may have it all
    /// the same: its identifier is released before it means another message.
    fn gather_inflight(&mut self, bodies: &mut HashMap<u64, Delivery>, taken: &mut HashSet<u64>) {
        for (slot, sent) in std::mem::take(&mut self.sent) {
            match sent {
                Sent::Released(packet_id) => self.inflight.push((packet_id, None, slot)),
                Sent::Message(packet_id, at) => {
                    taken.insert(at);
                    let delivery = bodies.remove(&at);
                    let delivery = delivery.map(|delivery| Delivery { qos: QoS::ExactlyOnce, ..delivery });
                    self.inflight.push((packet_id, delivery, slot));
                }
            }
        }
    }

    fn queue_of(&mut self, priority: u16) -> &mut Stubs {
        let place = self.queued.binary_search_by_key(&priority, |(known, _)| *known).unwrap_or_else(|place| {
            self.queued.reserve_exact(1);
            self.queued.insert(place, (priority, Stubs::default()));
            place
        });
        &mut self.queued[place].1
    }

    /// Takes all that waits, oldest first in each priority.
    pub(crate) fn queued(&mut self) -> impl Iterator<Item = (u16, Stub)> {
        let (queued, taken) = (std::mem::take(&mut self.queued), Arc::clone(&self.taken));
        let stubs = queued.into_iter().flat_map(|(priority, mut stubs)| {
            std::iter::from_fn(move || stubs.pop_front()).map(move |stub| (priority, stub))
        });
        stubs.filter(move |(_, stub)| !taken.contains(&stub.slot))
    }

    fn slots(&mut self) -> Vec<u64> {
        let mut slots: Vec<u64> = self.received.iter().map(|(_, slot)| *slot).collect();
        for (_, delivery, slot) in &self.inflight {
            slots.extend(delivery.as_ref().map(|delivery| delivery.stored));
            slots.push(*slot);
        }
        slots.extend(self.queued().map(|(_, stub)| stub.slot));
        slots
    }
}

#[cfg(test)]
mod tests {
    use whimbrel_protocol::QoS;
    use whimbrel_protocol::message::Publication;
    use whimbrel_protocol::properties::Properties;
    use whimbrel_protocol::topic::Topic;
    use whimbrel_storage::{Memory, Receiver, Writer};

    use super::*;

    fn message(writer: &mut Writer, topic: &str, session: u64) -> u64 {
        let topic = Topic::new(topic).unwrap();
        let publication = Publication {
            topic,
            properties: Properties::default(),
            expiry_s: Some(5),
            payload: topic.as_str().as_bytes(),
        };
        let mut record = writer.record(Kind::Message);
        let slot = record.receiver(&Receiver::of(session, QoS::ExactlyOnce)).0;
        record.message(&StoredMessage::new(publication, (QoS::ExactlyOnce, false), "p", 1_000));
        slot
    }

    fn sent(writer: &mut Writer, packet_id: u16, at: u64) -> u64 {
        let mut record = writer.record(Kind::Sent);
        let slot = record.receiver(&Receiver::of(7, QoS::AtMostOnce)).0;
        record.finish(&record::sent_body(packet_id, at));
        slot
    }

    #[test]
    fn what_was_in_flight_has_its_body_and_what_waits_is_told_by_its_slot() {
        let store: Arc<dyn Store> = Arc::new(Memory::new());
        let mut writer = Writer::join(Arc::clone(&store), Arc::new(|| {})).unwrap();
        let mut bytes = Vec::new();
        let session = SessionRecord { number: 7, expiry_s: 60, disconnected_ms: 9, username: None, will: None };
        session.encode(&mut bytes);
        writer.put(Space::SESSION, b"s", &bytes);
        let topics = ["low", "high", "low", "high"];
        let slots = topics.map(|topic| message(&mut writer, topic, 7));
        let in_flight = sent(&mut writer, 3, slots[2]);
        let about_nothing = sent(&mut writer, 4, 1 << 40);
        let of_nobody = message(&mut writer, "low", 8);
        writer.submit();
        let rules = QueueRules { priorities: [("high".into(), 9)].into(), ..QueueRules::default() };
        let mut kept = read_back(&*store, Some(Arc::new(rules))).unwrap();
        assert_eq!((kept.orphans, kept.sessions.len()), (vec![of_nobody], 1));
        let session = &mut kept.sessions[0];
        let (released, delivery, slot) = session.inflight.pop().unwrap();
        assert_eq!((released, delivery.is_none(), slot), (4, true, about_nothing), "it may have come all the same");
        let (packet_id, delivery, slot) = session.inflight.remove(0);
        let delivery = delivery.unwrap();
        assert_eq!(
            (packet_id, slot, delivery.stored, delivery.message.payload()),
            (3, in_flight, slots[2], &b"low"[..])
        );
        let queued: Vec<(u16, u64, u64)> =
            session.queued().map(|(priority, stub)| (priority, stub.slot, stub.expires_ms)).collect();
        assert_eq!(queued, [(0, slots[0], 6_000), (9, slots[1], 6_000), (9, slots[3], 6_000)]);
    }
}
