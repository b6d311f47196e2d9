//! A tiny MQTT 3.1.1 core without I/O: bytes of a client in, bytes for clients out.
//!
//! Knows CONNECT, SUBSCRIBE to exact topics, PUBLISH QoS 0 and 1, PUBACK, PINGREQ and DISCONNECT. Knows no sockets and no
//! loop. A loop calls `on_bytes` for each read of a turn, then empties `dirty` with `out` and `written`.

use std::collections::HashMap;

/// Place of a client; taken again after `detach`.
pub type Id = usize;

const CONNECT: u8 = 1;
const CONNACK: u8 = 2;
const PUBLISH: u8 = 3;
const PUBACK: u8 = 4;
const SUBSCRIBE: u8 = 8;
const SUBACK: u8 = 9;
const PINGREQ: u8 = 12;
const PINGRESP: u8 = 13;
const DISCONNECT: u8 = 14;

const POOLED_BUFFERS_MAX: usize = 1024;
const POOLED_BYTES_MAX: usize = 64 * 1024;

/// Why a connection is over.
#[derive(Debug, PartialEq)]
pub enum End {
    Disconnect,
    Violation,
}

#[derive(Default)]
struct Client {
    /// Start of a frame whose rest has not come; unallocated in between.
    cut: Vec<u8>,
    /// Encoded packets that wait for a write; unallocated while there are none.
    out: Vec<u8>,
    topics: Vec<Box<[u8]>>,
    packet_id: u16,
}

struct Subscriber {
    id: Id,
    qos: u8,
}

/// All clients of one loop.
#[derive(Default)]
pub struct Broker {
    clients: Vec<Client>,
    free: Vec<Id>,
    topics: HashMap<Box<[u8]>, Vec<Subscriber>>,
    outbox: Outbox,
}

/// Who has output since the last flush, and emptied buffers for those who will.
#[derive(Default)]
struct Outbox {
    dirty: Vec<Id>,
    pool: Vec<Vec<u8>>,
}

impl Outbox {
    /// The buffer to append to. Empty until now means: not yet dirty, and not waiting for a full socket either.
    fn of<'c>(&mut self, id: Id, client: &'c mut Client) -> &'c mut Vec<u8> {
        if client.out.is_empty() {
            client.out = self.pool.pop().unwrap_or_default();
            self.dirty.push(id);
        }
        &mut client.out
    }

    fn take_back(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() <= POOLED_BYTES_MAX && self.pool.len() < POOLED_BUFFERS_MAX {
            buffer.clear();
            self.pool.push(buffer);
        }
    }
}

impl Broker {
    pub fn attach(&mut self) -> Id {
        self.free.pop().unwrap_or_else(|| {
            self.clients.push(Client::default());
            self.clients.len() - 1
        })
    }

    /// Forgets the client and its subscriptions.
    pub fn detach(&mut self, id: Id) {
        let client = std::mem::take(&mut self.clients[id]);
        for topic in client.topics {
            if let Some(subscribers) = self.topics.get_mut(&topic) {
                subscribers.retain(|subscriber| subscriber.id != id);
                if subscribers.is_empty() {
                    self.topics.remove(&topic);
                }
            }
        }
        self.free.push(id);
    }

    /// Takes what one read brought, whole frames or not.
    pub fn on_bytes(&mut self, id: Id, input: &[u8]) -> Result<(), End> {
        let mut cut = std::mem::take(&mut self.clients[id].cut);
        if cut.is_empty() {
            let used = self.on_frames(id, input)?;
            cut.extend_from_slice(&input[used..]);
        } else {
            cut.extend_from_slice(input);
            let used = self.on_frames(id, &cut)?;
            cut = cut.split_off(used);
        }
        self.clients[id].cut = cut;
        Ok(())
    }

    pub fn is_dirty(&self) -> bool {
        !self.outbox.dirty.is_empty()
    }

    /// A client with fresh output, each once; `None` ends the flush of a turn.
    pub fn next_dirty(&mut self) -> Option<Id> {
        self.outbox.dirty.pop()
    }

    pub fn out(&self, id: Id) -> &[u8] {
        &self.clients[id].out
    }

    /// The socket took `bytes` of `out`. Returns whether anything is left.
    pub fn written(&mut self, id: Id, bytes: usize) -> bool {
        let out = &mut self.clients[id].out;
        if bytes < out.len() {
            out.drain(..bytes);
            return true;
        }
        self.outbox.take_back(std::mem::take(out));
        false
    }

    fn on_frames(&mut self, id: Id, input: &[u8]) -> Result<usize, End> {
        let mut used = 0;
        while let Some(frame) = frame(&input[used..])? {
            self.on_frame(id, &frame)?;
            used += frame.bytes;
        }
        Ok(used)
    }

    fn on_frame(&mut self, id: Id, frame: &Frame) -> Result<(), End> {
        match frame.first >> 4 {
            PUBLISH => self.on_publish(id, frame.first >> 1 & 3, frame.body)?,
            // Nothing is kept for a retransmission, so an acknowledgement has nothing to release.
            PUBACK => {}
            CONNECT => self.reply(id, &[CONNACK << 4, 2, 0, 0]),
            SUBSCRIBE => self.on_subscribe(id, frame.body)?,
            PINGREQ => self.reply(id, &[PINGRESP << 4, 0]),
            DISCONNECT => return Err(End::Disconnect),
            _ => return Err(End::Violation),
        }
        Ok(())
    }

    fn reply(&mut self, id: Id, packet: &[u8]) {
        self.outbox.of(id, &mut self.clients[id]).extend_from_slice(packet);
    }

    fn on_publish(&mut self, id: Id, qos: u8, body: &[u8]) -> Result<(), End> {
        let (topic, mut payload) = string(body)?;
        if qos > 0 {
            let (packet_id, rest) = payload.split_at_checked(2).ok_or(End::Violation)?;
            self.reply(id, &[PUBACK << 4, 2, packet_id[0], packet_id[1]]);
            payload = rest;
        }
        for subscriber in self.topics.get(topic).map_or(&[][..], Vec::as_slice) {
            let client = &mut self.clients[subscriber.id];
            let packet_id = (qos.min(subscriber.qos) > 0).then(|| next_packet_id(&mut client.packet_id));
            publish(self.outbox.of(subscriber.id, client), topic, packet_id, payload);
        }
        Ok(())
    }

    fn on_subscribe(&mut self, id: Id, body: &[u8]) -> Result<(), End> {
        let (packet_id, mut rest) = body.split_at_checked(2).ok_or(End::Violation)?;
        let mut granted = vec![SUBACK << 4, 2, packet_id[0], packet_id[1]];
        while !rest.is_empty() {
            let (topic, after) = string(rest)?;
            let (&qos, after) = after.split_first().ok_or(End::Violation)?;
            granted.push(self.subscribe(id, topic, qos.min(1)));
            granted[1] += 1;
            rest = after;
        }
        self.reply(id, &granted);
        Ok(())
    }

    fn subscribe(&mut self, id: Id, topic: &[u8], qos: u8) -> u8 {
        self.topics.entry(topic.into()).or_default().push(Subscriber { id, qos });
        self.clients[id].topics.push(topic.into());
        qos
    }
}

struct Frame<'a> {
    /// Packet type and flags.
    first: u8,
    body: &'a [u8],
    /// Length of the whole frame.
    bytes: usize,
}

/// The first frame; `None` while it is cut.
fn frame(input: &[u8]) -> Result<Option<Frame<'_>>, End> {
    let mut length = 0;
    for place in 0..4 {
        let Some(&byte) = input.get(1 + place) else { return Ok(None) };
        length |= usize::from(byte & 127) << (7 * place);
        if byte & 128 == 0 {
            let bytes = 2 + place + length;
            return Ok(input.get(2 + place..bytes).map(|body| Frame { first: input[0], body, bytes }));
        }
    }
    Err(End::Violation)
}

fn string(input: &[u8]) -> Result<(&[u8], &[u8]), End> {
    let (length, rest) = input.split_first_chunk::<2>().ok_or(End::Violation)?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length))).ok_or(End::Violation)
}

/// Zero is no packet identifier [MQTT-2.3.1-1].
fn next_packet_id(last: &mut u16) -> u16 {
    *last = last.checked_add(1).unwrap_or(1);
    *last
}

fn publish(out: &mut Vec<u8>, topic: &[u8], packet_id: Option<u16>, payload: &[u8]) {
    let mut length = 2 + topic.len() + payload.len() + if packet_id.is_some() { 2 } else { 0 };
    out.reserve(5 + length);
    out.push(PUBLISH << 4 | if packet_id.is_some() { 2 } else { 0 });
    while length > 127 {
        out.push(length as u8 & 127 | 128);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(&(topic.len() as u16).to_be_bytes());
    out.extend_from_slice(topic);
    out.extend(packet_id.iter().flat_map(|id| id.to_be_bytes()));
    out.extend_from_slice(payload);
}
