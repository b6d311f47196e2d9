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

use super::grouped::Line;
use super::lane::{Paging, Waiting};
use super::queue::{Queue, QueueRules};
use super::released::Released;
use super::stubs::Stub;

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
    /// The slot under which the store keeps it for this session; 0: it is not stored.
    pub stored: u64,
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
    /// It waits; so many that wait, the oldest unless the zone says otherwise, had to go.
    QueuedAndEvicted(u32),
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
    /// The store could not give it back.
    Unreadable,
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
    AwaitingPubrec { kept: Option<Delivery>, sent: u64 }, // sent: the store's slot for its packet identifier
    AwaitingPubcomp { is_fresh: bool, stored: u64 }, // is_fresh: PUBREC came after the last look at what is overdue
}

impl Slot {
    /// The store's slot for what is not settled yet; 0: none.
    fn stored(&self) -> u64 {
        match self {
            Slot::AwaitingPuback(kept) | Slot::AwaitingPubrec { kept, .. } => {
                kept.as_ref().map_or(0, |kept| kept.stored)
            }
            Slot::AwaitingPubcomp { stored, .. } => *stored,
            Slot::Settled => 0,
        }
    }

    /// Tells where the store may forget it.
    fn release(&self, released: &Released) {
        released.push(self.stored());
        if let Slot::AwaitingPubrec { sent, .. } = self {
            released.push(*sent);
        }
    }

    /// It is not stored from now on.
    fn forget(&mut self) {
        match self {
            Slot::AwaitingPuback(kept) => kept.iter_mut().for_each(|kept| kept.stored = 0),
            Slot::AwaitingPubrec { kept, sent } => {
                kept.iter_mut().for_each(|kept| kept.stored = 0);
                *sent = 0;
            }
            Slot::AwaitingPubcomp { stored, .. } => *stored = 0,
            Slot::Settled => {}
        }
    }

    /// What is sent again for it.
    fn resend(&self) -> Option<Resend> {
        match self {
            Slot::AwaitingPuback(Some(delivery)) | Slot::AwaitingPubrec { kept: Some(delivery), .. } => {
                Some(Resend::Publish(delivery.clone()))
            }
            Slot::AwaitingPubcomp { .. } => Some(Resend::PubRel),
            // Without a body only where nothing is ever sent again.
            Slot::AwaitingPuback(None) | Slot::AwaitingPubrec { kept: None, .. } | Slot::Settled => None,
        }
    }
}

/// The sending half of a session.
#[derive(Debug)]
pub struct Outbound {
    slots: VecDeque<Slot>, // slot i belongs to packet identifier first + i; the first one is never Settled
    #[allow(clippy::box_collection, reason = "most sessions never queue: 8 bytes instead of 40")]
    queue: Option<Box<Queue>>,
    rules: Option<Arc<QueueRules>>,
    released: Option<Released>, // where the store keeps what waits
    queued: u32,                // messages in the queue
    queue_max: u32,
    resent: u16, // slots from here on were in flight before the present connection and are still to be sent again
    looked: u16, // slots before this one were in flight at the last look at what is overdue
    first: u16,
    unsettled: u16,       // slots that are not Settled
    inflight: u16,        // those of them that the present connection was sent
    window: u16,          // 0: not connected
    queue_max_steps: u16, // of QUEUE_STEP_BYTES; 0: no bound
    keeps_bodies: bool,
    has_groups: bool, // the store has messages of groups as this session gets them
}

/// The bound of a queue in bytes is kept in steps, so that a session that never queues pays two bytes for it.
const QUEUE_STEP_BYTES: u32 = 64 * 1024;

/// All packet identifiers: 1 to 65,535.
const ID_COUNT: usize = 65_535;

impl Outbound {
    /// Not connected, nothing queued; at most `queue_max` messages will wait, by `rules`.
    pub fn new(queue_max: u32, rules: Option<Arc<QueueRules>>) -> Outbound {
        Outbound {
            slots: VecDeque::new(),
            queue: None,
            rules,
            released: None,
            queued: 0,
            queue_max,
            resent: 0,
            looked: 0,
            first: 1,
            unsettled: 0,
            inflight: 0,
            window: 0,
            queue_max_steps: 0,
            keeps_bodies: false,
            has_groups: false,
        }
    }

    /// A connection is there: at most `window` (1 to 65,535) messages in flight. `keeps_bodies` if the session survives it.
    /// What was in flight before is to be sent again, in order and within the window, before anything else.
    pub fn attach(&mut self, window: u16, keeps_bodies: bool) {
        self.window = window;
        self.keeps_bodies = keeps_bodies;
        self.resent = 0;
        self.looked = 0;
        self.inflight = 0;
    }

    /// From now on at most `queue_max` messages of `queue_max_bytes` together (0: no bound; rounded up to 64 KiB) wait, by
    /// `rules`. What waits already is put in the order of the new rules; what is too much goes with the next message that
    /// must wait.
    pub fn limit(&mut self, queue_max: u32, queue_max_bytes: u32, rules: Option<Arc<QueueRules>>) {
        self.queue_max = queue_max;
        self.queue_max_steps = u16::try_from(queue_max_bytes.div_ceil(QUEUE_STEP_BYTES)).unwrap_or(u16::MAX);
        if self.rules == rules {
            return;
        }
        let Some(before) = self.queue.take() else {
            self.rules = rules;
            return;
        };
        self.queued = 0;
        let default_priority = rules.as_ref().map_or(0, |rules| rules.default_priority);
        self.rules = rules;
        before.empty(|priority, waiting| match waiting {
            Waiting::Whole(delivery) => self.append(delivery),
            // Its topic is in the store, so it keeps the priority that it had.
            Waiting::Stub(stub, share) => self.append_stub(stub, (priority.unwrap_or(default_priority), share)),
        });
    }

    /// Bodies are kept even if the session ends with its connection: they may be sent again on it.
    pub fn keep_bodies(&mut self) {
        self.keeps_bodies = true;
    }

    /// What was in flight at the last call of this already and still is, in order; called once an interval (MQTT 3.1.1
    /// section 4.4, non-normative: a client that lost nothing answers a repetition as the first time).
    pub fn overdue(&mut self) -> Vec<(u16, Resend)> {
        let (first, looked) = (self.first, usize::from(self.looked));
        self.looked = self.resent;
        let mut overdue = Vec::new();
        for (place, slot) in self.slots.iter_mut().take(usize::from(self.resent)).enumerate() {
            if let Slot::AwaitingPubcomp { is_fresh, .. } = slot
                && std::mem::take(is_fresh)
            {
                continue;
            }
            let resend = if place < looked { slot.resend() } else { None };
            overdue.extend(resend.map(|resend| (wrap(first, place), resend)));
        }
        overdue
    }

    /// The store keeps the deliveries; those that it may forget are named to `released`.
    pub fn keep(&mut self, released: Released) {
        self.released = Some(released);
    }

    /// The session is durable: a message that it gets as the member of a group has a record that names it, so the body may
    /// be read back from there.
    pub fn keep_groups(&mut self) {
        self.has_groups = true;
    }

    /// The store keeps nothing any more; returns where the rest of the session is to be released. A session that goes on
    /// keeps what waits without a body (`keeps_stubs`) until it was sent: after a crash nobody asks for it.
    pub fn let_go(&mut self, keeps_stubs: bool) -> Option<Released> {
        let released = self.released.take()?;
        self.has_groups = false;
        for slot in &mut self.slots {
            slot.release(&released);
            slot.forget();
        }
        if let Some(queue) = &mut self.queue {
            queue.iter_mut().for_each(|delivery| released.push(std::mem::take(&mut delivery.stored)));
            if !keeps_stubs {
                queue.drop_stubs(|slot| released.push(slot));
            }
        }
        Some(released)
    }

    fn release(&self, stored: u64) {
        self.released.iter().for_each(|released| released.push(stored));
    }

    /// The store knows under `slot` that this message of QoS 2 has this identifier.
    pub fn note_sent(&mut self, packet_id: u16, slot: u64) {
        if let Some(Slot::AwaitingPubrec { sent, .. }) = self.slots.get_mut(distance(self.first, packet_id)) {
            *sent = slot;
        }
    }

    /// This message of QoS 2 is sent, and its session ends with the broker: the store may forget it. Its slot; 0: none.
    pub fn forget_stored(&mut self, packet_id: u16) -> u64 {
        match self.slots.get_mut(distance(self.first, packet_id)) {
            Some(Slot::AwaitingPubrec { kept: Some(kept), .. }) => std::mem::take(&mut kept.stored),
            _ => 0,
        }
    }

    /// The store knows under `slot` that PUBREC came for it.
    pub fn note_released(&mut self, packet_id: u16, slot: u64) {
        if let Some(Slot::AwaitingPubcomp { stored, .. }) = self.slots.get_mut(distance(self.first, packet_id)) {
            *stored = slot;
        }
    }

    /// What was in flight when the broker ended: identifier, message (None: PUBREC had come), and the store's slot for that.
    /// Only before the first connection. It is sent again in the order of the identifiers, which were given in a ring.
    pub fn restore_inflight(&mut self, mut inflight: Vec<(u16, Option<Delivery>, u64)>) {
        inflight.sort_unstable_by_key(|(packet_id, ..)| *packet_id);
        let ids = || inflight.iter().map(|(packet_id, ..)| *packet_id);
        // What is in flight lies close together, so the ring begins behind the widest gap.
        let before = ids().cycle().skip(inflight.len().saturating_sub(1));
        let Some((_, first)) = ids().zip(before).map(|(id, before)| (distance(before, id), id)).max() else {
            return;
        };
        self.first = first;
        for (packet_id, delivery, slot) in inflight {
            let place = distance(first, packet_id);
            let length = self.slots.len().max(place + 1);
            self.slots.resize_with(length, || Slot::Settled);
            self.slots[place] = match delivery {
                Some(delivery) => Slot::AwaitingPubrec { kept: Some(delivery), sent: slot },
                None => Slot::AwaitingPubcomp { is_fresh: false, stored: slot },
            };
            self.unsettled += 1;
        }
    }

    /// A message that waited when the broker ended, behind those before it. `share`: the group through which it came; 0: none.
    pub fn restore_queued(&mut self, stub: Stub, priority: u16, share: u32) {
        self.append_stub(stub, (priority, share));
    }

    /// The connection is gone; deliveries wait from now on, those that are stored without their bodies.
    pub fn detach(&mut self) {
        self.window = 0;
        if self.released.is_some() {
            self.queue.iter_mut().for_each(|queue| queue.page_out(self.has_groups));
        }
    }

    /// Whether no connection is there.
    #[inline]
    pub fn is_away(&self) -> bool {
        self.window == 0
    }

    /// As `offer`, for a stored message to `topic` while no connection is there.
    pub fn offer_stub(&mut self, stub: Stub, topic: &[u8]) -> Offered {
        if self.queue_max == 0 {
            self.release(stub.slot);
            return Offered::Dropped(DropReason::QueueFull);
        }
        let priority = self.rules.as_ref().map_or(0, |rules| rules.priority(topic));
        self.append_stub(stub, (priority, 0));
        self.shed_for_one()
    }

    /// Whether bodies of messages that wait should be read back now.
    #[inline]
    pub fn wants_page(&self) -> bool {
        self.queued > 0 && self.queue.as_ref().is_some_and(|queue| queue.wants_page())
    }

    /// Names the slots of the messages that are to be read back next, in their order, and the priority that they have. The
    /// answer goes to [`Outbound::fill`] and [`Outbound::lose`], in this order, and ends with [`Outbound::note_answer`].
    pub fn ask(&mut self, slots: &mut Vec<u64>) -> u16 {
        self.queue.as_mut().map_or(0, |queue| queue.ask(slots))
    }

    /// Slot of the first message of this priority that has no body; what was asked for before it is gone.
    pub fn first_stub(&mut self, priority: u16) -> Option<u64> {
        self.queue.as_mut()?.first_stub(priority).map(|stub| stub.slot)
    }

    /// The body of `first_stub`.
    pub fn fill(&mut self, priority: u16, delivery: Delivery) {
        if let Some(queue) = &mut self.queue {
            queue.fill(priority, delivery);
        }
    }

    /// `first_stub` is dropped: it has no body.
    pub fn lose(&mut self, priority: u16) {
        if let Some(slot) = self.queue.as_mut().and_then(|queue| queue.lose(priority)) {
            self.queued -= 1;
            self.release(slot);
        }
    }

    /// The answer is there as a whole.
    pub fn note_answer(&mut self) {
        self.queue.iter_mut().for_each(|queue| queue.note_answer());
    }

    /// The identifier that the next message gets; for [`Outbound::has_settled`].
    pub fn next_id(&self) -> u16 {
        wrap(self.first, self.slots.len())
    }

    /// Whether everything is settled that was in flight when [`Outbound::next_id`] was this.
    pub fn has_settled(&self, next_id: u16) -> bool {
        !(1..=self.slots.len()).contains(&distance(self.first, next_id))
    }

    /// Messages in flight, those to be sent again included.
    pub fn inflight_count(&self) -> usize {
        usize::from(self.unsettled)
    }

    /// Messages that wait.
    pub fn queue_len(&self) -> usize {
        self.queued as usize
    }

    /// Bytes of the messages that wait, as they count themselves.
    pub fn queue_bytes(&self) -> usize {
        self.queue.as_ref().map_or(0, |queue| queue.bytes())
    }

    /// Whether a message of QoS 1 or 2 could be sent now.
    #[inline]
    pub fn has_window(&self) -> bool {
        self.inflight < self.window && usize::from(self.resent) == self.slots.len() && self.slots.len() < ID_COUNT
    }

    /// Whether something waits for the window: to be sent again or for the first time.
    #[inline]
    pub fn has_waiting(&self) -> bool {
        self.queued > 0 || usize::from(self.resent) < self.slots.len()
    }

    /// Whether something that waits could be sent now.
    #[inline]
    pub fn can_go_on(&self) -> bool {
        if self.queued > 0 && self.next_is_qos0() {
            return self.window > 0;
        }
        let has_next = self.queued > 0 && self.slots.len() < ID_COUNT && self.next_qos().is_some();
        self.inflight < self.window && (has_next || usize::from(self.resent) < self.slots.len())
    }

    /// Offers a delivery. `has_room` tells whether the connection's outbox takes more; `delivery` is only called if the
    /// message must be kept.
    #[inline]
    pub fn offer(&mut self, qos: QoS, has_room: bool, delivery: impl FnOnce() -> Delivery) -> Offered {
        if qos == QoS::AtMostOnce {
            if self.rules.is_some() && self.must_store_qos0() {
                return self.enqueue(delivery());
            }
            let sendable = has_room && self.window > 0;
            return if sendable { Offered::Send(0) } else { Offered::Dropped(DropReason::QoS0) };
        }
        if has_room && self.queued == 0 && self.has_window() {
            let kept = self.keeps_bodies.then(delivery);
            return Offered::Send(self.push(qos, kept));
        }
        self.enqueue(delivery())
    }

    /// As `offer`, for a member of a group: the body of QoS 1 is kept whatever the session.
    #[inline]
    pub fn offer_shared(&mut self, qos: QoS, has_room: bool, delivery: impl FnOnce() -> Delivery) -> Offered {
        if qos == QoS::AtLeastOnce && has_room && self.queued == 0 && self.has_window() {
            return Offered::Send(self.push(qos, Some(delivery())));
        }
        self.offer(qos, has_room, delivery)
    }

    /// Whether one more waiting message would push out the oldest.
    #[inline]
    pub fn is_queue_full(&self) -> bool {
        self.queued >= self.queue_max || self.queue_bytes() > self.queue_max_bytes()
    }

    fn queue_max_bytes(&self) -> usize {
        match self.queue_max_steps {
            0 => usize::MAX,
            steps => usize::from(steps) * QUEUE_STEP_BYTES as usize,
        }
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
        let left = max - taken.len();
        let waiting = self.queue.as_mut().map(|queue| queue.take(left, &mut is_wanted)).unwrap_or_default();
        self.queued -= waiting.len() as u32;
        taken.extend(waiting);
        taken
    }

    /// As `take_shared`, for messages that lie in the store: names, up to `max`, their slots. The answer goes to
    /// [`Outbound::take_shared_stub`] and ends with [`Outbound::note_answer`].
    pub fn ask_shared(&mut self, max: usize, wanted: impl FnMut(u32) -> bool, slots: &mut Vec<u64>) {
        if let Some(queue) = &mut self.queue {
            queue.ask_shared(max, wanted, slots);
        }
    }

    /// Takes the message of a group that lies at `slot`, if it still waits as the first of its group; the group. The slot
    /// is the caller's now.
    pub fn take_shared_stub(&mut self, slot: u64) -> Option<u32> {
        let share = self.queue.as_mut()?.take_shared_stub(slot)?;
        self.queued -= 1;
        Some(share)
    }

    /// Takes all that wait, lie in the store, and came through groups that are `wanted`. Their slots are the caller's now.
    pub fn take_lines(&mut self, wanted: impl FnMut(u32) -> bool) -> Vec<(u32, Line)> {
        let taken = self.queue.as_mut().map(|queue| queue.take_lines(wanted)).unwrap_or_default();
        self.queued -= taken.iter().map(|(_, line)| line.len() as u32).sum::<u32>();
        taken
    }

    /// Whether messages of groups lie in the store.
    pub fn has_grouped(&self) -> bool {
        self.queue.as_ref().is_some_and(|queue| queue.has_grouped())
    }

    /// Puts a message back that `take_shared` took; the bound held for it before.
    pub fn put_back(&mut self, delivery: Delivery) {
        self.append(delivery);
    }

    fn append(&mut self, delivery: Delivery) {
        let rules = self.rules.as_deref();
        let queue = self.queue.get_or_insert_with(|| Box::new(Queue::new(rules)));
        queue.push(delivery, rules, Paging { is_away: self.window == 0, has_groups: self.has_groups });
        self.queued += 1;
    }

    fn append_stub(&mut self, stub: Stub, place: (u16, u32)) {
        let rules = self.rules.as_deref();
        self.queue.get_or_insert_with(|| Box::new(Queue::new(rules))).push_stub(stub, place);
        self.queued += 1;
    }

    fn enqueue(&mut self, delivery: Delivery) -> Offered {
        if self.queue_max == 0 {
            self.release(delivery.stored);
            return Offered::Dropped(DropReason::QueueFull);
        }
        self.append(delivery);
        self.shed_for_one()
    }

    /// One more waits.
    fn shed_for_one(&mut self) -> Offered {
        match self.shed() {
            0 => Offered::Queued,
            evicted => Offered::QueuedAndEvicted(evicted),
        }
    }

    /// Drops what is too much: messages beyond the queue's length or its bytes, but for the last one; and while the client is
    /// away, beyond the budget of the client, because nothing else could be done about those. Returns how many.
    pub fn shed(&mut self) -> u32 {
        let queue_max_bytes = self.queue_max_bytes();
        let Some(queue) = self.queue.as_mut() else { return 0 };
        let rules = self.rules.as_deref();
        let max_bytes = rules.map_or(0, |rules| rules.max_bytes);
        let is_counted = max_bytes > 0 && self.window == 0;
        let mut evicted = 0;
        // Unless the zone says otherwise, the oldest: the newest state of a device is worth more.
        while self.queued > self.queue_max
            || (self.queued > 1 && queue.bytes() > queue_max_bytes)
            || (is_counted && queue.bytes() > max_bytes)
        {
            let Some(gone) = queue.evict(rules) else { break };
            self.released.iter().for_each(|released| released.push(gone));
            self.queued -= 1;
            evicted += 1;
        }
        evicted
    }

    /// QoS 0 waits for an absent client where the zone says so, and behind what waits already: order is kept.
    fn must_store_qos0(&self) -> bool {
        let is_stored = self.rules.as_ref().is_some_and(|rules| rules.stores_qos0);
        is_stored && (self.window == 0 || self.queued > 0)
    }

    #[inline]
    fn push(&mut self, qos: QoS, kept: Option<Delivery>) -> u16 {
        let packet_id = wrap(self.first, self.slots.len());
        self.slots.push_back(match qos {
            QoS::ExactlyOnce => Slot::AwaitingPubrec { kept, sent: 0 },
            _ => Slot::AwaitingPuback(kept),
        });
        self.resent = self.slots.len() as u16; // Only called with a window, so everything before was sent.
        self.unsettled += 1;
        self.inflight += 1;
        packet_id
    }

    /// The next waiting message that may be sent now and its packet identifier, or what was dropped instead.
    pub fn next(&mut self, now_ms: u64) -> Option<Result<(u16, Delivery), DropReason>> {
        if self.queued == 0 {
            return None;
        }
        let is_qos0 = self.next_is_qos0();
        if self.window == 0 || !(is_qos0 || self.has_window()) {
            return None; // QoS 0 needs a connection, but no room in the window.
        }
        let Some(delivery) = self.dequeue() else {
            return self.drop_expired(now_ms).map(Err); // It must be read first, unless it has expired.
        };
        if delivery.message.is_expired(now_ms) {
            self.release(delivery.stored);
            return Some(Err(DropReason::Expired));
        }
        if is_qos0 {
            return Some(Ok((0, delivery)));
        }
        let kept = (self.keeps_bodies || delivery.may_move()).then(|| delivery.clone());
        if kept.is_none() {
            self.release(delivery.stored); // It is sent once, and nobody asks for it again.
        }
        Some(Ok((self.push(delivery.qos, kept), delivery)))
    }

    fn next_is_qos0(&self) -> bool {
        self.next_qos() == Some(QoS::AtMostOnce)
    }

    fn next_qos(&self) -> Option<QoS> {
        self.queue.as_ref().and_then(|queue| queue.next_qos())
    }

    fn drop_expired(&mut self, now_ms: u64) -> Option<DropReason> {
        let slot = self.queue.as_mut()?.pop_expired(now_ms)?;
        self.queued -= 1;
        self.release(slot);
        Some(DropReason::Expired)
    }

    fn dequeue(&mut self) -> Option<Delivery> {
        let queue = self.queue.as_mut()?;
        let delivery = queue.pop()?;
        self.queued -= 1;
        if self.queued == 0 && queue.is_roomy() {
            self.queue = None;
        }
        Some(delivery)
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
            Slot::AwaitingPubrec { .. } if reason.is_error() => Some(Slot::Settled),
            Slot::AwaitingPubrec { .. } => Some(Slot::AwaitingPubcomp { is_fresh: true, stored: 0 }),
            _ => None,
        })
    }

    /// PUBCOMP.
    pub fn on_pubcomp(&mut self, packet_id: u16) -> Settled {
        self.advance(packet_id, |slot| match slot {
            Slot::AwaitingPubcomp { .. } => Some(Slot::Settled),
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
        if let Some(released) = &self.released {
            slot.release(released);
        }
        *slot = next;
        if is_settled {
            self.unsettled -= 1;
            // A client may acknowledge what the connection before sent it.
            self.inflight = self.inflight.saturating_sub(u16::from(place < usize::from(self.resent)));
            self.trim();
        }
        Settled::Yes
    }

    #[inline]
    fn trim(&mut self) {
        while let Some(Slot::Settled) = self.slots.front() {
            self.slots.pop_front();
            self.resent = self.resent.saturating_sub(1);
            self.looked = self.looked.saturating_sub(1);
            self.first = wrap(self.first, 1);
        }
    }

    /// What the present connection must be sent again next, if the window is open: in the order in which it was first
    /// sent [MQTT-4.6.0-1].
    pub fn next_resend(&mut self) -> Option<(u16, Resend)> {
        while self.inflight < self.window && usize::from(self.resent) < self.slots.len() {
            let packet_id = wrap(self.first, usize::from(self.resent));
            let resend = self.slots[usize::from(self.resent)].resend();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restored_identifiers_keep_their_place_in_the_ring() {
        let table: [(&[u16], u16); 4] =
            [(&[7], 7), (&[9, 7, 8], 7), (&[2, 65_534, 1, 65_535], 65_534), (&[1, 40_000], 40_000)];
        for (ids, first) in table {
            let mut outbound = Outbound::new(10, None);
            outbound.restore_inflight(ids.iter().map(|id| (*id, None, 0)).collect());
            assert_eq!(outbound.first, first, "{ids:?}");
            assert_eq!(outbound.inflight_count(), ids.len());
            outbound.attach(10, true);
            let sent: Vec<u16> = std::iter::from_fn(|| outbound.next_resend()).map(|(id, _)| id).collect();
            let mut expected = ids.to_vec();
            expected.sort_unstable_by_key(|id| distance(first, *id));
            assert_eq!(sent, expected);
        }
    }

    #[test]
    fn what_was_in_flight_is_settled_when_its_first_and_its_last_are_also_around_the_ring() {
        let mut outbound = Outbound::new(10, None);
        outbound.first = 65_534;
        outbound.attach(10, false);
        assert!(outbound.has_settled(outbound.next_id()));
        let ids: Vec<u16> = (0..3).map(|_| outbound.push(QoS::AtLeastOnce, None)).collect();
        let next_id = outbound.next_id();
        assert_eq!((ids, next_id), (vec![65_534, 65_535, 1], 2));
        outbound.push(QoS::AtLeastOnce, None);
        for id in [1, 65_534, 65_535] {
            assert!(!outbound.has_settled(next_id));
            outbound.on_puback(id);
        }
        assert!(outbound.has_settled(next_id));
    }

    #[test]
    fn nothing_restored_leaves_it_as_it_was() {
        let mut outbound = Outbound::new(10, None);
        outbound.restore_inflight(Vec::new());
        assert_eq!((outbound.first, outbound.inflight_count()), (1, 0));
    }
}
