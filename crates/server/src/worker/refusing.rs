//! Answers that tell of a failure: PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK and UNSUBACK with a reason in words, where the
//! client's version and its Request Problem Information allow it (MQTT 5.0 section 3.1.2.11.7).
//!
//! Knows who is told what. What fits into the client's packets, the connection knows. Nothing here is on the way of a
//! message that is accepted.

use whimbrel_protocol::connection::Answered;
use whimbrel_protocol::packet::{Ack, Publish, SubAck};
use whimbrel_protocol::{QoS, ReasonCode, Violation};

use super::Worker;
use super::client::End;
use crate::answer::Answer;

const TOO_LONG: Violation =
    Violation::new(ReasonCode::PACKET_TOO_LARGE, "SUBACK or UNSUBACK longer than the client takes");
/// Filters whose refusal is told in words; the codes tell of the others.
const FILTERS_TOLD: usize = 8;

impl Worker {
    /// PUBACK or PUBREC that refuses a message. A 3.x client gets its acknowledgement all the same.
    #[cold]
    pub(super) fn refuse_message(&mut self, slot: u32, publish: &Publish<'_>, answer: &Answer) {
        let first = match publish.qos {
            QoS::AtMostOnce => return,
            QoS::AtLeastOnce => 0x40,
            QoS::ExactlyOnce => 0x50,
        };
        let ack = Ack::new(publish.packet_id, answer.reason);
        if self.answer(slot, &Answered::Ack(first, ack), answer.told()) {
            self.counts.puback_sent += u64::from(first == 0x40);
            self.counts.pubrec_sent += u64::from(first == 0x50);
            self.counts.publish_error += 1;
            self.counts.publish_auth_error += u64::from(answer.reason == ReasonCode::NOT_AUTHORIZED);
        }
    }

    /// PUBREL or PUBCOMP for an identifier that is not in use here; whether the client takes it.
    #[cold]
    pub(super) fn deny_identifier(&mut self, slot: u32, first: u8, packet_id: u16) -> bool {
        let ack = Ack::new(packet_id, ReasonCode::PACKET_IDENTIFIER_NOT_FOUND);
        self.answer(slot, &Answered::Ack(first, ack), "no message with this identifier is open")
    }

    /// Whether it will be sent, for the packet's own counter.
    fn answer(&mut self, slot: u32, answered: &Answered<'_>, words: &str) -> bool {
        let client = &mut self.clients[slot as usize];
        if self.keeper.has_written() || client.held > 0 {
            return self.answer_held(slot, answered, words);
        }
        let is_sent = client.connection.put_answer(client.outbox.tail(&mut self.spares), answered, words);
        if is_sent {
            self.counts.packets_sent += 1;
            self.mark_dirty(slot);
        }
        is_sent
    }

    /// Whether the client takes a SUBACK or UNSUBACK with so many codes. It waits for one, and must not be sent one that is
    /// too long [MQTT-3.1.2-24]: what it asked for cannot be had, and it is told so before anything has changed.
    pub(super) fn check_codes_fit(&self, slot: u32, count: usize) -> Result<(), End> {
        if self.clients[slot as usize].connection.takes_codes(count) { Ok(()) } else { Err(TOO_LONG.into()) }
    }

    pub(super) fn send_suback(&mut self, slot: u32, suback: &SubAck<'_>, refusals: &Refusals<'_>) {
        let is_sent = self.answer(slot, &Answered::SubAck(suback), &refusals.words());
        self.counts.suback_sent += u64::from(is_sent);
    }

    pub(super) fn send_unsuback(&mut self, slot: u32, unsuback: &SubAck<'_>, refusals: &Refusals<'_>) {
        let is_sent = self.answer(slot, &Answered::UnsubAck(unsuback), &refusals.words());
        self.counts.unsuback_sent += u64::from(is_sent);
    }
}

/// What is told of the filters of one packet that were refused.
#[derive(Default)]
pub(super) struct Refusals<'a>(Vec<(usize, &'a str)>);

impl<'a> Refusals<'a> {
    /// Of the filter at `place`, counted from 0.
    pub(super) fn add(&mut self, place: usize, words: &'a str) {
        if self.0.len() < FILTERS_TOLD {
            self.0.push((place + 1, words));
        }
    }

    /// One sentence a filter.
    fn words(&self) -> String {
        let each: Vec<String> = self.0.iter().map(|(number, words)| format!("filter {number}: {words}")).collect();
        each.join("; ")
    }
}
