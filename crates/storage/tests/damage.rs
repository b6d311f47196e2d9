//! Damaged bytes: the store opens whatever was flipped, keeps what is whole, and says what is not.

mod kit;

use std::sync::Arc;

use kit::{Contents, Dice, Hand, MemoryDisk, options};
use whimbrel_storage::{Kind, Options, Reclaiming, Report, Space, Store, open_on};

/// Nothing is rewritten while a test looks.
fn still() -> Options {
    let idle_after = std::time::Duration::from_secs(3600);
    Options { reclaiming: Reclaiming { idle_after, ..Reclaiming::default() }, ..options() }
}

/// A store with every kind of record, settlements, and keyed values; the bytes of its disk.
fn image() -> (Vec<u8>, Contents) {
    let disk = MemoryDisk::default();
    let store: Arc<dyn Store> = Arc::new(open_on(still(), Arc::new(disk.clone())).unwrap().0);
    let mut hand = Hand::of(Arc::clone(&store));
    let mut slots = Vec::new();
    for turn in 0..4_u8 {
        for kind in Kind::ALL {
            slots.extend(hand.put(kind, &[kind as u8 + 16 * turn; 60], &[1, 2]));
        }
        hand.writer.put(Space::SESSION, &[turn], &[turn; 30]);
        hand.commit();
        slots.drain(..3).for_each(|slot| hand.writer.settle(slot));
        hand.commit();
    }
    let contents = Contents::of(&*store);
    store.close();
    let bytes = disk.inside().bytes.clone();
    (bytes, contents)
}

fn open_flipped(image: &[u8], at: usize, mask: u8) -> (Contents, Report) {
    let mut bytes = image.to_vec();
    bytes[at] ^= mask;
    let (store, report) = open_on(still(), Arc::new(MemoryDisk::of(bytes)))
        .unwrap_or_else(|failure| panic!("byte {at} ^ {mask}: {failure}"));
    (Contents::of(&store), report)
}

/// What is there must have been there, and what is missing or came back must have been reported.
fn judge(at: usize, original: &Contents, (found, report): &(Contents, Report)) {
    if found == original {
        return;
    }
    assert!(!report.damaged.is_empty(), "byte {at}: contents changed and nothing was reported");
    for (kind, body, _) in &found.records {
        let is_known = original.records.iter().any(|(known, hash, _)| known == kind && hash == body);
        assert!(is_known || is_settled_one(report), "byte {at}: a record that never was: {kind:?}; {report:?}");
    }
    assert!(
        found.keyed.iter().all(|(key, value)| original.keyed.get(key) == Some(value)),
        "byte {at}: a value changed"
    );
}

/// Lost settlements bring records back; the report says so.
fn is_settled_one(report: &Report) -> bool {
    report
        .damaged
        .iter()
        .any(|sentence| sentence.contains("settled") || sentence.contains("tables") || sentence.contains("head"))
}

#[test]
fn any_flipped_byte_is_survived_and_reported() {
    let (image, original) = image();
    let used: Vec<usize> = (0..image.len()).filter(|&at| image[at] != 0).collect();
    let mut dice = Dice(3);
    for _ in 0..3_000 {
        let at = used[dice.below(used.len() as u64) as usize];
        let found = open_flipped(&image, at, 1 << dice.below(8));
        judge(at, &original, &found);
    }
}

#[test]
fn every_byte_of_every_kind_of_record_is_guarded() {
    let (image, original) = image();
    for kind in Kind::ALL {
        // Its body, as the second turn wrote it, is found once in the file, the head 28 + 18 bytes before it.
        let body = [kind as u8 + 16; 60];
        let at = image.windows(60).position(|window| window == body).unwrap();
        for place in at - 46..at + 60 {
            let (found, report) = open_flipped(&image, place, 0x41);
            judge(place, &original, &(found.clone(), report.clone()));
            let lost: Vec<_> = original.records.iter().filter(|record| !found.records.contains(record)).collect();
            assert!(
                lost.len() == 1 && lost[0].0 == kind,
                "byte {place} of {kind:?}: lost {lost:?}, reported {report:?}"
            );
        }
    }
}
