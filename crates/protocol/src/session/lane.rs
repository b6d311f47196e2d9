//! One line of messages that wait: bodies in front, then what lies in the store, then bodies that came last. What lies in
//! the store and came through groups waits beside it.
//!
//! Knows how many bytes of bodies are kept in memory and which messages the store can give back. Does not know priorities,
//! windows or how many may wait. A message without a slot keeps its body and, between stored ones, its place.

use std::collections::VecDeque;

use crate::packet::QoS;

use super::Delivery;
use super::grouped::{Grouped, Line};
use super::stubs::{NEVER_MS, Stub, Stubs};

/// Bodies that a connected session's queue keeps in front of what lies in the store, as the messages count themselves: more
/// than a consumer takes while the next page is read.
const FRONT_BYTES: usize = 256 * 1024;
/// Bodies behind it, of messages that came last: what arrives while a page is read need not be read back, so that a consumer
/// that has caught up leaves the store alone.
const BACK_BYTES: usize = 256 * 1024;
/// Messages of a page, and their bytes beyond the first: half a millisecond's work of a worker.
const PAGE_MESSAGES: usize = 1024;
const PAGE_BYTES: usize = 256 * 1024;

/// What the messages of a queue count.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Load {
    /// All that wait here; one that waits elsewhere, too, counts in each.
    pub(super) bytes: usize,
    /// Those of them whose bodies are in memory.
    held: usize,
}

/// A message that waits, with its body or without; the latter with the group through which it came (0: none).
pub(super) enum Waiting {
    Whole(Delivery),
    Stub(Stub, u32),
}

/// What a queue need not keep the bodies of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paging {
    /// No connection is there.
    pub(super) is_away: bool,
    /// The store has the messages of groups as this session gets them.
    pub(super) has_groups: bool,
}

/// The line. Away: no connection is there, and bodies are kept only of what is not stored.
#[derive(Default, Debug)]
pub(super) struct Lane {
    front: VecDeque<Delivery>,
    /// Where there are stubs; the first of them has a slot.
    tail: Option<Box<Tail>>,
    /// Messages of groups that lie in the store, apart from the others, so that one group's can be given away at the cost
    /// of what is given. Between groups and others there is no order to keep [MQTT-4.6.0-6].
    grouped: Option<Box<Grouped>>,
    /// Whether the next page is one of `grouped`, where both lie in the store.
    is_groups_turn: bool,
}

#[derive(Default, Debug)]
struct Tail {
    stubs: Stubs,
    /// Of the stubs without a slot.
    unstored: VecDeque<Delivery>,
    back: VecDeque<Delivery>,
    back_bytes: usize,
}

impl Tail {
    /// Behind the stubs, as one of them.
    fn bury(&mut self, delivery: Delivery, load: &mut Load) {
        let stub = stub_of(&delivery);
        self.stubs.push_back(stub);
        match stub.slot {
            0 => self.unstored.push_back(delivery),
            _ => load.held -= delivery.message.size_bytes(),
        }
    }

    /// Buries the oldest bodies behind the stubs until at most `bytes_max` are left.
    fn bury_back(&mut self, load: &mut Load, bytes_max: usize) {
        while self.back_bytes > bytes_max
            && let Some(delivery) = self.back.pop_front()
        {
            self.back_bytes -= delivery.message.size_bytes();
            self.bury(delivery, load);
        }
    }
}

/// Whether it came through a group.
fn is_shared(delivery: &Delivery) -> bool {
    delivery.share != 0
}

/// Whether it did, and the store has it. One of QoS 0 is never stored for its receiver.
fn is_grouped(delivery: &Delivery) -> bool {
    is_shared(delivery) && delivery.stored != 0 && delivery.qos != QoS::AtMostOnce
}

fn stub_of(delivery: &Delivery) -> Stub {
    let message = &delivery.message;
    let expires_ms = message.expires_ms().unwrap_or(NEVER_MS);
    Stub { slot: delivery.stored, expires_ms, size: message.size_bytes() as u32, qos: delivery.qos }
}

impl Lane {
    pub(super) fn is_empty(&self) -> bool {
        self.front.is_empty() && self.tail.is_none() && self.grouped.is_none()
    }

    /// The message that leaves next, where it is in memory.
    pub(super) fn front(&self) -> Option<&Delivery> {
        self.front.front()
    }

    /// Room for so many messages is there.
    pub(super) fn capacity(&self) -> usize {
        self.front.capacity()
    }

    /// The messages whose bodies are in memory.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Delivery> {
        let tail = self.tail.as_mut().map(|tail| tail.unstored.iter_mut().chain(&mut tail.back));
        self.front.iter_mut().chain(tail.into_iter().flatten())
    }

    pub(super) fn push(&mut self, delivery: Delivery, load: &mut Load, paging: Paging) {
        let size = delivery.message.size_bytes();
        load.bytes += size;
        load.held += size;
        if is_shared(&delivery) {
            return self.push_shared(delivery, load, paging);
        }
        let is_away = paging.is_away;
        let Some(tail) = &mut self.tail else {
            let must_stay = delivery.stored == 0 || (!is_away && load.held <= FRONT_BYTES);
            return match must_stay {
                true => self.front.push_back(delivery),
                false => self.tail.get_or_insert_default().bury(delivery, load),
            };
        };
        tail.back_bytes += size;
        tail.back.push_back(delivery);
        tail.bury_back(load, if is_away { 0 } else { BACK_BYTES });
    }

    /// Behind those of its group: in memory only while none of them lies in the store, and not too many.
    fn push_shared(&mut self, delivery: Delivery, load: &mut Load, paging: Paging) {
        let has_line = || self.grouped.as_ref().is_some_and(|grouped| grouped.has(delivery.share));
        let may_go = paging.has_groups && is_grouped(&delivery);
        if !may_go || !(paging.is_away || load.held > FRONT_BYTES || has_line()) {
            return self.front.push_back(delivery);
        }
        load.held -= delivery.message.size_bytes();
        self.grouped.get_or_insert_default().line(delivery.share).push_back(stub_of(&delivery));
    }

    /// Behind all others, or behind those of its group (0: none); only while it is away.
    pub(super) fn push_stub(&mut self, stub: Stub, share: u32, load: &mut Load) {
        load.bytes += stub.size as usize;
        if share != 0 {
            return self.grouped.get_or_insert_default().line(share).push_back(stub);
        }
        let tail = self.tail.get_or_insert_default();
        tail.bury_back(load, 0);
        tail.stubs.push_back(stub);
    }

    pub(super) fn pop(&mut self, load: &mut Load) -> Option<Delivery> {
        let delivery = self.front.pop_front()?;
        forget(&delivery, load);
        Some(delivery)
    }

    /// Takes the message that leaves next if it lies in the store and has expired; its slot.
    pub(super) fn pop_expired(&mut self, now_ms: u64, load: &mut Load) -> Option<u64> {
        if !self.front.is_empty() || self.first_stub()?.expires_ms > now_ms {
            return None;
        }
        self.pop_stub(load)
    }

    /// Takes the oldest message; its slot.
    pub(super) fn drop_oldest(&mut self, load: &mut Load) -> Option<u64> {
        match self.pop(load) {
            Some(delivery) => Some(delivery.stored),
            None => self.pop_stub(load),
        }
    }

    /// Takes the newest message; its slot.
    pub(super) fn drop_newest(&mut self, load: &mut Load) -> Option<u64> {
        if let Some(stub) = self.grouped.as_mut().and_then(|grouped| grouped.pop_back()) {
            load.bytes -= stub.size as usize;
            self.forget_empty();
            return Some(stub.slot);
        }
        let Some(tail) = &mut self.tail else {
            let delivery = self.front.pop_back()?;
            forget(&delivery, load);
            return Some(delivery.stored);
        };
        if let Some(delivery) = tail.back.pop_back() {
            tail.back_bytes -= delivery.message.size_bytes();
            forget(&delivery, load);
            return Some(delivery.stored);
        }
        let stub = tail.stubs.pop_back()?;
        match stub.slot {
            0 => tail.unstored.pop_back().into_iter().for_each(|delivery| forget(&delivery, load)),
            _ => load.bytes -= stub.size as usize,
        }
        self.surface();
        Some(stub.slot)
    }

    /// Takes out, up to `max` in `taken`, what is wanted of the messages of groups. Where the wanted ones stand in front it
    /// costs what is taken; a lane that is mixed, or of which nothing is wanted, is looked through.
    pub(super) fn take(
        &mut self,
        max: usize,
        wanted: &mut impl FnMut(&Delivery) -> bool,
        (taken, load): (&mut Vec<Delivery>, &mut Load),
    ) {
        let before = taken.len();
        while taken.len() < max && self.front.front().is_some_and(&mut *wanted) {
            taken.extend(self.front.pop_front());
        }
        if taken.len() < max {
            self.front.retain(|delivery| {
                let is_taken = taken.len() < max && wanted(delivery);
                taken.extend(is_taken.then(|| delivery.clone()));
                !is_taken
            });
        }
        taken[before..].iter().for_each(|delivery| forget(delivery, load));
    }

    /// Names, up to `max` in `slots`, messages that lie in the store and came through groups that are `wanted`.
    pub(super) fn name_shared(&mut self, max: usize, wanted: &mut impl FnMut(u32) -> bool, slots: &mut Vec<u64>) {
        self.grouped.iter_mut().for_each(|grouped| grouped.name(max, &mut *wanted, slots));
    }

    /// Takes one of those, if it is still the first of its group; the group.
    pub(super) fn take_shared_stub(&mut self, slot: u64, load: &mut Load) -> Option<u32> {
        let (share, stub) = self.grouped.as_mut()?.take(slot)?;
        load.bytes -= stub.size as usize;
        self.forget_empty();
        Some(share)
    }

    /// Takes all messages that lie in the store and came through groups that are `wanted`.
    pub(super) fn take_lines(&mut self, wanted: &mut impl FnMut(u32) -> bool, load: &mut Load) -> Vec<(u32, Line)> {
        let taken = self.grouped.as_mut().map(|grouped| grouped.take_lines(wanted)).unwrap_or_default();
        load.bytes -= taken.iter().map(|(_, line)| line.bytes()).sum::<usize>();
        self.forget_empty();
        taken
    }

    /// Whether messages of groups lie in the store.
    pub(super) fn has_grouped(&self) -> bool {
        self.grouped.is_some()
    }

    fn forget_empty(&mut self) {
        self.grouped.take_if(|grouped| grouped.is_empty());
    }

    /// The connection is gone: what the store can give back it keeps alone.
    pub(super) fn page_out(&mut self, load: &mut Load, has_groups: bool) {
        if has_groups {
            self.page_out_shared(load);
        }
        let is_stored = |delivery: &Delivery| delivery.stored != 0 && !is_shared(delivery);
        if self.tail.is_none() && !self.front.iter().any(is_stored) {
            return;
        }
        let tail = self.tail.get_or_insert_default();
        tail.bury_back(load, 0);
        let (shared, others) = self.front.drain(..).partition(is_shared);
        self.front = shared;
        let others: VecDeque<Delivery> = others;
        for delivery in others.into_iter().rev() {
            let stub = stub_of(&delivery);
            tail.stubs.push_front(stub);
            match stub.slot {
                0 => tail.unstored.push_front(delivery),
                _ => load.held -= delivery.message.size_bytes(),
            }
        }
        tail.stubs.settle();
        self.front.shrink_to_fit();
        self.surface();
    }

    fn page_out_shared(&mut self, load: &mut Load) {
        if !self.front.iter().any(is_grouped) {
            return;
        }
        let (stored, others): (VecDeque<Delivery>, VecDeque<Delivery>) = self.front.drain(..).partition(is_grouped);
        self.front = others;
        let grouped = self.grouped.get_or_insert_default();
        for delivery in stored.into_iter().rev() {
            load.held -= delivery.message.size_bytes();
            grouped.line(delivery.share).push_front(stub_of(&delivery));
        }
        grouped.settle();
    }

    /// Whether the next page should be read now.
    #[inline]
    pub(super) fn wants_page(&self, load: &Load) -> bool {
        let is_low = || self.front.len() < PAGE_MESSAGES / 2 && load.held < FRONT_BYTES + BACK_BYTES;
        (self.tail.is_some() || self.grouped.is_some()) && (self.front.is_empty() || is_low())
    }

    /// Names the slots of the next page, in their order.
    pub(super) fn next_page(&mut self, slots: &mut Vec<u64>) {
        self.is_groups_turn = !self.is_groups_turn;
        let mut bytes = 0;
        let Some(stubs) = self.next_stubs() else { return };
        let stored = stubs.first(PAGE_MESSAGES).filter(|stub| stub.slot != 0);
        let within = stored.take_while(|stub| {
            let is_first = bytes == 0;
            bytes += stub.size as usize;
            is_first || bytes <= PAGE_BYTES
        });
        slots.extend(within.map(|stub| stub.slot));
    }

    /// Whether the next page is one of a group.
    fn is_grouped_next(&self) -> bool {
        self.grouped.is_some() && (self.is_groups_turn || self.tail.is_none())
    }

    /// Those of which the next page is.
    fn next_stubs(&mut self) -> Option<&mut Stubs> {
        match self.is_grouped_next() {
            true => self.grouped.as_mut()?.first_line(),
            false => Some(&mut self.tail.as_mut()?.stubs),
        }
    }

    /// The first message of the next page.
    pub(super) fn first_stub(&mut self) -> Option<Stub> {
        self.next_stubs()?.front()
    }

    /// The body of the first message of the next page.
    pub(super) fn fill(&mut self, mut delivery: Delivery, load: &mut Load) {
        let size = delivery.message.size_bytes();
        if self.is_grouped_next() {
            let Some((share, stub)) = self.pop_grouped(load) else { return };
            (delivery.share, delivery.qos) = (share, stub.qos);
            self.front.push_back(delivery);
        } else {
            self.pop_stub_in_front_of(Some(delivery), load);
        }
        load.bytes += size;
        load.held += size;
    }

    /// Takes the first message of the next page; its slot.
    pub(super) fn pop_stub(&mut self, load: &mut Load) -> Option<u64> {
        match self.is_grouped_next() {
            true => self.pop_grouped(load).map(|(_, stub)| stub.slot),
            false => self.pop_stub_in_front_of(None, load),
        }
    }

    fn pop_grouped(&mut self, load: &mut Load) -> Option<(u32, Stub)> {
        let taken = self.grouped.as_mut()?.pop_front();
        self.forget_empty();
        load.bytes -= taken.map_or(0, |(_, stub)| stub.size as usize);
        taken
    }

    fn pop_stub_in_front_of(&mut self, delivery: Option<Delivery>, load: &mut Load) -> Option<u64> {
        let stub = self.tail.as_mut()?.stubs.pop_front()?;
        load.bytes -= stub.size as usize;
        self.front.extend(delivery);
        self.surface();
        Some(stub.slot)
    }

    /// Messages that are not stored and stand first of the stubs join the bodies in front, and so do those behind the last
    /// stub.
    fn surface(&mut self) {
        let Some(tail) = &mut self.tail else { return };
        while tail.stubs.front().is_some_and(|stub| stub.slot == 0) {
            tail.stubs.pop_front();
            self.front.extend(tail.unstored.pop_front());
        }
        if tail.stubs.is_empty() {
            self.front.append(&mut tail.back);
            self.tail = None;
        }
    }

    /// All that wait, in their order.
    pub(super) fn empty(mut self, mut take: impl FnMut(Waiting)) {
        self.front.into_iter().for_each(|delivery| take(Waiting::Whole(delivery)));
        while let Some((share, stub)) = self.grouped.as_mut().and_then(|grouped| grouped.pop_front()) {
            take(Waiting::Stub(stub, share));
        }
        let Some(tail) = &mut self.tail else { return };
        while let Some(stub) = tail.stubs.pop_front() {
            let unstored = if stub.slot == 0 { tail.unstored.pop_front() } else { None };
            take(unstored.map_or(Waiting::Stub(stub, 0), Waiting::Whole));
        }
        tail.back.drain(..).for_each(|delivery| take(Waiting::Whole(delivery)));
    }
}

/// It waits no longer.
fn forget(delivery: &Delivery, load: &mut Load) {
    let size = delivery.message.size_bytes();
    load.bytes -= size;
    load.held -= size;
}
