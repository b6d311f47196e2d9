//! Disks that are full, fail, or are slow: nothing acknowledged is lost, and the store goes on by itself.

mod kit;

use std::sync::Arc;
use std::time::Duration;

use kit::{Contents, Hand, MemoryDisk, Which, options};
use whimbrel_storage::{Fetch, Kind, Reclaiming, Slot, Space, State, Store, open_on};

/// Some turns of a worker, each committed; the disk fails after `changes` changes and heals once the store has said so.
fn live_through(changes: u64, syncs_fail: bool) -> bool {
    let disk = MemoryDisk::default();
    let (store, _) = open_on(options(), Arc::new(disk.clone())).unwrap();
    let store: Arc<dyn Store> = Arc::new(store);
    let mut hand = Hand::of(Arc::clone(&store));
    let mut live: Vec<Slot> = Vec::new();
    disk.inside().fails_after = Some(changes);
    disk.inside().syncs_fail = syncs_fail;
    let mut has_failed = false;
    for turn in 0..12_u64 {
        live.extend(hand.put(Kind::Message, &[turn as u8; 3000], &[turn, turn + 100]));
        live.drain(..live.len().min(turn as usize % 3)).for_each(|slot| hand.writer.settle(slot));
        hand.writer.put(Space::WILL, &[turn as u8], b"value");
        let ticket = hand.submit();
        hand.bell.until(|| {
            if let State::Refusing(why) = store.state() {
                assert!(why.contains("No space left"), "{why}");
                has_failed = true;
                disk.inside().fails_after = None;
            }
            store.committed() >= ticket && store.state() == State::Serving
        });
    }
    disk.inside().fails_after = None; // a failure that nobody met, because all was committed before
    let before = Contents::of(&*store);
    assert_eq!(before.keyed.len(), 12);
    assert_eq!(before.records.iter().map(|(_, _, sessions)| sessions.len()).sum::<usize>(), live.len());
    store.close();
    let (again, report) = open_on(options(), Arc::new(disk)).unwrap();
    assert_eq!((Contents::of(&again), report.damaged), (before, Vec::new()));
    has_failed
}

#[test]
fn no_room_at_any_write_delays_and_loses_nothing() {
    let failed = (0..150).filter(|&changes| live_through(changes, false)).count();
    assert!(failed > 60, "only {failed} of the failures were met");
}

#[test]
fn a_sync_that_fails_acknowledges_nothing() {
    let failed = (0..60).filter(|&changes| live_through(changes, true)).count();
    assert!(failed > 30, "only {failed} of the failures were met");
}

#[test]
fn a_full_disk_serves_what_is_stored() {
    let disk = MemoryDisk::default();
    let (store, _) = open_on(options(), Arc::new(disk.clone())).unwrap();
    let store: Arc<dyn Store> = Arc::new(store);
    let mut hand = Hand::of(Arc::clone(&store));
    let slots = hand.put(Kind::Message, b"stored before", &[1]);
    hand.commit();
    disk.inside().is_full = true;
    hand.put(Kind::Message, &vec![1; 8 << 20], &[1]); // too late
    let ticket = hand.submit();
    hand.bell.until(|| matches!(store.state(), State::Refusing(_)));
    store.fetch(Fetch { lane: hand.writer.lane(), token: 1, slots });
    let mut answers = Vec::new();
    hand.bell.until(|| {
        store.fetched(hand.writer.lane(), &mut answers);
        !answers.is_empty()
    });
    assert_eq!(answers[0].found[0].record().body, b"stored before");
    assert!(store.committed() < ticket);
    assert!(store.statistics().failures > 0);
    store.close(); // must not wait for room that never comes
    assert!(store.committed() < ticket);
}

#[test]
fn under_a_slow_disk_submissions_share_commits() {
    let disk = MemoryDisk::default();
    let (store, _) = open_on(options(), Arc::new(disk.clone())).unwrap();
    let store: Arc<dyn Store> = Arc::new(store);
    let mut hand = Hand::of(Arc::clone(&store));
    disk.inside().sync_takes = Duration::from_millis(20);
    let before = store.statistics().commits;
    for turn in 0..500_u64 {
        hand.put(Kind::Message, &[1; 100], &[turn]);
        hand.submit();
    }
    hand.commit();
    assert!(store.statistics().commits - before < 100);
    assert_eq!(store.statistics().live, 500);
}

#[test]
fn a_record_that_all_settled_before_its_commit_is_never_written() {
    let disk = MemoryDisk::default();
    let (store, _) = open_on(options(), Arc::new(disk.clone())).unwrap();
    let store: Arc<dyn Store> = Arc::new(store);
    let (mut publisher, mut subscriber) = (Hand::of(Arc::clone(&store)), Hand::of(Arc::clone(&store)));
    publisher.put(Kind::Message, b"blocks the committer", &[1]);
    disk.inside().sync_takes = Duration::from_millis(50);
    let before = disk.inside().changes;
    let blocking = publisher.submit();
    publisher.bell.until(|| disk.inside().changes > before); // the group is taken; its sync takes a while
    let slots = publisher.put(Kind::Message, b"fast", &[1, 2]);
    let ticket = publisher.submit();
    slots.into_iter().for_each(|slot| subscriber.writer.settle(slot));
    subscriber.submit();
    publisher.wait(ticket);
    publisher.wait(blocking);
    let statistics = store.statistics();
    assert_eq!((statistics.written, statistics.elided, statistics.live), (1, 2, 1));
}

#[test]
fn space_recovery_that_fails_leaves_the_store_serving_once_the_disk_is_well() {
    let disk = MemoryDisk::default();
    let (store, _) = open_on(options(), Arc::new(disk.clone())).unwrap();
    let store: Arc<dyn Store> = Arc::new(store);
    let mut hand = Hand::of(Arc::clone(&store));
    for _ in 0..20 {
        let slots = hand.put(Kind::Message, &[1; 500], &[1]);
        hand.commit();
        disk.inside().fails_after = Some(20); // the commit of the settlement may pass, space recovery behind it fails
        slots.into_iter().for_each(|slot| hand.writer.settle(slot));
        hand.submit();
        hand.bell.until(|| {
            let is_well = store.state() == State::Serving;
            if !is_well {
                disk.inside().fails_after = None;
            }
            is_well && store.statistics().live == 0
        });
        disk.inside().fails_after = None;
        hand.bell.until(|| store.state() == State::Serving);
    }
}

#[test]
fn a_file_that_holds_little_becomes_small_again_by_itself() {
    let disk = MemoryDisk::default();
    let (store, _) = open_on(options(), Arc::new(disk.clone())).unwrap();
    let store: Arc<dyn Store> = Arc::new(store);
    let mut hand = Hand::of(Arc::clone(&store));
    let queued: Vec<Slot> = (0..400_u64).flat_map(|n| hand.put(Kind::Message, &[n as u8; 50_000], &[n])).collect();
    hand.commit();
    for n in 0..50_u64 {
        hand.put(Kind::Retained, &[n as u8; 5_000], &[n]); // behind the queue in the file
    }
    hand.commit();
    let full = store.statistics().file_bytes;
    assert!(full > 20_000_000, "{full}");
    (0..100_u8).for_each(|n| hand.writer.put(Space::CONTROL, &[n], &[n; 1_000])); // at its very end
    queued.into_iter().for_each(|slot| hand.writer.settle(slot));
    hand.commit();
    hand.bell.until(|| store.statistics().file_bytes < full / 3);
    assert_eq!(Contents::of(&*store).records.len(), 50);
    store.close();
    assert!((disk.inside().image[Which::Engine].len() as u64) < full / 3);
    let (again, report) = open_on(options(), Arc::new(disk)).unwrap();
    assert_eq!((Contents::of(&again).records.len(), report.damaged), (50, Vec::new()));
}

#[test]
fn room_that_was_found_beside_other_work_is_given_back_too() {
    let disk = MemoryDisk::default();
    let idle_after = Duration::from_millis(50);
    let reclaiming = Reclaiming { idle_after, ..options().reclaiming };
    let options = whimbrel_storage::Options { reclaiming, ..options() };
    let (store, _) = open_on(options, Arc::new(disk)).unwrap();
    let store: Arc<dyn Store> = Arc::new(store);
    let mut hand = Hand::of(Arc::clone(&store));
    let queued: Vec<Slot> = (0..200_u64).flat_map(|n| hand.put(Kind::Message, &[n as u8; 50_000], &[n])).collect();
    hand.commit();
    let full = store.statistics().file_bytes;
    assert!(full > 10_000_000, "{full}");
    queued.into_iter().for_each(|slot| hand.writer.settle(slot));
    // The last of it is swept by these commits, so that an idle store finds nothing dead.
    while store.statistics().chunks > 0 {
        hand.writer.put(Space::SESSION, b"busy", b"value");
        hand.commit();
    }
    hand.bell.until(|| store.statistics().file_bytes < full / 4);
}
