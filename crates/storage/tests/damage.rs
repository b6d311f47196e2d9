//! Damaged bytes: the store opens whatever was flipped, keeps what is whole, and says what is not.

mod kit;

use std::sync::Arc;

use kit::{Contents, Dice, Hand, Image, MemoryDisk, Which, options};
use whimbrel_storage::{Kind, Options, Reclaiming, Report, Space, Store, open_on};

/// Nothing is rewritten while a test looks.
fn still() -> Options {
    let idle_after = std::time::Duration::from_secs(3600);
    let journal_bytes = 1 << 20; // all of it fits
    Options { reclaiming: Reclaiming { idle_after, ..Reclaiming::default() }, journal_bytes, ..options() }
}

/// A store with every kind of record, settlements, and keyed values, of which all is in the engine's file; its bytes.
fn image() -> (Image, Contents) {
    let (_, mut image, contents) = images();
    image[Which::Journal].clear(); // it would mend what is damaged
    (image, contents)
}

/// The same as a crash leaves it, all in the journal, and after an orderly end.
fn images() -> (Image, Image, Contents) {
    images_after(4)
}

fn images_after(turns: u8) -> (Image, Image, Contents) {
    let disk = MemoryDisk::default();
    let store: Arc<dyn Store> = Arc::new(open_on(still(), Arc::new(disk.clone())).unwrap().0);
    let mut hand = Hand::of(Arc::clone(&store));
    let mut slots = Vec::new();
    for turn in 0..turns {
        for kind in Kind::ALL {
            slots.extend(hand.put(kind, &[kind as u8 + 16 * turn; 60], &[1, 2]));
        }
        hand.writer.put(Space::SESSION, &[turn], &[turn; 30]);
        hand.commit();
        slots.drain(..3).for_each(|slot| hand.writer.settle(slot));
        hand.commit();
    }
    let crashed = disk.inside().image.clone();
    let contents = Contents::of(&*store);
    store.close();
    let closed = disk.inside().image.clone();
    (crashed, closed, contents)
}

fn open_flipped(image: &Image, (which, at): (Which, usize), mask: u8) -> (Contents, Report) {
    let mut image = image.clone();
    image[which][at] ^= mask;
    let (store, report) = open_on(still(), Arc::new(MemoryDisk::of(image)))
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
    let bytes = &image[Which::Engine];
    let used: Vec<usize> = (0..bytes.len()).filter(|&at| bytes[at] != 0).collect();
    let mut dice = Dice(3);
    for _ in 0..3_000 {
        let at = used[dice.below(used.len() as u64) as usize];
        let found = open_flipped(&image, (Which::Engine, at), 1 << dice.below(8));
        judge(at, &original, &found);
    }
}

#[test]
fn every_byte_of_every_kind_of_record_is_guarded() {
    let (image, original) = image();
    for kind in Kind::ALL {
        // Its body, as the second turn wrote it, is found once in the file, the head 28 + 18 bytes before it.
        let body = [kind as u8 + 16; 60];
        let at = image[Which::Engine].windows(60).position(|window| window == body).unwrap();
        for place in at - 46..at + 60 {
            let (found, report) = open_flipped(&image, (Which::Engine, place), 0x41);
            judge(place, &original, &(found.clone(), report.clone()));
            let lost: Vec<_> = original.records.iter().filter(|record| !found.records.contains(record)).collect();
            assert!(
                lost.len() == 1 && lost[0].0 == kind,
                "byte {place} of {kind:?}: lost {lost:?}, reported {report:?}"
            );
        }
    }
}

/// The frames of a journal, each at a multiple of 4,096 bytes.
fn frames(journal: &[u8]) -> Vec<usize> {
    (0..journal.len()).step_by(4096).filter(|&at| journal[at..].starts_with(b"WHMBJRNL")).collect()
}

#[test]
fn any_flipped_byte_of_a_journal_that_was_not_carried_over_is_survived_and_reported() {
    let (image, _, original) = images();
    let journal = &image[Which::Journal];
    let newest = *frames(journal).last().unwrap();
    let used: Vec<usize> = (0..newest).filter(|&at| journal[at] != 0).collect();
    assert!(used.len() > 2_000, "{}", used.len());
    for at in used {
        judge(at, &original, &open_flipped(&image, (Which::Journal, at), 0x41));
    }
}

#[test]
fn a_record_of_every_kind_that_is_damaged_in_the_journal_is_named() {
    let (image, _, original) = images();
    for kind in Kind::ALL {
        let body = [kind as u8 + 16; 60];
        let at = image[Which::Journal].windows(60).position(|window| window == body).unwrap();
        let (found, report) = open_flipped(&image, (Which::Journal, at + 7), 0x41);
        let lost: Vec<_> = original.records.iter().filter(|record| !found.records.contains(record)).collect();
        assert!(lost.len() == 1 && lost[0].0 == kind, "lost {lost:?} instead of one {kind:?}");
        let sentence = report.damaged.iter().find(|sentence| sentence.contains(&format!("a record {kind:?}")));
        assert!(sentence.is_some(), "{:?}", report.damaged);
    }
}

#[test]
fn what_is_torn_at_the_end_of_the_journal_is_cut_silently() {
    let (mut image, _, original) = images();
    let newest = *frames(&image[Which::Journal]).last().unwrap();
    image[Which::Journal].truncate(newest + 60);
    let (store, report) = open_on(still(), Arc::new(MemoryDisk::of(image))).unwrap();
    assert_eq!(report.damaged, Vec::<String>::new());
    // Its last submission settled three slots, which are there again.
    let live = |contents: &Contents| contents.records.iter().map(|(_, _, sessions)| sessions.len()).sum::<usize>();
    assert_eq!(live(&Contents::of(&store)), live(&original) + 3);
}

#[test]
fn a_journal_mends_an_engine_whose_pages_are_damaged() {
    let (_, mut image, original) = images();
    image[Which::Engine][..4096].fill(0xA5);
    let (store, report) = open_on(still(), Arc::new(MemoryDisk::of(image))).unwrap();
    assert!(!report.damaged.is_empty());
    assert_eq!(Contents::of(&store), original);
}

#[test]
fn a_journal_of_another_store_is_left_alone() {
    let ((stranger, ..), (_, mut image, original)) = (images(), images());
    image[Which::Journal] = stranger[Which::Journal].clone();
    let (store, report) = open_on(still(), Arc::new(MemoryDisk::of(image))).unwrap();
    assert_eq!((Contents::of(&store), report.damaged), (original, Vec::new()));
}

#[test]
fn a_payload_that_looks_like_a_newer_journal_is_not_taken_for_ours() {
    let (image, _, original) = images();
    let (stranger, ..) = images_after(8); // in the remains of frames that were written over
    let mut ruined = image.clone();
    ruined[Which::Engine][..4096].fill(0xA5);
    let end = ruined[Which::Journal].len().next_multiple_of(4096);
    ruined[Which::Journal].resize(end, 0);
    ruined[Which::Journal].extend_from_slice(&stranger[Which::Journal][4096..]);
    let (store, report) = open_on(still(), Arc::new(MemoryDisk::of(ruined))).unwrap();
    assert!(!report.damaged.is_empty());
    assert_eq!(Contents::of(&store), original);
}

#[test]
fn a_rescue_writes_no_older_frame_over_a_change_that_went_past_the_journal() {
    let disk = MemoryDisk::default();
    let store: Arc<dyn Store> = Arc::new(open_on(still(), Arc::new(disk.clone())).unwrap().0);
    let mut hand = Hand::of(Arc::clone(&store));
    hand.writer.put(Space::SESSION, b"key", b"old");
    hand.commit();
    hand.writer.put(Space::SESSION, b"key", b"new");
    hand.put(Kind::Message, &vec![1; 400_000], &[1]); // too long for the journal
    hand.commit();
    let mut image = disk.inside().image.clone();
    let original = Contents::of(&*store);
    image[Which::Engine][..4096].fill(0xA5);
    let (again, report) = open_on(still(), Arc::new(MemoryDisk::of(image))).unwrap();
    assert!(!report.damaged.is_empty());
    assert_eq!(Contents::of(&again), original);
}

#[test]
fn an_older_copy_of_the_engine_beside_the_journal_is_reported() {
    let (_, older, _) = images();
    let disk = MemoryDisk::of(older.clone());
    let store: Arc<dyn Store> = Arc::new(open_on(still(), Arc::new(disk.clone())).unwrap().0);
    let mut hand = Hand::of(Arc::clone(&store));
    hand.put(Kind::Message, b"carried over", &[1]);
    hand.commit();
    Contents::of(&*store);
    hand.put(Kind::Message, b"in the journal", &[1]);
    hand.commit();
    let mut mixed = disk.inside().image.clone();
    mixed[Which::Engine] = older[Which::Engine].clone();
    let (_, report) = open_on(still(), Arc::new(MemoryDisk::of(mixed))).unwrap();
    assert!(report.damaged.iter().any(|what| what.contains("older copy")), "{:?}", report.damaged);
}

#[test]
fn a_rescue_gives_no_slot_again_that_only_the_journal_knows() {
    let disk = MemoryDisk::default();
    drop(open_on(still(), Arc::new(disk.clone())).unwrap());
    let meta = redb::TableDefinition::<&str, u64>::new("meta");
    let database = redb::Database::builder().create_with_backend(disk.engine()).unwrap();
    let write = database.begin_write().unwrap();
    write.open_table(meta).unwrap().insert("reserved", 1 << 45).unwrap(); // a store that gave many and wrote few
    write.commit().unwrap();
    drop(database);
    let store: Arc<dyn Store> = Arc::new(open_on(still(), Arc::new(disk.clone())).unwrap().0);
    let mut hand = Hand::of(store);
    let before = hand.put(Kind::Message, b"in the journal alone", &[1])[0];
    hand.commit();
    let mut image = disk.inside().image.clone();
    image[Which::Engine][..4096].fill(0xA5);
    let (again, _) = open_on(still(), Arc::new(MemoryDisk::of(image))).unwrap();
    assert_eq!(Contents::of(&again).records.len(), 1);
    let after = Hand::of(Arc::new(again)).put(Kind::Message, b"new", &[1])[0];
    assert!(after > before, "{after:?} after {before:?}");
}
