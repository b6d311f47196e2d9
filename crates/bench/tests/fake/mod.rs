//! A broker for these tests, with faults made to order: it counts the messages of all publishers from 1 and asks a function
//! what becomes of each. One thread for each connection; a subscription is an exact topic, or ends in a wildcard, or is a group's;
//! sessions and retained messages are kept until the test ends; QoS 0 and 1.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use whimbrel_protocol::decode::{Split, decode, split};
use whimbrel_protocol::encode::encode;
use whimbrel_protocol::packet::{Ack, ConnAck, Publish, SubAck};
use whimbrel_protocol::properties::Properties;
use whimbrel_protocol::{Packet, QoS, ReasonCode, Version};

/// What becomes of a message.
#[derive(Clone, Copy)]
#[allow(dead_code, reason = "not every test needs every fate")]
pub enum Fate {
    Arrives,
    Lost,
    Doubled,
    /// Arrives, and once more before a PINGRESP of the subscriber.
    Haunts,
    /// Waits until the next one has arrived.
    Overtaken,
    /// The publisher gets this reason code, the subscriber nothing.
    Refused(u8),
    /// Everything stands still for so long, then it arrives.
    Stalls(Duration),
    /// The connection of the publisher is closed.
    Hangs,
}

struct Subscriber {
    client_id: String,
    filter: String,
    /// None while the client is away; what comes then waits.
    stream: Option<TcpStream>,
    waiting: Vec<u8>,
}

/// What a connection said of itself.
#[derive(Default)]
struct Guest {
    client_id: String,
    is_lasting: bool,
}

struct House {
    fate: fn(u64) -> Fate,
    subscribers: Vec<Subscriber>,
    retained: Vec<(String, Vec<u8>)>,
    seen: u64,
    overtaken: Vec<u8>,
    haunting: Vec<(String, Vec<u8>)>,
}

/// Accepts until the test ends; returns the port.
pub fn broker(fate: fn(u64) -> Fate) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let house = Arc::new(Mutex::new(House {
        fate,
        subscribers: Vec::new(),
        retained: Vec::new(),
        seen: 0,
        overtaken: Vec::new(),
        haunting: Vec::new(),
    }));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let house = Arc::clone(&house);
            thread::spawn(move || serve(stream.unwrap(), &house));
        }
    });
    port
}

fn serve(mut stream: TcpStream, house: &Mutex<House>) {
    stream.set_nodelay(true).unwrap();
    let mut guest = Guest::default();
    let mut pending = Vec::new();
    let mut chunk = [0; 65_536];
    loop {
        let count = stream.read(&mut chunk).unwrap_or(0);
        if count == 0 {
            return;
        }
        pending.extend_from_slice(&chunk[..count]);
        let mut at = 0;
        while let Split::Frame(frame) = split(&pending[at..], u32::MAX).unwrap() {
            let packet = decode(frame, Version::V5).unwrap();
            if let Packet::Connect(connect) = &packet {
                guest = Guest { client_id: connect.client_id.to_owned(), is_lasting: !connect.clean_start };
            }
            if !house.lock().unwrap().on_packet(&mut stream, &guest, packet) {
                return;
            }
            at += frame.len;
        }
        pending.drain(..at);
    }
}

impl House {
    fn on_packet(&mut self, stream: &mut TcpStream, guest: &Guest, packet: Packet<'_>) -> bool {
        let client_id = guest.client_id.as_str();
        let properties = Properties::default();
        match packet {
            Packet::Connect(connect) => {
                let reason = ReasonCode::SUCCESS;
                say(stream, &Packet::ConnAck(ConnAck { session_present: false, reason, properties }));
                if connect.clean_start {
                    self.subscribers.retain(|subscriber| subscriber.client_id != client_id);
                }
                self.welcome(stream, client_id);
            }
            Packet::Subscribe(subscribe) => {
                let reasons = vec![ReasonCode::SUCCESS; subscribe.filters.len()];
                say(stream, &Packet::SubAck(SubAck { packet_id: subscribe.packet_id, properties, reasons }));
                for (filter, _) in &subscribe.filters {
                    self.on_filter(stream, client_id, filter.unwrap().as_str());
                }
            }
            Packet::Publish(publish) => return self.on_publish(stream, publish),
            Packet::PingReq => {
                self.haunt(client_id);
                say(stream, &Packet::PingResp);
            }
            Packet::Disconnect(_) => {
                self.subscribers.retain(|subscriber| guest.is_lasting || subscriber.client_id != client_id);
                let gone = |subscriber: &&mut Subscriber| subscriber.client_id == client_id;
                self.subscribers.iter_mut().filter(gone).for_each(|subscriber| subscriber.stream = None);
                return false;
            }
            _ => {}
        }
        true
    }

    fn haunt(&mut self, client_id: &str) {
        for subscriber in self.subscribers.iter_mut().filter(|subscriber| subscriber.client_id == client_id) {
            for (topic, wire) in &self.haunting {
                if subscriber.wants(topic) {
                    subscriber.put(wire);
                }
            }
        }
    }

    fn welcome(&mut self, stream: &TcpStream, client_id: &str) {
        for subscriber in self.subscribers.iter_mut().filter(|subscriber| subscriber.client_id == client_id) {
            subscriber.stream = Some(stream.try_clone().unwrap());
            subscriber.put(&[]);
        }
    }

    fn on_filter(&mut self, stream: &TcpStream, client_id: &str, filter: &str) {
        let stream = Some(stream.try_clone().unwrap());
        let (client_id, filter) = (client_id.to_owned(), filter.to_owned());
        let mut subscriber = Subscriber { client_id, filter, stream, waiting: Vec::new() };
        for (topic, wire) in &self.retained {
            if subscriber.wants(topic) {
                subscriber.put(wire);
            }
        }
        self.subscribers.push(subscriber);
    }

    /// To all that want it, but of a group to one in turns.
    fn hand_out(&mut self, topic: &str, wire: &[u8]) {
        let members = self.subscribers.iter().filter(|subscriber| subscriber.is_member()).count().max(1);
        let turn = self.seen as usize % members;
        let mut member = 0;
        for subscriber in self.subscribers.iter_mut().filter(|subscriber| subscriber.wants(topic)) {
            member += usize::from(subscriber.is_member());
            if !subscriber.is_member() || member == turn + 1 {
                subscriber.put(wire);
            }
        }
    }

    fn on_publish(&mut self, stream: &mut TcpStream, publish: Publish<'_>) -> bool {
        self.seen += 1;
        let fate = (self.fate)(self.seen);
        let topic = publish.topic.unwrap().as_str().to_owned();
        let mut wire = Vec::new();
        encode(&mut wire, Version::V5, &Packet::Publish(publish));
        if publish.payload.is_empty() && publish.retain {
            self.retained.retain(|(kept, _)| *kept != topic);
            wire.clear();
        }
        let mut code = ReasonCode::SUCCESS;
        match fate {
            Fate::Arrives => {}
            Fate::Lost => wire.clear(),
            Fate::Doubled => wire.extend_from_within(..),
            Fate::Haunts => self.haunting.push((topic.clone(), wire.clone())),
            Fate::Overtaken => {
                self.overtaken = std::mem::take(&mut wire);
            }
            Fate::Refused(refusal) => {
                wire.clear();
                code = ReasonCode(refusal);
            }
            Fate::Stalls(span) => thread::sleep(span),
            Fate::Hangs => return false,
        }
        if !wire.is_empty() {
            wire.append(&mut self.overtaken);
        }
        self.hand_out(&topic, &wire);
        if publish.retain && !wire.is_empty() {
            self.retained.push((topic, wire));
        }
        if publish.qos != QoS::AtMostOnce {
            say(stream, &Packet::PubAck(Ack::new(publish.packet_id, code)));
        }
        true
    }
}

impl Subscriber {
    fn is_member(&self) -> bool {
        self.filter.starts_with("$share/")
    }

    fn wants(&self, topic: &str) -> bool {
        let filter =
            self.filter.strip_prefix("$share/").map_or(self.filter.as_str(), |rest| rest.split_once('/').unwrap().1);
        filter == topic || filter.strip_suffix(['+', '#']).is_some_and(|stem| topic.starts_with(stem))
    }

    fn put(&mut self, wire: &[u8]) {
        self.waiting.extend_from_slice(wire);
        if let Some(stream) = &mut self.stream {
            let _ = stream.write_all(&std::mem::take(&mut self.waiting));
        }
    }
}

fn say(stream: &mut TcpStream, packet: &Packet<'_>) {
    let mut wire = Vec::new();
    encode(&mut wire, Version::V5, packet);
    let _ = stream.write_all(&wire);
}
