//! Bodies of long queues: asked for before a connected client's queue runs dry, put in their places when they come.
//!
//! Knows which sessions want a page and how many answers are on their way. A queue has at most one page on its way; what is
//! in it belongs to a session only if that still lacks it, so an answer may come late. A body that cannot be read is a
//! drop, counted and told, never a stall. Without long queues a turn pays a branch or two.

use std::cell::RefCell;
use std::collections::HashSet;

use whimbrel_protocol::QoS;
use whimbrel_protocol::session::stubs::NEVER_MS;
use whimbrel_protocol::session::{Delivery, DropReason, Offered, Outbound, Stub};
use whimbrel_router::Place;
use whimbrel_storage::{Fetch, Fetched, Found, Slot};

use super::Worker;
use super::passing::Passing;
use super::sharing::STEP_MAX;
use crate::durable::Publishers;
use crate::event::Event;

/// A worker's part of it.
#[derive(Default)]
pub(super) struct Pages {
    /// Sessions whose next page is to be asked for when this turn's records are handed over.
    wanted: Vec<(u32, u16)>,
    /// Sessions without a connection that have messages of groups for others.
    owed: Vec<(u32, u16)>,
    /// Pages asked for.
    pub(super) underway: usize,
    /// Taken from the store in the middle of falling asleep.
    arrived: RefCell<Vec<Fetched>>,
    publishers: Publishers,
    scratch: Vec<u64>,
}

impl Pages {
    /// Messages of groups that wait for this session are wanted by others.
    pub(super) fn owe(&mut self, seat: (u32, u16)) {
        self.owed.push(seat);
    }

    /// A message that was read back.
    pub(super) fn read(&mut self, found: &Found) -> Option<Delivery> {
        self.publishers.delivery(found)
    }
}

/// In place of a priority: the messages of groups of a session that is away.
const OWED: u16 = 1 << 15;
/// In place of a priority: what ended sessions have left to a group, whose number stands in place of the seat.
pub(super) const LEFT: u16 = 1 << 14;

/// What comes back with a page: seat, epoch and priority.
pub(super) fn token_of((slot, epoch): (u32, u16), priority: u16) -> u64 {
    u64::from(slot) << 32 | u64::from(epoch) << 16 | u64::from(priority)
}

impl Worker {
    /// Notes that a session's queue runs dry, if it does. Called when it was looked at for something to send.
    #[inline]
    pub(super) fn page_later(&mut self, slot: u32) {
        if let Some(seat) = self.sessions.get(slot)
            && seat.session.outbound.wants_page()
        {
            self.pages.wanted.push((slot, seat.epoch));
        }
    }

    /// Asks for the pages that are wanted. Only when everything that the sessions were given is handed over to the store.
    pub(super) fn ask_for_pages(&mut self) {
        while let Some((slot, epoch)) = self.pages.wanted.pop() {
            let Some((store, lane)) = self.keeper.store() else { continue };
            let seat = self.sessions.live(slot, epoch);
            let Some(seat) = seat.filter(|seat| seat.client.is_some() && seat.session.outbound.wants_page()) else {
                continue;
            };
            self.pages.scratch.clear();
            let priority = seat.session.outbound.ask(&mut self.pages.scratch);
            let slots = self.pages.scratch.iter().map(|slot| Slot(*slot)).collect();
            store.fetch(Fetch { lane, token: token_of((slot, epoch), priority), slots });
            self.pages.underway += 1;
            self.counts.store_pages += 1;
        }
        while let Some(seat) = self.pages.owed.pop() {
            self.ask_for_owed(seat);
        }
        self.ask_for_left();
    }

    fn ask_for_owed(&mut self, (slot, epoch): (u32, u16)) {
        let Some((store, lane)) = self.keeper.store() else { return };
        let Some(seat) = self.sessions.live(slot, epoch).filter(|seat| seat.client.is_none()) else {
            return;
        };
        let place = Place { owner: self.index, slot, epoch };
        let router = &self.shared.router;
        let has_taker = |share| router.share_numbered(share).is_some_and(|share| share.has_taker(place));
        let slots = &mut self.pages.scratch;
        slots.clear();
        seat.session.outbound.ask_shared(STEP_MAX, has_taker, slots);
        if slots.is_empty() {
            return;
        }
        let slots = slots.iter().map(|slot| Slot(*slot)).collect();
        store.fetch(Fetch { lane, token: token_of((slot, epoch), OWED), slots });
        self.pages.underway += 1;
        self.counts.store_pages += 1;
    }

    /// Whether a page is there. Looked at after the store was told to wake us.
    pub(super) fn has_page(&self) -> bool {
        if self.pages.underway == 0 {
            return false;
        }
        let mut arrived = self.pages.arrived.borrow_mut();
        self.keeper.store().into_iter().for_each(|(store, lane)| store.fetched(lane, &mut arrived));
        !arrived.is_empty()
    }

    /// Puts the pages that are there in their places.
    pub(super) fn take_pages(&mut self) {
        if !self.has_page() {
            return;
        }
        let mut arrived = self.pages.arrived.take();
        self.pages.underway -= arrived.len();
        arrived.drain(..).for_each(|answer| self.take_page(&answer));
        *self.pages.arrived.borrow_mut() = arrived;
    }

    fn take_page(&mut self, answer: &Fetched) {
        let (slot, epoch, priority) = ((answer.token >> 32) as u32, (answer.token >> 16) as u16, answer.token as u16);
        match priority {
            OWED => return self.give_away_read((slot, epoch), answer),
            LEFT => return self.take_left(slot, answer),
            _ => {}
        }
        let Some(seat) = self.sessions.live(slot, epoch) else { return };
        let outbound = &mut seat.session.outbound;
        outbound.note_answer();
        let Some(client) = seat.client else { return }; // It left meanwhile: what sleeps needs no bodies.
        let lost = fill(outbound, priority, answer, &mut self.pages.publishers);
        if lost > 0 {
            let client_id = &seat.session.client_id;
            let text = format!(
                "store: {lost} queued messages of the session {client_id:?} could not be read back and are dropped; the \
                 log of the last start says what was damaged"
            );
            self.events.push(Event::Log { level: 40, text });
        }
        (0..lost).for_each(|_| self.count_drop(DropReason::Unreadable));
        self.mark_dirty(client);
    }
}

/// Lets a message wait for a client that is away: the store has its body.
pub(super) fn offer_stub(outbound: &mut Outbound, passing: &Passing<'_>, (slot, qos): (u64, QoS)) -> Offered {
    let publication = passing.publication();
    let since_ms = |expiry_s: u32| passing.received_ms() + u64::from(expiry_s) * 1000;
    let expires_ms = publication.expiry_s.map_or(NEVER_MS, since_ms);
    let stub = Stub { slot, expires_ms, size: publication.size_bytes() as u32, qos };
    outbound.offer_stub(stub, publication.topic.as_str().as_bytes())
}

/// Puts the bodies in their places; returns how many messages were dropped because there is none.
fn fill(outbound: &mut Outbound, priority: u16, answer: &Fetched, publishers: &mut Publishers) -> usize {
    let missing: HashSet<u64> = answer.missing.iter().map(|slot| slot.0).collect();
    let mut lost = lose(outbound, priority, &missing);
    for found in &answer.found {
        if outbound.first_stub(priority) != Some(found.slot.0) {
            continue; // Dropped meanwhile.
        }
        match publishers.delivery(found) {
            Some(delivery) => outbound.fill(priority, delivery),
            None => {
                outbound.lose(priority);
                lost += 1;
            }
        }
        lost += lose(outbound, priority, &missing);
    }
    lost
}

/// Drops what comes first and is missing; returns how many that were.
fn lose(outbound: &mut Outbound, priority: u16, missing: &HashSet<u64>) -> usize {
    let mut lost = 0;
    while !missing.is_empty() && outbound.first_stub(priority).is_some_and(|first| missing.contains(&first)) {
        outbound.lose(priority);
        lost += 1;
    }
    lost
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use whimbrel_protocol::Message;
    use whimbrel_protocol::message::Publication;
    use whimbrel_storage::{Memory, Store, Writer};

    use super::super::alone;
    use super::*;

    /// CONNECT of "s", MQTT 3.1.1, and its CONNACK.
    fn enter(worker: &mut Worker, is_clean: bool) -> TcpStream {
        let mut client = alone::client(worker);
        let flags = u8::from(is_clean) << 1;
        client.write_all(&[b"\x10\x0d\x00\x04MQTT\x04", &[flags][..], b"\x00\x00\x00\x01s"].concat()).unwrap();
        heard(worker, &mut client, 4);
        client
    }

    /// So many bytes from the broker, which goes on meanwhile.
    fn heard(worker: &mut Worker, client: &mut TcpStream, count: usize) -> Vec<u8> {
        client.set_nonblocking(true).unwrap();
        let mut bytes = vec![0; count];
        let mut length = 0;
        while length < count {
            worker.turn();
            length += client.read(&mut bytes[length..]).unwrap_or(0);
        }
        bytes
    }

    /// A worker with a store in memory, whose session "s" is away and has these messages waiting.
    fn sleeping(messages: &[(Option<u32>, u64)]) -> (Worker, Arc<Memory>) {
        let store = Arc::new(Memory::new());
        let mut worker = alone::durable_worker(Arc::clone(&store) as Arc<dyn Store>);
        let mut client = enter(&mut worker, false);
        client.write_all(b"\x82\x06\x00\x01\x00\x01t\x01").unwrap();
        heard(&mut worker, &mut client, 5);
        drop(client);
        while worker.sessions.get(0).unwrap().client.is_some() {
            worker.turn();
        }
        for (expiry_s, received_ms) in messages {
            worker.route_message(&alone::message(*expiry_s, *received_ms), None);
        }
        worker.post();
        (worker, store)
    }

    fn waiting(worker: &Worker) -> usize {
        worker.sessions.get(0).unwrap().session.outbound.queue_len()
    }

    #[test]
    fn bodies_come_back_when_the_client_does() {
        let (mut worker, store) = sleeping(&[(None, 0); 5]);
        assert_eq!((waiting(&worker), store.statistics().live), (5, 5));
        let mut client = enter(&mut worker, false);
        // Five PUBLISH at QoS 1 of "x" to "t", 8 bytes each; their identifiers rise.
        let packets = heard(&mut worker, &mut client, 5 * 8);
        let ids: Vec<u8> = packets.chunks(8).map(|packet| packet[6]).collect();
        assert_eq!((ids, worker.counts.store_pages, waiting(&worker)), (vec![1, 2, 3, 4, 5], 1, 0));
        for id in 1..=5 {
            client.write_all(&[0x40, 2, 0, id]).unwrap();
        }
        while worker.counts.messages_acked < 5 {
            worker.turn();
        }
        worker.post();
        assert_eq!(store.statistics().live, 0, "nobody needs them any more");
    }

    #[test]
    fn a_large_message_that_meets_a_full_window_is_read_back_when_that_opens() {
        let (mut worker, _store) = sleeping(&[]);
        let mut client = enter(&mut worker, false);
        for _ in 0..32 {
            worker.route_message(&alone::message(None, 0), None);
        }
        heard(&mut worker, &mut client, 32 * 8);
        let small = alone::message(None, 0);
        let publication = Publication { payload: &vec![b'x'; 300_000], ..small.publication(0) };
        let large = Arc::new(Message::new(&publication, small.qos, false, small.origin.clone()));
        worker.route_message(&large, None);
        worker.turn();
        assert_eq!(waiting(&worker), 1);
        client.write_all(&[0x40, 2, 0, 1]).unwrap();
        let end = Instant::now() + Duration::from_secs(20);
        while waiting(&worker) > 0 {
            assert!(Instant::now() < end, "nobody asked for it");
            worker.wait(Some(Duration::from_millis(1)));
            worker.act();
        }
    }

    #[test]
    fn a_body_that_cannot_be_read_is_a_counted_drop_and_no_stall() {
        let (mut worker, store) = sleeping(&[(None, 0); 3]);
        let mut thief = Writer::join(Arc::clone(&store) as Arc<dyn Store>, Arc::new(|| {})).unwrap();
        let mut slots = Vec::new();
        worker.sessions.get_mut(0).unwrap().session.outbound.ask(&mut slots);
        worker.sessions.get_mut(0).unwrap().session.outbound.note_answer();
        thief.settle(Slot(slots[1]));
        thief.submit();
        let mut client = enter(&mut worker, false);
        heard(&mut worker, &mut client, 2 * 8);
        assert_eq!((worker.counts.delivery_dropped_unreadable, worker.counts.delivery_dropped), (1, 1));
        assert_eq!(waiting(&worker), 0);
        let told = worker.shared.outlet.drain();
        let is_about_it = |event: &Event| matches!(event, Event::Log { level: 40, text } if text.contains("\"s\""));
        assert!(told.iter().any(is_about_it));
    }

    #[test]
    fn a_session_that_ends_counts_and_forgets_what_it_has_in_the_store() {
        let (mut worker, store) = sleeping(&[(None, 0); 4]);
        let _client = enter(&mut worker, true);
        worker.post();
        assert_eq!((worker.counts.delivery_dropped_session_ended, store.statistics().live), (4, 0));
    }

    #[test]
    fn what_has_expired_in_the_store_is_dropped_unread() {
        let (mut worker, store) = sleeping(&[(Some(1), 0); 4]);
        let _client = enter(&mut worker, false);
        while waiting(&worker) > 0 {
            worker.turn();
        }
        worker.post();
        assert_eq!((worker.counts.delivery_dropped_expired, worker.counts.store_pages), (4, 0));
        assert_eq!(store.statistics().live, 0);
    }
}
