//! Shared subscriptions: one member of each group gets the message, and a member that ends gives back what it has.
//!
//! Knows how a message goes from member to member until one takes it. A group is asked on the thread that has the
//! message; the member's worker delivers. What the member's worker finds (the session is gone, its queue is full, its
//! client takes no packet of that size) sends the message on, at most [`HOPS_MAX`] times. What waits for a client that is
//! away is offered to connected members in small steps, until they have it or the client is back.

use std::collections::VecDeque;
use std::sync::Arc;

use whimbrel_protocol::session::{Delivery, DropReason, Outbound};
use whimbrel_protocol::{Filter, Message, Strategy, Subscribed};
use whimbrel_router::share::{Choice, Wish};
use whimbrel_router::{Entry, Member, Place, Presence, Share, Target};

use whimbrel_storage::Fetched;

use super::Worker;
use super::delivery::Delivered;
use super::passing::Passing;
use super::sessions::Seat;
use crate::ledger::Counts;
use crate::mailbox::Mail;

/// How often one message may be refused before the next member must take it or lose it.
const HOPS_MAX: u8 = 8;

/// Messages that an absent member gives away in one step.
pub(super) const STEP_MAX: usize = 64;
/// Absent members that are looked at in one step.
const VISITS_MAX: usize = 256;
/// Until the next step after one that moved something; milliseconds. Other workers say meanwhile what room is left.
const SOON_MS: u64 = 2;
/// Until the next step after one that moved nothing; milliseconds.
const IDLE_MS: u64 = 100;

/// Absent members that have messages of groups, and when they are looked at next.
#[derive(Default, Debug)]
pub(super) struct Owing {
    seats: VecDeque<(u32, u16)>,
    pub(super) due_ms: Option<u64>,
}

impl Owing {
    /// How many there are.
    #[cfg(feature = "simulation")]
    pub(super) fn len(&self) -> usize {
        self.seats.len()
    }

    fn remind(&mut self, due_ms: u64) {
        self.due_ms = Some(self.due_ms.map_or(due_ms, |known| known.min(due_ms)));
    }
}

/// What a message of a group has gone through.
#[derive(Clone, Copy, Default, Debug)]
struct Journey {
    /// Who refused it last.
    not: Option<Place>,
    hops: u8,
    /// The absent member that gives it away and has it back if no connected one takes it.
    home: Option<Place>,
}

/// A message of a group on its way to the worker of a member.
#[derive(Debug)]
pub(crate) struct Parcel {
    message: Arc<Message>,
    share: Arc<Share>,
    target: Target,
    is_last_resort: bool,
    journey: Journey,
    /// It comes back to the member that gave it away.
    is_return: bool,
    /// The store's slot; 0: none.
    stored: u64,
    /// Whether at QoS 2 it must not leave before it is stored.
    is_held: bool,
}

impl Parcel {
    /// Bytes of the message.
    pub(crate) fn size_bytes(&self) -> usize {
        self.message.size_bytes()
    }
}

impl Worker {
    /// Gives the message to one member of each group; how many groups had one.
    #[inline(never)]
    pub(super) fn share_out(&mut self, passing: &mut Passing<'_>, groups: &[Arc<Share>]) -> usize {
        let mut count = 0;
        for share in groups {
            passing.parcel_slot = 0;
            count += usize::from(self.share_one(passing, share, Journey::default()));
            self.keeper.release(std::mem::take(&mut passing.parcel_slot)); // Nobody took it.
        }
        count
    }

    /// Gives the message to a member; false if the group has none.
    fn share_one(&mut self, passing: &mut Passing<'_>, share: &Arc<Share>, mut journey: Journey) -> bool {
        let hash = self.hash_for(passing, share.strategy);
        // Beyond the bound members go as fast as they are chosen.
        while journey.hops <= 2 * HOPS_MAX {
            let wish = Wish { qos: passing.qos(), hash, not: journey.not, is_gift: journey.home.is_some() };
            let Some(choice) = share.choose(wish) else { break };
            let is_last_resort = choice.is_last_resort || (journey.hops >= HOPS_MAX && journey.home.is_none());
            self.store_for_member(passing, &choice.target, share.number);
            passing.is_held |= self.keeper.has_written();
            if choice.owner != self.index {
                self.send_away(passing, share, Choice { is_last_resort, ..choice }, journey);
                return true;
            }
            if self.deliver_shared(passing, (share.number, is_last_resort), &choice.target) == Delivered::Settled {
                passing.parcel_slot = 0;
                return true;
            }
            journey.not = Some(Place { owner: self.index, slot: choice.target.slot, epoch: choice.target.epoch });
            journey.hops += 1;
            self.counts.shared_moved += 1;
        }
        match journey.home {
            Some(home) => self.send_home(passing, share, home),
            None => false,
        }
    }

    #[inline]
    fn hash_for(&self, passing: &Passing<'_>, strategy: Strategy) -> u64 {
        match strategy {
            Strategy::HashClientId => self.shared.hash(passing.publisher_id()),
            Strategy::HashTopic => self.shared.hash(passing.topic().as_str()),
            Strategy::Random | Strategy::RoundRobin | Strategy::Sticky => 0,
        }
    }

    fn send_away(&mut self, passing: &mut Passing<'_>, share: &Arc<Share>, choice: Choice, journey: Journey) {
        let Choice { owner, target, is_last_resort } = choice;
        let (message, share) = (passing.owned(), Arc::clone(share));
        let (stored, is_held) = (std::mem::take(&mut passing.parcel_slot), passing.is_held);
        let parcel = Parcel { message, share, target, is_last_resort, journey, is_return: false, stored, is_held };
        self.post_parcel(owner, parcel);
    }

    fn post_parcel(&mut self, owner: u16, parcel: Parcel) {
        let mail = Mail::Share(Box::new(parcel));
        self.outgoing_weight += mail.weight();
        self.counts.deliveries_posted += 1;
        self.outgoing[usize::from(owner)].push(mail);
    }

    /// Brings a gift that nobody took back to its giver; false if that has ended and nobody else is there.
    fn send_home(&mut self, passing: &mut Passing<'_>, share: &Arc<Share>, home: Place) -> bool {
        let Some(target) = share.target(home) else {
            return self.share_one(passing, share, Journey::default());
        };
        if home.owner == self.index {
            return self.take_home(passing, share, &target);
        }
        let (message, share, journey) = (passing.owned(), Arc::clone(share), Journey::default());
        let (stored, is_held) = (std::mem::take(&mut passing.parcel_slot), passing.is_held);
        let parcel =
            Parcel { message, share, target, is_last_resort: false, journey, is_return: true, stored, is_held };
        self.post_parcel(home.owner, parcel);
        true
    }

    fn take_home(&mut self, passing: &mut Passing<'_>, share: &Arc<Share>, target: &Target) -> bool {
        if self.sessions.live(target.slot, target.epoch).is_none() {
            return self.share_one(passing, share, Journey::default());
        }
        self.store_for_member(passing, target, share.number);
        let Some(seat) = self.sessions.get_mut(target.slot) else { return false };
        let (qos, retain) = (passing.qos().min(target.qos), passing.retain() && target.retain_as_published);
        let (message, identifiers) = (passing.owned(), target.identifiers.clone());
        self.counts.deliveries_made += 1;
        let stored = std::mem::take(&mut passing.parcel_slot);
        seat.session.outbound.put_back(Delivery { message, qos, retain, share: share.number, identifiers, stored });
        match seat.client {
            Some(client) => self.mark_dirty(client),
            None => self.owe(target.slot, SOON_MS),
        }
        true
    }

    /// A message for a member that another worker chose.
    pub(super) fn deliver_parcel(&mut self, parcel: &Parcel) {
        let mut passing = Passing::from_message(&parcel.message, self.now);
        (passing.parcel_slot, passing.is_held) = (parcel.stored, parcel.is_held);
        let (passing, share, target) = (&mut passing, &parcel.share, &parcel.target);
        self.begin_frames();
        self.counts.deliveries_arrived += 1;
        let is_taken = if parcel.is_return {
            self.take_home(passing, share, target)
        } else if self.deliver_shared(passing, (share.number, parcel.is_last_resort), target) == Delivered::Settled {
            true
        } else {
            self.counts.shared_moved += 1;
            let not = Place { owner: self.index, slot: target.slot, epoch: target.epoch };
            let hops = parcel.journey.hops.saturating_add(1);
            self.share_one(passing, share, Journey { not: Some(not), hops, ..parcel.journey })
        };
        if !is_taken {
            self.keeper.release(passing.parcel_slot);
            self.lose_shared(DropReason::SessionEnded);
        }
    }

    /// A message of a group that nobody can have any more.
    fn lose_shared(&mut self, reason: DropReason) {
        self.counts.deliveries_made += 1;
        self.count_drop(reason);
    }

    /// Offers a message to a member here, and notes what that left of its room.
    #[inline]
    fn deliver_shared(&mut self, passing: &mut Passing<'_>, share: (u32, bool), target: &Target) -> Delivered {
        let delivered = self.deliver_to::<true>(passing, target, share);
        self.counts.deliveries_made += u64::from(delivered == Delivered::Settled);
        self.note_room(target.slot);
        if self.sessions.get(target.slot).is_some_and(|seat| seat.client.is_none()) {
            self.owe(target.slot, SOON_MS);
        }
        delivered
    }

    /// Tells the groups of a session how much room it has now. Nothing for a session without a group.
    #[inline]
    pub(super) fn note_room(&mut self, slot: u32) {
        let Some(seat) = self.sessions.get(slot) else { return };
        let Some(presence) = self.sessions.presence(seat) else { return };
        let outbound = &seat.session.outbound;
        let has_room = seat.client.is_some_and(|client| self.clients[client as usize].has_room());
        let mut bits = 0;
        if !has_room || !outbound.has_window() || outbound.has_waiting() {
            bits |= Presence::BUSY;
        }
        if !has_room {
            bits |= Presence::CHOKED;
        }
        if outbound.is_queue_full() {
            bits |= Presence::FULL;
        }
        presence.set(bits);
    }

    /// A session becomes a member, or its options change. `whole` is a shared filter.
    pub(super) fn join(&mut self, slot: u32, whole: Filter<'_>, entry: Entry, strategy: Strategy) {
        let Ok(Subscribed { filter, .. }) = Subscribed::new(whole) else { return };
        let Some(presence) = self.sessions.presence_for(slot) else { return };
        let Some(seat) = self.sessions.get(slot) else { return };
        let Entry { place, options, identifier, durable } = entry;
        let is_online = seat.client.is_some();
        let member = Member { place, options, identifier, durable, presence, is_online };
        self.note_room(slot);
        self.shared.router.join((whole, filter), member, strategy);
    }

    /// A session is no member any more.
    pub(super) fn leave_group(&mut self, whole: Filter<'_>, place: Place) {
        if let Ok(Subscribed { filter, .. }) = Subscribed::new(whole) {
            self.shared.router.leave((whole, filter), place);
        }
    }

    /// The client of a session came or went: its groups are told.
    pub(super) fn set_online(&mut self, slot: u32, is_online: bool) {
        let Some(seat) = self.sessions.get(slot).filter(|seat| seat.is_member()) else { return };
        let place = Place { owner: self.index, slot, epoch: seat.epoch };
        for share in seat.session.subscriptions.shared().filter_map(|whole| self.shared.router.share(whole)) {
            share.set_online(place, is_online);
        }
        self.note_room(slot);
    }

    /// A message of a group waits for a client that is away: other members are asked soon.
    fn owe(&mut self, slot: u32, after_ms: u64) {
        let Some(seat) = self.sessions.get_mut(slot).filter(|seat| seat.client.is_none() && !seat.is_owing) else {
            return;
        };
        seat.is_owing = true;
        self.owing.seats.push_back((slot, seat.epoch));
        self.owing.remind(self.now.ms + after_ms);
    }

    /// Gives away what waits for clients that are away, as far as connected members take it.
    pub(super) fn visit_owing(&mut self) {
        self.owing.due_ms = None;
        let mut next_ms = IDLE_MS;
        for _ in 0..self.owing.seats.len().min(VISITS_MAX) {
            let Some((slot, epoch)) = self.owing.seats.pop_front() else { break };
            let Some(seat) = self.sessions.live(slot, epoch) else { continue };
            seat.is_owing = false;
            if self.settle_debts(slot) {
                next_ms = SOON_MS;
            }
        }
        self.offer_estates();
        if !self.owing.seats.is_empty() || !self.estates.is_empty() {
            self.owing.remind(self.now.ms + next_ms);
        }
    }

    /// What waits for a client that is away, and what it did not acknowledge, goes to connected members, as much as one
    /// step allows; what is left is noted. Whether something went.
    pub(super) fn settle_debts(&mut self, slot: u32) -> bool {
        if self.stop_by_ms.is_some() {
            return false; // Everybody goes.
        }
        let shared = Arc::clone(&self.shared);
        let Some(seat) = self.sessions.get_mut(slot).filter(|seat| seat.client.is_none()) else {
            return false;
        };
        let place = Place { owner: self.index, slot, epoch: seat.epoch };
        let mut asked = (0, false);
        let mut is_owing = false;
        let before = Held::of(&seat.session.outbound);
        let taken = seat.session.outbound.take_shared(STEP_MAX, |number| {
            if asked.0 != number {
                let share = shared.router.share_numbered(number);
                asked = (number, share.is_some_and(|share| share.has_taker(place)));
            }
            is_owing |= !asked.1;
            asked.1
        });
        before.count_moved(&seat.session.outbound, &mut self.counts);
        is_owing |= taken.len() == STEP_MAX;
        if seat.session.outbound.has_grouped() {
            is_owing = true;
            self.pages.owe((slot, place.epoch));
        }
        self.note_room(slot);
        let has_given = !taken.is_empty();
        let journey = Journey { not: Some(place), hops: 0, home: Some(place) };
        taken.into_iter().for_each(|delivery| self.give_back(&delivery, journey));
        if is_owing {
            self.owe(slot, if has_given { SOON_MS } else { IDLE_MS });
        }
        has_given
    }

    /// All that an ended session, which is in no group any more, has left for others.
    pub(super) fn give_back_all(&mut self, seat: &mut Seat, place: Place) {
        if !seat.is_member() || self.stop_by_ms.is_some() {
            return;
        }
        let router = &Arc::clone(&self.shared).router;
        let has_members = |number| router.share_numbered(number).is_some();
        let before = Held::of(&seat.session.outbound);
        let taken = seat.session.outbound.take_shared(usize::MAX, has_members);
        before.count_moved(&seat.session.outbound, &mut self.counts);
        let journey = Journey { not: Some(place), ..Journey::default() };
        // Their records name a session that is no more; after a crash they are the group's.
        taken.iter().for_each(|delivery| self.give_back(delivery, journey));
        let lines = seat.session.outbound.take_lines(has_members);
        self.bequeath(lines);
    }

    /// Whether a connected member other than this one would take what waits for it.
    pub(super) fn has_taker(&self, share: u32, place: Place) -> bool {
        self.shared.router.share_numbered(share).is_some_and(|share| share.has_taker(place))
    }

    /// What was read back of the messages of groups that wait for a client that is away goes to connected members, as far as
    /// they still take it. What is in the answer belongs to the session only while it still is the first of its group.
    pub(super) fn give_away_read(&mut self, (slot, epoch): (u32, u16), answer: &Fetched) {
        let Some(seat) = self.sessions.live(slot, epoch) else { return };
        seat.session.outbound.note_answer();
        if let Some(client) = seat.client {
            return self.mark_dirty(client); // It is back, and its pages can be read again.
        }
        let place = Place { owner: self.index, slot, epoch };
        let journey = Journey { not: Some(place), hops: 0, home: Some(place) };
        for missing in &answer.missing {
            self.lose_read(slot, missing.0);
        }
        for found in &answer.found {
            let Some(mut delivery) = self.pages.read(found) else {
                self.lose_read(slot, found.slot.0);
                continue;
            };
            if !self.has_taker(delivery.share, place) {
                break;
            }
            let Some(seat) = self.sessions.get_mut(slot) else { return };
            let Some(share) = seat.session.outbound.take_shared_stub(found.slot.0) else { continue };
            delivery.share = share;
            self.counts.deliveries_moved += 1;
            self.note_room(slot);
            self.give_back(&delivery, journey);
        }
        if self.sessions.get(slot).is_some_and(|seat| seat.session.outbound.has_grouped()) {
            self.owe(slot, SOON_MS);
        }
    }

    /// A message that cannot be read back is a drop.
    fn lose_read(&mut self, slot: u32, stored: u64) {
        let Some(seat) = self.sessions.get_mut(slot) else { return };
        if seat.session.outbound.take_shared_stub(stored).is_some() {
            self.keeper.release(stored);
            self.count_drop(DropReason::Unreadable);
        }
    }

    /// A message that an ended session has left in the store goes to a member.
    pub(super) fn give_away_left(&mut self, delivery: &Delivery) {
        self.counts.deliveries_moved += 1;
        self.give_back(delivery, Journey::default());
    }

    /// What is left is looked at again.
    pub(super) fn look_at_estates_again(&mut self) {
        self.owing.remind(self.now.ms + IDLE_MS);
    }

    fn give_back(&mut self, delivery: &Delivery, journey: Journey) {
        let message = &delivery.message;
        self.counts.deliveries_offered_again += 1;
        if message.is_expired(self.now.steady_ms) {
            self.keeper.release(delivery.stored);
            return self.lose_shared(DropReason::Expired);
        }
        let mut passing = Passing::from_message(message, self.now);
        passing.parcel_slot = delivery.stored;
        self.begin_frames();
        self.counts.shared_moved += 1;
        let share = self.shared.router.share_numbered(delivery.share);
        if !share.is_some_and(|share| self.share_one(&mut passing, &share, journey)) {
            self.keeper.release(passing.parcel_slot);
            self.lose_shared(DropReason::SessionEnded);
        }
    }
}

/// What a session held before some of it was taken out for others.
struct Held {
    waiting: usize,
    inflight: usize,
}

impl Held {
    fn of(outbound: &Outbound) -> Held {
        Held { waiting: outbound.queue_len(), inflight: outbound.inflight_count() }
    }

    fn count_moved(self, outbound: &Outbound, counts: &mut Counts) {
        let left = Held::of(outbound);
        counts.deliveries_moved += (self.waiting - left.waiting) as u64;
        counts.acks_moved += (self.inflight - left.inflight) as u64;
    }
}

#[cfg(test)]
mod tests {
    use whimbrel_protocol::QoS;

    use super::*;
    use crate::worker::Now;
    use crate::worker::alone;

    const HOUR_MS: u64 = 3_600_000;

    fn delivery(message: Arc<Message>) -> Delivery {
        Delivery { message, qos: QoS::AtLeastOnce, retain: false, share: 7, identifiers: None, stored: 0 }
    }

    #[test]
    fn a_clock_that_is_set_forward_expires_no_message_of_a_group() {
        let mut worker = alone::worker();
        worker.now = Now { ms: 0, unix_ms: HOUR_MS, steady_ms: 10_000 };
        let message = alone::message(Some(60), 5_000);
        worker.give_back(&delivery(message), Journey::default());
        assert_eq!((worker.counts.delivery_dropped_expired, worker.counts.delivery_dropped_session_ended), (0, 1));
    }

    #[test]
    fn a_message_of_a_group_expires_by_the_clock_that_it_was_stamped_with() {
        let mut worker = alone::worker();
        worker.now = Now { ms: 0, unix_ms: 5_000, steady_ms: HOUR_MS };
        worker.give_back(&delivery(alone::message(Some(60), 5_000)), Journey::default());
        assert_eq!((worker.counts.delivery_dropped_expired, worker.counts.delivery_dropped_session_ended), (1, 0));
    }
}
