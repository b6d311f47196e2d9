//! Rows of the control plane on their way into the store; the first worker alone does this.
//!
//! Knows that a change is whole or not there, and answered when it is durable. While the store takes nothing a change is
//! refused. One that was handed over before the store said so is taken back by a second one, behind it: what Python
//! was told did not happen must not come to pass later. Without a store a change is answered at once. Must not know what
//! rows mean.

use std::collections::VecDeque;

use whimbrel_storage::{Space, State, Ticket, Writer};

use super::Worker;
use crate::event::Event;
use crate::rows::RowChange;

const RECOVERS: &str = "it refused a moment ago and just recovers";

/// What is on its way.
#[derive(Default)]
pub(super) struct Recorder {
    writer: Option<Writer>,
    pending: VecDeque<Pending>,
    /// Refusals so far.
    refused: u64,
}

/// A change that is not durable yet: the store's ticket, Python's, and what it changes.
struct Pending {
    due: Ticket,
    ticket: u64,
    changes: Vec<RowChange>,
}

impl Recorder {
    /// Whether an answer could go.
    pub(super) fn has_committed(&self) -> bool {
        let Some((first, writer)) = self.pending.front().zip(self.writer.as_ref()) else { return false };
        first.due <= writer.store().committed()
    }

    fn hand_over(&mut self, ticket: u64, changes: Vec<RowChange>) {
        let Some(writer) = &mut self.writer else { return };
        for change in &changes {
            put(writer, &change.name, change.value.as_deref());
        }
        let due = writer.submit();
        self.pending.push_back(Pending { due, ticket, changes });
    }

    /// Undoes what is not durable, the newest first, in one submission; returns whom that concerns, the oldest first.
    fn take_back(&mut self) -> Vec<u64> {
        let Some(writer) = &mut self.writer else { return Vec::new() };
        let pending = std::mem::take(&mut self.pending);
        for change in pending.iter().rev().flat_map(|pending| pending.changes.iter().rev()) {
            put(writer, &change.name, change.before.as_deref());
        }
        writer.submit();
        pending.into_iter().map(|pending| pending.ticket).collect()
    }
}

fn put(writer: &mut Writer, name: &[u8], value: Option<&[u8]>) {
    match value {
        Some(value) => writer.put(Space::CONTROL, name, value),
        None => writer.remove(Space::CONTROL, name),
    }
}

impl Worker {
    /// The way into the store, before the first turn.
    pub(crate) fn record_in(&mut self, writer: Option<Writer>) {
        self.recorder.writer = writer;
    }

    /// Python wants rows changed.
    pub(super) fn change_rows(&mut self, ticket: u64, seen: u64, changes: Vec<RowChange>) {
        let state = self.recorder.writer.as_ref().map(|writer| writer.store().state());
        match state {
            None => self.events.push(Event::RowsChanged { ticket, refusal: None }),
            Some(State::Refusing(why)) => self.refuse_rows(ticket, why),
            // This worker has not looked yet, and would not take back what it hands over now.
            Some(_) if self.shortage.is_refusing() => self.refuse_rows(ticket, RECOVERS.to_owned()),
            // Made over a change that was refused.
            Some(_) if seen != self.recorder.refused => self.refuse_rows(ticket, RECOVERS.to_owned()),
            Some(_) => self.recorder.hand_over(ticket, changes),
        }
    }

    fn refuse_rows(&mut self, ticket: u64, why: String) {
        self.recorder.refused += 1;
        self.events.push(Event::RowsChanged { ticket, refusal: Some(why) });
    }

    /// Answers for what is durable by now.
    #[inline]
    pub(super) fn answer_recorded(&mut self) {
        while self.recorder.has_committed() {
            let Some(Pending { ticket, .. }) = self.recorder.pending.pop_front() else { return };
            self.events.push(Event::RowsChanged { ticket, refusal: None });
        }
    }

    /// The store takes nothing any more.
    #[cold]
    pub(super) fn take_back_rows(&mut self, why: &str) {
        self.answer_recorded();
        for ticket in self.recorder.take_back() {
            self.refuse_rows(ticket, why.to_owned());
        }
    }
}
