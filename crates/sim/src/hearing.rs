//! What clients make of the bytes that reach them, and whether the broker was allowed to send them.
//!
//! Knows the client's half of each packet: acknowledge, remember, repeat after a resume. Does not choose when bytes move.

use whimbrel_protocol::{QoS, ReasonCode};

use crate::books::Fault;
use crate::line::{Line, Phase};
use crate::sessions::Entry;
use crate::wire::{Heard, Letter};
use crate::world::World;

impl World {
    /// Some bytes reach a client; how many, with the end of the stream counted as one.
    pub fn pull(&mut self, line: usize, max: usize) -> Result<usize, Fault> {
        if !self.lines[line].is_alive() {
            return Ok(0);
        }
        let pulled = self.lines[line].wire.pull(max);
        let (heard, count) = pulled.map_err(|violation| format!("k{line} hears no MQTT: {violation:?}"))?;
        if count > 0 {
            self.tell(format_args!("k{line} reads {count} bytes"));
        }
        for packet in heard {
            self.on_heard(line, packet)?;
        }
        if self.lines[line].wire.is_over() {
            self.on_over(line)?;
            return Ok(count + 1);
        }
        Ok(count)
    }

    fn on_heard(&mut self, line: usize, packet: Heard) -> Result<(), Fault> {
        let who = self.lines[line].entry.who;
        if self.lines[line].told.is_some() {
            return Err(format!("k{line} hears more behind its DISCONNECT"));
        }
        if let Heard::ConnAck(present, reason, window) = packet {
            return self.on_connack(line, (present, reason), window);
        }
        if let Heard::Disconnect(reason) = packet {
            return self.on_told(line, reason);
        }
        if self.people[who].current != Some(line) || self.lines[line].goodbye.is_some() {
            return Ok(()); // The client has moved on to another connection, or has said goodbye to this one.
        }
        match packet {
            Heard::Publish(letter) => self.on_letter(line, &letter),
            Heard::Ack(kind, packet_id, reason) => self.on_ack(line, (kind, packet_id), reason),
            Heard::Granted(kind, packet_id, reasons) => self.on_granted(line, (kind, packet_id), &reasons),
            _ => Ok(()),
        }
    }

    fn on_connack(&mut self, line: usize, (present, reason): (bool, ReasonCode), window: u16) -> Result<(), Fault> {
        let now_ms = self.now_ms();
        let Line { phase, entry, is_denied, asked_until_ms, .. } = &self.lines[line];
        let Entry { who, .. } = *entry;
        self.story.tell(now_ms, format_args!("  k{line} hears CONNACK 0x{:02X}", reason.0));
        if reason != ReasonCode::SUCCESS {
            let is_too_late = asked_until_ms.is_some_and(|until_ms| until_ms <= now_ms);
            let is_unstorable = is_for_want_of_room(reason) && self.may_have_refused(self.lines[line].since_order);
            if *phase != Phase::Opening || !(*is_denied || is_too_late || is_unstorable) {
                return Err(format!("k{line} was refused for no reason: 0x{:02X}", reason.0));
            }
            self.lines[line].is_refused = true;
            return Ok(());
        }
        let (is_entered, is_said) = match (*phase, self.lines[line].is_v5()) {
            (Phase::Entered(was_present), _) => (true, was_present == present),
            (Phase::Gone(_), _) => (true, true),
            (Phase::Opening, _) => (false, false),
        };
        if !is_entered || !is_said {
            return Err(format!("k{line} hears of a session (present {present}) that the broker does not know of"));
        }
        self.lines[line].is_ready = true;
        if let Some(session) = self.sessions.of_mut(who).filter(|session| session.line == Some(line)) {
            session.is_told = true;
            self.sessions.past.remove(&who);
        }
        // An MQTT 3.1.1 client is told none, but what it leaves open may have to be sent again as MQTT 5.
        let granted = self.options.zones[0].receive_maximum;
        self.lines[line].send_window = usize::from(window.min(granted)).min(20);
        if self.people[who].current == Some(line) {
            self.resend(line);
        }
        Ok(())
    }

    /// A session goes on: what was not acknowledged goes out again, in its order [MQTT-4.4.0-1].
    fn resend(&mut self, line: usize) {
        let who = self.lines[line].entry.who;
        for unsettled in self.people[who].memory.unsettled.clone() {
            if unsettled.is_released {
                self.lines[line].wire.put_ack(0x62, unsettled.packet_id);
                continue;
            }
            self.books.repeat(unsettled.number);
            self.tell(format_args!("  c{who} sends message {} again", unsettled.number));
            self.put_publish(line, (unsettled.packet_id, unsettled.number, true));
        }
    }

    fn on_told(&mut self, line: usize, reason: ReasonCode) -> Result<(), Fault> {
        self.tell(format_args!("  k{line} is told 0x{:02X}", reason.0));
        let expected = match self.lines[line].phase {
            Phase::Gone("takeovered" | "discarded") => ReasonCode::SESSION_TAKEN_OVER,
            Phase::Gone("kicked") => ReasonCode::ADMINISTRATIVE_ACTION,
            Phase::Gone("keepalive_timeout") => ReasonCode::KEEP_ALIVE_TIMEOUT,
            phase => return Err(format!("k{line} was told 0x{:02X}, but is {phase:?}", reason.0)),
        };
        self.lines[line].told = Some(reason);
        if reason == expected { Ok(()) } else { Err(format!("k{line} was told 0x{:02X}", reason.0)) }
    }

    fn on_letter(&mut self, line: usize, letter: &Letter) -> Result<(), Fault> {
        let who = self.lines[line].entry.who;
        let Some(session) = self.sessions.of(who) else {
            return Err(format!("k{line} has a message, but no session"));
        };
        let matching = || session.subs.iter().filter(|sub| sub.matches(&letter.topic));
        if matching().next().is_none() {
            return Err(format!("k{line} has a message for {} that it never asked for", letter.topic));
        }
        let is_alien = matching().all(|sub| sub.no_local);
        let reader = (who, session.epoch);
        if letter.payload.is_empty() {
            return Ok(());
        }
        let is_new = letter.qos != QoS::ExactlyOnce || self.people[who].memory.received.insert(letter.packet_id);
        if !is_new && !letter.dup {
            return Err(format!("k{line} has a new message under identifier {} of an old one", letter.packet_id));
        }
        let number = self.books.receive(reader, letter, is_new)?;
        self.tell(format_args!("  c{who} has message {number}, QoS {}, dup {}", letter.qos as u8, letter.dup));
        if is_alien && !letter.retain && self.books.record(number).author == who {
            return Err(format!("c{who} has its own message {number} in spite of No Local"));
        }
        if letter.qos == QoS::AtMostOnce {
            return Ok(());
        }
        let first = if letter.qos == QoS::AtLeastOnce { 0x40 } else { 0x50 };
        // A repetition may have crossed the acknowledgement, and then it is open no more.
        let may_have_crossed = letter.dup && self.options.zones[0].retry_interval_ms > 0;
        let line_state = &mut self.lines[line];
        if !may_have_crossed {
            line_state.open_ids.insert(letter.packet_id);
        }
        if line_state.open_ids.len() > line_state.window {
            return Err(format!("k{line} has more in flight than its window of {}", line_state.window));
        }
        line_state.held.push_back((first, letter.packet_id));
        if !self.people[who].is_lazy {
            self.lines[line].release(usize::MAX);
        }
        Ok(())
    }

    fn on_ack(&mut self, line: usize, (kind, packet_id): (u8, u16), reason: ReasonCode) -> Result<(), Fault> {
        let who = self.lines[line].entry.who;
        let memory = &mut self.people[who].memory;
        if kind == 6 {
            memory.received.remove(&packet_id);
            self.lines[line].held.push_back((0x70, packet_id));
            if !self.people[who].is_lazy {
                self.lines[line].release(usize::MAX);
            }
            return Ok(());
        }
        let Some(place) = memory.unsettled.iter().position(|unsettled| unsettled.packet_id == packet_id) else {
            return Err(format!("k{line} has an acknowledgement for {packet_id}, which is not in flight"));
        };
        let number = memory.unsettled[place].number;
        let is_final = kind != 5 || reason.is_error();
        if is_final {
            memory.unsettled.remove(place);
        } else {
            memory.unsettled[place].is_released = true;
            self.lines[line].wire.put_ack(0x62, packet_id);
        }
        let is_certain = !self.lines[line].is_judged;
        if !reason.is_error() {
            self.books.take(number);
        } else if is_certain && kind != 7 {
            self.on_refused(number, reason)?;
        }
        self.tell(format_args!("  c{who} hears that message {number} was taken, 0x{:02X}", reason.0));
        if is_certain && kind != 7 && !reason.is_error() && self.books.record(number).routed_ever() == 0 {
            return Err(format!("message {number} was acknowledged, but never routed"));
        }
        Ok(())
    }

    /// A refused publish promises nothing, but there must have been a reason.
    fn on_refused(&mut self, number: usize, reason: ReasonCode) -> Result<(), Fault> {
        let since_order = self.books.record(number).sent_order;
        if is_for_want_of_room(reason) && self.may_have_refused(since_order) {
            self.books.refuse(number);
            return Ok(());
        }
        Err(format!("message {number} was refused for no reason: 0x{:02X}", reason.0))
    }

    fn on_granted(&mut self, line: usize, (kind, packet_id): (u8, u16), reasons: &[ReasonCode]) -> Result<(), Fault> {
        let who = self.lines[line].entry.who;
        let Some(places) = self.lines[line].asked.remove(&packet_id) else {
            return Err(format!("k{line} has an answer for {packet_id}, which it never asked"));
        };
        let order = self.order;
        let wish = self.lines[line].wishes.remove(&packet_id);
        let Some(session) = self.sessions.of_mut(who) else { return Ok(()) };
        if let Some((filter, is_there)) = wish.filter(|_| !reasons.iter().any(|reason| reason.is_error())) {
            session.told.insert(filter, is_there);
            let place = session.wishes.iter().position(|wish| *wish == (filter, is_there)).map_or(0, |place| place + 1);
            let mut number = 0;
            session.wishes.retain(|(other, _)| {
                number += 1;
                *other != filter || number > place // Answers come in order.
            });
        }
        if kind == 9 && reasons.iter().any(|reason| reason.is_error()) {
            session.is_unsure = true;
            let refused = wish.and_then(|wish| session.wishes.iter().position(|other| *other == wish));
            if let Some(place) = refused {
                session.wishes.remove(place);
            }
            return Ok(());
        }
        for place in places {
            session.subs[place].acked_order = Some(order);
        }
        self.tell(format_args!("  c{who} hears that {packet_id} is granted"));
        Ok(())
    }

    /// A client has read the end of a connection.
    fn on_over(&mut self, line: usize) -> Result<(), Fault> {
        self.tell(format_args!("  k{line} is over"));
        let now_ms = self.now_ms();
        let idle_ms = u64::from(self.options.zones[0].idle_timeout_ms);
        let Line { phase, since_ms, is_refused, told, is_narrow, is_ready, .. } = &self.lines[line];
        // Nothing at all is said to who waits for a CONNACK whose promise is not stored.
        let is_barred = self.store.is_some() && !is_ready;
        let is_right = match phase {
            Phase::Opening => *is_refused || now_ms >= since_ms + idle_ms,
            Phase::Entered(_) => false,
            Phase::Gone(_) => true,
        };
        if !is_right {
            return Err(format!("k{line} was closed although it is {phase:?}"));
        }
        let is_to_be_told = matches!(phase, Phase::Gone("takeovered" | "discarded" | "kicked" | "keepalive_timeout"));
        if is_to_be_told && !is_barred && self.lines[line].is_v5() && told.is_none() && !is_narrow {
            return Err(format!("k{line} was closed without a word"));
        }
        self.lines[line].wire.close();
        Ok(())
    }
}

/// What MQTT 5, MQTT 3.x are told by a broker that cannot store.
fn is_for_want_of_room(reason: ReasonCode) -> bool {
    reason == ReasonCode::QUOTA_EXCEEDED || reason.0 == 3
}
