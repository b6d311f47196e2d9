//! A message on its way through a worker: borrowed as long as it can be, owned once it must wait, travel or reach a tap.
//!
//! Knows where it comes from and what the store knows of it. Does not know who wants it.

use std::sync::Arc;

use whimbrel_protocol::message::{Origin, Publication};
use whimbrel_protocol::{Message, QoS, Topic};
use whimbrel_router::Target;

use super::Now;
use super::durable::is_stored;

/// A message on its way through a worker.
pub(super) struct Passing<'a> {
    pub(super) publication: Publication<'a>,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) client_id: Option<Arc<str>>,
    /// Slot of the publishing session, for No Local; None for messages from inside.
    pub(super) publisher: Option<u32>,
    pub(super) received_ms: u64,
    /// One of the broker's own: most counters pass it over.
    pub(super) is_sys: bool,
    pub(super) owned: Option<Arc<Message>>,
    /// Slot of the next durable target in the message's record; 0: there is none.
    pub(super) next_slot: u64,
    /// The store's slot of a message of a group, which goes with it from member to member; 0: none.
    pub(super) parcel_slot: u64,
    /// Whether at QoS 2 it must not leave before the commit of what was gathered so far.
    pub(super) is_held: bool,
}

impl<'a> Passing<'a> {
    pub(super) fn from_message(message: &'a Arc<Message>, now: Now) -> Passing<'a> {
        Passing {
            publication: message.publication(now.steady_ms),
            qos: message.qos,
            retain: message.retain,
            client_id: None,
            publisher: None,
            received_ms: now.steady_ms,
            is_sys: message.topic().is_sys(),
            owned: Some(Arc::clone(message)),
            next_slot: 0,
            parcel_slot: 0,
            is_held: false,
        }
    }

    pub(super) fn publication(&self) -> Publication<'a> {
        self.publication
    }

    pub(super) fn received_ms(&self) -> u64 {
        self.received_ms
    }

    /// The store's slot for this target; 0: none.
    #[inline]
    pub(super) fn take_slot(&mut self, target: &Target) -> u64 {
        if self.next_slot == 0 || !is_stored(self.qos, target, self.publisher) {
            return 0;
        }
        self.next_slot += 1;
        self.next_slot - 1
    }

    pub(super) fn publisher(&self) -> Option<u32> {
        self.publisher
    }

    pub(super) fn qos(&self) -> QoS {
        self.qos
    }

    pub(super) fn retain(&self) -> bool {
        self.retain
    }

    pub(super) fn topic(&self) -> Topic<'a> {
        self.publication.topic
    }

    /// Client identifier of the publisher; empty for a message from inside.
    pub(super) fn publisher_id(&self) -> &str {
        let owner = || self.owned.as_ref().map(|message| &*message.origin.client_id);
        self.client_id.as_deref().or_else(owner).unwrap_or_default()
    }

    pub(super) fn owned(&mut self) -> Arc<Message> {
        let owned = self.owned.get_or_insert_with(|| {
            let client_id = self.client_id.clone().unwrap_or_else(|| Arc::from(""));
            let origin = Origin { client_id, received_ms: self.received_ms };
            Arc::new(Message::new(&self.publication, self.qos, self.retain, origin))
        });
        Arc::clone(owned)
    }
}
