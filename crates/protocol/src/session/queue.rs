//! Messages that wait for the window or for an absent client: which leaves next, and which goes when there are too many.
//!
//! Knows an order by priority and arrival. Does not know windows, packet identifiers or how many may wait: [`Outbound`]
//! tells it.
//!
//! [`Outbound`]: super::Outbound

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::message::Message;
use crate::packet::QoS;

use super::Delivery;

/// How a zone's queues differ from the usual: first in, first out, the oldest goes, QoS 0 never waits.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct QueueRules {
    /// Whether the newest message goes when there are too many, instead of the oldest.
    pub drops_newest: bool,
    /// Whether QoS 0 messages wait for an absent client, too.
    pub stores_qos0: bool,
    /// Bytes that may wait for an absent client, as the messages count them; beyond it messages go as if there were too
    /// many. 0: no limit.
    pub max_bytes: usize,
    /// By topic, 1 to 255; a higher one leaves first. Empty: no message has a priority.
    pub priorities: HashMap<Box<str>, u16>,
    /// Of all other topics: 0 or 256.
    pub default_priority: u16,
}

impl QueueRules {
    fn priority(&self, message: &Message) -> u16 {
        let priority = std::str::from_utf8(message.topic_bytes()).ok().and_then(|topic| self.priorities.get(topic));
        priority.copied().unwrap_or(self.default_priority)
    }
}

#[derive(Debug)]
enum Lanes {
    /// All in one line: nothing has a priority.
    One(VecDeque<Delivery>),
    /// A line for each priority that is present, the highest first; none is empty.
    Many(BTreeMap<Reverse<u16>, VecDeque<Delivery>>),
}

/// A queue that is emptied keeps room for so many messages and gives the rest back.
const KEPT_MAX: usize = 64;

/// The queue of one session; made when the first message must wait.
#[derive(Debug)]
pub(super) struct Queue {
    lanes: Lanes,
    /// Of all messages that wait here; one that waits elsewhere, too, counts in each.
    bytes: usize,
}

impl Queue {
    pub(super) fn new(rules: Option<&QueueRules>) -> Queue {
        let is_ranked = rules.is_some_and(|rules| !rules.priorities.is_empty());
        let lanes = if is_ranked { Lanes::Many(BTreeMap::new()) } else { Lanes::One(VecDeque::new()) };
        Queue { lanes, bytes: 0 }
    }

    pub(super) fn push(&mut self, delivery: Delivery, rules: Option<&QueueRules>) {
        self.bytes += delivery.message.size_bytes();
        match &mut self.lanes {
            Lanes::One(lane) => lane.push_back(delivery),
            Lanes::Many(lanes) => {
                let priority = rules.map_or(0, |rules| rules.priority(&delivery.message));
                lanes.entry(Reverse(priority)).or_default().push_back(delivery);
            }
        }
    }

    /// The QoS of the message that leaves next.
    pub(super) fn next_qos(&self) -> Option<QoS> {
        let lane = match &self.lanes {
            Lanes::One(lane) => lane,
            Lanes::Many(lanes) => lanes.values().next()?,
        };
        lane.front().map(|delivery| delivery.qos)
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes the oldest message of the highest priority.
    pub(super) fn pop(&mut self) -> Option<Delivery> {
        let delivery = match &mut self.lanes {
            Lanes::One(lane) => lane.pop_front(),
            Lanes::Many(lanes) => {
                let mut first = lanes.first_entry()?;
                let delivery = first.get_mut().pop_front();
                if first.get().is_empty() {
                    first.remove();
                }
                delivery
            }
        }?;
        self.bytes -= delivery.message.size_bytes();
        Some(delivery)
    }

    /// Takes out at most `max` messages that are `wanted`, in the order in which they would leave.
    pub(super) fn take(&mut self, max: usize, wanted: &mut impl FnMut(&Delivery) -> bool) -> Vec<Delivery> {
        let mut taken = Vec::new();
        match &mut self.lanes {
            Lanes::One(lane) => take_from(lane, max, wanted, &mut taken),
            Lanes::Many(lanes) => {
                lanes.values_mut().for_each(|lane| take_from(lane, max, wanted, &mut taken));
                lanes.retain(|_, lane| !lane.is_empty());
            }
        }
        self.bytes -= taken.iter().map(|delivery| delivery.message.size_bytes()).sum::<usize>();
        taken
    }

    /// There are too many: the lowest priority pays, with its oldest or its newest message.
    pub(super) fn evict(&mut self, rules: Option<&QueueRules>) -> Option<Delivery> {
        let drops_newest = rules.is_some_and(|rules| rules.drops_newest);
        let take = |lane: &mut VecDeque<Delivery>| if drops_newest { lane.pop_back() } else { lane.pop_front() };
        let delivery = match &mut self.lanes {
            Lanes::One(lane) => take(lane),
            Lanes::Many(lanes) => {
                let mut last = lanes.last_entry()?;
                let delivery = take(last.get_mut());
                if last.get().is_empty() {
                    last.remove();
                }
                delivery
            }
        }?;
        self.bytes -= delivery.message.size_bytes();
        Some(delivery)
    }

    /// Whether an empty queue holds more memory than it is worth keeping.
    pub(super) fn is_roomy(&self) -> bool {
        matches!(&self.lanes, Lanes::One(lane) if lane.capacity() > KEPT_MAX)
    }
}

/// Adds to `taken`, up to `max` in all. Where the wanted ones stand in front it costs what is taken; a lane that is mixed, or
/// of which nothing is wanted, is looked through.
fn take_from(
    lane: &mut VecDeque<Delivery>,
    max: usize,
    wanted: &mut impl FnMut(&Delivery) -> bool,
    taken: &mut Vec<Delivery>,
) {
    while taken.len() < max && lane.front().is_some_and(&mut *wanted) {
        taken.extend(lane.pop_front());
    }
    if taken.len() < max {
        lane.retain(|delivery| {
            let is_taken = taken.len() < max && wanted(delivery);
            taken.extend(is_taken.then(|| delivery.clone()));
            !is_taken
        });
    }
}
