//! Retained messages for new subscriptions (MQTT 5.0 section 3.3.1.3), in steps.
//!
//! Knows, for each session, which filters are still to be served and how far the present one has come. A step looks at a
//! bounded number of topics and sends what the store holds at that moment, only while the client's window and outbox have
//! room: a subscription to everything costs other clients a step a turn, the receiver no queue, and no value is sent that
//! is older than one sent before. A client that leaves meanwhile goes on when its session is resumed.
//!
//! The store knows which subscriptions of a durable session are owed a replay, so that it goes on after a crash. At QoS 1 it
//! begins anew, until everything that it sent is acknowledged: a message may come twice. At QoS 2 each step says how far it
//! has come, together with the messages that it sends, which are stored. At QoS 0 nothing is owed.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

use whimbrel_protocol::session::subscriptions::Subscription;
use whimbrel_protocol::session::{Delivery, DropReason, Offered};
use whimbrel_protocol::{Filter, Message, QoS};
use whimbrel_router::Progress;

use super::Worker;

/// Topics looked at in one step.
const STEP_TOPICS: usize = 256;
/// Steps of one turn, each for another session.
const STEPS_MAX: usize = 32;

/// What one session is still to be sent.
#[derive(Default, Debug)]
pub(super) struct Replays {
    current: Option<Box<str>>,
    /// How far the current filter has come; None: at its start.
    after: Option<Box<[u8]>>,
    pending: BTreeSet<Box<str>>,
    /// Filters of which everything is sent, and the identifier before which everything must be acknowledged.
    unconfirmed: Vec<(Box<str>, u16)>,
    /// Whether the worker has the session on its list.
    is_listed: bool,
}

impl Replays {
    /// A filter was subscribed to; one that is being served starts anew.
    pub(super) fn add(&mut self, filter: Filter<'_>) {
        self.remove(filter);
        self.pending.insert(filter.as_str().into());
    }

    /// A filter was unsubscribed from.
    pub(super) fn remove(&mut self, filter: Filter<'_>) {
        self.pending.remove(filter.as_str());
        self.unconfirmed.retain(|(known, _)| **known != *filter.as_str());
        if self.current.as_deref() == Some(filter.as_str()) {
            (self.current, self.after) = (None, None);
        }
    }

    /// A filter whose replay had come behind the topic `after` (empty: nowhere) when the broker ended.
    pub(super) fn restore(&mut self, filter: Filter<'_>, after: &[u8]) {
        if after.is_empty() || self.current.is_some() {
            self.pending.insert(filter.as_str().into());
        } else {
            (self.current, self.after) = (Some(filter.as_str().into()), Some(after.into()));
        }
    }

    /// Behind which topic (empty: from the first on) the store must know that this filter, subscribed to at `qos`, is owed a
    /// replay.
    pub(super) fn owed(&self, filter: Filter<'_>, qos: QoS) -> Option<&[u8]> {
        let is_current = self.current.as_deref() == Some(filter.as_str());
        let is_sent = || self.unconfirmed.iter().any(|(known, _)| **known == *filter.as_str());
        match qos {
            QoS::AtMostOnce => None,
            QoS::ExactlyOnce if is_current => Some(self.after.as_deref().unwrap_or_default()),
            _ => (is_current || self.pending.contains(filter.as_str()) || is_sent()).then_some(&[]),
        }
    }

    /// Nothing is left to send.
    fn is_empty(&self) -> bool {
        self.current.is_none() && self.pending.is_empty()
    }

    fn note(&mut self, progress: Progress) {
        match progress {
            Progress::Done => (self.current, self.after) = (None, None),
            Progress::After(topic) => self.after = Some(topic),
            Progress::Unmoved => {}
        }
    }
}

impl Worker {
    /// Puts a connected session with something to replay on the list; one without room leaves it again and is put back
    /// with what makes room: an acknowledgement or a writable socket.
    #[inline]
    pub(super) fn go_on_replaying(&mut self, slot: u32) {
        let Some(seat) = self.sessions.get_mut(slot) else { return };
        let Some(replays) = seat.replays.as_mut() else { return };
        if !replays.is_listed && !replays.is_empty() {
            replays.is_listed = true;
            self.replaying.push_back((slot, seat.epoch));
        }
        self.confirm_replays(slot);
    }

    /// What was sent and is acknowledged is owed no more.
    fn confirm_replays(&mut self, slot: u32) {
        let Some(seat) = self.sessions.get_mut(slot) else { return };
        let (outbound, Some(replays)) = (&seat.session.outbound, &mut seat.replays) else { return };
        let settled = replays.unconfirmed.extract_if(.., |(_, next_id)| outbound.has_settled(*next_id));
        let settled: Vec<Box<str>> = settled.map(|(filter, _)| filter).collect();
        seat.replays.take_if(|replays| replays.is_empty() && replays.unconfirmed.is_empty() && !replays.is_listed);
        for filter in settled.iter().filter_map(|filter| Filter::new(filter).ok()) {
            self.put_filter(slot, filter);
        }
    }

    pub(super) fn step_replays(&mut self) {
        for _ in 0..self.replaying.len().min(STEPS_MAX) {
            let Some((slot, epoch)) = self.replaying.pop_front() else { return };
            let Some(seat) = self.sessions.live(slot, epoch) else { continue };
            let Some(mut replays) = seat.replays.take() else { continue };
            let client = seat.client;
            // An absent client's replays wait in its seat for the next connection.
            let has_room = client.is_some_and(|client| self.has_room_for(client, slot));
            let stepped = client.filter(|_| has_room).and_then(|client| self.step(client, slot, &mut replays));
            replays.is_listed = has_room && !replays.is_empty();
            if replays.is_listed {
                self.replaying.push_back((slot, epoch));
            }
            let is_over = replays.is_empty() && replays.unconfirmed.is_empty();
            if let Some(seat) = self.sessions.live(slot, epoch).filter(|_| !is_over) {
                seat.replays = Some(replays);
            }
            if let Some(filter) = stepped.as_deref().and_then(|filter| Filter::new(filter).ok()) {
                self.put_filter(slot, filter);
            }
        }
    }

    /// Goes on with one filter; that filter, if the store must hear how far it has come.
    fn step(&mut self, client: u32, slot: u32, replays: &mut Replays) -> Option<Box<str>> {
        if replays.current.is_none() {
            replays.current = replays.pending.pop_first();
        }
        let current = replays.current.clone()?;
        let filter = Filter::new(&current).ok()?;
        let seat = self.sessions.get(slot)?;
        let is_durable = seat.durable != 0;
        let Some(subscription) = seat.session.subscriptions.get(filter).copied() else {
            replays.note(Progress::Done);
            return None;
        };
        let shared = Arc::clone(&self.shared);
        let retained = shared.router.retained.read().unwrap_or_else(PoisonError::into_inner);
        let progress = retained.visit(filter, replays.after.as_deref(), STEP_TOPICS, |message| {
            let has_room = self.has_room_for(client, slot);
            if has_room {
                self.replay_one((client, slot), &subscription, message);
            }
            has_room
        });
        drop(retained);
        let (is_done, has_moved) = (matches!(progress, Progress::Done), !matches!(progress, Progress::Unmoved));
        replays.note(progress);
        match subscription.options.qos {
            QoS::ExactlyOnce if is_durable => Some(current).filter(|_| has_moved),
            QoS::AtLeastOnce if is_durable && is_done => {
                let outbound = &self.sessions.get(slot)?.session.outbound;
                let is_settled = outbound.inflight_count() == 0;
                replays.unconfirmed.extend((!is_settled).then(|| (current.clone(), outbound.next_id())));
                is_settled.then_some(current)
            }
            _ => None,
        }
    }

    fn has_room_for(&self, client: u32, slot: u32) -> bool {
        let outbound = self.sessions.get(slot).map(|seat| &seat.session.outbound);
        outbound.is_some_and(|outbound| outbound.has_window() && !outbound.has_waiting())
            && self.clients[client as usize].has_room()
    }

    fn replay_one(&mut self, (client, slot): (u32, u32), subscription: &Subscription, message: &Arc<Message>) {
        self.counts.deliveries_wanted += 1;
        self.counts.deliveries_made += 1;
        if message.is_expired(self.now.steady_ms) {
            return self.count_drop(DropReason::Expired);
        }
        let qos = message.qos.min(subscription.options.qos);
        let identifiers = (subscription.identifier != 0).then(|| Arc::from([subscription.identifier]));
        // Sent because of a subscription: the flag is 1 [MQTT-3.3.1-8].
        let mut delivery =
            Delivery { message: Arc::clone(message), qos, retain: true, share: 0, identifiers, stored: 0 };
        delivery.stored = self.store_replayed(slot, &delivery, subscription.options.qos);
        let Some(seat) = self.sessions.get_mut(slot) else {
            self.keeper.release(delivery.stored);
            return self.count_drop(DropReason::SessionEnded);
        };
        let offered = seat.session.outbound.offer(qos, true, || delivery.clone());
        match offered {
            Offered::Send(packet_id) if !self.send_delivery(client, packet_id, &delivery, false) => {
                self.abandon(slot, packet_id);
            }
            offered => self.count_offer(offered),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::super::alone;

    #[test]
    fn a_client_without_room_leaves_the_list_and_is_back_with_each_acknowledgement() {
        let mut worker = alone::worker_of(vec![alone::listener()]);
        for number in 0..10 {
            worker.shared.router.retained.write().unwrap().store(alone::message_to(&format!("t/{number}"), None, 0));
        }
        let mut client = alone::client(&mut worker);
        // Receive Maximum 1.
        client.write_all(b"\x10\x11\x00\x04MQTT\x05\x02\x00\x00\x03\x21\x00\x01\x00\x01c").unwrap();
        client.write_all(b"\x82\x07\x00\x01\x00\x00\x01#\x01").unwrap();
        worker.turn();
        let mut packet = [0; 2];
        for expected in [0x20, 0x90] {
            client.read_exact(&mut packet).unwrap();
            assert_eq!(packet[0], expected);
            client.read_exact(&mut vec![0; usize::from(packet[1])]).unwrap();
        }
        for number in 0..10_u8 {
            let mut publish = [0; 11];
            client.read_exact(&mut publish).unwrap();
            assert_eq!((publish[0], publish[6]), (0x33, b'0' + number));
            worker.step_replays();
            assert!(worker.replaying.is_empty(), "its window is full");
            client.write_all(&[0x40, 2, publish[7], publish[8]]).unwrap();
            worker.turn();
            if !worker.replaying.is_empty() {
                worker.turn();
            }
        }
    }
}
