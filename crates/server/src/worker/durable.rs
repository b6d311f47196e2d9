//! What must be stored before it is said: records of a turn, and the packets that wait for their commit.
//!
//! Knows which packets promise something that a crash must not break (PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK, the
//! CONNACK of a new durable session, a PUBLISH of QoS 2) and holds them back until the store has what they promise.
//! Everything that is gathered in a turn is handed over once, before mail is posted, so that no other worker can settle what
//! the store has not heard of. Without a store nothing here costs more than a branch.

use std::collections::VecDeque;
use std::sync::Arc;

use whimbrel_protocol::connection::{Answered, Connection};
use whimbrel_protocol::packet::Packet;
use whimbrel_protocol::session::{Delivery, Released};
use whimbrel_protocol::{Filter, Message, QoS, encode};
use whimbrel_router::{Audience, Matches, Target};
use whimbrel_storage::{Identifiers, Kind, Lane, Receiver, Slot, Space, Store, StoredMessage, Ticket, Writer};

use super::Worker;
use super::passing::Passing;
use super::sessions::Seat;
use crate::durable::{self, Mark, SessionRecord};
use crate::event::Event;

/// A worker's part of the store.
#[derive(Default)]
pub(super) struct Keeper {
    writer: Option<Writer>,
    released: Released,
    /// Whether what is being handled left something to store.
    has_written: bool,
    open: Held,
    sealed: VecDeque<(Ticket, Held)>,
    spare: Vec<Held>,
    scratch: Vec<u8>,
    /// The submission in which the store was last told to forget a session; [`OPEN`]: the next one.
    forgot: Ticket,
    /// Durable sessions that began in a submission that may not be stored yet: its ticket, and their numbers; oldest first.
    begun: VecDeque<(Ticket, u32)>,
}

/// Of what is not submitted yet.
const OPEN: Ticket = Ticket(u64::MAX);

/// What waits for one commit, in its order.
#[derive(Default)]
struct Held {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

enum Entry {
    /// So many bytes for a connection: slot and epoch.
    Packet(u32, u16, u32),
    /// The connection's outbox may be written from now on.
    Opening(u32, u16),
    Event(Event),
}

/// Turns' worth of empty buffers that are kept, each no larger than this.
const SPARE_MAX: usize = 8;
const SPARE_BYTES_MAX: usize = 256 * 1024;

impl Keeper {
    pub(super) fn new(writer: Option<Writer>) -> Keeper {
        Keeper { writer, ..Keeper::default() }
    }

    /// A packet begins: nothing was written for it yet.
    #[inline]
    pub(super) fn begin(&mut self) {
        self.has_written = false;
    }

    /// Whether something was written since `begin`.
    #[inline]
    pub(super) fn has_written(&self) -> bool {
        self.has_written
    }

    /// What was promised of a message is promised again, on another connection perhaps, and may not be stored yet. Wider than
    /// [`Worker::promise`]: the message may concern other sessions alone.
    pub(super) fn repeat(&mut self) {
        self.has_written = self.writer.is_some();
    }

    /// Nobody needs this slot any more; 0 names none.
    #[inline]
    pub(super) fn release(&self, slot: u64) {
        self.released.push(slot);
    }

    /// What this turn writes takes the place of this slot's record; 0 names none.
    pub(super) fn supersede(&mut self, slot: u64) {
        if let Some(writer) = self.writer.as_mut().filter(|_| slot != 0) {
            writer.supersede(Slot(slot));
        }
    }

    /// How many slots sessions have named so far; for `supersede_since`.
    pub(super) fn released_count(&self) -> usize {
        self.released.len()
    }

    /// What sessions have named since then goes only when this turn's records are durable.
    pub(super) fn supersede_since(&mut self, before: usize) {
        for slot in self.released.split_off(before) {
            self.supersede(slot);
        }
    }

    /// Where sessions name what they need no longer.
    pub(super) fn released(&self) -> Released {
        self.released.clone()
    }

    /// The store and this worker's lane in it.
    pub(super) fn store(&self) -> Option<(&Arc<dyn Store>, Lane)> {
        self.writer.as_ref().map(|writer| (writer.store(), writer.lane()))
    }

    /// Whether some of them could go.
    pub(super) fn has_committed(&self) -> bool {
        let committed = self.writer.as_ref().map(|writer| writer.store().committed());
        self.sealed.front().is_some_and(|(ticket, _)| committed.is_some_and(|committed| *ticket <= committed))
    }

    /// Says that the broker is alive. Nobody waits for it.
    pub(super) fn put_mark(&mut self, mark: Mark) {
        if let Some(writer) = &mut self.writer {
            writer.put(durable::MARK_SPACE, durable::MARK_KEY, &mark.encode());
        }
    }

    /// Writes a small record for a session; its slot, 0 without a store.
    fn note(&mut self, kind: Kind, session: u32, body: &[u8]) -> u64 {
        let Some(writer) = &mut self.writer else { return 0 };
        let mut record = writer.record(kind);
        let slot = record.receiver(&Receiver::of(u64::from(session), QoS::AtMostOnce));
        record.finish(body);
        self.has_written = true;
        slot.0
    }

    /// Hands over what was gathered. What waits for it waits under its ticket.
    pub(super) fn seal(&mut self) {
        let Some(writer) = &mut self.writer else { return };
        self.released.drain(|slot| writer.settle(Slot(slot)));
        let has_held = !self.open.entries.is_empty();
        let ticket = if has_held { writer.barrier() } else { writer.submit() };
        self.forgot = if self.forgot == OPEN { ticket } else { self.forgot };
        if !self.begun.is_empty() {
            self.date_beginnings(ticket);
        }
        if !has_held {
            return;
        }
        let fresh = self.spare.pop().unwrap_or_default();
        self.sealed.push_back((ticket, std::mem::replace(&mut self.open, fresh)));
    }

    /// What began since the last submission went with this one; what is stored is of no interest any more.
    #[cold]
    fn date_beginnings(&mut self, ticket: Ticket) {
        let committed = self.writer.as_ref().map_or(ticket, |writer| writer.store().committed());
        let of_now = self.begun.iter_mut().rev().take_while(|(begun, _)| *begun == OPEN);
        of_now.for_each(|(begun, _)| *begun = ticket);
        let stored = self.begun.iter().take_while(|(begun, _)| *begun <= committed).count();
        self.begun.drain(..stored);
    }

    /// Whether a session's beginning may not be stored yet.
    fn is_beginning(&self, number: u32) -> bool {
        let committed = self.writer.as_ref().map_or(OPEN, |writer| writer.store().committed());
        self.begun.iter().any(|(begun, session)| *session == number && *begun > committed)
    }

    /// Whether the store has been told to forget a session, and may not have done it.
    fn is_forgetting(&self) -> bool {
        self.writer.as_ref().is_some_and(|writer| self.forgot > writer.store().committed())
    }

    fn take_committed(&mut self) -> Option<Held> {
        if !self.has_committed() {
            return None;
        }
        self.sealed.pop_front().map(|(_, held)| held)
    }

    fn recycle(&mut self, mut held: Held) {
        if self.spare.len() < SPARE_MAX && held.bytes.capacity() <= SPARE_BYTES_MAX {
            held.bytes.clear();
            held.entries.clear();
            self.spare.push(held);
        }
    }
}

impl Worker {
    /// The way into the store, before the first turn.
    pub(crate) fn keep_in(&mut self, writer: Option<Writer>) {
        self.keeper = Keeper::new(writer);
    }

    /// Whether there is a store.
    #[inline]
    pub(super) fn has_store(&self) -> bool {
        self.keeper.writer.is_some()
    }

    /// Writes one record of a message for all its durable receivers.
    pub(super) fn store_for(&mut self, passing: &mut Passing<'_>, matches: &Matches) {
        let Some(writer) = self.keeper.writer.as_mut().filter(|_| !self.shortage.is_refusing()) else {
            return;
        };
        let mut record = writer.record(Kind::Message);
        // The publisher's slot means nothing on another worker.
        let away = matches.away.iter().flat_map(|group| group.targets.iter()).map(|target| (None, target));
        let home = matches.home.iter().map(|target| (passing.publisher(), target));
        let is_wanted = |(publisher, target): &(Option<u32>, &Target)| is_stored(passing.qos(), target, *publisher);
        let receivers = home.chain(away).filter(is_wanted).filter_map(|(_, target)| receiver_of(passing, target));
        let first = receivers.fold(0, |first, receiver| {
            let slot = record.receiver(&receiver).0;
            if first == 0 { slot } else { first }
        });
        if record.message(&passing.stored_message()) {
            passing.next_slot = first;
            self.keeper.has_written = true;
        }
    }

    /// Writes a message of a group for the member that was chosen, in place of what is stored for another one: two members
    /// would have it after a crash, or none where that one's session has ended. For one whose session ends with its
    /// connection it stays as it is.
    pub(super) fn store_for_member(&mut self, passing: &mut Passing<'_>, target: &Target, group: u32) {
        let Some(writer) = self.keeper.writer.as_mut().filter(|_| !self.shortage.is_refusing()) else {
            return;
        };
        let Some(receiver) = receiver_of(passing, target) else { return };
        let receiver = Receiver { group, ..receiver };
        let mut record = writer.record(Kind::Message);
        let slot = record.receiver(&receiver).0;
        record.message(&passing.stored_message());
        self.keeper.supersede(std::mem::replace(&mut passing.parcel_slot, slot));
        self.keeper.has_written = true;
    }

    /// Writes a retained message; its slot, 0 without a store. Where there are several workers it is handed over at once,
    /// because another one may replace it next, and settles it then.
    pub(super) fn store_retained(&mut self, message: &Message) -> u64 {
        let Some(writer) = self.keeper.writer.as_mut().filter(|_| !message.topic().is_sys()) else {
            return 0; // What the broker says of itself is made anew at each start.
        };
        if self.shortage.is_refusing() {
            self.counts.storage_unstored += u64::from(!message.payload().is_empty());
            return 0;
        }
        let mut slot = Slot(0);
        if !message.payload().is_empty() {
            let mut record = writer.record(Kind::Retained);
            slot = record.receiver(&Receiver::of(0, QoS::AtMostOnce));
            record.message(&durable::stored(message));
            if self.shared.mailboxes.len() > 1 {
                // What other packets of this turn wrote and what they settled belongs together.
                self.keeper.released.drain(|slot| writer.settle(Slot(slot)));
                writer.submit();
            }
        }
        self.keeper.has_written = true;
        slot.0
    }

    /// Writes a retained message for the session that it is about to be sent to through a subscription of QoS 2: how far that
    /// has come is stored with it, so that after a crash nothing is sent a second time under another identifier. Its slot;
    /// 0: it is not stored.
    pub(super) fn store_replayed(&mut self, seat_slot: u32, delivery: &Delivery, subscribed: QoS) -> u64 {
        let number = self.sessions.get(seat_slot).map_or(0, |seat| seat.durable);
        let is_stored = number != 0 && subscribed == QoS::ExactlyOnce && delivery.qos != QoS::AtMostOnce;
        let Some(writer) = self.keeper.writer.as_mut().filter(|_| is_stored) else { return 0 };
        let identifiers = Identifiers::Numbers(delivery.identifiers.as_deref().unwrap_or_default());
        let mut record = writer.record(Kind::Message);
        let (session, qos, retain) = (u64::from(number), delivery.qos, delivery.retain);
        let slot = record.receiver(&Receiver { session, qos, retain, group: 0, identifiers });
        record.message(&durable::stored(&delivery.message));
        slot.0
    }

    /// The identifier of a QoS 2 message is known before PUBREC says so.
    pub(super) fn store_received(&mut self, slot: u32, packet_id: u16) {
        let Some(seat_slot) = self.clients[slot as usize].session else { return };
        let Some(seat) = self.sessions.get_mut(seat_slot).filter(|seat| seat.durable != 0) else { return };
        let stored = self.keeper.note(Kind::Received, seat.durable, &durable::packet_id_body(packet_id));
        seat.session.inbound.note_stored(packet_id, stored);
    }

    /// The identifier of a QoS 2 delivery is known before the client gets it, or the client could not tell it from another
    /// message after a crash.
    pub(super) fn store_sent(&mut self, seat_slot: u32, packet_id: u16, message_slot: u64) {
        let Some(seat) = self.sessions.get_mut(seat_slot) else { return };
        if seat.durable == 0 {
            // Its session ends with the broker, and then nobody else may have the message [MQTT-4.8.2-5].
            let slot = seat.session.outbound.forget_stored(packet_id);
            return self.keeper.supersede(slot);
        }
        let stored = self.keeper.note(Kind::Sent, seat.durable, &durable::sent_body(packet_id, message_slot));
        seat.session.outbound.note_sent(packet_id, stored);
    }

    /// PUBREC is known before PUBREL answers it.
    pub(super) fn store_released(&mut self, slot: u32, packet_id: u16) {
        let Some(seat_slot) = self.clients[slot as usize].session else { return };
        let Some(seat) = self.sessions.get_mut(seat_slot).filter(|seat| seat.durable != 0) else { return };
        let stored = self.keeper.note(Kind::Released, seat.durable, &durable::packet_id_body(packet_id));
        seat.session.outbound.note_released(packet_id, stored);
    }

    /// What is answered now repeats an answer, or builds on one, whose commit may still be on its way: to the client of a
    /// durable session it is a promise like that one.
    pub(super) fn promise(&mut self, slot: u32) {
        self.keeper.has_written |= self.seat_of(slot).is_some_and(|seat| seat.durable != 0);
    }

    /// Appends bytes that `put` writes to what waits for this turn's commit.
    pub(super) fn hold(&mut self, slot: u32, put: impl FnOnce(&mut Vec<u8>)) {
        let client = &mut self.clients[slot as usize];
        let start = self.keeper.open.bytes.len();
        put(&mut self.keeper.open.bytes);
        let length = (self.keeper.open.bytes.len() - start) as u32;
        client.held += 1;
        self.keeper.open.entries.push(Entry::Packet(slot, client.epoch, length));
    }

    /// As `send`, once everything that was gathered so far is stored.
    pub(super) fn send_held(&mut self, slot: u32, packet: &Packet<'_>) -> bool {
        self.hold_if_it_fits(slot, |connection, bytes| {
            encode::encode(bytes, connection.version(), packet);
            bytes.len() <= connection.peer_max_packet_bytes() as usize
        })
    }

    /// An answer behind what waits already, or with the commit of what was written for it.
    pub(super) fn answer_held(&mut self, slot: u32, answered: &Answered<'_>, words: &str) -> bool {
        self.hold_if_it_fits(slot, |connection, bytes| connection.put_answer(bytes, answered, words))
    }

    /// Holds the packet that `put` writes; where it says that the client does not take it, the packet is discarded
    /// [MQTT-3.1.2-24]. Returns what it says.
    fn hold_if_it_fits(&mut self, slot: u32, put: impl FnOnce(&Connection, &mut Vec<u8>) -> bool) -> bool {
        let mut scratch = std::mem::take(&mut self.keeper.scratch);
        scratch.clear();
        let fits = put(&self.clients[slot as usize].connection, &mut scratch);
        if fits {
            self.counts.packets_sent += 1;
            self.hold(slot, |held| held.extend_from_slice(&scratch));
        }
        self.keeper.scratch = scratch;
        fits
    }

    /// A packet of an exchange at QoS 2: of a durable session it leaves with the commit.
    pub(super) fn send_stored(&mut self, slot: u32, packet: &Packet<'_>) -> bool {
        // Behind what waits already: a PUBREL that overtakes its PUBLISH would make that a new message.
        let has_held = self.clients[slot as usize].held > 0;
        match has_held || self.seat_of(slot).is_some_and(|seat| seat.durable != 0) {
            true => self.send_held(slot, packet),
            false => self.send(slot, packet),
        }
    }

    /// Nothing leaves this connection until what was gathered so far is stored.
    fn bar(&mut self, slot: u32) {
        let client = &mut self.clients[slot as usize];
        client.is_barred = true;
        self.keeper.open.entries.push(Entry::Opening(slot, client.epoch));
    }

    /// An event goes out once everything that was gathered so far is stored.
    pub(super) fn post_held(&mut self, event: Event) {
        match self.keeper.has_written {
            true => self.keeper.open.entries.push(Entry::Event(event)),
            false => self.events.push(event),
        }
    }

    /// What waited for commits that are done goes its way.
    pub(super) fn release_committed(&mut self) {
        while let Some(mut held) = self.keeper.take_committed() {
            let mut at = 0;
            for entry in held.entries.drain(..) {
                match entry {
                    Entry::Packet(slot, epoch, length) => {
                        let end = at + length as usize;
                        self.let_out(slot, epoch, &held.bytes[at..end]);
                        at = end;
                    }
                    Entry::Opening(slot, epoch) => self.open_up(slot, epoch),
                    Entry::Event(event) => self.events.push(event),
                }
            }
            self.keeper.recycle(held);
        }
    }

    fn let_out(&mut self, slot: u32, epoch: u16, packet: &[u8]) {
        let Some(client) = self.clients.get_mut(slot as usize).filter(|client| client.epoch == epoch) else {
            return;
        };
        client.held -= 1;
        client.outbox.tail(&mut self.spares).extend_from_slice(packet);
        self.mark_dirty(slot);
    }

    fn open_up(&mut self, slot: u32, epoch: u16) {
        let Some(client) = self.clients.get_mut(slot as usize).filter(|client| client.epoch == epoch) else {
            return;
        };
        client.is_barred = false;
        self.mark_dirty(slot);
    }

    /// A connection has taken its session: the store learns of it, and CONNACK waits for what it promises: the session,
    /// which a connection before this one may have begun a moment ago, and the will.
    pub(super) fn keep_session(&mut self, slot: u32, seat_slot: u32, is_new: bool) {
        if !self.has_store() {
            return;
        }
        let released = self.keeper.released.clone();
        let number = || self.shared.durable.as_ref().and_then(|durable| durable.number());
        let Some(seat) = self.sessions.get_mut(seat_slot) else { return };
        if is_new {
            seat.session.keep(released); // Also one that is not durable may be handed what is.
        }
        let is_durable = self.clients[slot as usize].connection.limits().is_durable;
        match (is_durable && seat.session.expiry_s > 0, seat.durable) {
            (true, 0) if is_new => {
                seat.durable = number().unwrap_or_default();
                seat.session.outbound.keep_groups();
                self.keeper.begun.push_back((OPEN, seat.durable));
            }
            (false, 1..) => return self.let_durable_go(slot, seat_slot),
            _ => {}
        }
        let number = seat.durable;
        if number != 0 {
            self.put_session(seat_slot, 0);
        }
        // Also where the session was there before: its beginning may wait for the same commit, and so does the new will;
        // and where nothing can be written now. CONNACK of a new one says that none was there, and the one before may have
        // ended a moment ago.
        let may_be_lost = |keeper: &Keeper| if is_new { keeper.is_forgetting() } else { keeper.is_beginning(number) };
        if self.keeper.has_written || may_be_lost(&self.keeper) {
            self.bar(slot);
        }
    }

    /// The session ends with its connection from now on, or lives in memory, and the store forgets it.
    fn let_durable_go(&mut self, slot: u32, seat_slot: u32) {
        let before = self.keeper.released_count();
        let Some(seat) = self.sessions.get_mut(seat_slot) else { return };
        seat.session.let_go(true);
        seat.session.keep(self.keeper.released.clone());
        self.keeper.supersede_since(before);
        self.keeper.remove_session(seat);
        self.reenter(seat_slot);
        self.bar(slot);
    }

    /// Writes what the store knows of a session. `disconnected_ms`: by the kept clock; 0 while it has a connection.
    pub(super) fn put_session(&mut self, seat_slot: u32, disconnected_ms: u64) {
        let Some(seat) = self.sessions.get(seat_slot).filter(|seat| seat.durable != 0) else { return };
        if self.shortage.postpones(seat_slot, seat.epoch) {
            return;
        }
        let Some(writer) = &mut self.keeper.writer else { return };
        let will = seat.session.will.as_ref().map(|will| (durable::stored(&will.message), will.delay_s));
        let (username, expiry_s) = (seat.username.as_deref(), seat.session.expiry_s);
        let record = SessionRecord { number: seat.durable, expiry_s, disconnected_ms, username, will };
        self.keeper.scratch.clear();
        record.encode(&mut self.keeper.scratch);
        writer.put(Space::SESSION, seat.session.client_id.as_bytes(), &self.keeper.scratch);
        self.keeper.has_written = true;
    }

    /// As `put_session` for a session whose client is away, since when it is.
    pub(super) fn put_absent(&mut self, seat_slot: u32) {
        let Some(seat) = self.sessions.get(seat_slot) else { return };
        let expires_ms = seat.away.as_ref().and_then(|away| away.expires_ms);
        let whole_ms = u64::from(seat.session.expiry_s) * 1000;
        let away_ms = expires_ms.map_or(0, |expires_ms| (self.now.ms + whole_ms).saturating_sub(expires_ms));
        self.put_session(seat_slot, self.kept_ms().saturating_sub(away_ms).max(1));
    }

    /// The store forgets a session that has ended.
    pub(super) fn forget_session(&mut self, seat: &mut Seat) {
        if !self.has_store() || (self.stop_by_ms.is_some() && seat.durable == 0) {
            return; // What a session that ends with the broker was handed by another one goes back there.
        }
        let before = self.keeper.released_count();
        seat.session.let_go(false);
        // Its messages go with it, not before; also where it was let go of a moment ago.
        if seat.durable != 0 || self.keeper.is_forgetting() {
            self.keeper.supersede_since(before);
        }
        if seat.durable != 0 {
            self.keeper.remove_session(seat);
        }
    }
}

impl Keeper {
    fn remove_session(&mut self, seat: &mut Seat) {
        let Some(writer) = &mut self.writer else { return };
        writer.remove(Space::SESSION, seat.session.client_id.as_bytes());
        for (filter, _) in seat.session.subscriptions.iter() {
            durable::key_of_subscription(seat.durable, filter, &mut self.scratch);
            writer.remove(Space::SUBSCRIPTION, &self.scratch);
        }
        seat.durable = 0;
        self.has_written = true;
        self.forgot = OPEN;
    }

    /// The store learns how a session has this filter, with the number of its group and how far the replay has come that it is
    /// owed; or that it has it no more.
    fn put_filter(&mut self, seat: &Seat, filter: Filter<'_>, (group, replay): (u32, Option<&[u8]>)) {
        let Some(writer) = self.writer.as_mut().filter(|_| seat.durable != 0) else { return };
        durable::key_of_subscription(seat.durable, filter.as_str(), &mut self.scratch);
        let key = &self.scratch;
        match (seat.session.subscriptions.get(filter), replay) {
            (Some(held), Some(after)) => writer.put(Space::SUBSCRIPTION, key, &durable::replaying_value(held, after)),
            (Some(held), None) if group != 0 => {
                writer.put(Space::SUBSCRIPTION, key, &durable::membership_value(held, group))
            }
            (Some(held), None) => writer.put(Space::SUBSCRIPTION, key, &durable::subscription_value(held)),
            (None, _) => writer.remove(Space::SUBSCRIPTION, key),
        }
        self.has_written = true;
    }
}

impl Worker {
    /// The store learns how the session has this filter, or that it has it no more. Behind its entry into the group.
    pub(super) fn put_filter(&mut self, seat_slot: u32, filter: Filter<'_>) {
        let Some(seat) = self.sessions.get(seat_slot).filter(|seat| seat.durable != 0) else { return };
        let share = if filter.is_shared() { self.shared.router.share(filter) } else { None };
        let group = share.map_or(0, |share| share.number);
        let qos = seat.session.subscriptions.get(filter).map_or(QoS::AtMostOnce, |held| held.options.qos);
        let replay = seat.replays.as_ref().and_then(|replays| replays.owed(filter, qos));
        self.keeper.put_filter(seat, filter, (group, replay));
    }
}

/// How a target appears in a record; None where it needs none.
fn receiver_of<'a>(passing: &Passing<'_>, target: &'a Target) -> Option<Receiver<'a>> {
    let qos = passing.qos().min(target.qos);
    (target.durable != 0 && qos > QoS::AtMostOnce).then(|| Receiver {
        session: u64::from(target.durable),
        qos,
        retain: passing.retain() && target.retain_as_published,
        group: 0,
        identifiers: Identifiers::Numbers(target.identifiers.as_deref().unwrap_or_default()),
    })
}

/// Whether a delivery to this target has a slot in its message's record. `publisher`: its session's slot, on its worker.
pub(super) fn is_stored(qos: QoS, target: &Target, publisher: Option<u32>) -> bool {
    target.durable != 0 && qos.min(target.qos) > QoS::AtMostOnce && stands_for(target, publisher)
}

/// Whether a target stands for the messages of this publisher, No Local considered.
pub(super) fn stands_for(target: &Target, publisher: Option<u32>) -> bool {
    let is_own = publisher == Some(target.slot);
    target.audience == Audience::All || is_own == (target.audience == Audience::Own)
}

impl<'a> Passing<'a> {
    /// As the store takes it.
    fn stored_message(&self) -> StoredMessage<'_> {
        StoredMessage::new(self.publication(), (self.qos(), self.retain()), self.publisher_id(), self.received_ms())
    }
}
