//! Ends: of connections, of sessions; wills and expiry.
//!
//! Knows what outlives what (MQTT 5.0 sections 3.1.2.5, 3.1.2.11.2, 3.1.3.2, 4.1). A connection ends here and nowhere
//! else, whoever wants it.

use std::sync::Arc;

use whimbrel_protocol::connection::Phase;
use whimbrel_protocol::connection::handshake::NEVER_EXPIRES_S;
use whimbrel_protocol::session::DropReason;
use whimbrel_protocol::{Filter, Message, ReasonCode};
use whimbrel_router::Place;

use super::Worker;
use super::client::{Client, End};
use super::sessions::{Away, Seat};
use crate::answer::cut;
use crate::event::{ClientRecord, Disconnected, Event};
use crate::shared::Interest;
use crate::timers::Subject;

impl Worker {
    /// The session of a connection; None before CONNACK.
    #[inline]
    pub(super) fn seat_of(&mut self, slot: u32) -> Option<&mut Seat> {
        let seat = self.clients[slot as usize].session?;
        self.sessions.get_mut(seat)
    }

    /// Ends a connection: tells the client where its version can be told, writes what the socket takes, lets go.
    pub(super) fn end(&mut self, slot: u32, end: End) {
        if !self.clients.contains(slot as usize) {
            return;
        }
        let words = std::mem::take(&mut self.last_words);
        if end.is_told && !self.clients[slot as usize].is_leaving {
            self.tell(slot, end, end.what);
        }
        let record = self.record_of(slot);
        let mut client = self.clients.remove(slot as usize);
        self.note_ended(&client);
        client.write_out(&mut self.spares, &mut self.counts);
        if let Some(text) = client.socket.failure() {
            self.on_failed_handshake(&client, text);
        }
        client.socket.finish(end.is_told || client.is_leaving);
        self.shared.gauges.connections.take(1);
        self.shared.listeners[usize::from(client.listener)].release();
        let Some(seat) = client.session else { return };
        self.counts.client_disconnected += 1;
        self.note_end(seat, end);
        self.notice_disconnected(&client, (seat, end), words);
        let gone = if self.is_presence_wanted() { self.presence_of(&client, seat) } else { None };
        self.detach(seat, end, record);
        gone.into_iter().for_each(|gone| self.publish_gone(&gone, end));
    }

    /// As `end`, in words that are not known beforehand.
    pub(super) fn dismiss(&mut self, slot: u32, end: End, words: &str) {
        self.tell(slot, end, words);
        self.clients[slot as usize].is_leaving = true; // It was told.
        self.last_words = cut(words).into();
        self.end(slot, end);
    }

    /// The broker stops: the client is told, and what is in its outbox still goes out.
    pub(super) fn take_leave(&mut self, slot: u32) {
        self.tell(slot, End::SHUTDOWN, End::SHUTDOWN.what);
        let client = &mut self.clients[slot as usize];
        client.is_leaving = true; // [MQTT-3.14.4-1]
        client.is_writable = true; // Tried once more, also where it is not watched.
        if self.clients[slot as usize].outbox.len() == 0 {
            return self.end(slot, End { is_told: false, ..End::SHUTDOWN });
        }
        self.mark_dirty(slot);
    }

    fn tell(&mut self, slot: u32, end: End, what: &str) {
        let client = &mut self.clients[slot as usize];
        match client.connection.phase() {
            Phase::Open => {}
            // Whatever came was not a CONNECT that we can read; only a wrong version is answered [MQTT-3.1.2-2].
            Phase::Opening if end.reason != ReasonCode::UNSUPPORTED_PROTOCOL_VERSION => return,
            Phase::Opening | Phase::Deciding => return self.put_refusal(slot, end.reason, what),
        }
        if client.connection.put_disconnect(client.outbox.tail(&mut self.spares), end.reason, what) {
            self.counts.packets_sent += 1;
            self.counts.disconnect_sent += 1;
        }
    }

    fn notice_disconnected(&mut self, client: &Client, (seat, end): (u32, End), words: Box<str>) {
        if !self.shared.wants(Interest::DISCONNECTED) {
            return;
        }
        let Some(seat) = self.sessions.get(seat) else { return };
        self.events.push(Event::Disconnected(Box::new(Disconnected {
            client_id: Arc::clone(&seat.session.client_id),
            username: seat.username.clone(),
            peer: client.peer.to_string(),
            reason: end.word,
            reason_code: end.reason.0,
            text: if words.is_empty() { end.what.into() } else { words },
            timestamp_ms: self.now.unix_ms,
        })));
    }

    /// The session goes on without its connection, or ends with it.
    fn detach(&mut self, slot: u32, end: End, record: Option<ClientRecord>) {
        let unix_ms = self.now.unix_ms;
        let Some(seat) = self.sessions.get_mut(slot) else {
            return;
        };
        seat.client = None;
        seat.session.outbound.detach();
        let is_member = seat.is_member();
        if end.is_goodbye {
            seat.session.will = None; // [MQTT-3.14.4-3]
        }
        let expiry_s = seat.session.expiry_s;
        if expiry_s == 0 {
            let is_discarded = end == End::DISCARDED;
            self.counts.session_discarded += u64::from(is_discarded);
            self.counts.session_terminated += u64::from(!is_discarded);
            return self.remove_session(slot);
        }
        let evicted = seat.session.outbound.shed();
        let last_seen = record.map(|record| ClientRecord {
            is_connected: false,
            disconnected_at_ms: unix_ms,
            outbox_bytes: 0,
            ..record
        });
        let now_ms = self.now.ms; // Not the time of day, which may jump.
        let expires_ms = (expiry_s != NEVER_EXPIRES_S).then(|| now_ms + u64::from(expiry_s) * 1000);
        let will_due_ms = seat.session.will.as_ref().map(|will| now_ms + u64::from(will.delay_s) * 1000);
        seat.away = Some(Box::new(Away { last_seen, will_due_ms, expires_ms }));
        (0..evicted).for_each(|_| self.count_drop(DropReason::QueueFull));
        self.put_session(slot, self.kept_ms());
        if is_member {
            self.set_online(slot, false);
            // One that is taken over is away for less than this turn.
            if end != End::TAKEN_OVER {
                self.settle_debts(slot);
            }
        }
        self.attend(slot);
    }

    /// Does what is due for an absent client's session, and arms the reminder for what is not.
    pub(super) fn attend(&mut self, slot: u32) {
        let now_ms = self.now.ms;
        if let Some(seat) = self.sessions.get_mut(slot)
            && let Some(_) = seat.away.as_mut().and_then(|away| away.will_due_ms.take_if(|due_ms| *due_ms <= now_ms))
        {
            let will = seat.session.will.take();
            will.into_iter().for_each(|will| self.publish_will(&will.message, slot));
            self.put_absent(slot);
        }
        let Some(seat) = self.sessions.get_mut(slot) else {
            return;
        };
        let Some(away) = &seat.away else { return };
        if away.expires_ms.is_some_and(|due_ms| due_ms <= now_ms) {
            self.counts.session_terminated += 1;
            return self.remove_session(slot);
        }
        let Some(due_ms) = away.due_ms() else { return };
        if seat.reminder_ms == 0 || due_ms < seat.reminder_ms {
            seat.reminder_ms = due_ms;
            self.timers.arm(due_ms, Subject::Session(slot, seat.epoch));
        }
    }

    pub(super) fn on_session_reminder(&mut self, slot: u32, epoch: u16, due_ms: u64) {
        let Some(seat) = self.sessions.live(slot, epoch).filter(|seat| seat.reminder_ms == due_ms) else {
            return;
        };
        seat.reminder_ms = 0;
        if seat.client.is_none() {
            self.attend(slot);
        }
    }

    pub(super) fn on_client_reminder(&mut self, slot: u32, epoch: u16, due_ms: u64) {
        let Some(client) = self.clients.get_mut(slot as usize) else {
            return;
        };
        if client.epoch != epoch || client.reminder_ms != due_ms {
            return;
        }
        client.reminder_ms = 0;
        let is_due = client.deadline_ms().is_some_and(|deadline_ms| deadline_ms <= self.now.ms);
        match (is_due, client.parked.is_some(), client.connection.phase()) {
            (false, ..) => self.arm(slot),
            (true, true, _) if self.is_paced(slot) => self.on_tokens(slot, epoch),
            (true, true, _) => self.expire_question(slot),
            (true, false, Phase::Open) => self.end(slot, End::KEEP_ALIVE),
            (true, false, _) => self.end(slot, End::IDLE),
        }
    }

    fn publish_will(&mut self, message: &Message, publisher: u32) {
        let message = Arc::new(message.restamped(self.now.steady_ms));
        self.counts.routed_wills += 1;
        self.route_message(&message, Some(publisher));
    }

    /// Ends a session that no connection holds; a will that still waits is published [MQTT-3.1.2-10].
    pub(super) fn remove_session(&mut self, slot: u32) {
        let Some(mut seat) = self.sessions.remove(slot) else {
            return;
        };
        self.note_removed(&seat);
        let place = Place { owner: self.index, slot, epoch: seat.epoch };
        self.shared.gauges.sessions.take(1);
        self.speaker = None; // Another session may have the slot next.
        let subscriptions = &seat.session.subscriptions;
        self.uncount_subscriptions(subscriptions.len(), subscriptions.shared().count());
        self.let_go(&mut seat);
        let filters = seat.session.subscriptions.iter().filter_map(|(filter, _)| Filter::new(filter).ok());
        self.shared.router.unsubscribe(filters.filter(|filter| !filter.is_shared()), place);
        if seat.is_member() {
            seat.session.subscriptions.shared().for_each(|whole| self.leave_group(whole, place));
        }
        // First of all that is stored: one that is retained is handed over at once, and a crash behind that must find the rest
        // as it was.
        if let Some(will) = seat.session.will.take() {
            self.publish_will(&will.message, slot);
        }
        self.give_back_all(&mut seat, place);
        for _ in 0..seat.session.outbound.queue_len() {
            self.count_drop(DropReason::SessionEnded);
        }
        self.counts.acks_missing += seat.session.outbound.inflight_count() as u64;
        self.forget_session(&mut seat);
    }

    /// What a listing says of a connection and its session; None before CONNACK.
    pub(super) fn record_of(&self, slot: u32) -> Option<ClientRecord> {
        let client = &self.clients[slot as usize];
        let seat = self.sessions.get(client.session?)?;
        let outbound = &seat.session.outbound;
        Some(ClientRecord {
            client_id: Arc::clone(&seat.session.client_id),
            username: seat.username.clone(),
            peer: client.peer.to_string(),
            listener: self.shared.listeners[usize::from(client.listener)].label.clone(),
            protocol_version: client.connection.version() as u8,
            is_connected: true,
            clean_start: seat.clean_start,
            keep_alive_s: client.connection.keep_alive_s(),
            session_expiry_s: seat.session.expiry_s,
            connected_at_ms: client.connected_at_ms,
            disconnected_at_ms: 0,
            subscriptions: seat.session.subscriptions.len(),
            inflight: outbound.inflight_count(),
            mqueue_len: outbound.queue_len(),
            outbox_bytes: client.outbox.len(),
            worker: self.index,
        })
    }
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use whimbrel_protocol::connection::handshake::Request;
    use whimbrel_protocol::connection::{Connection, Role};
    use whimbrel_protocol::message::{Origin, Publication};
    use whimbrel_protocol::packet::Connect;
    use whimbrel_protocol::properties::Properties;
    use whimbrel_protocol::session::{Session, Will};
    use whimbrel_protocol::{Limits, QoS, Topic, Version};

    use super::super::{Now, alone};
    use super::*;
    use crate::options::LayerOptions;
    use crate::socket::{Peer, Socket};
    use crate::transport::Layering;
    use crate::worker::client::Arrival;

    const WEEK_S: u32 = 604_800;

    /// A client with a long session goes away.
    fn leave_behind(worker: &mut Worker, client_id: &str) -> u32 {
        let slot = worker.sessions.insert(Session::new(client_id.into(), &Limits::default()));
        let Some(seat) = worker.sessions.get_mut(slot) else { panic!("it was inserted") };
        seat.session.expiry_s = WEEK_S;
        worker.detach(slot, End::CLOSED, None);
        slot
    }

    /// A session with a will whose connection is lost at 0.
    fn left_behind(worker: &mut Worker, expiry_s: u32, delay_s: u32) -> u32 {
        let topic = Topic::new("will").unwrap();
        let publication = Publication { topic, properties: Properties::default(), expiry_s: None, payload: b"gone" };
        let origin = Origin { client_id: "c".into(), received_ms: 0 };
        let message = Arc::new(Message::new(&publication, QoS::AtMostOnce, false, origin));
        let mut session = Session::new("c".into(), &Limits::default());
        session.expiry_s = expiry_s;
        session.will = Some(Box::new(Will { message, delay_s }));
        let slot = worker.sessions.insert(session);
        worker.detach(slot, End::CLOSED, None);
        slot
    }

    #[test]
    fn sessions_that_are_started_anew_leave_no_reminders_behind() {
        let mut worker = alone::worker();
        let kept = leave_behind(&mut worker, "kept");
        for _ in 0..100_000 {
            let slot = leave_behind(&mut worker, "anew");
            worker.remove_session(slot);
            worker.fire_timers();
        }
        assert!(worker.timers.len() < 5_000, "{} reminders of 1 session", worker.timers.len());
        worker.now = Now { ms: u64::from(WEEK_S) * 1000, ..worker.now };
        worker.fire_timers();
        assert!(worker.sessions.get(kept).is_none(), "the reminder of a session that is there has come");
    }

    /// Wills published and sessions held when it is `now_ms`.
    fn at(worker: &mut Worker, now_ms: u64) -> (u64, usize) {
        worker.now.ms = now_ms;
        worker.fire_timers();
        (worker.counts.messages_publish, worker.sessions.len())
    }

    #[test]
    fn a_will_is_published_when_its_delay_or_its_session_is_over_whichever_comes_first() {
        // Delay and expiry, then when the will is due and when the session ends; milliseconds.
        let table = [
            (5, 60, 5_000, Some(60_000)),
            (60, 5, 5_000, Some(5_000)),
            (7, 7, 7_000, Some(7_000)),
            (5, NEVER_EXPIRES_S, 5_000, None),
            (u32::MAX, 60, 60_000, Some(60_000)),
        ];
        for (delay_s, expiry_s, will_due_ms, ends_ms) in table {
            let mut worker = alone::worker();
            left_behind(&mut worker, expiry_s, delay_s);
            assert_eq!(at(&mut worker, will_due_ms - 1), (0, 1), "{delay_s} {expiry_s}");
            assert_eq!(at(&mut worker, will_due_ms).0, 1, "{delay_s} {expiry_s}");
            if let Some(ends_ms) = ends_ms {
                at(&mut worker, ends_ms - 1);
                assert_eq!(at(&mut worker, ends_ms), (1, 0), "{delay_s} {expiry_s}");
            }
            assert_eq!(at(&mut worker, u64::from(u32::MAX) * 2_000).0, 1, "once: {delay_s} {expiry_s}");
        }
    }

    #[test]
    fn a_session_is_gone_when_its_time_is_over_and_one_without_an_end_is_not() {
        let mut worker = alone::worker();
        left_behind(&mut worker, 10, 0);
        assert_eq!(at(&mut worker, 9_999), (1, 1));
        assert_eq!(at(&mut worker, 10_000), (1, 0));
        let mut worker = alone::worker();
        left_behind(&mut worker, NEVER_EXPIRES_S, 0);
        assert_eq!(at(&mut worker, u64::from(u32::MAX) * 2_000), (1, 1));
    }

    /// A connection takes the session, by a CONNECT with this session expiry and no will.
    fn resume(worker: &mut Worker, seat_slot: u32, expiry_s: u32) {
        let flags = SocketFlags::NONBLOCK;
        let (ours, _theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        let layering = Layering::load(&LayerOptions::default()).unwrap();
        let socket = layering.lay_over(Socket::new(ours), &Peer::Local).unwrap();
        let limits = Arc::new(Limits::default());
        let connection = Connection::new(Role::Server, Arc::clone(&limits), worker.now.ms);
        let arrival = Arrival { socket, peer: Peer::Local, listener: 0, limits: Arc::clone(&limits) };
        let slot = worker.seat(arrival, connection).expect("a socket that can be watched");
        let raw = [&[0x11][..], &expiry_s.to_be_bytes()].concat();
        let connect = Connect {
            version: Version::V5,
            clean_start: false,
            keep_alive_s: 0,
            client_id: "c",
            will: None,
            username: None,
            password: None,
            properties: Properties::trusted(&raw),
        };
        let request = Request::new(&connect, &limits, || "".into(), 0).unwrap();
        worker.attach(slot, seat_slot, &request, false);
    }

    #[test]
    fn a_session_does_not_end_and_its_old_will_is_not_published_while_a_connection_holds_it() {
        let mut worker = alone::worker();
        let slot = left_behind(&mut worker, 10, 5);
        assert_eq!(at(&mut worker, 4_999), (0, 1));
        resume(&mut worker, slot, 1);
        assert_eq!(at(&mut worker, 5_000), (0, 1));
        assert_eq!(at(&mut worker, 10_000), (0, 1), "its own second does not run either");
        // The next absence has its own time.
        worker.detach(slot, End::CLOSED, None);
        assert_eq!(at(&mut worker, 10_999), (0, 1));
        assert_eq!(at(&mut worker, 11_000), (0, 0));
    }
}
