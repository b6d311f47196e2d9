//! Messages that wait for the window or for an absent client: which leaves next, and which goes when there are too many.
//!
//! Knows an order by priority and arrival. Does not know windows, packet identifiers or how many may wait: [`Outbound`]
//! tells it.
//!
//! [`Outbound`]: super::Outbound

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use crate::packet::QoS;

use super::Delivery;
use super::grouped::Line;
use super::lane::{Lane, Load, Paging, Waiting};
use super::stubs::Stub;

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
    /// Whether messages have priorities.
    pub fn is_ranked(&self) -> bool {
        !self.priorities.is_empty()
    }

    /// Of messages to this topic.
    pub fn priority(&self, topic: &[u8]) -> u16 {
        if !self.is_ranked() {
            return self.default_priority;
        }
        let priority = std::str::from_utf8(topic).ok().and_then(|topic| self.priorities.get(topic));
        priority.copied().unwrap_or(self.default_priority)
    }
}

#[derive(Debug)]
enum Lanes {
    /// All in one line: nothing has a priority.
    One(Lane),
    /// A line for each priority that is present, the highest first; none is empty.
    Many(BTreeMap<Reverse<u16>, Lane>),
}

/// A queue that is emptied keeps room for so many messages and gives the rest back.
const KEPT_MAX: usize = 64;

/// The queue of one session; made when the first message must wait.
#[derive(Debug)]
pub(super) struct Queue {
    lanes: Lanes,
    load: Load,
    /// Whether a page was asked for and is not there yet.
    is_asked: bool,
}

impl Queue {
    pub(super) fn new(rules: Option<&QueueRules>) -> Queue {
        let is_ranked = rules.is_some_and(QueueRules::is_ranked);
        let lanes = if is_ranked { Lanes::Many(BTreeMap::new()) } else { Lanes::One(Lane::default()) };
        Queue { lanes, load: Load::default(), is_asked: false }
    }

    /// What is stored needs no body, as far as `paging` says.
    pub(super) fn push(&mut self, delivery: Delivery, rules: Option<&QueueRules>, paging: Paging) {
        let lane = match &mut self.lanes {
            Lanes::One(lane) => lane,
            Lanes::Many(lanes) => {
                let priority = rules.map_or(0, |rules| rules.priority(delivery.message.topic_bytes()));
                lanes.entry(Reverse(priority)).or_default()
            }
        };
        lane.push(delivery, &mut self.load, paging);
    }

    /// Only while no connection is there; the priority means nothing where messages have none. `share`: the group through
    /// which it came; 0: none.
    pub(super) fn push_stub(&mut self, stub: Stub, (priority, share): (u16, u32)) {
        let lane = match &mut self.lanes {
            Lanes::One(lane) => lane,
            Lanes::Many(lanes) => lanes.entry(Reverse(priority)).or_default(),
        };
        lane.push_stub(stub, share, &mut self.load);
    }

    /// All that wait, in the order in which they would leave, with their priorities.
    pub(super) fn empty(self, mut take: impl FnMut(Option<u16>, Waiting)) {
        match self.lanes {
            Lanes::One(lane) => lane.empty(|waiting| take(None, waiting)),
            Lanes::Many(lanes) => {
                lanes.into_iter().for_each(|(priority, lane)| lane.empty(|waiting| take(Some(priority.0), waiting)));
            }
        }
    }

    /// The QoS of the message that leaves next; None: it must be read first.
    pub(super) fn next_qos(&self) -> Option<QoS> {
        let lane = match &self.lanes {
            Lanes::One(lane) => lane,
            Lanes::Many(lanes) => lanes.values().next()?,
        };
        lane.front().map(|delivery| delivery.qos)
    }

    fn lanes_mut(&mut self) -> impl Iterator<Item = &mut Lane> {
        let (one, many) = match &mut self.lanes {
            Lanes::One(lane) => (Some(lane), None),
            Lanes::Many(lanes) => (None, Some(lanes)),
        };
        one.into_iter().chain(many.into_iter().flat_map(|lanes| lanes.values_mut()))
    }

    /// The messages whose bodies are in memory.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Delivery> {
        self.lanes_mut().flat_map(Lane::iter_mut)
    }

    pub(super) fn bytes(&self) -> usize {
        self.load.bytes
    }

    /// Does something to the lane that leaves next, or pays first, and to what it counts.
    fn with_lane<Taken>(
        &mut self,
        is_last: bool,
        act: impl FnOnce(&mut Lane, &mut Load) -> Option<Taken>,
    ) -> Option<Taken> {
        match &mut self.lanes {
            Lanes::One(lane) => act(lane, &mut self.load),
            Lanes::Many(lanes) => {
                let mut entry = if is_last { lanes.last_entry() } else { lanes.first_entry() }?;
                let taken = act(entry.get_mut(), &mut self.load);
                if entry.get().is_empty() {
                    entry.remove();
                }
                taken
            }
        }
    }

    /// Takes the oldest message of the highest priority; None also where it must be read first.
    pub(super) fn pop(&mut self) -> Option<Delivery> {
        self.with_lane(false, Lane::pop)
    }

    /// Takes the same if it has expired and was not read; its slot.
    pub(super) fn pop_expired(&mut self, now_ms: u64) -> Option<u64> {
        self.with_lane(false, |lane, load| lane.pop_expired(now_ms, load))
    }

    /// Takes out at most `max` messages of groups that are `wanted`, in the order in which they would leave.
    pub(super) fn take(&mut self, max: usize, wanted: &mut impl FnMut(&Delivery) -> bool) -> Vec<Delivery> {
        let mut taken = Vec::new();
        match &mut self.lanes {
            Lanes::One(lane) => lane.take(max, wanted, (&mut taken, &mut self.load)),
            Lanes::Many(lanes) => {
                lanes.values_mut().for_each(|lane| lane.take(max, wanted, (&mut taken, &mut self.load)));
                lanes.retain(|_, lane| !lane.is_empty());
            }
        }
        taken
    }

    /// Names, up to `max` in `slots`, messages of groups that are `wanted` and lie in the store; none while a page is on its
    /// way. The answer goes to `take_shared_stub`.
    pub(super) fn ask_shared(&mut self, max: usize, mut wanted: impl FnMut(u32) -> bool, slots: &mut Vec<u64>) {
        if self.is_asked {
            return;
        }
        self.lanes_mut().for_each(|lane| lane.name_shared(max, &mut wanted, slots));
        self.is_asked = !slots.is_empty();
    }

    /// Takes the message of a group that lies at `slot`, if it is still the first of its group; the group.
    pub(super) fn take_shared_stub(&mut self, slot: u64) -> Option<u32> {
        let mut load = self.load;
        let share = self.lanes_mut().find_map(|lane| lane.take_shared_stub(slot, &mut load));
        self.load = load;
        self.forget_empty();
        share
    }

    /// Takes all messages of groups that are `wanted` and lie in the store.
    pub(super) fn take_lines(&mut self, mut wanted: impl FnMut(u32) -> bool) -> Vec<(u32, Line)> {
        let mut load = self.load;
        let taken = self.lanes_mut().flat_map(|lane| lane.take_lines(&mut wanted, &mut load)).collect();
        self.load = load;
        self.forget_empty();
        taken
    }

    /// Whether messages of groups lie in the store.
    pub(super) fn has_grouped(&self) -> bool {
        match &self.lanes {
            Lanes::One(lane) => lane.has_grouped(),
            Lanes::Many(lanes) => lanes.values().any(Lane::has_grouped),
        }
    }

    fn forget_empty(&mut self) {
        if let Lanes::Many(lanes) = &mut self.lanes {
            lanes.retain(|_, lane| !lane.is_empty());
        }
    }

    /// There are too many: the lowest priority pays, with its oldest or its newest message; its slot.
    pub(super) fn evict(&mut self, rules: Option<&QueueRules>) -> Option<u64> {
        let drops_newest = rules.is_some_and(|rules| rules.drops_newest);
        self.with_lane(true, if drops_newest { Lane::drop_newest } else { Lane::drop_oldest })
    }

    /// Whether an empty queue holds more memory than it is worth keeping.
    pub(super) fn is_roomy(&self) -> bool {
        matches!(&self.lanes, Lanes::One(lane) if lane.capacity() > KEPT_MAX)
    }

    /// The connection is gone: what the store can give back it keeps alone.
    pub(super) fn page_out(&mut self, has_groups: bool) {
        let mut load = self.load;
        self.lanes_mut().for_each(|lane| lane.page_out(&mut load, has_groups));
        self.load = load;
    }

    /// Whether a page should be asked for now.
    #[inline]
    pub(super) fn wants_page(&self) -> bool {
        let wants = |lane: &Lane| lane.wants_page(&self.load);
        !self.is_asked
            && match &self.lanes {
                Lanes::One(lane) => wants(lane),
                Lanes::Many(lanes) => lanes.values().any(wants),
            }
    }

    /// Names the slots of the page that is to be read next, and the priority that they have.
    pub(super) fn ask(&mut self, slots: &mut Vec<u64>) -> u16 {
        let load = self.load;
        self.is_asked = true;
        let (priority, lane) = match &mut self.lanes {
            Lanes::One(lane) => (0, lane),
            Lanes::Many(lanes) => match lanes.iter_mut().find(|(_, lane)| lane.wants_page(&load)) {
                Some((priority, lane)) => (priority.0, lane),
                None => return 0,
            },
        };
        lane.next_page(slots);
        priority
    }

    /// The page that was asked for is there.
    pub(super) fn note_answer(&mut self) {
        self.is_asked = false;
    }

    fn lane(&mut self, priority: u16) -> Option<&mut Lane> {
        match &mut self.lanes {
            Lanes::One(lane) => Some(lane),
            Lanes::Many(lanes) => lanes.get_mut(&Reverse(priority)),
        }
    }

    /// The first message of this priority whose body is not in memory.
    pub(super) fn first_stub(&mut self, priority: u16) -> Option<Stub> {
        self.lane(priority)?.first_stub()
    }

    /// Its body.
    pub(super) fn fill(&mut self, priority: u16, delivery: Delivery) {
        let mut load = self.load;
        if let Some(lane) = self.lane(priority) {
            lane.fill(delivery, &mut load);
        }
        self.load = load;
    }

    /// Takes it, because there is no body; its slot.
    pub(super) fn lose(&mut self, priority: u16) -> Option<u64> {
        let mut load = self.load;
        let slot = self.lane(priority)?.pop_stub(&mut load);
        self.load = load;
        self.forget_empty();
        slot
    }

    /// Takes all messages whose bodies are not in memory; their slots.
    pub(super) fn drop_stubs(&mut self, mut take: impl FnMut(u64)) {
        let mut load = self.load;
        for lane in self.lanes_mut() {
            while let Some(slot) = lane.pop_stub(&mut load) {
                take(slot);
            }
        }
        self.load = load;
    }
}
