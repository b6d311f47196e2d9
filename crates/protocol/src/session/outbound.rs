//! Messages to the client: window, packet identifiers, queue (sections 4.3, 4.4, 4.9).
//!
//! Knows which deliveries are in flight and which wait. Does not know bytes: it names the packet identifier, the worker
//! encodes. A message body is kept only while it may be needed again: in the queue, and in flight where the session
//! outlives its connection.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::message::Message;
use crate::packet::QoS;
use crate::reason::ReasonCode;

/// A message on its way to this client.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// What.
    pub message: Arc<Message>,
    /// With which QoS: the lesser of the message's and the subscription's [MQTT-3.8.4-8].
    pub qos: QoS,
    /// Retain flag to send.
    pub retain: bool,
    /// The group whose member this client is, if it got the message so; 0: none.
    pub share: u32,
    /// Subscription identifiers of all matching subscriptions [MQTT-3.3.4-3].
    pub identifiers: Option<Arc<[u32]>>,
}

impl Delivery {
    /// Whether the body is needed after it was sent, even in a session that ends with its connection: then another
    /// member of the group gets it. QoS 2 never goes to a second member once it was sent [MQTT-4.8.2-5].
    fn may_move(&self) -> bool {
        self.share != 0 && self.qos == QoS::AtLeastOnce
    }
}

/// What became of an offer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Offered {
    /// Send it now, with this packet identifier (0 for QoS 0).
    Send(u16),
    /// It waits.
    Queued,
    /// It waits; the oldest waiting message had to go.
    QueuedAndEvicted,
    /// It is gone.
    Dropped(DropReason),
}

/// Why a delivery was dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DropReason {
    /// QoS 0 to a client that is away or does not read fast enough.
    QoS0,
    /// The queue is full.
    QueueFull,
    /// Its expiry interval elapsed while it waited.
    Expired,
    /// The session ended before the message was sent.
    SessionEnded,
}

/// What an acknowledgement did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Settled {
    /// It ended the delivery (PUBACK, PUBCOMP, a PUBREC that refuses) or moved it on (PUBREC).
    Yes,
    /// The identifier is in flight, but waits for another packet.
    InUse,
    /// The identifier is not in flight.
    Missed,
}

/// What a resumed connection is sent again [MQTT-4.4.0-1].
#[derive(Debug)]
pub enum Resend {
    /// PUBLISH with DUP.
    Publish(Delivery),
    /// PUBREL.
    PubRel,
}

#[derive(Debug)]
enum Slot {
    Settled,
    AwaitingPuback(Option<Delivery>),
    AwaitingPubrec(Option<Delivery>),
    AwaitingPubcomp,
}

/// The sending half of a session.
#[derive(Debug)]
pub struct Outbound {
    slots: VecDeque<Slot>, // slot i belongs to packet identifier first + i; the first one is never Settled
    queue: VecDeque<Delivery>,
    queue_max: u32,
    resent: usize, // slots from here on were in flight before the present connection and are still to be sent again
    first: u16,
    unsettled: u16, // slots that are not Settled
    inflight: u16,  // those of them that the present connection was sent
    window: u16,    // 0: not connected
    keeps_bodies: bool,
}

/// All packet identifiers: 1 to 65,535.
const ID_COUNT: usize = 65_535;

impl Outbound {
    /// Not connected, nothing queued; at most `queue_max` messages will wait.
    pub fn new(queue_max: u32) -> Outbound {
        Outbound {
            slots: VecDeque::new(),
            queue: VecDeque::new(),
            queue_max,
            resent: 0,
            first: 1,
            unsettled: 0,
            inflight: 0,
            window: 0,
            keeps_bodies: false,
        }
    }

    /// A connection is there: at most `window` (1 to 65,535) messages in flight. `keeps_bodies` if the session survives it.
    /// What was in flight before is to be sent again, in order and within the window, before anything else.
    pub fn attach(&mut self, window: u16, keeps_bodies: bool) {
        self.window = window;
        self.keeps_bodies = keeps_bodies;
        self.resent = 0;
        self.inflight = 0;
    }

    /// The connection is gone; deliveries wait from now on.
    pub fn detach(&mut self) {
        self.window = 0;
    }

    /// Messages in flight, those to be sent again included.
    pub fn inflight_count(&self) -> usize {
        usize::from(self.unsettled)
    }

    /// Messages that wait.
    pub fn queue_len(&self) -> usize {
        self.queue.len()
    }

    /// Whether a message of QoS 1 or 2 could be sent now.
    #[inline]
    pub fn has_window(&self) -> bool {
        self.inflight < self.window && self.resent == self.slots.len() && self.slots.len() < ID_COUNT
    }

    /// Whether something waits for the window: to be sent again or for the first time.
    #[inline]
    pub fn has_waiting(&self) -> bool {
        !self.queue.is_empty() || self.resent < self.slots.len()
    }

    /// Whether something that waits could be sent now.
    #[inline]
    pub fn can_go_on(&self) -> bool {
        let has_next = !self.queue.is_empty() && self.slots.len() < ID_COUNT;
        self.inflight < self.window && (has_next || self.resent < self.slots.len())
    }

    /// Offers a delivery. `has_room` tells whether the connection's outbox takes more; `delivery` is only called if the
    /// message must be kept.
    #[inline]
    pub fn offer(&mut self, qos: QoS, has_room: bool, delivery: impl FnOnce() -> Delivery) -> Offered {
        if qos == QoS::AtMostOnce {
            let sendable = has_room && self.window > 0;
            return if sendable { Offered::Send(0) } else { Offered::Dropped(DropReason::QoS0) };
        }
        if has_room && self.queue.is_empty() && self.has_window() {
            let kept = self.keeps_bodies.then(delivery);
            return Offered::Send(self.push(qos, kept));
        }
        self.enqueue(delivery())
    }

    /// As `offer`, for a member of a group: the body of QoS 1 is kept whatever the session.
    #[inline]
    pub fn offer_shared(&mut self, qos: QoS, has_room: bool, delivery: impl FnOnce() -> Delivery) -> Offered {
        if qos == QoS::AtLeastOnce && has_room && self.queue.is_empty() && self.has_window() {
            return Offered::Send(self.push(qos, Some(delivery())));
        }
        self.offer(qos, has_room, delivery)
    }

    /// Whether one more waiting message would push out the oldest.
    #[inline]
    pub fn is_queue_full(&self) -> bool {
        self.queue.len() >= self.queue_max as usize
    }

    /// Takes out, in their order, at most `max` messages that this client got as the member of a group that `wanted`
    /// names and that may go to another member: those of QoS 1 that were not acknowledged, and those that wait. Only
    /// while no connection is there.
    pub fn take_shared(&mut self, max: usize, mut wanted: impl FnMut(u32) -> bool) -> Vec<Delivery> {
        let mut taken = Vec::new();
        for slot in &mut self.slots {
            if let Slot::AwaitingPuback(kept) = slot
                && taken.len() < max
                && let Some(delivery) = kept.take_if(|delivery| delivery.may_move() && wanted(delivery.share))
            {
                taken.push(delivery);
                *slot = Slot::Settled;
                self.unsettled -= 1;
            }
        }
        self.trim();
        let mut is_wanted = |delivery: &Delivery| delivery.share != 0 && wanted(delivery.share);
        // A queue of nothing else costs what is taken; only a mixed one is looked through.
        while taken.len() < max && self.queue.front().is_some_and(&mut is_wanted) {
            taken.extend(self.queue.pop_front());
        }
        if taken.len() < max {
            self.queue.retain(|delivery| {
                let is_taken = taken.len() < max && is_wanted(delivery);
                taken.extend(is_taken.then(|| delivery.clone()));
                !is_taken
            });
        }
        taken
    }

    /// Puts a message back that `take_shared` took; the bound held for it before.
    pub fn put_back(&mut self, delivery: Delivery) {
        self.queue.push_back(delivery);
    }

    fn enqueue(&mut self, delivery: Delivery) -> Offered {
        if self.queue_max == 0 {
            return Offered::Dropped(DropReason::QueueFull);
        }
        self.queue.push_back(delivery);
        if self.queue.len() > self.queue_max as usize {
            self.queue.pop_front(); // The newest state of a device is worth more than an old one.
            return Offered::QueuedAndEvicted;
        }
        Offered::Queued
    }

    #[inline]
    fn push(&mut self, qos: QoS, kept: Option<Delivery>) -> u16 {
        let packet_id = wrap(self.first, self.slots.len());
        let awaiting = if qos == QoS::AtLeastOnce { Slot::AwaitingPuback } else { Slot::AwaitingPubrec };
        self.slots.push_back(awaiting(kept));
        self.resent = self.slots.len(); // Only called with a window, so everything before was sent.
        self.unsettled += 1;
        self.inflight += 1;
        packet_id
    }

    /// The next waiting message that may be sent now and its packet identifier, or what was dropped instead.
    pub fn next(&mut self, now_ms: u64) -> Option<Result<(u16, Delivery), DropReason>> {
        if !self.has_window() {
            return None;
        }
        let delivery = self.queue.pop_front()?;
        if delivery.message.is_expired(now_ms) {
            return Some(Err(DropReason::Expired));
        }
        let kept = (self.keeps_bodies || delivery.may_move()).then(|| delivery.clone());
        Some(Ok((self.push(delivery.qos, kept), delivery)))
    }

    /// PUBACK.
    #[inline]
    pub fn on_puback(&mut self, packet_id: u16) -> Settled {
        self.advance(packet_id, |slot| match slot {
            Slot::AwaitingPuback(_) => Some(Slot::Settled),
            _ => None,
        })
    }

    /// PUBREC; with success a PUBREL must follow, with an error the message is settled [MQTT-4.3.3-4].
    pub fn on_pubrec(&mut self, packet_id: u16, reason: ReasonCode) -> Settled {
        self.advance(packet_id, |slot| match slot {
            Slot::AwaitingPubrec(_) if reason.is_error() => Some(Slot::Settled),
            Slot::AwaitingPubrec(_) => Some(Slot::AwaitingPubcomp),
            _ => None,
        })
    }

    /// PUBCOMP.
    pub fn on_pubcomp(&mut self, packet_id: u16) -> Settled {
        self.advance(packet_id, |slot| match slot {
            Slot::AwaitingPubcomp => Some(Slot::Settled),
            _ => None,
        })
    }

    #[inline]
    fn advance(&mut self, packet_id: u16, step: impl FnOnce(&Slot) -> Option<Slot>) -> Settled {
        let place = distance(self.first, packet_id);
        let slot = match self.slots.get_mut(place) {
            None | Some(Slot::Settled) => return Settled::Missed,
            Some(slot) => slot,
        };
        let Some(next) = step(slot) else { return Settled::InUse };
        let is_settled = matches!(next, Slot::Settled);
        *slot = next;
        if is_settled {
            self.unsettled -= 1;
            // A client may acknowledge what the connection before sent it.
            self.inflight = self.inflight.saturating_sub(u16::from(place < self.resent));
            self.trim();
        }
        Settled::Yes
    }

    #[inline]
    fn trim(&mut self) {
        while let Some(Slot::Settled) = self.slots.front() {
            self.slots.pop_front();
            self.resent = self.resent.saturating_sub(1);
            self.first = wrap(self.first, 1);
        }
    }

    /// What the present connection must be sent again next, if the window is open: in the order in which it was first
    /// sent [MQTT-4.6.0-1].
    pub fn next_resend(&mut self) -> Option<(u16, Resend)> {
        while self.inflight < self.window && self.resent < self.slots.len() {
            let packet_id = wrap(self.first, self.resent);
            let resend = match &self.slots[self.resent] {
                Slot::AwaitingPuback(Some(delivery)) | Slot::AwaitingPubrec(Some(delivery)) => {
                    Some(Resend::Publish(delivery.clone()))
                }
                Slot::AwaitingPubcomp => Some(Resend::PubRel),
                // Without a body only in a session that ends with its connection, which nobody resumes.
                Slot::AwaitingPuback(None) | Slot::AwaitingPubrec(None) | Slot::Settled => None,
            };
            self.resent += 1;
            if let Some(resend) = resend {
                self.inflight += 1;
                return Some((packet_id, resend));
            }
        }
        None
    }
}

/// The identifier `steps` after `first` on the ring of 1 to 65,535.
fn wrap(first: u16, steps: usize) -> u16 {
    ((usize::from(first) - 1 + steps) % ID_COUNT + 1) as u16
}

/// How many steps lead from `first` to `packet_id` on the same ring.
fn distance(first: u16, packet_id: u16) -> usize {
    (usize::from(packet_id) + ID_COUNT - usize::from(first)) % ID_COUNT
}
