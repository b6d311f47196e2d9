//! What is due in a turn, and whose reminders are no longer wanted.
//!
//! Knows which part of the worker each reminder belongs to. A reminder outlives its connection or session: one of a
//! session that would have been kept for a week lies in the heap for a week, unless it is thrown out here.

use super::Worker;
use super::sessions::Seat;
use crate::timers::Subject;

impl Worker {
    /// Does what is due; and when most reminders may be those of clients that are gone, throws these out.
    pub(super) fn fire_timers(&mut self) {
        while let Some((due_ms, subject)) = self.timers.take_due(self.now.ms) {
            match subject {
                Subject::Client(slot, epoch) => self.on_client_reminder(slot, epoch, due_ms),
                Subject::Session(slot, epoch) => self.on_session_reminder(slot, epoch, due_ms),
                Subject::Listener(index) => self.wake_listener(index),
                Subject::AwaitRel(slot, epoch) => self.on_await_rel(slot, epoch),
                Subject::Retry(slot, epoch) => self.on_retry(slot, epoch),
                Subject::Paced(slot, epoch) => self.on_tokens(slot, epoch),
            }
        }
        if self.timers.is_crowded() {
            self.forget_reminders();
        }
        if self.owing.due_ms.is_some_and(|due_ms| due_ms <= self.now.ms) {
            self.visit_owing();
        }
        self.sweep_if_due();
        self.mark_if_due();
        self.tidy_if_due();
        if self.accept_again_ms.is_some_and(|due_ms| due_ms <= self.now.ms) {
            self.accept_again_ms = None;
            self.open_listeners();
        }
    }

    fn forget_reminders(&mut self) {
        let mut timers = std::mem::take(&mut self.timers);
        timers.retain(|due_ms, subject| self.is_awaited(due_ms, subject));
        self.timers = timers;
    }

    /// Whether somebody would do something when this reminder comes.
    fn is_awaited(&self, due_ms: u64, subject: Subject) -> bool {
        match subject {
            Subject::Client(slot, epoch) => {
                self.clients.get(slot as usize).is_some_and(|it| it.epoch == epoch && it.reminder_ms == due_ms)
            }
            Subject::Retry(slot, epoch) | Subject::Paced(slot, epoch) => {
                self.clients.get(slot as usize).is_some_and(|client| client.epoch == epoch)
            }
            Subject::Session(slot, epoch) => self.seat_at(slot, epoch).is_some_and(|seat| seat.reminder_ms == due_ms),
            Subject::AwaitRel(slot, epoch) => self.seat_at(slot, epoch).is_some_and(|seat| seat.is_rel_watched),
            Subject::Listener(_) => true,
        }
    }

    fn seat_at(&self, slot: u32, epoch: u16) -> Option<&Seat> {
        self.sessions.get(slot).filter(|seat| seat.epoch == epoch)
    }
}
