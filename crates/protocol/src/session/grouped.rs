//! Messages of groups that one session has and whose bodies lie in the store, a line for each group.
//!
//! Knows which group a message came through, and the order within the group. Does not know who else is in the group, or when
//! a message may go there.

use std::collections::BTreeMap;

use super::stubs::{Stub, Stubs};

/// Those of one group.
#[derive(Default, Debug)]
pub struct Line {
    stubs: Stubs,
    len: usize,
    bytes: usize,
}

impl Line {
    /// How many.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of the messages, as they count themselves.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn count(&mut self, stub: &Stub) {
        self.len += 1;
        self.bytes += stub.size as usize;
    }

    fn uncount(&mut self, stub: &Stub) {
        self.len -= 1;
        self.bytes -= stub.size as usize;
    }

    /// Behind all others.
    pub fn push_back(&mut self, stub: Stub) {
        self.count(&stub);
        self.stubs.push_back(stub);
    }

    pub(super) fn push_front(&mut self, stub: Stub) {
        self.count(&stub);
        self.stubs.push_front(stub);
    }

    /// Takes the first.
    pub fn pop_front(&mut self) -> Option<Stub> {
        let stub = self.stubs.pop_front()?;
        self.uncount(&stub);
        Some(stub)
    }

    fn pop_back(&mut self) -> Option<Stub> {
        let stub = self.stubs.pop_back()?;
        self.uncount(&stub);
        Some(stub)
    }

    /// The first.
    pub fn front(&mut self) -> Option<Stub> {
        self.stubs.front()
    }

    /// Names, up to `max` in `slots`, the first of them.
    pub fn name(&mut self, max: usize, slots: &mut Vec<u64>) {
        let left = max.saturating_sub(slots.len());
        slots.extend(self.stubs.first(left).map(|stub| stub.slot));
    }
}

/// Those of all groups; no line is empty for longer than a call.
#[derive(Default, Debug)]
pub(super) struct Grouped(BTreeMap<u32, Line>);

impl Grouped {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn has(&self, share: u32) -> bool {
        self.0.contains_key(&share)
    }

    /// Where a message of this group is put.
    pub(super) fn line(&mut self, share: u32) -> &mut Line {
        self.0.entry(share).or_default()
    }

    /// The line that is read next.
    pub(super) fn first_line(&mut self) -> Option<&mut Stubs> {
        self.0.first_entry().map(|entry| &mut entry.into_mut().stubs)
    }

    /// Takes the first message of that line.
    pub(super) fn pop_front(&mut self) -> Option<(u32, Stub)> {
        let mut first = self.0.first_entry()?;
        let taken = first.get_mut().pop_front().map(|stub| (*first.key(), stub));
        if first.get().is_empty() {
            first.remove();
        }
        taken
    }

    /// Takes the last message of the last line.
    pub(super) fn pop_back(&mut self) -> Option<Stub> {
        let mut last = self.0.last_entry()?;
        let taken = last.get_mut().pop_back();
        if last.get().is_empty() {
            last.remove();
        }
        taken
    }

    /// Names, up to `max` in `slots`, messages of groups that are `wanted`.
    pub(super) fn name(&mut self, max: usize, mut wanted: impl FnMut(u32) -> bool, slots: &mut Vec<u64>) {
        for (share, line) in &mut self.0 {
            if slots.len() < max && wanted(*share) {
                line.name(max, slots);
            }
        }
    }

    /// Takes the message at `slot`, if it is the first of its group.
    pub(super) fn take(&mut self, slot: u64) -> Option<(u32, Stub)> {
        let is_first = |line: &mut Line| line.front().is_some_and(|stub| stub.slot == slot);
        let share = self.0.iter_mut().find_map(|(share, line)| is_first(line).then_some(*share))?;
        let stub = self.line(share).pop_front()?;
        self.0.retain(|_, line| !line.is_empty());
        Some((share, stub))
    }

    /// Takes the lines of groups that are `wanted`.
    pub(super) fn take_lines(&mut self, wanted: &mut impl FnMut(u32) -> bool) -> Vec<(u32, Line)> {
        let (taken, left) = std::mem::take(&mut self.0).into_iter().partition(|(share, _)| wanted(*share));
        self.0 = left;
        let taken: BTreeMap<u32, Line> = taken;
        taken.into_iter().collect()
    }

    /// Nothing is taken from the front for a while: it needs no room.
    pub(super) fn settle(&mut self) {
        self.0.values_mut().for_each(|line| line.stubs.settle());
    }
}
