//! A broker for these tests, with faults made to order: it counts the messages of all publishers from 1 and asks a function
//! what becomes of each. One thread for each connection; subscriptions are exact topics; QoS 0 and 1.

use std::collections::HashMap;
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
    /// Waits until the next one has arrived.
    Overtaken,
    /// The publisher gets this reason code, the subscriber nothing.
    Refused(u8),
    /// Everything stands still for so long, then it arrives.
    Stalls(Duration),
    /// The connection of the publisher is closed.
    Hangs,
}

struct House {
    fate: fn(u64) -> Fate,
    subscribers: HashMap<String, TcpStream>,
    seen: u64,
    overtaken: Vec<u8>,
}

/// Accepts until the test ends; returns the port.
pub fn broker(fate: fn(u64) -> Fate) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let house = Arc::new(Mutex::new(House { fate, subscribers: HashMap::new(), seen: 0, overtaken: Vec::new() }));
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
            if !house.lock().unwrap().on_packet(&mut stream, decode(frame, Version::V5).unwrap()) {
                return;
            }
            at += frame.len;
        }
        pending.drain(..at);
    }
}

impl House {
    fn on_packet(&mut self, stream: &mut TcpStream, packet: Packet<'_>) -> bool {
        let properties = Properties::default();
        match packet {
            Packet::Connect(_) => {
                let reason = ReasonCode::SUCCESS;
                say(stream, &Packet::ConnAck(ConnAck { session_present: false, reason, properties }));
            }
            Packet::Subscribe(subscribe) => {
                let topic = subscribe.filters[0].0.unwrap().as_str().to_owned();
                self.subscribers.insert(topic, stream.try_clone().unwrap());
                let reasons = vec![ReasonCode::SUCCESS];
                say(stream, &Packet::SubAck(SubAck { packet_id: subscribe.packet_id, properties, reasons }));
            }
            Packet::Publish(publish) => return self.on_publish(stream, publish),
            Packet::Disconnect(_) => return false,
            _ => {}
        }
        true
    }

    fn on_publish(&mut self, stream: &mut TcpStream, publish: Publish<'_>) -> bool {
        self.seen += 1;
        let fate = (self.fate)(self.seen);
        let topic = publish.topic.unwrap().as_str().to_owned();
        let mut wire = Vec::new();
        encode(&mut wire, Version::V5, &Packet::Publish(publish));
        let mut code = ReasonCode::SUCCESS;
        match fate {
            Fate::Arrives => {}
            Fate::Lost => wire.clear(),
            Fate::Doubled => wire.extend_from_within(..),
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
        if let Some(subscriber) = self.subscribers.get_mut(&topic) {
            let _ = subscriber.write_all(&wire);
        }
        if publish.qos != QoS::AtMostOnce {
            say(stream, &Packet::PubAck(Ack::new(publish.packet_id, code)));
        }
        true
    }
}

fn say(stream: &mut TcpStream, packet: &Packet<'_>) {
    let mut wire = Vec::new();
    encode(&mut wire, Version::V5, packet);
    let _ = stream.write_all(&wire);
}
