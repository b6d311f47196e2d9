//! The conservation ledger: what came in is found again as what went out, waits, or was dropped for a reason.
//!
//! Knows the counters of one moment of each worker, and what its sessions hold at that moment, counted anew: a message that
//! left a queue without a word would show. Each [`Line`] is an identity that holds exactly between any two messages of a
//! worker, so the sums over workers hold exactly, too, whatever goes on meanwhile. It counts deliveries (one message for
//! one session), because that is what can be lost.
//!
//! Not part of it: taps, which have a bound and a counter of their own, and retained copies.

use crate::ledger::Counts;

/// All workers together, each at one moment.
#[derive(Clone, Default, Debug)]
pub struct Audit {
    pub(crate) counts: Counts,
    waiting: u64,
    inflight: u64,
}

/// Both sides of one identity, in named parts.
#[derive(Clone, Debug)]
pub struct Line {
    /// One word.
    pub name: &'static str,
    /// What came.
    pub came: Vec<(&'static str, u64)>,
    /// What became of it.
    pub became: Vec<(&'static str, u64)>,
}

impl Line {
    /// What came and is not found again; 0 in a broker without defects. Negative: more is found than came.
    pub fn missing(&self) -> i64 {
        let sum = |side: &[(&str, u64)]| side.iter().map(|(_, count)| *count as i64).sum::<i64>();
        sum(&self.came) - sum(&self.became)
    }
}

impl Audit {
    /// Adds what one session holds: messages that wait for their turn, and those that were sent and not acknowledged.
    pub(crate) fn add_held(&mut self, waiting: usize, inflight: usize) {
        self.waiting += waiting as u64;
        self.inflight += inflight as u64;
    }

    /// The identities.
    pub fn lines(&self) -> Vec<Line> {
        let to_the_session = [self.received(), self.routed(), self.handed_out()];
        let to_the_client = [self.deliveries(), self.acknowledgements(), self.moved()];
        to_the_session.into_iter().chain(to_the_client).collect()
    }

    /// Deliveries between two workers: posted and not yet taken. A look at each worker at another moment may be off by what
    /// moved between them; 0 when the broker is at rest.
    pub fn on_the_way(&self) -> i64 {
        self.counts.deliveries_posted as i64 - self.counts.deliveries_arrived as i64
    }

    /// PUBLISH packets of clients.
    fn received(&self) -> Line {
        let counts = &self.counts;
        Line {
            name: "received",
            came: vec![("messages.received", counts.messages_received)],
            became: vec![
                ("whimbrel.routed.clients", counts.routed_clients),
                ("packets.publish.inuse", counts.publish_inuse),
                ("packets.publish.dropped", counts.publish_dropped),
                ("whimbrel.publish.refused", counts.publish_refused),
            ],
        }
    }

    /// Messages that reached the routing table.
    fn routed(&self) -> Line {
        let counts = &self.counts;
        Line {
            name: "routed",
            came: vec![
                ("whimbrel.routed.clients", counts.routed_clients),
                ("whimbrel.routed.wills", counts.routed_wills),
                ("whimbrel.routed.inside", counts.routed_inside),
            ],
            became: vec![("messages.publish", counts.messages_publish), ("whimbrel.routed.sys", counts.routed_sys)],
        }
    }

    /// From the routing table to the worker that owns the session.
    fn handed_out(&self) -> Line {
        let counts = &self.counts;
        Line {
            name: "handed out",
            came: vec![
                ("whimbrel.deliveries.wanted", counts.deliveries_wanted),
                ("whimbrel.deliveries.offered_again", counts.deliveries_offered_again),
                ("whimbrel.deliveries.arrived", counts.deliveries_arrived),
            ],
            became: vec![
                ("whimbrel.deliveries.made", counts.deliveries_made),
                ("whimbrel.deliveries.posted", counts.deliveries_posted),
            ],
        }
    }

    /// Until a message is sent for the first time.
    fn deliveries(&self) -> Line {
        let counts = &self.counts;
        Line {
            name: "deliveries",
            came: vec![
                ("whimbrel.deliveries.made", counts.deliveries_made),
                ("whimbrel.deliveries.restored", counts.deliveries_restored),
            ],
            became: vec![
                ("messages.delivered", counts.messages_delivered),
                ("waiting in queues", self.waiting),
                ("delivery.dropped.no_local", counts.delivery_dropped_no_local),
                ("delivery.dropped.too_large", counts.delivery_dropped_too_large),
                ("delivery.dropped.qos0_msg", counts.delivery_dropped_qos0),
                ("delivery.dropped.queue_full", counts.delivery_dropped_queue_full),
                ("delivery.dropped.expired", counts.delivery_dropped_expired),
                ("delivery.dropped.session_ended", counts.delivery_dropped_session_ended),
                ("delivery.dropped.unreadable", counts.delivery_dropped_unreadable),
                ("whimbrel.deliveries.passed_over", counts.deliveries_passed_over),
                ("whimbrel.deliveries.moved", counts.deliveries_moved),
            ],
        }
    }

    /// Messages of groups on their way from one member to another.
    fn moved(&self) -> Line {
        let counts = &self.counts;
        Line {
            name: "moved",
            came: vec![
                ("whimbrel.deliveries.moved", counts.deliveries_moved),
                ("whimbrel.acks.moved", counts.acks_moved),
            ],
            became: vec![("whimbrel.deliveries.offered_again", counts.deliveries_offered_again)],
        }
    }

    /// From there to the end of its acknowledgement, for QoS 1 and 2.
    fn acknowledgements(&self) -> Line {
        let counts = &self.counts;
        Line {
            name: "acknowledgements",
            came: vec![
                ("whimbrel.acks.awaited", counts.acks_awaited),
                ("whimbrel.acks.restored", counts.acks_restored),
            ],
            became: vec![
                ("whimbrel.acks.completed", counts.acks_completed),
                ("in flight", self.inflight),
                ("whimbrel.acks.missing", counts.acks_missing),
                ("whimbrel.acks.moved", counts.acks_moved),
            ],
        }
    }
}
