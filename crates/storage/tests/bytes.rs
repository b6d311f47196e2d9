//! Strange bytes where records or the journal's frames should be: an error, never a panic; and the layout of format 1, which
//! must not change.

mod kit;

use std::sync::{Arc, LazyLock, Mutex};

use kit::{Contents, Hand, Image, MemoryDisk, Which, options};
use proptest::prelude::*;
use whimbrel_protocol::message::Publication;
use whimbrel_protocol::properties::Properties;
use whimbrel_protocol::{QoS, Topic};
use whimbrel_storage::{
    Identifiers, Kind, Memory, Receiver, Record, Slot, Space, Store, StoredMessage, Visitor, decode, examine, open_on,
    seal,
};
use xxhash_rust::xxh3::xxh3_64;

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

/// A store's files; the journal has its first block, and so its name.
static FOUNDED: LazyLock<Image> = LazyLock::new(|| {
    let disk = MemoryDisk::default();
    let mut hand = Hand::of(Arc::new(open_on(options(), Arc::new(disk.clone())).unwrap().0));
    hand.put(Kind::Message, b"whole", &[1]);
    hand.commit();
    drop(hand);
    disk.inside().image.clone()
});

#[derive(Clone, Debug)]
struct Strange {
    sequence: u64,
    floor: u64,
    sections: Vec<(u8, Vec<u8>, bool)>, // whether its check is right
    lie: i8,                            // about the length of the body
}

fn strange() -> impl Strategy<Value = Strange> {
    let number = prop_oneof![8 => 0..6_u64, 1 => any::<u64>()];
    let content = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..60),
        (number.clone(), prop::collection::vec(any::<u8>(), 0..20)).prop_map(|(number, rest)| [
            &number.to_le_bytes()[..],
            &rest
        ]
        .concat()),
    ];
    let section = (0..8_u8, content, prop::bool::weighted(0.9));
    let lie = prop_oneof![4 => Just(0_i8), 1 => any::<i8>()];
    (0..12_u64, number, prop::collection::vec(section, 0..6), lie)
        .prop_map(|(sequence, floor, sections, lie)| Strange { sequence, floor, sections, lie })
}

impl Strange {
    fn frame(&self, identity: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        for (tag, content, is_whole) in &self.sections {
            let section = [&[*tag], &(content.len() as u32).to_le_bytes()[..], content].concat();
            body.extend((xxh3_64(&section) as u32 ^ u32::from(!is_whole)).to_le_bytes());
            body.extend(section);
        }
        let length = (body.len() as u64).saturating_add_signed(self.lie.into());
        let words = [self.sequence, self.floor, length].map(u64::to_le_bytes).concat();
        let head = [b"WHMBJRNL", identity, &words].concat();
        let mut frame = [&head[..], &xxh3_64(&head).to_le_bytes(), &body].concat();
        frame.resize(frame.len().next_multiple_of(4096), 0);
        frame
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_frames_of_a_journal_are_survived(frames in prop::collection::vec(strange(), 1..6), cut in 0..9000_usize) {
        let mut image = FOUNDED.clone();
        let identity = image[Which::Journal][8..16].to_vec();
        let sequence = u64::from_le_bytes(image[Which::Journal][16..24].try_into().unwrap());
        let journal = &mut image[Which::Journal];
        for mut frame in frames.clone() {
            frame.sequence += sequence;
            journal.extend(frame.frame(&identity));
        }
        journal.truncate(journal.len() - if cut < 4000 { cut } else { 0 });
        if let Ok((store, _)) = open_on(options(), Arc::new(MemoryDisk::of(image))) {
            Contents::of(&store);
            let mut hand = Hand::of(Arc::new(store));
            hand.put(Kind::Message, b"it goes on", &[1]);
            hand.commit();
        }
    }
}
