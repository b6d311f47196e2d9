//! Retained messages for new subscriptions (MQTT 5.0 section 3.3.1.3), in steps.
//!
//! Knows how far each replay has come. A step looks at a bounded number of topics, and only while the client's window and
//! outbox have room: a subscription to everything costs other clients one step a turn and the receiver no queue.

use std::sync::Arc;

use whimbrel_protocol::session::{Delivery, Offered};
use whimbrel_protocol::{Filter, Message, QoS};

use super::Worker;

/// Topics looked at in one step.
const STEP_TOPICS: usize = 256;

/// A replay that is not finished.
#[derive(Debug)]
pub(super) struct Replay {
    pub(super) seat: u32,
    epoch: u16,
    filter: Box<str>,
    qos: QoS,
    identifiers: Option<Arc<[u32]>>,
    /// Where the next page starts.
    after: Option<Box<[u8]>>,
    /// Found, but not sent for want of room.
    found: std::vec::IntoIter<Arc<Message>>,
    is_scanned: bool,
}

impl Replay {
    pub(super) fn is_of(&self, filter: Filter<'_>) -> bool {
        *self.filter == *filter.as_str()
    }
}

impl Worker {
    pub(super) fn replay(&mut self, seat: u32, epoch: u16, filter: Filter<'_>, (qos, identifier): (QoS, u32)) {
        if self.shared.router.retained.read().unwrap_or_else(std::sync::PoisonError::into_inner).is_empty() {
            return;
        }
        self.replays.push(Replay {
            seat,
            epoch,
            filter: filter.as_str().into(),
            qos,
            identifiers: (identifier != 0).then(|| Arc::from([identifier])),
            after: None,
            found: Vec::new().into_iter(),
            is_scanned: false,
        });
    }

    pub(super) fn step_replays(&mut self) {
        let mut replays = std::mem::take(&mut self.replays);
        replays.retain_mut(|replay| self.step(replay));
        replays.append(&mut self.replays);
        self.replays = replays;
    }

    /// One step; whether there is more to do.
    fn step(&mut self, replay: &mut Replay) -> bool {
        let Some(slot) = self.sessions.live(replay.seat, replay.epoch).and_then(|seat| seat.client) else {
            return false; // The client left; a later SUBSCRIBE starts anew.
        };
        if replay.found.len() == 0 && !replay.is_scanned {
            self.scan(replay);
        }
        while replay.found.len() > 0 && self.has_room_for(slot, replay.seat) {
            let Some(message) = replay.found.next() else { break };
            self.replay_one(slot, replay, message);
        }
        replay.found.len() > 0 || !replay.is_scanned
    }

    /// Whether a replay could go on at once, so that the loop must not sleep. One without room goes on with the event
    /// that makes room: an acknowledgement or a writable socket.
    pub(super) fn can_replay(&self) -> bool {
        self.replays.iter().any(|replay| {
            let seat = self.sessions.get(replay.seat).filter(|seat| seat.epoch == replay.epoch);
            seat.is_some_and(|seat| seat.client.is_none_or(|slot| self.has_room_for(slot, replay.seat)))
        })
    }

    fn scan(&self, replay: &mut Replay) {
        let retained = self.shared.router.retained.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let Ok(filter) = Filter::new(&replay.filter) else {
            return;
        };
        let page = retained.scan(filter, replay.after.as_deref(), STEP_TOPICS);
        replay.found = page.messages.into_iter();
        replay.is_scanned = page.next.is_none();
        replay.after = page.next;
    }

    fn has_room_for(&self, slot: u32, seat: u32) -> bool {
        let outbound = self.sessions.get(seat).map(|seat| &seat.session.outbound);
        outbound.is_some_and(|outbound| outbound.has_window() && outbound.queue_len() == 0)
            && self.clients[slot as usize].has_room()
    }

    fn replay_one(&mut self, slot: u32, replay: &Replay, message: Arc<Message>) {
        if message.is_expired(self.now.unix_ms) {
            return;
        }
        let qos = message.qos.min(replay.qos);
        // Sent because of a subscription: the flag is 1 [MQTT-3.3.1-8].
        let delivery = Delivery { message, qos, retain: true, identifiers: replay.identifiers.clone() };
        let Some(seat) = self.sessions.get_mut(replay.seat) else {
            return;
        };
        let offered = seat.session.outbound.offer(qos, true, || delivery.clone());
        if let Offered::Send(packet_id) = offered
            && !self.send_delivery(slot, packet_id, &delivery, false)
        {
            self.abandon(replay.seat, packet_id);
        }
    }
}
