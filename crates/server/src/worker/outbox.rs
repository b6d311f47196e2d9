//! The unsent bytes of one connection.
//!
//! Knows bytes in order, and large payloads that are shared with other outboxes instead of copied. Small packets lie in
//! one buffer, so that a turn ends with one plain write; only shared payloads make it a vectored one. Buffers are lent by
//! the worker and given back when they are empty: an idle connection holds none.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;

use whimbrel_protocol::Message;

use crate::socket::Moved;
use crate::transport::Transport;

/// Payloads of at least so many bytes are shared, not copied.
pub(super) const SHARED_MIN_BYTES: usize = 16 * 1024;
/// Sent bytes that stay at the start of a buffer before the rest is moved down.
const SENT_MAX_BYTES: usize = 256 * 1024;
/// Slices that one vectored write passes to the kernel.
const SLICES_MAX: usize = 64;

#[derive(Debug)]
enum Segment {
    Bytes(Vec<u8>),
    Payload(Arc<Message>),
}

impl Segment {
    fn bytes(&self) -> &[u8] {
        match self {
            Segment::Bytes(bytes) => bytes,
            Segment::Payload(message) => message.payload(),
        }
    }
}

/// The queue of bytes.
#[derive(Default, Debug)]
pub(super) struct Outbox {
    tail: Vec<u8>,
    #[allow(clippy::box_collection, reason = "most connections never share a payload: 8 bytes instead of 32")]
    head: Option<Box<VecDeque<Segment>>>, // before the tail
    sent: usize,         // of the first segment, or of the tail
    shared_bytes: usize, // held in the head
}

/// Spare buffers of a worker: [`Spares::BYTES_MAX`] in all, none larger than [`Spares::CAPACITY_MAX`].
#[derive(Default, Debug)]
pub(super) struct Spares {
    buffers: Vec<Vec<u8>>,
    bytes: usize, // their capacities
}

impl Spares {
    const BYTES_MAX: usize = 8 * 1024 * 1024;
    /// A turn's worth of one busy client; what is freed and made anew in each turn costs a page fault for every 4 KiB.
    const CAPACITY_MAX: usize = 512 * 1024;
    /// What a quiet broker needs.
    const BYTES_KEPT: usize = 256 * 1024;

    /// Whether there are more than a quiet broker needs.
    #[inline]
    pub(super) fn is_rich(&self) -> bool {
        self.bytes > Spares::BYTES_KEPT
    }

    /// Gives back what a quiet broker does not need.
    pub(super) fn shrink(&mut self) {
        while self.is_rich() {
            self.take();
        }
        self.buffers.shrink_to(2 * self.buffers.len());
    }

    fn take(&mut self) -> Vec<u8> {
        let Some(buffer) = self.buffers.pop() else {
            return Vec::with_capacity(4096);
        };
        self.bytes -= buffer.capacity();
        buffer
    }

    fn give_back(&mut self, mut buffer: Vec<u8>) {
        let capacity = buffer.capacity();
        if (1..=Spares::CAPACITY_MAX).contains(&capacity) && self.bytes + capacity <= Spares::BYTES_MAX {
            buffer.clear();
            self.bytes += capacity;
            self.buffers.push(buffer);
        }
    }
}

impl Outbox {
    /// Unsent bytes.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.tail.len() + self.shared_bytes - self.sent
    }

    /// Where the next packet is written.
    #[inline]
    pub(super) fn tail(&mut self, spares: &mut Spares) -> &mut Vec<u8> {
        if self.tail.capacity() == 0 {
            self.tail = spares.take();
        }
        &mut self.tail
    }

    /// Appends the payload of a message whose packet head was just written to the tail.
    pub(super) fn share(&mut self, message: &Arc<Message>) {
        let head = self.head.get_or_insert_default();
        let written = std::mem::take(&mut self.tail);
        self.shared_bytes += written.len() + message.payload().len();
        if !written.is_empty() {
            head.push_back(Segment::Bytes(written));
        }
        head.push_back(Segment::Payload(Arc::clone(message)));
    }

    /// Writes what the socket takes; returns what moved and whether everything is sent.
    pub(super) fn flush(&mut self, transport: &mut Transport, spares: &mut Spares) -> (Moved, bool) {
        let Some(socket) = transport.plain() else {
            return self.flush_through(transport, spares);
        };
        if self.len() == 0 {
            return (Moved::Bytes(0), true);
        }
        let moved = match &self.head {
            None => socket.write(&self.tail[self.sent..]),
            Some(head) => socket.write_vectored(&slices(head, &self.tail, self.sent)),
        };
        if let Moved::Bytes(count) = moved {
            self.advance(count, spares);
        }
        (moved, self.len() == 0)
    }

    /// Hands everything to the layers, piece by piece, and writes what they make of it.
    fn flush_through(&mut self, transport: &mut Transport, spares: &mut Spares) -> (Moved, bool) {
        let mut count = 0;
        loop {
            while let (room @ 1.., Some(unsent)) = (transport.wrap_room(), self.first_unsent()) {
                let piece = &unsent[..unsent.len().min(room)];
                transport.wrap(piece);
                let taken = piece.len();
                self.advance(taken, spares);
                count += taken;
            }
            match transport.send_wrapped() {
                Moved::Bytes(_) if self.len() == 0 => return (Moved::Bytes(count), true),
                Moved::Bytes(_) => {}
                Moved::Blocked => return (Moved::Bytes(count), false),
                Moved::Closed => return (Moved::Closed, false),
            }
        }
    }

    fn first_unsent(&self) -> Option<&[u8]> {
        let first = self.head.as_ref().and_then(|head| head.front()).map_or(self.tail.as_slice(), Segment::bytes);
        (self.len() > 0).then(|| &first[self.sent..])
    }

    fn advance(&mut self, count: usize, spares: &mut Spares) {
        self.sent += count;
        while let Some(first) = self.head.as_mut().and_then(|head| head.front()) {
            let length = first.bytes().len();
            if self.sent < length {
                return;
            }
            self.sent -= length;
            self.shared_bytes -= length;
            self.drop_first();
        }
        if self.sent == self.tail.len() {
            self.sent = 0;
            spares.give_back(std::mem::take(&mut self.tail));
        } else if self.sent >= SENT_MAX_BYTES {
            // A reader that never quite catches up must not make the buffer grow behind it.
            self.tail.drain(..self.sent);
            self.sent = 0;
        }
    }

    fn drop_first(&mut self) {
        if let Some(head) = &mut self.head {
            head.pop_front();
            if head.is_empty() {
                self.head = None;
            }
        }
    }
}

fn slices<'a>(head: &'a VecDeque<Segment>, tail: &'a [u8], sent: usize) -> Vec<IoSlice<'a>> {
    let parts = head.iter().map(Segment::bytes).chain([tail]).take(SLICES_MAX);
    let mut slices: Vec<&[u8]> = parts.collect();
    slices[0] = &slices[0][sent..];
    slices.into_iter().map(IoSlice::new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::LayerOptions;
    use crate::socket::{Peer, Socket};
    use crate::transport::Layering;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use whimbrel_protocol::message::{Origin, Publication};
    use whimbrel_protocol::properties::Properties;
    use whimbrel_protocol::{QoS, Topic};

    fn message(payload: &[u8]) -> Arc<Message> {
        let topic = Topic::new("t").unwrap();
        let publication = Publication { topic, properties: Properties::default(), expiry_s: None, payload };
        let origin = Origin { client_id: "c".into(), received_ms: 0 };
        Arc::new(Message::new(&publication, QoS::AtMostOnce, false, origin))
    }

    #[test]
    fn shared_payloads_and_copied_bytes_arrive_in_order_through_a_narrow_socket() {
        let flags = SocketFlags::NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        let (ours, theirs) = (Socket::new(ours), Socket::new(theirs));
        let layering = Layering::load(&LayerOptions::default()).unwrap();
        let mut ours = layering.lay_over(ours, &Peer::Local).unwrap();
        let (mut outbox, mut spares) = (Outbox::default(), Spares::default());
        let mut expected = Vec::new();
        for round in 0..40_u8 {
            outbox.tail(&mut spares).extend_from_slice(&[round; 100]);
            outbox.share(&message(&[round | 0x80; 50_000]));
            expected.extend_from_slice(&[round; 100]);
            expected.extend_from_slice(&[round | 0x80; 50_000]);
        }
        outbox.tail(&mut spares).extend_from_slice(b"end");
        expected.extend_from_slice(b"end");
        assert_eq!(outbox.len(), expected.len());
        let (mut received, mut buffer) = (Vec::new(), vec![0; 70_001]);
        while received.len() < expected.len() {
            outbox.flush(&mut ours, &mut spares);
            while let Moved::Bytes(count) = theirs.read(&mut buffer) {
                received.extend_from_slice(&buffer[..count]);
            }
        }
        assert!(received == expected);
        assert_eq!(outbox.len(), 0);
        assert!(outbox.head.is_none());
    }
}
