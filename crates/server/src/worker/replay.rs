//! Retained messages for new subscriptions (MQTT 5.0 section 3.3.1.3), in steps.
//!
//! Knows, for each session, which filters are still to be served and how far the present one has come. A step looks at a
//! bounded number of topics and sends what the store holds at that moment, only while the client's window and outbox have
//! room: a subscription to everything costs other clients a step a turn, the receiver no queue, and no value is sent that
//! is older than one sent before. A client that leaves meanwhile goes on when its session is resumed.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

use whimbrel_protocol::session::subscriptions::Subscription;
use whimbrel_protocol::session::{Delivery, DropReason, Offered};
use whimbrel_protocol::{Filter, Message};
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
        if self.current.as_deref() == Some(filter.as_str()) {
            (self.current, self.after) = (None, None);
        }
    }

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
        let Some(replays) = seat.replays.as_mut().filter(|replays| !replays.is_listed && !replays.is_empty()) else {
            return;
        };
        replays.is_listed = true;
        self.replaying.push_back((slot, seat.epoch));
    }

    pub(super) fn step_replays(&mut self) {
        for _ in 0..self.replaying.len().min(STEPS_MAX) {
            let Some((slot, epoch)) = self.replaying.pop_front() else { return };
            let Some(seat) = self.sessions.live(slot, epoch) else { continue };
            let Some(mut replays) = seat.replays.take() else { continue };
            let client = seat.client;
            // An absent client's replays wait in its seat for the next connection.
            let has_room = client.is_some_and(|client| self.has_room_for(client, slot));
            client.filter(|_| has_room).into_iter().for_each(|client| self.step(client, slot, &mut replays));
            replays.is_listed = has_room && !replays.is_empty();
            if replays.is_listed {
                self.replaying.push_back((slot, epoch));
            }
            if let Some(seat) = self.sessions.live(slot, epoch).filter(|_| !replays.is_empty()) {
                seat.replays = Some(replays);
            }
        }
    }

    fn step(&mut self, client: u32, slot: u32, replays: &mut Replays) {
        if replays.current.is_none() {
            replays.current = replays.pending.pop_first();
        }
        let Some(filter) = replays.current.as_deref().and_then(|filter| Filter::new(filter).ok()) else {
            return;
        };
        let Some(seat) = self.sessions.get(slot) else { return };
        let Some(subscription) = seat.session.subscriptions.get(filter).copied() else {
            return replays.note(Progress::Done);
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
        replays.note(progress);
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
        delivery.stored = self.store_replayed(slot, &delivery);
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
