//! A long line of messages whose bodies lie in the store, a few bytes each.
//!
//! Knows what a queue must know of a message without its body: slot, size, QoS, expiry. Must not know what a slot means beyond
//! this: the upper 8 bits name who counts, and each counts upwards. The two ends of the line are plain; what lies between
//! is packed in blocks, each stub told by how it differs from the one before.

use std::collections::VecDeque;

use crate::packet::QoS;

/// Of a message that never expires.
pub const NEVER_MS: u64 = u64::MAX;

/// A message in the store that waits in a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stub {
    /// Names it in the store; 0 keeps the place of a message that is not stored.
    pub slot: u64,
    /// When its expiry interval elapses, on the clock of `Origin::received_ms`; [`NEVER_MS`]: never.
    pub expires_ms: u64,
    /// What it counts in the queue; bytes.
    pub size: u32,
    /// QoS of the delivery; never 0 where there is a slot.
    pub qos: QoS,
}

/// Stubs in one block.
const BLOCK: usize = 128;

/// The line.
#[derive(Default, Debug)]
pub struct Stubs {
    head: VecDeque<Stub>,
    packed: VecDeque<Box<[u8]>>,
    tail: Vec<Stub>,
}

impl Stubs {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.head.is_empty() && self.packed.is_empty() && self.tail.is_empty()
    }

    /// Behind all others.
    pub fn push_back(&mut self, stub: Stub) {
        self.tail.push(stub);
        if self.tail.len() == BLOCK {
            self.packed.push_back(pack(&self.tail));
            self.tail.clear();
        }
    }

    /// Before all others; many of them are followed by `settle`.
    pub fn push_front(&mut self, stub: Stub) {
        self.head.push_front(stub);
    }

    /// The first.
    pub fn front(&mut self) -> Option<Stub> {
        self.first(1).next().copied()
    }

    /// Takes the first.
    pub fn pop_front(&mut self) -> Option<Stub> {
        self.open_up(1);
        self.head.pop_front()
    }

    /// Takes the last.
    pub fn pop_back(&mut self) -> Option<Stub> {
        if self.tail.is_empty()
            && let Some(block) = self.packed.pop_back()
        {
            self.tail.extend(unpack(&block));
        }
        self.tail.pop().or_else(|| self.head.pop_back())
    }

    /// At most `count` from the first on.
    pub fn first(&mut self, count: usize) -> impl Iterator<Item = &Stub> {
        self.open_up(count);
        self.head.iter().take(count)
    }

    /// Makes `count` of them plain, if there are so many.
    fn open_up(&mut self, count: usize) {
        while self.head.len() < count {
            match self.packed.pop_front() {
                Some(block) => self.head.extend(unpack(&block)),
                None if self.tail.is_empty() => return,
                None => self.head.extend(std::mem::take(&mut self.tail)),
            }
        }
    }

    /// Nothing is taken from the front for a while: it needs no room.
    pub fn settle(&mut self) {
        let head = std::mem::take(&mut self.head);
        if head.len() <= BLOCK {
            self.head = head;
            return self.head.shrink_to_fit();
        }
        let head: Vec<Stub> = head.into();
        head.chunks(BLOCK).rev().for_each(|block| self.packed.push_front(pack(block)));
    }

    #[cfg(test)]
    fn bytes(&self) -> usize {
        let plain = (self.head.capacity() + self.tail.capacity()) * size_of::<Stub>();
        plain + self.packed.iter().map(|block| block.len() + 32).sum::<usize>()
    }
}

impl Extend<Stub> for Stubs {
    fn extend<Line: IntoIterator<Item = Stub>>(&mut self, stubs: Line) {
        stubs.into_iter().for_each(|stub| self.push_back(stub));
    }
}

// The first byte of a packed stub: its QoS and what else follows, in this order.
const QOS: u8 = 3;
const OTHER_COUNTER: u8 = 4; // upper byte of the slot, where it is not that of the stub before
const OTHER_STEP: u8 = 8; // distance to the last slot of the same counter, where it is not the one before
const OTHER_SIZE: u8 = 16;
const OTHER_EXPIRY: u8 = 32; // distance to the last expiry
const NO_EXPIRY: u8 = 64;

/// What the next stub is compared with.
struct Before {
    counters: Vec<Counter>,
    counter: u8,
    expires_ms: u64,
    size: u32,
}

struct Counter {
    name: u8,
    last: u64,
    step: u64,
}

impl Before {
    fn new() -> Before {
        Before { counters: Vec::new(), counter: 0, expires_ms: 0, size: 0 }
    }

    fn counter(&mut self, name: u8) -> &mut Counter {
        self.counter = name;
        let known = self.counters.iter().position(|counter| counter.name == name);
        let place = known.unwrap_or_else(|| {
            self.counters.push(Counter { name, last: u64::from(name) << 56, step: 0 });
            self.counters.len() - 1
        });
        &mut self.counters[place]
    }

    fn put(&mut self, out: &mut Vec<u8>, stub: &Stub) {
        let at = out.len();
        let mut flags = stub.qos as u8;
        out.push(0);
        let name = (stub.slot >> 56) as u8;
        if name != self.counter {
            flags |= OTHER_COUNTER;
            out.push(name);
        }
        let counter = self.counter(name);
        let step = stub.slot.wrapping_sub(counter.last);
        if step != counter.step {
            flags |= OTHER_STEP;
            put_number(out, zigzag(step));
        }
        (counter.last, counter.step) = (stub.slot, step);
        if stub.size != self.size {
            flags |= OTHER_SIZE;
            put_number(out, u64::from(stub.size));
            self.size = stub.size;
        }
        if stub.expires_ms == NEVER_MS {
            flags |= NO_EXPIRY;
        } else if stub.expires_ms != self.expires_ms {
            flags |= OTHER_EXPIRY;
            put_number(out, zigzag(stub.expires_ms.wrapping_sub(self.expires_ms)));
            self.expires_ms = stub.expires_ms;
        }
        out[at] = flags;
    }

    fn take(&mut self, rest: &mut &[u8]) -> Option<Stub> {
        let flags = *rest.split_off_first()?;
        let name = if flags & OTHER_COUNTER != 0 { *rest.split_off_first()? } else { self.counter };
        let counter = self.counter(name);
        if flags & OTHER_STEP != 0 {
            counter.step = unzigzag(take_number(rest)?);
        }
        counter.last = counter.last.wrapping_add(counter.step);
        let slot = counter.last;
        if flags & OTHER_SIZE != 0 {
            self.size = take_number(rest)? as u32;
        }
        if flags & OTHER_EXPIRY != 0 {
            self.expires_ms = self.expires_ms.wrapping_add(unzigzag(take_number(rest)?));
        }
        let expires_ms = if flags & NO_EXPIRY != 0 { NEVER_MS } else { self.expires_ms };
        Some(Stub { slot, expires_ms, size: self.size, qos: QoS::from_bits(flags & QOS)? })
    }
}

fn pack(stubs: &[Stub]) -> Box<[u8]> {
    let mut out = Vec::with_capacity(4 * stubs.len());
    let mut before = Before::new();
    stubs.iter().for_each(|stub| before.put(&mut out, stub));
    out.into_boxed_slice()
}

fn unpack(mut block: &[u8]) -> impl Iterator<Item = Stub> + '_ {
    let mut before = Before::new();
    std::iter::from_fn(move || before.take(&mut block))
}

/// A distance that may be negative, as a small number if it is short either way.
fn zigzag(distance: u64) -> u64 {
    (distance << 1) ^ (((distance as i64) >> 63) as u64)
}

fn unzigzag(number: u64) -> u64 {
    (number >> 1) ^ (number & 1).wrapping_neg()
}

fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 128 {
        out.push(number as u8 | 128);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take_number(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = *rest.split_off_first()?;
        number |= u64::from(byte & 127) << shift;
        if byte < 128 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stub(slot: u64) -> Stub {
        Stub { slot, expires_ms: NEVER_MS, size: 200, qos: QoS::AtLeastOnce }
    }

    #[test]
    fn a_million_messages_of_two_counters_take_two_bytes_each() {
        let mut stubs = Stubs::default();
        stubs.extend((1..=500_000).flat_map(|count| [stub(count), stub(3 << 56 | (5 * count))]));
        assert!(stubs.bytes() < 2_600_000, "{}", stubs.bytes());
        assert_eq!(std::iter::from_fn(|| stubs.pop_front()).count(), 1_000_000);
    }

    #[test]
    fn what_is_put_in_front_needs_no_room_once_it_is_settled() {
        let mut stubs = Stubs::default();
        stubs.extend((5_001..=6_000).map(stub));
        (1..=5_000).rev().for_each(|slot| stubs.push_front(stub(slot)));
        stubs.settle();
        assert!(stubs.bytes() < 20_000, "{}", stubs.bytes());
        let slots: Vec<u64> = std::iter::from_fn(|| stubs.pop_front()).map(|stub| stub.slot).collect();
        assert_eq!(slots, (1..=6_000).collect::<Vec<_>>());
    }

    fn any_stub() -> impl Strategy<Value = Stub> {
        let slot = prop_oneof![0..1000_u64, any::<u64>(), (7 << 56)..(7 << 56) + 300_u64];
        let expires_ms = prop_oneof![Just(NEVER_MS), 0..100_000_u64, any::<u64>()];
        let qos = prop_oneof![Just(QoS::AtMostOnce), Just(QoS::AtLeastOnce), Just(QoS::ExactlyOnce)];
        (slot, expires_ms, prop_oneof![Just(64), any::<u32>()], qos).prop_map(|(slot, expires_ms, size, qos)| Stub {
            slot,
            expires_ms,
            size,
            qos,
        })
    }

    #[derive(Clone, Debug)]
    enum Step {
        Back(Vec<Stub>),
        Front(Stub),
        PopFront(usize),
        PopBack(usize),
        First(usize),
        Settle,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            prop::collection::vec(any_stub(), 0..300).prop_map(Step::Back),
            any_stub().prop_map(Step::Front),
            (0..200_usize).prop_map(Step::PopFront),
            (0..200_usize).prop_map(Step::PopBack),
            (0..400_usize).prop_map(Step::First),
            Just(Step::Settle),
        ]
    }

    proptest! {
        /// Against a plain line.
        #[test]
        fn a_packed_line_is_a_line(steps in prop::collection::vec(step(), 0..40)) {
            let (mut stubs, mut line) = (Stubs::default(), VecDeque::new());
            for step in steps {
                match step {
                    Step::Back(more) => {
                        stubs.extend(more.iter().copied());
                        line.extend(more);
                    }
                    Step::Front(stub) => {
                        stubs.push_front(stub);
                        line.push_front(stub);
                    }
                    Step::PopFront(count) => {
                        (0..count).for_each(|_| assert_eq!(stubs.pop_front(), line.pop_front()));
                    }
                    Step::PopBack(count) => {
                        (0..count).for_each(|_| assert_eq!(stubs.pop_back(), line.pop_back()));
                    }
                    Step::First(count) => prop_assert!(stubs.first(count).eq(line.iter().take(count))),
                    Step::Settle => stubs.settle(),
                }
                prop_assert_eq!(stubs.is_empty(), line.is_empty());
                prop_assert_eq!(stubs.front(), line.front().copied());
            }
        }
    }
}
