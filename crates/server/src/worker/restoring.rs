//! Sessions that a start found in the store take their seats again, before anybody is let in.
//!
//! Knows what a seat needs. Must not know where records lie. A session's connection is gone whatever it was: its time
//! to expire runs from when that ended, or from when the broker can have ended at the latest.

use std::sync::{Arc, PoisonError};

use whimbrel_protocol::connection::handshake::NEVER_EXPIRES_S;
use whimbrel_protocol::session::{DropReason, Session, Will};
use whimbrel_protocol::{Filter, Limits};
use whimbrel_router::{Entry, Place};

use super::Worker;
use super::sessions::Away;
use crate::durable::{KeptFilter, KeptSession};

impl Worker {
    /// Takes the sessions in, and lets the store forget `orphans`.
    pub(crate) fn restore(&mut self, kept: Vec<KeptSession>, orphans: &[u64]) {
        self.read_clocks();
        self.begin_marks();
        orphans.iter().for_each(|slot| self.keeper.release(*slot));
        for session in kept {
            self.restore_session(session);
        }
        let retained = self.shared.router.retained.read().unwrap_or_else(PoisonError::into_inner);
        let next_ms = retained.next_expiry_ms().filter(|_| self.index == 0);
        drop(retained);
        next_ms.into_iter().for_each(|next_ms| self.sweep_by(next_ms));
        self.mark_if_due();
        self.keeper.seal();
        self.shared.blocks[usize::from(self.index)].publish(&self.counts);
    }

    fn restore_session(&mut self, mut kept: KeptSession) {
        // Its next connection brings the limits of its listener's zone.
        let limits = self.shared.zone(0);
        let mut session = Session::new(Arc::clone(&kept.client_id), &limits);
        session.expiry_s = kept.expiry_s;
        session.keep(self.keeper.released());
        let now_ms = self.now.ms;
        self.counts.acks_restored += kept.inflight.len() as u64;
        kept.received.iter().for_each(|(packet_id, slot)| session.inbound.restore(*packet_id, *slot, now_ms));
        session.outbound.restore_inflight(std::mem::take(&mut kept.inflight));
        session.outbound.keep_groups();
        kept.queued().for_each(|(priority, share, stub)| session.outbound.restore_queued(stub, priority, share));
        self.counts.deliveries_restored += session.outbound.queue_len() as u64;
        // Whose limits it had is not stored, and what was in flight at QoS 1 waits again: nothing goes that was allowed.
        let (queue_max, queue_max_bytes) = self.shared.longest_queue();
        session.outbound.limit(queue_max, queue_max_bytes, limits.queue_rules.clone());
        for _ in 0..session.outbound.shed() {
            self.count_drop(DropReason::QueueFull);
        }
        session.will = kept.will.map(|(message, delay_s)| Box::new(Will { message, delay_s }));
        let will_due_ms = session.will.as_ref().map(|will| now_ms + u64::from(will.delay_s) * 1000);
        let left_at_ms = if kept.disconnected_ms == 0 { self.lost_ms() } else { kept.disconnected_ms };
        let waited_ms = self.kept_ms().saturating_sub(left_at_ms);
        let left_ms = (u64::from(kept.expiry_s) * 1000).saturating_sub(waited_ms);
        let expires_ms = (kept.expiry_s != NEVER_EXPIRES_S).then_some(now_ms + left_ms);
        let slot = self.sessions.insert(session);
        let Some(seat) = self.sessions.get_mut(slot) else { return };
        seat.durable = kept.number;
        seat.username = kept.username;
        seat.is_kept = true;
        seat.away = Some(Box::new(Away { last_seen: None, will_due_ms, expires_ms }));
        self.shared.gauges.sessions.add(1);
        self.shared.gauges.persistent.add(1);
        for KeptFilter { filter, subscription, replay, .. } in &kept.subscriptions {
            let Ok(filter) = Filter::new(filter) else { continue };
            self.sessions.get_mut(slot).into_iter().for_each(|seat| {
                seat.session.subscriptions.insert(filter, *subscription);
                let after = replay.as_deref();
                after.into_iter().for_each(|after| seat.replays.get_or_insert_default().restore(filter, after));
            });
            self.count_subscriptions(1, usize::from(filter.is_shared()));
        }
        if kept.disconnected_ms == 0 {
            self.put_session(slot, left_at_ms); // The next start goes on from there.
        }
        self.reenter_under(slot, &limits);
        for held in &kept.subscriptions {
            let Ok(whole) = Filter::new(&held.filter) else { continue };
            // Two names for one group, or none, were only good until now.
            if whole.is_shared() && self.shared.router.share(whole).is_some_and(|share| share.number != held.group) {
                self.put_filter(slot, whole);
            }
        }
    }

    /// Every session has its seat: wills that are due find those who wait for them, and members of groups each other.
    pub(super) fn attend_restored(&mut self) {
        for slot in 0..self.sessions.slot_end() {
            let Some(seat) = self.sessions.get(slot).filter(|seat| seat.client.is_none()) else { continue };
            if seat.session.outbound.queue_len() > 0 {
                self.settle_debts(slot);
            }
            self.attend(slot);
        }
        self.offer_estates();
    }

    /// The router learns of all filters of a session, with the number that the store knows it by now.
    pub(super) fn reenter(&mut self, slot: u32) {
        let limits = self.shared.zone(0);
        self.reenter_under(slot, &limits);
    }

    fn reenter_under(&mut self, slot: u32, limits: &Limits) {
        let Some(seat) = self.sessions.get(slot) else { return };
        let (place, durable) = (Place { owner: self.index, slot, epoch: seat.epoch }, seat.durable);
        let held: Vec<_> = seat.session.subscriptions.iter().map(|(filter, held)| (Box::from(filter), *held)).collect();
        let filters = held.iter().filter_map(|(filter, held): &(Box<str>, _)| Some((Filter::new(filter).ok()?, held)));
        let entries = filters.map(|(filter, held)| {
            (filter, Entry { place, options: held.options, identifier: held.identifier, durable })
        });
        let (shared, plain): (Vec<_>, Vec<_>) = entries.partition(|(filter, _)| filter.is_shared());
        self.shared.router.subscribe(plain);
        for (whole, entry) in shared {
            self.join(slot, whole, entry, limits.share_strategy);
        }
    }
}

#[cfg(test)]
mod tests {
    use whimbrel_storage::{Memory, Space, Store, Writer};

    use super::super::alone;
    use super::*;
    use crate::clock::unix_ms;
    use crate::durable::{MARK_KEY, MARK_SPACE, Mark, SessionRecord, read_back};

    const HOUR_S: u64 = 3600;
    const DAY_MS: u64 = 86_400_000;

    fn store_with(mark: Option<Mark>, disconnected_ms: u64) -> Arc<dyn Store> {
        let store: Arc<dyn Store> = Arc::new(Memory::new());
        let mut writer = Writer::join(Arc::clone(&store), Arc::new(|| {})).unwrap();
        let mut bytes = Vec::new();
        let record = SessionRecord { number: 7, expiry_s: HOUR_S as u32, disconnected_ms, username: None, will: None };
        record.encode(&mut bytes);
        writer.put(Space::SESSION, b"s", &bytes);
        mark.into_iter().for_each(|mark| writer.put(MARK_SPACE, MARK_KEY, &mark.encode()));
        writer.submit();
        store
    }

    /// Seconds that the session has left after a start, rounded up to tens.
    fn left_s(store: &Arc<dyn Store>) -> u64 {
        let mut worker = alone::durable_worker(Arc::clone(store));
        worker.restore(read_back(&**store, None).unwrap().sessions, &[]);
        let away = worker.sessions.get(0).unwrap().away.as_ref().unwrap();
        (away.expires_ms.unwrap() - worker.now.ms).div_ceil(10_000) * 10
    }

    #[test]
    fn a_session_that_was_connected_at_a_crash_expires_from_then_however_often_the_broker_starts() {
        let mark = |ago_s: u64| {
            let ms = unix_ms() - ago_s * 1000;
            Some(Mark { kept_ms: ms, unix_ms: ms })
        };
        // The broker may have been alive for two minutes more.
        for (mark, expected_s) in [(None, HOUR_S), (mark(30), HOUR_S), (mark(1120), HOUR_S - 1000)] {
            let store = store_with(mark, 0);
            assert_eq!(left_s(&store), expected_s);
            let kept = read_back(&*store, None).unwrap();
            let (said, lost_ms) = (kept.mark.unwrap(), kept.sessions[0].disconnected_ms);
            assert_eq!((said.kept_ms - lost_ms) / 10_000 * 10, HOUR_S - expected_s); // rounded down: it passed since
        }
    }

    #[test]
    fn a_clock_that_is_set_expires_no_session_early() {
        // Set forward by a day while the broker ran: the session had left 500 s before the last sign, 100 s ago.
        let now_ms = unix_ms();
        let mark = Mark { kept_ms: now_ms - DAY_MS, unix_ms: now_ms - 100_000 };
        assert_eq!(left_s(&store_with(Some(mark), mark.kept_ms - 500_000)), HOUR_S - 600);
        // Set back by a day while no broker ran.
        let mark = Mark { kept_ms: now_ms, unix_ms: now_ms + DAY_MS };
        assert_eq!(left_s(&store_with(Some(mark), mark.kept_ms - 500_000)), HOUR_S - 500);
    }

    #[test]
    fn the_wall_clock_is_believed_for_the_time_in_which_no_broker_ran() {
        let then_ms = unix_ms() - DAY_MS;
        let mark = Mark { kept_ms: then_ms, unix_ms: then_ms };
        let store = store_with(Some(mark), then_ms);
        let mut worker = alone::durable_worker(Arc::clone(&store));
        worker.restore(read_back(&*store, None).unwrap().sessions, &[]);
        worker.attend_restored();
        assert_eq!((worker.sessions.len(), worker.counts.session_terminated), (0, 1));
    }
}
