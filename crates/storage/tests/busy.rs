//! Several workers at once, acknowledgements from other workers than the publishers', groups that overlap: what the store
//! holds is what was not settled, and what a crash leaves is what the tickets promised.

mod kit;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use kit::{Contents, Dice, Hand, Image, MemoryDisk, Op, Which, apply, hash_of, options};
use whimbrel_storage::{Kind, Options, Slot, Store, Ticket, open_on};

/// A pace at which groups are gathered, judged and carried over.
fn paced() -> Options {
    Options { pace: Duration::from_micros(300), ..options() }
}

fn publish(store: Arc<dyn Store>, seed: u64, count: u64, settlers: &[mpsc::Sender<(u64, Slot)>]) {
    let mut hand = Hand::of(store);
    let mut dice = Dice(seed);
    let mut last = Ticket(0);
    let mut waiting = Vec::new();
    for n in 0..count {
        let id = (seed << 32) | n;
        let slot = hand.put(Kind::Message, &id.to_le_bytes(), &[id])[0];
        waiting.push((id, slot));
        if dice.below(4) == 0 {
            let ticket = hand.submit();
            assert!(ticket > last, "tickets rise");
            last = ticket;
            for sent in waiting.drain(..) {
                settlers[dice.below(settlers.len() as u64) as usize].send(sent).unwrap();
            }
        }
        if dice.below(50) == 0 {
            hand.wait(last);
        }
    }
    hand.commit();
    waiting.into_iter().for_each(|sent| settlers[0].send(sent).unwrap());
}

/// Settles two of three; the identities of the others.
fn subscribe(store: Arc<dyn Store>, seed: u64, slots: &mpsc::Receiver<(u64, Slot)>) -> BTreeSet<u64> {
    let mut hand = Hand::of(store);
    let mut dice = Dice(seed);
    let mut kept = BTreeSet::new();
    let mut delayed: Vec<Slot> = Vec::new();
    for (id, slot) in slots {
        match dice.below(3) {
            0 => drop(kept.insert(id)),
            1 => hand.writer.settle(slot),
            _ => delayed.push(slot),
        }
        if dice.below(20) == 0 {
            delayed.drain(..).for_each(|slot| hand.writer.settle(slot));
        }
        hand.submit();
    }
    delayed.into_iter().for_each(|slot| hand.writer.settle(slot));
    hand.commit();
    kept
}

#[test]
fn what_is_not_settled_stays_whoever_settles_and_when() {
    for seed in 1..6 {
        let disk = MemoryDisk::default();
        let store: Arc<dyn Store> = Arc::new(open_on(paced(), Arc::new(disk.clone())).unwrap().0);
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..2).map(|_| mpsc::channel()).unzip();
        let settling = receivers.into_iter().zip(100 * seed..).map(|(slots, seed)| {
            let store = Arc::clone(&store);
            std::thread::spawn(move || subscribe(store, seed, &slots))
        });
        let settling: Vec<_> = settling.collect();
        let publishing = (10 * seed..10 * seed + 3).map(|seed| {
            let (store, senders) = (Arc::clone(&store), senders.clone());
            std::thread::spawn(move || publish(store, seed, 1500, &senders))
        });
        publishing.collect::<Vec<_>>().into_iter().for_each(|thread| thread.join().unwrap());
        drop(senders);
        let kept: BTreeSet<u64> = settling.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        let statistics = store.statistics();
        assert_eq!(statistics.written + statistics.elided, 4500, "seed {seed}");
        store.close();
        let again = open_on(options(), Arc::new(disk)).unwrap().0;
        let records = Contents::of(&again).records;
        let found: BTreeSet<u64> = records.iter().flat_map(|(_, _, sessions)| sessions.clone()).collect();
        assert_eq!(found, kept, "seed {seed}");
        let in_order = records.windows(2).filter(|pair| pair[0].2[0] >> 32 == pair[1].2[0] >> 32);
        assert!(in_order.into_iter().all(|pair| pair[0].2 < pair[1].2), "seed {seed}: order of a publisher");
    }
}

/// The life of a record: when it was promised, and when its end was.
struct Life {
    put: Ticket,
    /// Ticket of the settlement, and the length of the diary before it was submitted.
    end: Option<(Ticket, usize)>,
}

#[derive(Default)]
struct Story {
    diary: Vec<(Which, Op)>,
    begins: usize,
    lives: BTreeMap<u64, Life>, // by hash of the body
    seen: Vec<(usize, Ticket)>, // length of the diary, committed before
}

/// Two workers; submissions are not waited for, so that groups hold several of them.
fn tell(seed: u64) -> Story {
    let disk = MemoryDisk::default();
    disk.inside().keeps_diary = true;
    let store: Arc<dyn Store> = Arc::new(open_on(paced(), Arc::new(disk.clone())).unwrap().0);
    let mut hands = [Hand::of(Arc::clone(&store)), Hand::of(Arc::clone(&store))];
    let mut story = Story { begins: disk.inside().diary.len(), ..Story::default() };
    let (mut dice, mut live) = (Dice(seed), Vec::new());
    for turn in 0..400_u64 {
        let hand = &mut hands[dice.below(2) as usize];
        let body = [turn.to_le_bytes(), seed.to_le_bytes()].concat().repeat(1 + dice.below(20) as usize);
        let (slot, hash) = (hand.put(Kind::Message, &body, &[turn])[0], hash_of(&body));
        let mut ended = Vec::new();
        for _ in 0..dice.below(3).min(live.len() as u64) {
            let oldest = live.len().saturating_sub(4) as u64; // mostly the newest: those may still be in the group
            let (slot, hash) = live.remove((oldest + dice.below(live.len() as u64 - oldest)) as usize);
            hand.writer.settle(slot);
            ended.push(hash);
        }
        let before = disk.inside().diary.len();
        let put = hand.submit();
        story.lives.insert(hash, Life { put, end: None });
        ended.iter().for_each(|hash| story.lives.get_mut(hash).unwrap().end = Some((put, before)));
        live.push((slot, hash));
        if dice.below(8) == 0 {
            hand.wait(put);
        }
        let committed = store.committed();
        story.seen.push((disk.inside().diary.len(), committed));
    }
    hands[0].commit();
    story.diary = disk.inside().diary.clone();
    story
}

#[test]
fn tickets_keep_their_promise_wherever_the_power_goes() {
    let mut cuts = 0;
    for seed in 1..6 {
        let story = tell(seed);
        let (mut synced, mut unsynced) = (Image::default(), Vec::<&(Which, Op)>::new());
        for (place, now) in story.diary.iter().enumerate() {
            if place > story.begins {
                let mut image = synced.clone();
                let mut dice = Dice((seed << 32) | place as u64);
                let kept = unsynced.iter().filter(|_| dice.below(2) == 0);
                kept.for_each(|(which, op)| apply(&mut image[*which], op));
                check(&story, place, image, seed);
                cuts += 1;
            }
            unsynced.push(now);
            let (file, op) = now;
            if matches!(op, Op::Sync) {
                unsynced.iter().filter(|(which, _)| which == file).for_each(|(_, op)| apply(&mut synced[*file], op));
                unsynced.retain(|(which, _)| which != file);
            }
        }
    }
    assert!(cuts > 500, "only {cuts} cuts");
}

fn check(story: &Story, place: usize, image: Image, seed: u64) {
    let (store, report) = open_on(options(), Arc::new(MemoryDisk::of(image))).unwrap();
    assert_eq!(report.damaged, Vec::<String>::new());
    let found: BTreeSet<u64> = Contents::of(&store).records.iter().map(|(_, hash, _)| *hash).collect();
    let committed =
        story.seen.iter().rev().find(|(length, _)| *length <= place).map_or(Ticket(0), |(_, ticket)| *ticket);
    for (hash, life) in &story.lives {
        let must_live = life.put <= committed && life.end.is_none_or(|(_, submitted)| submitted > place);
        let must_be_dead = life.end.is_some_and(|(ticket, _)| ticket <= committed);
        assert!(!must_live || found.contains(hash), "seed {seed}, cut {place}: lost what {:?} promised", life.put);
        assert!(!must_be_dead || !found.contains(hash), "seed {seed}, cut {place}: {:?} came back", life.put);
    }
}
