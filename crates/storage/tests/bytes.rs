//! Strange bytes where records should be: an error, never a panic; and the layout of format 1, which must not change.

mod kit;

use std::sync::{Arc, Mutex};

use kit::Hand;
use proptest::prelude::*;
use whimbrel_protocol::message::Publication;
use whimbrel_protocol::properties::Properties;
use whimbrel_protocol::{QoS, Topic};
use whimbrel_storage::{
    Identifiers, Kind, Memory, Receiver, Record, Slot, Space, Store, StoredMessage, Visitor, decode, examine, seal,
};

fn message() -> StoredMessage<'static> {
    let publication = Publication {
        topic: Topic::new("plant/7").unwrap(),
        properties: Properties::trusted(&[1, 1]),
        expiry_s: Some(60),
        payload: b"21.5",
    };
    StoredMessage::new(publication, (QoS::ExactlyOnce, true), "sensor", 1_700_000_000_123)
}

proptest! {
    #[test]
    fn any_bytes_are_survived(mut bytes in prop::collection::vec(any::<u8>(), 8..400)) {
        let _ = decode(&bytes);
        let _ = StoredMessage::decode(&bytes);
        prop_assert!(!examine(&bytes, |_| ()).is_empty());
        seal(&mut bytes);
        if let Ok((record, length)) = decode(&bytes) {
            prop_assert_eq!(length, bytes.len());
            prop_assert_eq!(record.receivers().count(), record.receivers as usize);
        }
    }

    #[test]
    fn a_message_reads_as_it_was_written(payload in prop::collection::vec(any::<u8>(), 0..100), expiry_s: Option<u32>, at: u64) {
        let mut message = message();
        message.publication.payload = &payload;
        message.publication.expiry_s = expiry_s;
        message.received_ms = at;
        let mut body = Vec::new();
        message.encode(&mut body);
        prop_assert_eq!(StoredMessage::decode(&body).unwrap(), message);
        for length in 0..body.len().min(36) {
            prop_assert!(StoredMessage::decode(&body[..length]).is_err());
        }
    }
}

type Plain = (u64, QoS, bool, u32, Vec<u32>);

struct Seen(Mutex<Vec<(Kind, Vec<Plain>)>>);

impl Visitor for Seen {
    fn record(&mut self, record: &Record<'_>, live: &[Slot]) {
        let receivers = live.iter().map(|&slot| record.receiver(slot).unwrap());
        let plain = |r: Receiver<'_>| (r.session, r.qos, r.retain, r.group, r.identifiers.iter().collect());
        self.0.lock().unwrap().push((record.kind, receivers.map(plain).collect()));
        assert_eq!(StoredMessage::decode(record.body).unwrap(), message());
    }

    fn keyed(&mut self, _space: Space, _key: &[u8], _value: &[u8]) {}
}

#[test]
fn receivers_come_back_with_all_that_was_said_of_them() {
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    let mut hand = Hand::of(Arc::clone(&store));
    let mut record = hand.writer.record(Kind::Message);
    let identifiers = Identifiers::Numbers(&[1, 268_435_455]);
    let first = record.receiver(&Receiver { session: 7, qos: QoS::ExactlyOnce, retain: true, group: 0, identifiers });
    let second = record.receiver(&Receiver { group: 9, ..Receiver::of(u64::MAX, QoS::AtLeastOnce) });
    assert!(record.message(&message()));
    assert_eq!(second.0, first.0 + 1);
    assert!(!hand.writer.record(Kind::Message).finish(b"without a receiver nothing is stored"));
    drop(hand.writer.record(Kind::Message)); // begun and given up
    hand.commit();
    let mut seen = Seen(Mutex::default());
    store.replay(&mut seen).unwrap();
    let all =
        vec![(7, QoS::ExactlyOnce, true, 0, vec![1, 268_435_455]), (u64::MAX, QoS::AtLeastOnce, false, 9, Vec::new())];
    assert_eq!(seen.0.into_inner().unwrap(), vec![(Kind::Message, all)]);
}

#[test]
fn format_1_is_what_it_was() {
    let mut body = Vec::new();
    message().encode(&mut body);
    let spelt: &[&[u8]] = &[
        &[2 | 4 | 8],
        &1_700_000_000_123_u64.to_le_bytes(),
        &60_u32.to_le_bytes(),
        &[6, 0, 7, 0, 2, 0, 0, 0],
        b"sensorplant/7",
        &[1, 1],
        b"21.5",
    ];
    assert_eq!(body, spelt.concat());
}
