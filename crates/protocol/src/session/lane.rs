//! One line of messages that wait: bodies in front, then what lies in the store, then bodies that came last.
//!
//! Knows how many bytes of bodies are kept in memory and which messages the store can give back. Does not know priorities,
//! windows or how many may wait. A message without a slot keeps its body and, between stored ones, its place.

use std::collections::VecDeque;

use super::Delivery;
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

/// A message that waits, with its body or without.
pub(super) enum Waiting {
    Whole(Delivery),
    Stub(Stub),
}

/// The line. Away: no connection is there, and bodies are kept only of what is not stored.
#[derive(Default, Debug)]
pub(super) struct Lane {
    front: VecDeque<Delivery>,
    /// Where there are stubs; the first of them has a slot.
    tail: Option<Box<Tail>>,
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

/// A message of a group goes to other members while this one is away, so its body stays; the order of those is nobody's
/// [MQTT-4.6.0-6].
fn is_shared(delivery: &Delivery) -> bool {
    delivery.share != 0
}

fn stub_of(delivery: &Delivery) -> Stub {
    let message = &delivery.message;
    let expires_ms = message.expires_ms().unwrap_or(NEVER_MS);
    Stub { slot: delivery.stored, expires_ms, size: message.size_bytes() as u32, qos: delivery.qos }
}

impl Lane {
    pub(super) fn is_empty(&self) -> bool {
        self.front.is_empty() && self.tail.is_none()
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

    pub(super) fn push(&mut self, delivery: Delivery, load: &mut Load, is_away: bool) {
        let size = delivery.message.size_bytes();
        load.bytes += size;
        load.held += size;
        if is_shared(&delivery) {
            return self.front.push_back(delivery);
        }
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

    /// Behind all others; only while it is away.
    pub(super) fn push_stub(&mut self, stub: Stub, load: &mut Load) {
        load.bytes += stub.size as usize;
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

    /// The connection is gone: what the store can give back it keeps alone.
    pub(super) fn page_out(&mut self, load: &mut Load) {
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

    /// Whether the next page should be read now.
    #[inline]
    pub(super) fn wants_page(&self, load: &Load) -> bool {
        let is_low = || self.front.len() < PAGE_MESSAGES / 2 && load.held < FRONT_BYTES + BACK_BYTES;
        self.tail.is_some() && (self.front.is_empty() || is_low())
    }

    /// Names the slots of the next page, in their order.
    pub(super) fn next_page(&mut self, slots: &mut Vec<u64>) {
        let Some(tail) = &mut self.tail else { return };
        let mut bytes = 0;
        let stored = tail.stubs.first(PAGE_MESSAGES).filter(|stub| stub.slot != 0);
        let within = stored.take_while(|stub| {
            let is_first = bytes == 0;
            bytes += stub.size as usize;
            is_first || bytes <= PAGE_BYTES
        });
        slots.extend(within.map(|stub| stub.slot));
    }

    /// The first message that lies in the store.
    pub(super) fn first_stub(&mut self) -> Option<Stub> {
        self.tail.as_mut()?.stubs.front()
    }

    /// The body of the first message that lies in the store.
    pub(super) fn fill(&mut self, delivery: Delivery, load: &mut Load) {
        let size = delivery.message.size_bytes();
        self.pop_stub_in_front_of(Some(delivery), load);
        load.bytes += size;
        load.held += size;
    }

    /// Takes the first message that lies in the store; its slot.
    pub(super) fn pop_stub(&mut self, load: &mut Load) -> Option<u64> {
        self.pop_stub_in_front_of(None, load)
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
        let Some(tail) = &mut self.tail else { return };
        while let Some(stub) = tail.stubs.pop_front() {
            let unstored = if stub.slot == 0 { tail.unstored.pop_front() } else { None };
            take(unstored.map_or(Waiting::Stub(stub), Waiting::Whole));
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
