//! Messages as the store gives them back, made into deliveries.
//!
//! Knows what a message's record says to one receiver. Must not know queues or who asks.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, mpsc};

use whimbrel_protocol::Message;
use whimbrel_protocol::session::Delivery;
use whimbrel_storage::{Failure, Fetch, Fetched, Found, Record, Slot, Store, StoredMessage};

/// One copy of each publisher's identifier, however many messages it sent.
#[derive(Default, Debug)]
pub(crate) struct Publishers {
    last: Option<Arc<str>>, // most messages come from whom the one before came from
    known: HashSet<Arc<str>>,
}

/// Identifiers that are remembered; then the memory begins anew.
const PUBLISHERS_MAX: usize = 1024;
/// Slots that are asked for at once.
const FETCH_MAX: usize = 1024;

impl Publishers {
    fn copy_of(&mut self, client_id: &str) -> Arc<str> {
        if let Some(last) = self.last.as_ref().filter(|last| ***last == *client_id) {
            return Arc::clone(last);
        }
        let known = self.known.get(client_id).cloned().unwrap_or_else(|| {
            if self.known.len() == PUBLISHERS_MAX {
                self.known.clear();
            }
            let client_id: Arc<str> = client_id.into();
            self.known.insert(Arc::clone(&client_id));
            client_id
        });
        self.last = Some(Arc::clone(&known));
        known
    }

    /// The message; None where its body cannot be read, and then nobody can be given it.
    pub(super) fn message(&mut self, record: &Record<'_>) -> Option<Arc<Message>> {
        let stored = StoredMessage::decode(record.body).ok()?;
        let client_id = self.copy_of(stored.client_id);
        Some(Arc::new(stored.to_message(client_id)))
    }

    /// What the receiver for whom it was fetched gets; None where its record cannot be read.
    pub(crate) fn delivery(&mut self, found: &Found) -> Option<Delivery> {
        let record = found.record();
        let receiver = record.receiver(found.slot)?;
        let identifiers: Vec<u32> = receiver.identifiers.iter().collect();
        Some(Delivery {
            message: self.message(&record)?,
            qos: receiver.qos,
            retain: receiver.retain,
            share: receiver.group,
            identifiers: (!identifiers.is_empty()).then(|| identifiers.into()),
            stored: found.slot.0,
        })
    }
}

/// The deliveries at these slots, as far as they can be read. Waits for the disk.
pub(super) fn read(store: &dyn Store, slots: Vec<Slot>) -> Result<HashMap<u64, Delivery>, Failure> {
    let (mut publishers, mut deliveries) = (Publishers::default(), HashMap::new());
    if slots.is_empty() {
        return Ok(deliveries);
    }
    let (wake, woken) = mpsc::channel();
    let (lane, _) = store.join(Arc::new(move || wake.send(()).unwrap_or_default()))?;
    for (token, slots) in (0..).zip(slots.chunks(FETCH_MAX)) {
        store.fetch(Fetch { lane, token, slots: slots.to_vec() });
        let mut answers: Vec<Fetched> = Vec::new();
        while answers.is_empty() && woken.recv().is_ok() {
            store.fetched(lane, &mut answers);
        }
        let found = answers.iter().flat_map(|answer| &answer.found);
        deliveries.extend(found.filter_map(|found| Some((found.slot.0, publishers.delivery(found)?))));
    }
    Ok(deliveries)
}
