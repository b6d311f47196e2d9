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

#[derive(Clone, Copy, Debug)]
struct Awaiting {
    packet_id: u16,
    since_s: u32, // rounded up, so that nothing ends early
}

/// The receiving half of a session.
#[derive(Debug)]
pub struct Inbound {
    #[allow(clippy::box_collection, reason = "most clients never send QoS 2: 8 bytes instead of 32")]
    awaiting_rel: Option<Box<VecDeque<Awaiting>>>, // sorted by identifier, so that the usual rising order appends
    awaiting_rel_max: u16,
}

impl Inbound {
    /// Nothing received.
    pub fn new(awaiting_rel_max: u16) -> Inbound {
        Inbound { awaiting_rel: None, awaiting_rel_max }
    }

    /// A connection is there: at most `awaiting_rel_max` messages may wait for their PUBREL from now on.
    pub fn attach(&mut self, awaiting_rel_max: u16) {
        self.awaiting_rel_max = awaiting_rel_max;
    }

    /// A PUBLISH came in at `now_ms`, a monotonic time.
    #[inline]
    pub fn on_publish(&mut self, qos: QoS, packet_id: u16, now_ms: u64) -> Accepted {
        if qos != QoS::ExactlyOnce {
            return Accepted::Route;
        }
        match self.find(packet_id) {
            // Occupied until PUBREL: before that, the same identifier is the same message [MQTT-4.3.3-10].
            Ok(_) => Accepted::Duplicate,
            Err(_) if self.awaiting_rel_count() >= usize::from(self.awaiting_rel_max) => {
                Accepted::Refused(ReasonCode::QUOTA_EXCEEDED)
            }
            Err(place) => {
                let since_s = now_ms.div_ceil(1000) as u32;
                self.awaiting_rel.get_or_insert_default().insert(place, Awaiting { packet_id, since_s });
                Accepted::Route
            }
        }
    }

    fn find(&self, packet_id: u16) -> Result<usize, usize> {
        match &self.awaiting_rel {
            None => Err(0),
            Some(awaiting_rel) => awaiting_rel.binary_search_by_key(&packet_id, |awaiting| awaiting.packet_id),
        }
    }

    /// The client is back: time counts from `now_ms` on, because a client that is away cannot send PUBREL.
    pub fn restart_clocks(&mut self, now_ms: u64) {
        let since_s = now_ms.div_ceil(1000) as u32;
        self.awaiting_rel.iter_mut().flat_map(|all| all.iter_mut()).for_each(|awaiting| awaiting.since_s = since_s);
    }

    /// Frees the identifiers that have waited for `timeout_s` seconds; returns how many. A second late at most.
    pub fn expire(&mut self, now_ms: u64, timeout_s: u32) -> usize {
        let before = self.awaiting_rel_count();
        let now_s = (now_ms / 1000) as u32;
        if let Some(awaiting_rel) = &mut self.awaiting_rel {
            awaiting_rel.retain(|awaiting| now_s.saturating_sub(awaiting.since_s) < timeout_s);
        }
        before - self.awaiting_rel_count()
    }

    /// When `expire` will find something.
    pub fn next_expiry_ms(&self, timeout_s: u32) -> Option<u64> {
        let oldest_s = self.awaiting_rel.as_ref()?.iter().map(|awaiting| awaiting.since_s).min()?;
        Some((u64::from(oldest_s) + u64::from(timeout_s)) * 1000)
    }

    /// A PUBREL came in; the reason is that of the PUBCOMP to send [MQTT-4.3.3-11].
    pub fn on_pubrel(&mut self, packet_id: u16) -> ReasonCode {
        match (self.find(packet_id), &mut self.awaiting_rel) {
            (Ok(place), Some(awaiting_rel)) => {
                awaiting_rel.remove(place);
                ReasonCode::SUCCESS
            }
            _ => ReasonCode::PACKET_IDENTIFIER_NOT_FOUND,
        }
    }

    /// Whether a QoS 2 message with this identifier was taken and waits for its PUBREL: the next PUBLISH with it is the same
    /// message, about which everything is decided.
    pub fn holds(&self, packet_id: u16) -> bool {
        self.find(packet_id).is_ok()
    }

    /// QoS 2 messages that wait for PUBREL.
    pub fn awaiting_rel_count(&self) -> usize {
        self.awaiting_rel.as_ref().map_or(0, |awaiting_rel| awaiting_rel.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_qos_2_identifier_is_one_message_until_pubrel() {
        let mut inbound = Inbound::new(10);
        assert_eq!(inbound.on_publish(QoS::ExactlyOnce, 7, 0), Accepted::Route);
        assert_eq!(inbound.on_publish(QoS::ExactlyOnce, 7, 0), Accepted::Duplicate);
        assert_eq!(inbound.on_pubrel(7), ReasonCode::SUCCESS);
        assert_eq!(inbound.on_pubrel(7), ReasonCode::PACKET_IDENTIFIER_NOT_FOUND);
        assert_eq!(inbound.on_publish(QoS::ExactlyOnce, 7, 0), Accepted::Route);
    }

    #[test]
    fn awaiting_rel_is_bounded_and_refuses_with_quota_exceeded() {
        let mut inbound = Inbound::new(2);
        for packet_id in [65_535, 1] {
            assert_eq!(inbound.on_publish(QoS::ExactlyOnce, packet_id, 0), Accepted::Route);
        }
        let refused = Accepted::Refused(ReasonCode::QUOTA_EXCEEDED);
        assert_eq!(inbound.on_publish(QoS::ExactlyOnce, 2, 0), refused);
        assert_eq!(inbound.awaiting_rel_count(), 2);
    }

    #[test]
    fn qos_0_and_1_leave_no_trace() {
        let mut inbound = Inbound::new(1);
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::AtLeastOnce] {
            assert_eq!(inbound.on_publish(qos, 1, 0), Accepted::Route);
        }
        assert_eq!(inbound.awaiting_rel_count(), 0);
    }

    #[test]
    fn an_identifier_waits_for_its_timeout_and_is_free_then() {
        let mut inbound = Inbound::new(10);
        inbound.on_publish(QoS::ExactlyOnce, 7, 1_500);
        inbound.on_publish(QoS::ExactlyOnce, 3, 60_000);
        assert_eq!(inbound.next_expiry_ms(300), Some(302_000));
        assert_eq!(inbound.expire(301_500, 300), 0, "never early");
        assert_eq!(inbound.expire(302_000, 300), 1);
        assert_eq!(inbound.on_pubrel(7), ReasonCode::PACKET_IDENTIFIER_NOT_FOUND);
        assert_eq!(inbound.next_expiry_ms(300), Some(360_000));
        assert_eq!(inbound.on_pubrel(3), ReasonCode::SUCCESS);
        assert_eq!(inbound.next_expiry_ms(300), None);
    }

    #[test]
    fn time_does_not_count_while_the_client_is_away() {
        let mut inbound = Inbound::new(10);
        inbound.on_publish(QoS::ExactlyOnce, 7, 0);
        inbound.restart_clocks(1_000_000);
        assert_eq!(inbound.expire(1_299_999, 300), 0);
        assert_eq!(inbound.on_publish(QoS::ExactlyOnce, 7, 1_299_999), Accepted::Duplicate);
        assert_eq!(inbound.expire(1_300_000, 300), 1);
    }
}
