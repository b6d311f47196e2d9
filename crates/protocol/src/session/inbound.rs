//! Messages from the client: which to route, which to acknowledge (section 4.3).
//!
//! Knows the packet identifiers of QoS 2 messages between PUBLISH and PUBREL. Does not know the messages themselves.

use std::collections::VecDeque;

use crate::packet::QoS;
use crate::reason::ReasonCode;

/// What to do with a PUBLISH.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Accepted {
    /// Route it; then acknowledge it (QoS 1: PUBACK, QoS 2: PUBREC).
    Route,
    /// Routed before; only acknowledge it again.
    Duplicate,
    /// Neither; the acknowledgement carries the reason.
    Refused(ReasonCode),
}

/// The receiving half of a session.
#[derive(Debug)]
pub struct Inbound {
    awaiting_rel: VecDeque<u16>, // sorted, so that the usual rising order appends
    awaiting_rel_max: u16,
}

impl Inbound {
    /// Nothing received.
    pub fn new(awaiting_rel_max: u16) -> Inbound {
        Inbound { awaiting_rel: VecDeque::new(), awaiting_rel_max }
    }

    /// A connection is there: at most `awaiting_rel_max` messages may wait for their PUBREL from now on.
    pub fn attach(&mut self, awaiting_rel_max: u16) {
        self.awaiting_rel_max = awaiting_rel_max;
    }

    /// A PUBLISH came in.
    #[inline]
    pub fn on_publish(&mut self, qos: QoS, packet_id: u16) -> Accepted {
        if qos != QoS::ExactlyOnce {
            return Accepted::Route;
        }
        match self.awaiting_rel.binary_search(&packet_id) {
            // Occupied until PUBREL: before that, the same identifier is the same message [MQTT-4.3.3-10].
            Ok(_) => Accepted::Duplicate,
            Err(_) if self.awaiting_rel.len() >= usize::from(self.awaiting_rel_max) => {
                Accepted::Refused(ReasonCode::QUOTA_EXCEEDED)
            }
            Err(place) => {
                self.awaiting_rel.insert(place, packet_id);
                Accepted::Route
            }
        }
    }

    /// A PUBREL came in; the reason is that of the PUBCOMP to send [MQTT-4.3.3-11].
    pub fn on_pubrel(&mut self, packet_id: u16) -> ReasonCode {
        match self.awaiting_rel.binary_search(&packet_id) {
            Ok(place) => {
                self.awaiting_rel.remove(place);
                ReasonCode::SUCCESS
            }
            Err(_) => ReasonCode::PACKET_IDENTIFIER_NOT_FOUND,
        }
    }

    /// A PUBLISH that was accepted is refused after all (a verdict, a full store): its identifier is free again.
    pub fn forget(&mut self, packet_id: u16) {
        self.on_pubrel(packet_id);
    }

    /// QoS 2 messages that wait for PUBREL.
    pub fn awaiting_rel_count(&self) -> usize {
        self.awaiting_rel.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_qos_2_identifier_is_one_message_until_pubrel() {
        let mut inbound = Inbound::new(10);
        assert_eq!(inbound.on_publish(QoS::ExactlyOnce, 7), Accepted::Route);
        assert_eq!(inbound.on_publish(QoS::ExactlyOnce, 7), Accepted::Duplicate);
        assert_eq!(inbound.on_pubrel(7), ReasonCode::SUCCESS);
        assert_eq!(inbound.on_pubrel(7), ReasonCode::PACKET_IDENTIFIER_NOT_FOUND);
        assert_eq!(inbound.on_publish(QoS::ExactlyOnce, 7), Accepted::Route);
    }

    #[test]
    fn awaiting_rel_is_bounded_and_refuses_with_quota_exceeded() {
        let mut inbound = Inbound::new(2);
        for packet_id in [65_535, 1] {
            assert_eq!(inbound.on_publish(QoS::ExactlyOnce, packet_id), Accepted::Route);
        }
        let refused = Accepted::Refused(ReasonCode::QUOTA_EXCEEDED);
        assert_eq!(inbound.on_publish(QoS::ExactlyOnce, 2), refused);
        assert_eq!(inbound.awaiting_rel_count(), 2);
    }

    #[test]
    fn qos_0_and_1_leave_no_trace() {
        let mut inbound = Inbound::new(1);
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::AtLeastOnce] {
            assert_eq!(inbound.on_publish(qos, 1), Accepted::Route);
        }
        assert_eq!(inbound.awaiting_rel_count(), 0);
    }
}
