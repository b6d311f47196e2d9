//! The end of a turn: what waits is encoded while there is room, then each touched socket is written once.
//!
//! Knows outboxes and queues. A socket that takes no more is watched for writability until its outbox is empty.

use std::sync::Arc;

use whimbrel_router::Presence;

use super::Worker;
use super::client::End;
use crate::socket::Moved;

impl Worker {
    /// Notes that a connection has something to send at the end of the turn.
    #[inline]
    pub(super) fn mark_dirty(&mut self, slot: u32) {
        let client = &mut self.clients[slot as usize];
        if !client.is_dirty {
            client.is_dirty = true;
            self.dirty.push(slot);
        }
    }

    /// Notes that the window opened: what waits, if anything does, moves at the end of the turn, retained messages included,
    /// and the groups of a member that was busy hear that it is less so.
    #[inline]
    pub(super) fn pump_later(&mut self, slot: u32) {
        let Some(seat) = self.clients[slot as usize].session.and_then(|seat| self.sessions.get(seat)) else {
            return;
        };
        let was_busy = |presence: &Arc<Presence>| presence.bits() != 0;
        let is_replayed = seat.replays.is_some();
        let outbound = &seat.session.outbound;
        let can_move = outbound.can_go_on() || outbound.wants_page();
        if can_move || is_replayed || self.sessions.presence(seat).is_some_and(was_busy) {
            self.mark_dirty(slot);
        }
    }

    pub(super) fn flush_dirty(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for slot in dirty.drain(..) {
            let Some(client) = self.clients.get_mut(slot as usize) else {
                continue;
            };
            client.is_dirty = false;
            self.pump(slot);
            self.flush(slot);
            if let Some(seat) = self.clients.get(slot as usize).and_then(|client| client.session) {
                self.note_room(seat);
                self.page_later(seat);
                self.go_on_replaying(seat);
            }
            self.check_budget(slot);
        }
        // A pump may have marked clients again; they keep their place for the next turn.
        dirty.append(&mut self.dirty);
        self.dirty = dirty;
    }

    /// Encodes waiting messages while window and outbox have room.
    fn pump(&mut self, slot: u32) {
        while self.clients[slot as usize].has_room() {
            let steady_ms = self.now.steady_ms;
            let Some(seat_slot) = self.clients[slot as usize].session else {
                return;
            };
            if self.resend_next(slot, seat_slot) {
                continue;
            }
            let Some(seat) = self.sessions.get_mut(seat_slot) else {
                return;
            };
            match seat.session.outbound.next(steady_ms) {
                None => return,
                Some(Err(reason)) => self.count_drop(reason),
                Some(Ok((packet_id, delivery))) => {
                    if !self.send_delivery(slot, packet_id, &delivery, false) {
                        self.abandon(seat_slot, packet_id);
                    }
                }
            }
        }
    }

    pub(super) fn flush(&mut self, slot: u32) {
        let client = &mut self.clients[slot as usize];
        client.is_choked = false;
        if client.is_barred || client.awaits_writable && !client.is_writable {
            return; // The kernel said that it takes nothing, and has not said otherwise since.
        }
        client.is_writable = false;
        let had_room = client.has_room();
        let (moved, is_empty) = client.outbox.flush(&mut client.socket, &mut self.spares);
        match moved {
            Moved::Bytes(count) => self.counts.bytes_sent += count as u64,
            Moved::Blocked => {}
            Moved::Closed => return self.on_unwritable(slot),
        }
        let client = &mut self.clients[slot as usize];
        let was_waiting = std::mem::replace(&mut client.awaits_writable, !is_empty);
        if was_waiting == is_empty || had_room != client.has_room() {
            self.watch(slot);
        }
        if is_empty && self.clients[slot as usize].is_leaving {
            self.end(slot, End { is_told: false, ..End::SHUTDOWN });
        } else if is_empty && self.seat_of(slot).is_some_and(|seat| seat.session.outbound.can_go_on()) {
            self.mark_dirty(slot);
        }
    }
}
