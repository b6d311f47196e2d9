//! From ready socket to handled packets.
//!
//! Knows how bytes become packets and which part of the worker takes each. A connection that waits for an answer keeps
//! its unread bytes and is not read.

use rustix::event::epoll;
use rustix::io::Errno;
use whimbrel_protocol::connection::Received;
use whimbrel_protocol::connection::handshake::Request;
use whimbrel_protocol::packet::{Ack, Disconnect, Packet};
use whimbrel_protocol::properties::id;
use whimbrel_protocol::session::Settled;
use whimbrel_protocol::{ReasonCode, Violation, encode};

use super::client::End;
use super::{READ_BYTES, Token, Worker};
use crate::answer::{Answer, cut};
use crate::socket::Moved;

/// Packets of at least so many bytes are gathered in a buffer of their own.
const OWN_BUFFER_BYTES: usize = 32 * 1024;

/// Deliveries, or steps of a search that cost about as much, for one connection in one turn: some ten milliseconds.
const EFFORT_MAX: usize = 131_072;

/// What to do after a packet.
pub(super) enum Step {
    /// Go on with the next.
    Next,
    /// Wait for an answer; the packet itself is dealt with.
    ParkBehind,
    /// Wait for an answer; then this packet comes again.
    ParkBefore,
    /// The connection belongs to another worker.
    HandOver(Box<Request>, bool),
}

impl Worker {
    pub(super) fn read(&mut self, slot: u32) {
        let client = &self.clients[slot as usize];
        if client.is_waiting() || !client.has_room() {
            // Level-triggered: without this the loop would be told about the same bytes in every turn.
            return self.watch(slot);
        }
        let Some(allowed) = self.readable_bytes(slot) else { return };
        // Layers let pass what they have, however much that is: what they held back, no readiness would tell of.
        let is_plain = self.clients[slot as usize].socket.plain().is_some();
        let allowed = if is_plain { allowed } else { usize::MAX };
        if self.clients[slot as usize].needed >= OWN_BUFFER_BYTES {
            return self.read_large(slot, allowed);
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let client = &mut self.clients[slot as usize];
        let held = client.partial.len();
        buffer[..held].copy_from_slice(&client.partial);
        let end = buffer.len().min(held.saturating_add(allowed));
        let moved = client.socket.read(&mut buffer[held..end]);
        if let Some(count) = self.on_read(slot, moved) {
            self.clients[slot as usize].partial = Vec::new();
            self.consume(slot, &buffer[..held + count], None);
        }
        self.buffer = buffer;
        self.check_budget(slot);
        self.settle(slot);
    }

    /// Gathers one large packet; its buffer grows with what arrives, not with what the length field promises.
    fn read_large(&mut self, slot: u32, allowed: usize) {
        let client = &mut self.clients[slot as usize];
        let is_plain = client.socket.plain().is_some();
        let missing = if is_plain { client.needed - client.partial.len() } else { READ_BYTES };
        let missing = missing.min(READ_BYTES).min(allowed);
        let mut buffer = std::mem::take(&mut self.buffer);
        let moved = client.socket.read(&mut buffer[..missing]);
        if let Some(count) = self.on_read(slot, moved) {
            let client = &mut self.clients[slot as usize];
            client.partial.extend_from_slice(&buffer[..count]);
            if client.partial.len() >= client.needed {
                let gathered = std::mem::take(&mut client.partial);
                self.consume(slot, &gathered, None);
                self.counts.memory_released += gathered.capacity() as u64;
            }
        }
        self.buffer = buffer;
        self.check_budget(slot);
        self.settle(slot);
    }

    /// Counts what a read brought; None if it brought nothing (a connection that is gone has been ended then).
    fn on_read(&mut self, slot: u32, moved: Moved) -> Option<usize> {
        match moved {
            Moved::Bytes(count) => {
                self.note_proxied(slot);
                self.counts.bytes_received += count as u64;
                if let Some(pace) = &mut self.clients[slot as usize].pace {
                    pace.took_bytes(count);
                }
                Some(count)
            }
            Moved::Blocked => None,
            Moved::Closed => {
                self.end(slot, End::CLOSED);
                None
            }
        }
    }

    /// Goes on after an answer with the bytes that waited for it.
    pub(super) fn go_on(&mut self, slot: u32, rest: &[u8], answer: Option<&[Answer]>) {
        self.consume(slot, rest, answer);
        if self.clients.contains(slot as usize) {
            self.arm(slot);
            self.watch(slot);
            self.settle(slot);
        }
    }

    /// Handles every whole packet in `bytes` and keeps the rest. `answer` belongs to the first packet alone.
    fn consume(&mut self, slot: u32, bytes: &[u8], mut answer: Option<&[Answer]>) {
        let mut taken = 0;
        self.effort = 0;
        while taken < bytes.len() {
            let Some(client) = self.clients.get_mut(slot as usize) else {
                return;
            };
            let unread = &bytes[taken..];
            let (packet, len) = match client.connection.receive(unread) {
                Ok(Received::Packet(packet, len)) => (packet, len),
                Ok(Received::Incomplete(needed)) => {
                    client.needed = needed;
                    client.partial = unread.to_vec();
                    return;
                }
                Err(violation) => return self.end(slot, violation.into()),
            };
            if let Some(pace) = &mut client.pace
                && let (Packet::Publish(_), None) = (&packet, answer)
                && let Err(wait_ms) = pace.take_publish(self.now.ms)
            {
                return self.wait_for_tokens(slot, unread, wait_ms);
            }
            client.connection.heard(self.now.ms);
            self.counts.packets_received += 1;
            match self.on_packet(slot, &packet, answer.take()) {
                Ok(Step::Next) if self.effort > EFFORT_MAX => return self.rest_connection(slot, &bytes[taken + len..]),
                Ok(Step::Next) => taken += len,
                Ok(Step::ParkBehind) => return self.keep_unread(slot, &bytes[taken + len..]),
                Ok(Step::ParkBefore) => {
                    self.counts.packets_received -= 1; // It comes again.
                    return self.keep_unread(slot, unread);
                }
                Ok(Step::HandOver(request, is_superuser)) => {
                    return self.hand_over(slot, request, is_superuser, bytes[taken + len..].to_vec());
                }
                Err(end) => return self.end(slot, end),
            }
        }
        if let Some(client) = self.clients.get_mut(slot as usize) {
            client.needed = 0;
        }
    }

    pub(super) fn keep_unread(&mut self, slot: u32, unread: &[u8]) {
        if let Some(parked) = &mut self.clients[slot as usize].parked {
            parked.rest = unread.to_vec();
        }
    }

    #[inline]
    fn on_packet(&mut self, slot: u32, packet: &Packet<'_>, answer: Option<&[Answer]>) -> Result<Step, End> {
        match packet {
            Packet::Publish(publish) => return self.on_publish(slot, publish, answer),
            Packet::PubAck(ack) => self.on_puback(slot, ack),
            Packet::PubRec(ack) => self.on_pubrec(slot, ack),
            Packet::PubRel(ack) => self.on_pubrel(slot, ack),
            Packet::PubComp(ack) => self.on_pubcomp(slot, ack),
            Packet::Subscribe(subscribe) => return self.on_subscribe(slot, subscribe, answer),
            Packet::Unsubscribe(unsubscribe) => self.on_unsubscribe(slot, unsubscribe)?,
            Packet::PingReq => self.on_pingreq(slot),
            Packet::Connect(connect) => return self.on_connect(slot, connect),
            Packet::Disconnect(disconnect) => return Err(self.on_disconnect(slot, disconnect)),
            Packet::Auth(auth) => return self.on_auth(slot, auth),
            Packet::ConnAck(_) | Packet::SubAck(_) | Packet::UnsubAck(_) | Packet::PingResp => {
                return Err(Violation::protocol("packet that only a server sends").into());
            }
        }
        Ok(Step::Next)
    }

    fn on_pingreq(&mut self, slot: u32) {
        self.counts.pingreq_received += 1;
        self.counts.pingresp_sent += u64::from(self.send(slot, &Packet::PingResp));
    }

    #[inline]
    fn on_puback(&mut self, slot: u32, ack: &Ack<'_>) {
        self.counts.puback_received += 1;
        let Some(seat) = self.seat_of(slot) else { return };
        match seat.session.outbound.on_puback(ack.packet_id) {
            Settled::Yes => {
                self.counts.acks_completed += 1;
                self.on_settled(slot);
            }
            Settled::InUse => self.counts.puback_inuse += 1,
            Settled::Missed => self.counts.puback_missed += 1,
        }
    }

    fn on_pubrec(&mut self, slot: u32, ack: &Ack<'_>) {
        self.counts.pubrec_received += 1;
        let before = self.keeper.released_count();
        let Some(seat) = self.seat_of(slot) else { return };
        let settled = seat.session.outbound.on_pubrec(ack.packet_id, ack.reason);
        match settled {
            Settled::Yes => {
                self.counts.acks_completed += u64::from(ack.reason.is_error());
                self.on_settled(slot);
            }
            Settled::InUse => self.counts.pubrec_inuse += 1,
            Settled::Missed => self.counts.pubrec_missed += 1,
        }
        if ack.reason.is_error() {
            return;
        }
        match settled {
            Settled::Missed => {
                let is_sent = self.deny_identifier(slot, 0x62, ack.packet_id);
                self.counts.pubrel_sent += u64::from(is_sent);
            }
            _ => {
                if settled == Settled::Yes {
                    self.store_released(slot, ack.packet_id);
                    self.keeper.supersede_since(before);
                }
                self.send_pubrel(slot, ack.packet_id);
            }
        }
    }

    fn on_pubrel(&mut self, slot: u32, ack: &Ack<'_>) {
        self.counts.pubrel_received += 1;
        let Some(seat) = self.seat_of(slot) else { return };
        let stored = seat.session.inbound.stored(ack.packet_id);
        let reason = seat.session.inbound.on_pubrel(ack.packet_id);
        self.keeper.release(stored);
        self.counts.pubrel_missed += u64::from(reason.is_error());
        let is_sent = match reason.is_error() {
            true => self.deny_behind(slot, ack.packet_id),
            // Else the identifier's next message would be taken for this one after a crash.
            false => self.send_stored(slot, &Packet::PubComp(Ack::new(ack.packet_id, reason))),
        };
        self.counts.pubcomp_sent += u64::from(is_sent);
    }

    /// PUBCOMP for an identifier that is not in use, behind the PUBCOMP that may have freed it.
    fn deny_behind(&mut self, slot: u32, packet_id: u16) -> bool {
        self.promise(slot);
        let is_sent = self.deny_identifier(slot, 0x70, packet_id);
        self.keeper.begin();
        is_sent
    }

    pub(super) fn send_pubrel(&mut self, slot: u32, packet_id: u16) {
        let pubrel = Packet::PubRel(Ack::new(packet_id, ReasonCode::SUCCESS));
        self.counts.pubrel_sent += u64::from(self.send_stored(slot, &pubrel));
    }

    fn on_pubcomp(&mut self, slot: u32, ack: &Ack<'_>) {
        self.counts.pubcomp_received += 1;
        let Some(seat) = self.seat_of(slot) else { return };
        match seat.session.outbound.on_pubcomp(ack.packet_id) {
            Settled::Yes => {
                self.counts.acks_completed += 1;
                self.pump_later(slot);
            }
            Settled::InUse => self.counts.pubcomp_inuse += 1,
            Settled::Missed => self.counts.pubcomp_missed += 1,
        }
    }

    /// PUBACK or PUBREC took a message off our hands.
    #[inline]
    fn on_settled(&mut self, slot: u32) {
        self.counts.messages_acked += 1;
        self.pump_later(slot);
    }

    fn on_disconnect(&mut self, slot: u32, disconnect: &Disconnect<'_>) -> End {
        self.counts.disconnect_received += 1;
        if let Some(expiry_s) = disconnect.properties.number(id::SESSION_EXPIRY_INTERVAL) {
            let cap_s = self.clients[slot as usize].connection.limits().session_expiry_max_s;
            let Some(seat) = self.seat_of(slot) else {
                return End::GOODBYE;
            };
            if !seat.is_expiry_asked && expiry_s > 0 {
                // Section 3.14.2.2.2.
                return Violation::protocol("DISCONNECT revives a session that ends with the connection").into();
            }
            // One that was asked for and not granted is not granted now either.
            seat.session.expiry_s = if seat.session.expiry_s == 0 { 0 } else { expiry_s.min(cap_s) };
        }
        if let Some(words) = disconnect.properties.text(id::REASON_STRING) {
            self.last_words = cut(words).into();
        }
        match disconnect.reason {
            ReasonCode::SUCCESS => End::GOODBYE,
            // Every other reason leaves the will in force [MQTT-3.14.4-3].
            reason => End { reason, ..End::WITH_WILL },
        }
    }

    /// Appends a packet to a connection's outbox; one that the client does not take is discarded [MQTT-3.1.2-24]. Whether
    /// it will be sent, for the packet's own counter.
    #[must_use]
    pub(super) fn send(&mut self, slot: u32, packet: &Packet<'_>) -> bool {
        let client = &mut self.clients[slot as usize];
        let (version, limit) = (client.connection.version(), client.connection.peer_max_packet_bytes() as usize);
        let tail = client.outbox.tail(&mut self.spares);
        let start = tail.len();
        encode::encode(tail, version, packet);
        if tail.len() - start > limit {
            tail.truncate(start);
            return false;
        }
        self.counts.packets_sent += 1;
        self.mark_dirty(slot);
        true
    }

    /// Tells the kernel which readiness of this socket matters now.
    pub(super) fn watch(&mut self, slot: u32) {
        let client = &self.clients[slot as usize];
        let mut flags = epoll::EventFlags::empty();
        flags.set(epoll::EventFlags::IN, !client.is_waiting() && client.has_room());
        flags.set(epoll::EventFlags::OUT, client.awaits_writable);
        let (fd, token) = (client.socket.fd(), Token::Client(slot, client.epoch).pack());
        // One that is not watched hung up while somebody was asked about it (`on_hung_up`), and may be read to its end now.
        if epoll::modify(&self.poll, fd, token, flags) == Err(Errno::NOENT) {
            let _ = epoll::add(&self.poll, fd, token, flags);
        }
    }
}
