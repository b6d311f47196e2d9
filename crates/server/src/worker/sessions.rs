//! The sessions that a worker owns.
//!
//! Knows them by client identifier and by slot. A slot's epoch tells its present session from the one before, because
//! deliveries found under an old routing table may still be on their way.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use slab::Slab;
use whimbrel_protocol::session::Session;
use whimbrel_router::Presence;

use super::replay::Replays;
use super::tidying::is_outgrown;
use crate::event::ClientRecord;

/// A session and what is known of its last connection.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) session: Session,
    /// Slot of the connection; None while the client is away.
    pub(super) client: Option<u32>,
    pub(super) username: Option<Box<str>>,
    /// While the client is away.
    pub(super) away: Option<Box<Away>>,
    /// The reminder that is armed (monotonic milliseconds); 0: none. Another one that fires is an old one.
    pub(super) reminder_ms: u64,
    /// Retained messages that new subscriptions are still to be sent.
    pub(super) replays: Option<Box<Replays>>,
    /// Number under which the store knows the session; 0: it does not.
    pub(super) durable: u32,
    pub(super) epoch: u16,
    pub(super) clean_start: bool,
    /// Whether CONNECT asked for a session that outlives its connection, whatever was granted.
    pub(super) is_expiry_asked: bool,
    /// Whether it is counted as one that may outlive its connection.
    pub(super) is_kept: bool,
    /// Whether a reminder of QoS 2 messages that wait for PUBREL is armed.
    pub(super) is_rel_watched: bool,
    /// Its client is away, and messages of groups that wait for it are offered to other members now and then.
    pub(super) is_owing: bool,
    /// Where [`Sessions::presence`] is; None: it is in no group and never was. A number fits where a pointer would make
    /// every session larger.
    membership: Option<NonZeroU32>,
}

impl Seat {
    /// Whether it is or was in a group.
    #[inline]
    pub(super) fn is_member(&self) -> bool {
        self.membership.is_some()
    }
}

/// What only a session whose client is away has.
#[derive(Debug)]
pub(super) struct Away {
    /// What a listing says of the client.
    pub(super) last_seen: Option<ClientRecord>,
    /// When the will is due; monotonic milliseconds.
    pub(super) will_due_ms: Option<u64>,
    /// When the session expires; monotonic milliseconds.
    pub(super) expires_ms: Option<u64>,
}

impl Away {
    /// The first thing that is due.
    pub(super) fn due_ms(&self) -> Option<u64> {
        [self.will_due_ms, self.expires_ms].into_iter().flatten().min()
    }
}

/// All of them.
#[derive(Default, Debug)]
pub(super) struct Sessions {
    seats: Slab<Seat>,
    by_id: HashMap<Arc<str>, u32>,
    next_epoch: u16,
    presences: Slab<Arc<Presence>>,
}

impl Sessions {
    pub(super) fn len(&self) -> usize {
        self.seats.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Seat> {
        self.seats.iter().map(|(_, seat)| seat)
    }

    /// Beyond the highest slot in use.
    pub(super) fn slot_end(&self) -> u32 {
        self.seats.capacity() as u32
    }

    pub(super) fn find(&self, client_id: &str) -> Option<u32> {
        self.by_id.get(client_id).copied()
    }

    pub(super) fn get(&self, slot: u32) -> Option<&Seat> {
        self.seats.get(slot as usize)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Seat> {
        self.seats.get_mut(slot as usize)
    }

    /// The session that the routing table meant.
    #[inline]
    pub(super) fn live(&mut self, slot: u32, epoch: u16) -> Option<&mut Seat> {
        self.seats.get_mut(slot as usize).filter(|seat| seat.epoch == epoch)
    }

    pub(super) fn insert(&mut self, session: Session) -> u32 {
        self.next_epoch = self.next_epoch.wrapping_add(1);
        let client_id = Arc::clone(&session.client_id);
        let seat = Seat {
            session,
            client: None,
            username: None,
            away: None,
            reminder_ms: 0,
            replays: None,
            durable: 0,
            epoch: self.next_epoch,
            clean_start: false,
            is_expiry_asked: false,
            is_kept: false,
            is_rel_watched: false,
            is_owing: false,
            membership: None,
        };
        let slot = self.seats.insert(seat) as u32;
        self.by_id.insert(client_id, slot);
        slot
    }

    /// What the groups of a member see of its room.
    #[inline]
    pub(super) fn presence(&self, seat: &Seat) -> Option<&Arc<Presence>> {
        seat.membership.map(|place| &self.presences[place.get() as usize - 1])
    }

    /// The same for a session that becomes a member now, if it is none yet.
    pub(super) fn presence_for(&mut self, slot: u32) -> Option<Arc<Presence>> {
        let seat = self.seats.get_mut(slot as usize)?;
        if seat.membership.is_none() {
            seat.membership = NonZeroU32::new(self.presences.insert(Arc::default()) as u32 + 1);
        }
        seat.membership.map(|place| Arc::clone(&self.presences[place.get() as usize - 1]))
    }

    /// Gives back room that was made for a crowd that has left; slots keep their numbers.
    pub(super) fn shrink(&mut self) {
        if is_outgrown(self.seats.len(), self.seats.capacity()) {
            self.seats.shrink_to_fit();
        }
        if is_outgrown(self.by_id.len(), self.by_id.capacity()) {
            self.by_id.shrink_to(2 * self.by_id.len());
        }
        if is_outgrown(self.presences.len(), self.presences.capacity()) {
            self.presences.shrink_to_fit();
        }
    }

    pub(super) fn remove(&mut self, slot: u32) -> Option<Seat> {
        let seat = self.seats.try_remove(slot as usize)?;
        self.by_id.remove(&seat.session.client_id);
        seat.membership.into_iter().for_each(|place| drop(self.presences.remove(place.get() as usize - 1)));
        Some(seat)
    }
}
