//! From one accepted message to the outboxes of all that want it.
//!
//! Knows matches, QoS and shapes: a publication is encoded once for each shape (version, QoS, retain) and copied from
//! there; only the packet identifier is personal. Nothing is allocated for a message that every receiver can take at
//! once; an owned copy is made, once, when it must wait, travel to another worker, or reach a tap.

use std::rc::Rc;
use std::sync::Arc;

use whimbrel_protocol::encode::{Naming, Shape};
use whimbrel_protocol::message::{Publication, forwarded_properties};
use whimbrel_protocol::packet::{Ack, Publish};
use whimbrel_protocol::session::{Accepted, Delivery, DropReason, Offered, Outbound, Resend};
use whimbrel_protocol::{Message, QoS, ReasonCode, Topic, Version, Violation, encode};
use whimbrel_router::{Audience, Group, Matches, StoreOutcome, Target};

use super::Worker;
use super::client::{Client, End};
use super::durable::{is_stored, stands_for};
use super::frames::{Fitting, count_first, count_sent};
use super::inbound::Step;
use super::outbox::SHARED_MIN_BYTES;
use super::paging::offer_stub;
use super::passing::Passing;
use crate::answer::Answer;
use crate::event::Event;
use crate::ledger::Counts;
use crate::mailbox::{Mail, Stored};
use crate::shared::Interest;
use crate::tap::TAPS;

/// What came of a delivery to one target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Delivered {
    /// It is sent, waits, or is dropped and counted.
    Settled,
    /// The session has ended.
    Gone,
    /// The session would lose this message or another one.
    Refused,
}

impl Worker {
    /// `answer`: the verdict of the question that this packet asked when it came first.
    #[inline]
    pub(super) fn on_publish(
        &mut self,
        slot: u32,
        publish: &Publish<'_>,
        answer: Option<&[Answer]>,
    ) -> Result<Step, End> {
        let named = match self.clients[slot as usize].connection.name(publish) {
            Ok(named) => named,
            Err(violation) => return Err(self.refuse_unnamed(publish, violation)),
        };
        let topic = named.topic();
        let verdict = if topic.is_reserved() && !self.is_taken(slot, publish) && self.is_sys_refused(slot, topic) {
            ReasonCode::NOT_AUTHORIZED
        } else if answer.is_some() || self.shared.wants(Interest::AUTHORIZE) {
            match self.may_publish(slot, publish, topic, answer) {
                Some(verdict) => verdict,
                None => return Ok(Step::ParkBefore),
            }
        } else {
            ReasonCode::SUCCESS
        };
        if self.shortage.is_short()
            && !verdict.is_error()
            && let Some(step) = self.hold_off(slot, publish, topic)
        {
            return Ok(step);
        }
        self.count_received(publish.qos);
        if verdict.is_error() {
            let words = self.words_about(slot, publish, topic, answer);
            self.refuse_publish(slot, publish, &Answer { reason: verdict, words });
            return Ok(Step::Next);
        }
        let now_ms = self.now.ms;
        let Some(seat) = self.seat_of(slot) else { return Ok(Step::Next) };
        match seat.session.inbound.on_publish(publish.qos, publish.packet_id, now_ms) {
            Accepted::Route => {
                self.keeper.begin();
                if publish.qos == QoS::ExactlyOnce {
                    self.watch_await_rel(slot);
                }
                let receivers = self.route_publish(slot, publish, topic);
                self.acknowledge(slot, publish, if receivers == 0 { NOBODY } else { ReasonCode::SUCCESS });
                self.keeper.begin();
            }
            Accepted::Duplicate => {
                self.counts.publish_inuse += 1;
                self.keeper.repeat();
                self.acknowledge(slot, publish, ReasonCode::SUCCESS);
                self.keeper.begin();
            }
            Accepted::Refused(reason) => {
                self.counts.publish_dropped += 1;
                self.check_quota(slot)?;
                self.refuse_message(slot, publish, &Answer::in_words(reason, TOO_MANY));
            }
        }
        Ok(Step::Next)
    }

    /// Too many QoS 2 messages wait for PUBREL. A client beyond what CONNACK granted breaks [MQTT-3.3.4-7]; and 3.1.1
    /// has no way to refuse one message, so an acknowledgement there would be a lie.
    fn check_quota(&mut self, slot: u32) -> Result<(), End> {
        let connection = &self.clients[slot as usize].connection;
        let (version, granted) = (connection.version(), usize::from(connection.limits().receive_maximum));
        let waiting = self.seat_of(slot).map_or(0, |seat| seat.session.inbound.awaiting_rel_count());
        if version == Version::V5 && waiting < granted {
            return Ok(());
        }
        let what = "more QoS 2 messages without PUBREL than granted";
        Err(Violation::new(ReasonCode::RECEIVE_MAXIMUM_EXCEEDED, what).into())
    }

    #[inline]
    pub(super) fn count_received(&mut self, qos: QoS) {
        self.counts.publish_received += 1;
        self.counts.messages_received += 1;
        match qos {
            QoS::AtMostOnce => self.counts.qos0_received += 1,
            QoS::AtLeastOnce => self.counts.qos1_received += 1,
            QoS::ExactlyOnce => self.counts.qos2_received += 1,
        }
    }

    #[inline]
    fn acknowledge(&mut self, slot: u32, publish: &Publish<'_>, reason: ReasonCode) {
        let first = match publish.qos {
            QoS::AtMostOnce => return,
            QoS::AtLeastOnce => 0x40,
            QoS::ExactlyOnce => 0x50,
        };
        self.counts.puback_sent += u64::from(first == 0x40);
        self.counts.pubrec_sent += u64::from(first == 0x50);
        self.counts.packets_sent += 1;
        let client = &mut self.clients[slot as usize];
        let version = client.connection.version();
        let ack = Ack::new(publish.packet_id, reason);
        if (self.keeper.has_written() && client.connection.limits().is_durable) || client.held > 0 {
            // Behind those before it, also where it promises nothing: their order is kept (section 4.6).
            return self.hold(slot, |held| encode::ack(held, version, first, &ack));
        }
        encode::ack(client.outbox.tail(&mut self.spares), version, first, &ack);
        self.mark_dirty(slot);
    }

    /// MQTT 5 is told why; a 3.1.1 client gets its acknowledgement, because nothing else would end its resending.
    pub(super) fn refuse_publish(&mut self, slot: u32, publish: &Publish<'_>, answer: &Answer) {
        self.counts.publish_refused += 1;
        self.refuse_message(slot, publish, answer);
    }

    /// A PUBLISH whose topic alias stands for nothing: it came, and its connection ends.
    fn refuse_unnamed(&mut self, publish: &Publish<'_>, violation: Violation) -> End {
        self.count_received(publish.qos);
        self.counts.publish_refused += 1;
        violation.into()
    }

    /// Routes an accepted PUBLISH; returns how many sessions and taps want it.
    #[inline]
    fn route_publish(&mut self, slot: u32, publish: &Publish<'_>, topic: Topic<'_>) -> usize {
        let publisher = self.clients[slot as usize].session;
        let client_id = publisher.and_then(|seat| self.speaker_id(seat));
        let properties = forwarded_properties(publish.properties);
        let mut passing = Passing {
            publication: Publication::new(publish, topic, &properties),
            qos: publish.qos,
            retain: publish.retain,
            client_id,
            publisher,
            received_ms: self.now.steady_ms,
            is_sys: topic.is_sys(),
            owned: None,
            next_slot: 0,
            parcel_slot: 0,
            is_held: false,
        };
        // Before the look for receivers: who subscribes between the two gets it as a retained message.
        if passing.retain {
            self.retain(&mut passing);
        }
        if passing.qos == QoS::ExactlyOnce {
            // Behind what is retained, which is handed over at once, and together with the message itself: an identifier
            // that is known alone would make its next transmission a repetition of nothing.
            self.store_received(slot, publish.packet_id);
        }
        let matches = self.matches_for(slot, topic);
        self.counts.routed_clients += 1;
        let receivers = self.route(&mut passing, &matches);
        self.speaker = publisher.zip(passing.client_id);
        receivers
    }

    /// The client identifier of the publishing session. Who spoke last mostly speaks on, and then nothing is counted up and
    /// down again for it.
    #[inline]
    fn speaker_id(&mut self, seat: u32) -> Option<Arc<str>> {
        match self.speaker.take() {
            Some((last, client_id)) if last == seat => Some(client_id),
            _ => self.sessions.get(seat).map(|seat| Arc::clone(&seat.session.client_id)),
        }
    }

    /// The matches of a topic: the connection's memo, else the worker's cache, else the table.
    #[inline]
    pub(super) fn matches_for(&mut self, slot: u32, topic: Topic<'_>) -> Rc<Matches> {
        let client = &mut self.clients[slot as usize];
        let generation = self.shared.router.generation();
        match &client.memo {
            Some(memo) if memo.generation == generation && *memo.topic == *topic.as_str() => Rc::clone(memo),
            _ => {
                let matches = self.cache.find(&self.shared.router, topic);
                // Also where the cache knew it: a topic must come twice to be there.
                self.effort += matches.steps;
                // A connection that falls silent keeps its memo, so it must be small.
                client.memo = (matches.size_bytes() <= MEMO_MAX_BYTES).then(|| Rc::clone(&matches));
                matches
            }
        }
    }

    /// Routes a message from inside: a publish by Python, or a will, whose session is the publisher.
    pub(super) fn route_message(&mut self, message: &Arc<Message>, publisher: Option<u32>) -> usize {
        let mut passing = Passing { publisher, ..Passing::from_message(message, self.now) };
        if passing.retain {
            self.retain(&mut passing);
        }
        let matches = self.cache.find(&self.shared.router, passing.publication.topic);
        self.route(&mut passing, &matches)
    }

    #[inline]
    fn route(&mut self, passing: &mut Passing<'_>, matches: &Matches) -> usize {
        self.counts.messages_publish += u64::from(!passing.is_sys);
        self.counts.routed_sys += u64::from(passing.is_sys);
        if matches.has_durable && passing.qos != QoS::AtMostOnce {
            self.store_for(passing, matches);
        }
        passing.is_held = self.keeper.has_written();
        if matches.is_empty() {
            self.count_unwanted(passing);
            return 0;
        }
        self.counts.deliveries_wanted += matches.home.len() as u64;
        self.effort += matches.len();
        self.deliver(passing, &matches.home);
        for group in &matches.away {
            self.deliver_away(passing, group);
        }
        if matches.shared.is_empty() {
            return matches.len();
        }
        self.route_shared(passing, matches)
    }

    fn route_shared(&mut self, passing: &mut Passing<'_>, matches: &Matches) -> usize {
        let plain = matches.len() - matches.shared.len();
        let served = self.share_out(passing, &matches.shared);
        self.counts.deliveries_wanted += served as u64;
        let receivers = plain + served;
        if receivers == 0 {
            self.count_unwanted(passing); // The last member of each group has just gone.
        }
        receivers
    }

    fn count_unwanted(&mut self, passing: &Passing<'_>) {
        self.counts.dropped_no_subscribers += u64::from(!passing.is_sys);
        self.counts.messages_dropped += u64::from(!passing.is_sys);
    }

    fn retain(&mut self, passing: &mut Passing<'_>) {
        let message = passing.owned();
        let slot = self.store_retained(&message);
        let mut retained = self.shared.router.retained.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let before = retained.size_bytes();
        let (outcome, free) = retained.store_under(message, slot);
        self.counts.retained_refused += u64::from(outcome == StoreOutcome::Refused);
        self.counts.memory_released += before.saturating_sub(retained.size_bytes()) as u64;
        let next_ms = retained.next_expiry_ms();
        drop(retained);
        self.keeper.supersede(free);
        next_ms.into_iter().for_each(|next_ms| self.sweep_by(next_ms));
    }

    fn deliver_away(&mut self, passing: &mut Passing<'_>, group: &Group) {
        let message = passing.owned();
        if group.owner != TAPS {
            let stored = Stored { first_slot: passing.next_slot, is_held: passing.is_held };
            if passing.next_slot != 0 {
                let qos = passing.qos;
                passing.next_slot += group.targets.iter().filter(|target| is_stored(qos, target, None)).count() as u64;
            }
            let mail = Mail::Deliver(message, Arc::clone(&group.targets), stored);
            self.counts.deliveries_wanted += group.targets.len() as u64;
            self.counts.deliveries_posted += group.targets.len() as u64;
            self.outgoing_weight += mail.weight();
            self.outgoing[usize::from(group.owner)].push(mail);
            return;
        }
        for target in group.targets.iter() {
            let tap = self.shared.taps.get(target.slot);
            let Some(tap) = tap.filter(|tap| tap.reserve(message.size_bytes())) else {
                self.counts.taps_dropped += 1;
                continue;
            };
            match self.events.last_mut() {
                Some(Event::TapBatch { tap: last, messages, .. }) if *last == tap.id => {
                    messages.push(Arc::clone(&message));
                }
                _ => {
                    let messages = vec![Arc::clone(&message)];
                    self.events.push(Event::TapBatch { tap: tap.id, messages, dropped: 0 });
                }
            }
        }
    }

    /// Mail from another worker.
    pub(super) fn deliver_mail(&mut self, message: &Arc<Message>, targets: &[Target], stored: Stored) {
        let Stored { first_slot, is_held } = stored;
        let whole = Passing::from_message(message, self.now);
        let mut passing = Passing { next_slot: first_slot, is_held, ..whole };
        self.counts.deliveries_arrived += targets.len() as u64;
        self.deliver(&mut passing, targets);
    }

    #[inline]
    fn deliver(&mut self, passing: &mut Passing<'_>, targets: &[Target]) {
        self.frames.clear();
        self.counts.deliveries_made += targets.len() as u64;
        for target in targets {
            self.deliver_one(passing, target);
        }
    }

    /// Forgets the encodings of the publication before.
    pub(super) fn begin_frames(&mut self) {
        self.frames.clear();
    }

    #[inline]
    fn deliver_one(&mut self, passing: &mut Passing<'_>, target: &Target) {
        if self.deliver_to::<false>(passing, target, (0, true)) == Delivered::Gone {
            self.count_drop(DropReason::SessionEnded);
        }
    }

    /// `share`: number of the group whose member the target is, and whether it must take the message at any cost.
    #[inline]
    pub(super) fn deliver_to<const SHARED: bool>(
        &mut self,
        passing: &mut Passing<'_>,
        target: &Target,
        (share, is_last_resort): (u32, bool),
    ) -> Delivered {
        let slot_of_store = if SHARED { passing.parcel_slot } else { passing.take_slot(target) };
        let Some(seat) = self.sessions.live(target.slot, target.epoch) else {
            if !SHARED {
                self.keeper.release(slot_of_store);
            }
            return Delivered::Gone;
        };
        if target.audience != Audience::All && !is_for(passing, target, &mut self.counts) {
            self.keeper.release(slot_of_store);
            return Delivered::Settled;
        }
        let qos = passing.qos.min(target.qos);
        if !SHARED && slot_of_store != 0 && seat.session.outbound.is_away() {
            let offered = offer_stub(&mut seat.session.outbound, passing, (slot_of_store, qos));
            self.count_offer(offered);
            return Delivered::Settled;
        }
        let retain = passing.retain && target.retain_as_published;
        let is_stored = seat.durable != 0 || slot_of_store != 0;
        let slot = seat.client;
        let mut client = slot.and_then(|slot| self.clients.get_mut(slot as usize));
        let has_held = || client.as_ref().is_some_and(|client| client.held > 0); // Their order is kept.
        let is_held = qos == QoS::ExactlyOnce && (passing.is_held || is_stored || has_held());
        let mut frame = None;
        if let Some(client) = client.as_deref_mut() {
            // What leaves later must not set an alias that packets before it already use.
            self.frames.is_plain = is_held;
            frame = self.frames.fit_target(client, target, passing, (qos, retain));
            if frame.is_none() && SHARED && !is_last_resort {
                return Delivered::Refused; // Another member may take it (section 3.1.2.11.4).
            }
            if frame.is_none() {
                count_too_large(&mut self.counts);
                self.keeper.release(slot_of_store);
                return Delivered::Settled;
            }
        }
        let has_room = client.as_deref().is_some_and(Client::has_room);
        let outbound = &mut seat.session.outbound;
        if SHARED && !is_last_resort && is_refused(outbound, qos, has_room) {
            return Delivered::Refused;
        }
        let identifiers = &target.identifiers;
        let mut unkept = slot_of_store;
        let delivery = || {
            let stored = std::mem::take(&mut unkept);
            Delivery { message: passing.owned(), qos, retain, share, identifiers: identifiers.clone(), stored }
        };
        let offered = match SHARED {
            true => outbound.offer_shared(qos, has_room, delivery),
            false => outbound.offer(qos, has_room, delivery),
        };
        self.keeper.release(unkept); // Nobody keeps the message: it is sent once, or dropped.
        match (offered, client, frame) {
            (Offered::Send(packet_id), Some(_), Some(fitting)) if is_held => {
                count_sent(&mut self.counts, qos, passing.is_sys);
                count_first(&mut self.counts, qos);
                self.store_sent(target.slot, packet_id, slot_of_store);
                let client = slot.unwrap_or_default();
                self.hold_publish(client, &passing.publication, fitting, packet_id);
            }
            (Offered::Send(packet_id), Some(client), Some(fitting)) => {
                let (spares, counts) = (&mut self.spares, &mut self.counts);
                self.frames.send(client, (spares, counts), passing, (fitting, qos, packet_id));
                slot.into_iter().for_each(|slot| self.mark_dirty(slot));
            }
            (offered, client, _) => {
                let is_budgeted = client.is_some_and(|client| client.connection.limits().force_shutdown_bytes > 0);
                self.count_offer(offered);
                // Judged at the end of the turn: nobody may end in the middle of a delivery.
                slot.filter(|_| is_budgeted).into_iter().for_each(|slot| self.mark_dirty(slot));
            }
        }
        Delivered::Settled
    }

    /// A PUBLISH of QoS 2 leaves with the commit of what was gathered so far.
    fn hold_publish(&mut self, slot: u32, publication: &Publication<'_>, (range, layout, _): Fitting, packet_id: u16) {
        let frames = std::mem::take(&mut self.frames);
        self.hold(slot, |held| {
            let start = held.len();
            held.extend_from_slice(&frames.bytes[range]);
            if layout.packet_id_at != 0 {
                let at = start + layout.packet_id_at;
                held[at..at + 2].copy_from_slice(&packet_id.to_be_bytes());
            }
            if publication.payload.len() >= SHARED_MIN_BYTES {
                held.extend_from_slice(publication.payload);
            }
        });
        self.frames = frames;
    }

    pub(super) fn count_offer(&mut self, offered: Offered) {
        match offered {
            Offered::Send(_) | Offered::Queued => {}
            Offered::QueuedAndEvicted(count) => (0..count).for_each(|_| self.count_drop(DropReason::QueueFull)),
            Offered::Dropped(reason) => self.count_drop(reason),
        }
    }

    pub(super) fn count_drop(&mut self, reason: DropReason) {
        self.counts.delivery_dropped += 1;
        match reason {
            DropReason::QoS0 => self.counts.delivery_dropped_qos0 += 1,
            DropReason::QueueFull => self.counts.delivery_dropped_queue_full += 1,
            DropReason::Expired => self.counts.delivery_dropped_expired += 1,
            DropReason::SessionEnded => self.counts.delivery_dropped_session_ended += 1,
            DropReason::Unreadable => self.counts.delivery_dropped_unreadable += 1,
        }
    }

    /// Sends one delivery with its packet identifier: from the queue, or again after a resume (`dup`).
    /// Returns false if it is larger than the client takes.
    pub(super) fn send_delivery(&mut self, slot: u32, packet_id: u16, delivery: &Delivery, dup: bool) -> bool {
        let client = &mut self.clients[slot as usize];
        let version = client.connection.version();
        let shape = Shape { version, qos: delivery.qos, retain: delivery.retain, naming: Naming::Topic };
        let publication = delivery.message.publication(self.now.steady_ms);
        let identifiers = delivery.identifiers.as_deref().filter(|_| version == Version::V5);
        let seat_slot = client.session.unwrap_or(u32::MAX);
        let is_durable = self.sessions.get(seat_slot).is_some_and(|seat| seat.durable != 0);
        // Behind one that waits already, whoever's it is: their order is kept.
        let must_wait = is_durable || delivery.stored != 0 || client.held > 0;
        let is_held = delivery.qos == QoS::ExactlyOnce && must_wait;
        self.frames.clear();
        self.frames.is_plain = is_held;
        let Some(fitting) = self.frames.fit(client, shape, &publication, identifiers) else {
            // What was sent once, when the client took larger packets, has been delivered.
            if !dup {
                count_too_large(&mut self.counts);
            }
            return false;
        };
        self.frames.bytes[fitting.0.start] |= u8::from(dup) << 3;
        if is_held {
            count_sent(&mut self.counts, delivery.qos, publication.topic.is_sys());
            if !dup {
                count_first(&mut self.counts, delivery.qos);
                self.store_sent(seat_slot, packet_id, delivery.stored);
            }
            self.hold_publish(slot, &publication, fitting, packet_id);
            return true;
        }
        self.frames.put((client, &mut self.spares), &publication, fitting, packet_id);
        if publication.payload.len() >= SHARED_MIN_BYTES {
            client.outbox.share(&delivery.message);
        }
        count_sent(&mut self.counts, delivery.qos, publication.topic.is_sys());
        if !dup {
            count_first(&mut self.counts, delivery.qos);
        }
        self.mark_dirty(slot);
        true
    }

    /// What the client of the session before did not acknowledge goes out again, as far as window and outbox have room;
    /// whether something did [MQTT-4.4.0-1].
    pub(super) fn resend_next(&mut self, slot: u32, seat_slot: u32) -> bool {
        let Some(seat) = self.sessions.get_mut(seat_slot) else { return false };
        let Some((packet_id, resend)) = seat.session.outbound.next_resend() else { return false };
        match resend {
            Resend::Publish(delivery) if self.send_delivery(slot, packet_id, &delivery, true) => {}
            Resend::Publish(_) => {
                self.counts.acks_missing += 1;
                self.abandon(seat_slot, packet_id);
            }
            Resend::PubRel => self.send_pubrel(slot, packet_id),
        }
        true
    }

    /// A delivery that this client can never take is settled as if it had been.
    pub(super) fn abandon(&mut self, seat: u32, packet_id: u16) {
        let Some(seat) = self.sessions.get_mut(seat).filter(|_| packet_id != 0) else {
            return; // QoS 0 has nothing to settle.
        };
        let outbound = &mut seat.session.outbound;
        outbound.on_puback(packet_id);
        outbound.on_pubrec(packet_id, ReasonCode::PACKET_TOO_LARGE);
    }
}

/// Matches that a connection's memo may hold; beyond it the worker's cache serves.
const MEMO_MAX_BYTES: usize = 4096;

/// Why a QoS 2 message is refused that its sender was granted.
const TOO_MANY: &str = "more QoS 2 messages without PUBREL than max_awaiting_rel";

const NOBODY: ReasonCode = ReasonCode::NO_MATCHING_SUBSCRIBERS;

/// Whether a member that need not would lose a message over this one.
fn is_refused(outbound: &Outbound, qos: QoS, has_room: bool) -> bool {
    match qos {
        QoS::AtMostOnce => !has_room,
        _ => outbound.is_queue_full() && !(has_room && outbound.has_window() && !outbound.has_waiting()),
    }
}

/// Whether a target that does not stand for everybody's messages stands for this one; No Local is counted.
fn is_for(passing: &Passing<'_>, target: &Target, counts: &mut Counts) -> bool {
    let is_own = passing.publisher == Some(target.slot);
    if is_own && target.audience == Audience::Others {
        counts.delivery_dropped += 1;
        counts.delivery_dropped_no_local += 1;
    } else if is_own != (target.audience == Audience::Own) {
        counts.deliveries_passed_over += 1; // The session's other target stands for this message.
    }
    stands_for(target, passing.publisher)
}

/// Larger than its receiver takes [MQTT-3.1.2-25].
fn count_too_large(counts: &mut Counts) {
    counts.delivery_dropped += 1;
    counts.delivery_dropped_too_large += 1;
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::alone;
    use super::*;

    fn target(slot: u32) -> Target {
        let (qos, audience) = (QoS::AtLeastOnce, Audience::All);
        Target { slot, epoch: 1, qos, audience, retain_as_published: false, durable: 0, identifiers: None }
    }

    #[test]
    fn mail_for_a_session_that_has_ended_meanwhile_is_counted() {
        let mut worker = alone::worker();
        worker.deliver_mail(&alone::message(None, 0), &[target(0)], Stored::default());
        assert_eq!((worker.counts.delivery_dropped, worker.counts.delivery_dropped_session_ended), (1, 1));
    }

    #[test]
    fn a_message_for_a_tap_that_was_closed_meanwhile_is_counted() {
        let mut worker = alone::worker();
        let message = alone::message(None, 0);
        let mut passing = Passing::from_message(&message, worker.now);
        worker.deliver_away(&mut passing, &Group { owner: TAPS, targets: Arc::from([target(0)]) });
        assert_eq!(worker.counts.taps_dropped, 1);
    }

    #[test]
    fn a_message_names_the_session_that_published_it_also_where_a_slot_has_a_new_owner() {
        let mut worker = alone::worker_of(vec![alone::listener()]);
        let mut named = Vec::new();
        for id in ["a", "b"] {
            let mut client = alone::client(&mut worker);
            client.write_all(&[b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01", id.as_bytes()].concat()).unwrap();
            for _ in 0..2 {
                client.write_all(b"\x31\x04\x00\x01tx").unwrap();
                worker.turn();
                let retained = worker.shared.router.retained.read().unwrap();
                named.push(retained.get(Topic::new("t").unwrap()).map(|message| message.origin.client_id.to_string()));
            }
            drop(client);
            worker.turn();
        }
        assert_eq!(named.iter().flatten().collect::<Vec<_>>(), ["a", "a", "b", "b"]);
    }
}
