//! Messages of groups that ended sessions have left in the store: read back and given to other members, page by page.
//!
//! Knows how many are left to which group, and gives no more than its members have room for: what was acknowledged is not
//! pushed out by what was acknowledged. A crash finds them under a session that is no more and puts them here again. Does not
//! know who gets them.

use std::collections::{BTreeMap, VecDeque};

use whimbrel_protocol::session::{DropReason, Line};
use whimbrel_storage::{Fetch, Fetched, Slot};

use super::Worker;
use super::paging::{LEFT, token_of};
use super::sharing::STEP_MAX;

/// A worker's part of it.
#[derive(Default, Debug)]
pub(super) struct Estates {
    by_group: BTreeMap<u32, VecDeque<Line>>,
    len: usize,
    /// Whether they are to be looked at when this turn's records are handed over.
    is_due: bool,
    /// Whether a page is on its way.
    is_asked: bool,
}

impl Estates {
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Messages.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    fn add(&mut self, share: u32, line: Line) {
        self.len += line.len();
        self.by_group.entry(share).or_default().push_back(line);
    }

    /// Takes the message at `slot` if it is the next one of its group; whether it was.
    fn take(&mut self, share: u32, slot: u64) -> bool {
        let Some(lines) = self.by_group.get_mut(&share) else { return false };
        let Some(line) = lines.front_mut() else { return false };
        if line.front().is_none_or(|stub| stub.slot != slot) {
            return false;
        }
        line.pop_front();
        self.len -= 1;
        if line.is_empty() {
            lines.pop_front();
        }
        if lines.is_empty() {
            self.by_group.remove(&share);
        }
        true
    }
}

impl Worker {
    /// What ended sessions had left when the broker ended. It is offered when every session has its seat.
    pub(crate) fn inherit(&mut self, estates: BTreeMap<u32, Line>) {
        for (share, line) in estates {
            self.counts.deliveries_restored += line.len() as u64;
            self.estates.add(share, line);
        }
        self.shared.blocks[usize::from(self.index)].publish(&self.counts);
    }

    /// An ended session leaves this to others.
    pub(super) fn bequeath(&mut self, lines: Vec<(u32, Line)>) {
        lines.into_iter().for_each(|(share, line)| self.estates.add(share, line));
        self.offer_estates();
    }

    /// They are looked at soon.
    pub(super) fn offer_estates(&mut self) {
        self.estates.is_due = !self.estates.is_empty();
    }

    /// Asks for the next page. Only when everything is handed over to the store that is in it.
    pub(super) fn ask_for_left(&mut self) {
        if !self.estates.is_due || self.estates.is_asked || self.stop_by_ms.is_some() {
            return;
        }
        self.estates.is_due = false;
        self.drop_for_nobody();
        let router = &self.shared.router;
        let has_room = |share: u32| router.share_numbered(share).is_some_and(|share| share.has_room());
        let found = self.estates.by_group.iter_mut().find(|(share, _)| has_room(**share));
        let Some((share, line)) = found.and_then(|(share, lines)| Some((*share, lines.front_mut()?))) else {
            return self.look_at_estates_again();
        };
        let mut slots = Vec::new();
        line.name(STEP_MAX, &mut slots);
        let Some((store, lane)) = self.keeper.store() else { return };
        let slots = slots.into_iter().map(Slot).collect();
        store.fetch(Fetch { lane, token: token_of((share, 0), LEFT), slots });
        self.estates.is_asked = true;
        self.pages.underway += 1;
        self.counts.store_pages += 1;
    }

    /// Groups that have ended meanwhile.
    fn drop_for_nobody(&mut self) {
        let router = &self.shared.router;
        let is_over = |share: &u32| router.share_numbered(*share).is_none();
        let over: Vec<u32> = self.estates.by_group.keys().copied().filter(is_over).collect();
        let lines: Vec<Line> = over.iter().filter_map(|share| self.estates.by_group.remove(share)).flatten().collect();
        for mut line in lines {
            while let Some(stub) = line.pop_front() {
                self.keeper.release(stub.slot);
                self.estates.len -= 1;
                self.count_drop(DropReason::SessionEnded);
            }
        }
    }

    /// A page is there.
    pub(super) fn take_left(&mut self, share: u32, answer: &Fetched) {
        self.estates.is_asked = false;
        for missing in &answer.missing {
            self.lose_left(share, missing.0);
        }
        for found in &answer.found {
            if !self.shared.router.share_numbered(share).is_some_and(|share| share.has_room()) {
                break;
            }
            let Some(mut delivery) = self.pages.read(found) else {
                self.lose_left(share, found.slot.0);
                continue;
            };
            delivery.share = share;
            if self.estates.take(share, found.slot.0) {
                self.give_away_left(&delivery);
            }
        }
        self.offer_estates();
    }

    fn lose_left(&mut self, share: u32, slot: u64) {
        if self.estates.take(share, slot) {
            self.keeper.release(slot);
            self.count_drop(DropReason::Unreadable);
        }
    }
}
