//! Sessions that a start found in the store take their seats again, before anybody is let in.
//!
//! Knows what a seat needs. Must not know where records lie. A session's connection is gone whatever it was: its time
//! to expire runs from when that ended, or from now where the broker ended first.

use std::sync::{Arc, PoisonError};

use whimbrel_protocol::connection::handshake::NEVER_EXPIRES_S;
use whimbrel_protocol::session::{Session, Will};
use whimbrel_protocol::{Filter, Limits};
use whimbrel_router::{Entry, Place};

use super::Worker;
use super::sessions::Away;
use crate::durable::{KeptFilter, KeptSession};

impl Worker {
    /// Takes the sessions in, and lets the store forget `orphans`.
    pub(crate) fn restore(&mut self, kept: Vec<KeptSession>, orphans: &[u64]) {
        self.read_clocks();
        orphans.iter().for_each(|slot| self.keeper.release(*slot));
        for session in kept {
            self.restore_session(session);
        }
        let retained = self.shared.router.retained.read().unwrap_or_else(PoisonError::into_inner);
        let next_ms = retained.next_expiry_ms().filter(|_| self.index == 0);
        drop(retained);
        next_ms.into_iter().for_each(|next_ms| self.sweep_by(next_ms));
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
        session.will = kept.will.map(|(message, delay_s)| Box::new(Will { message, delay_s }));
        let will_due_ms = session.will.as_ref().map(|will| now_ms + u64::from(will.delay_s) * 1000);
        let waited_ms = match kept.disconnected_ms {
            0 => 0,
            // A clock that was set back must not end a session early, and none is kept longer than it asked for.
            disconnected_ms => self.now.unix_ms.saturating_sub(disconnected_ms),
        };
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
        for KeptFilter { filter, subscription, .. } in &kept.subscriptions {
            let Ok(filter) = Filter::new(filter) else { continue };
            self.sessions.get_mut(slot).into_iter().for_each(|seat| {
                seat.session.subscriptions.insert(filter, *subscription);
            });
            self.count_subscriptions(1, usize::from(filter.is_shared()));
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
