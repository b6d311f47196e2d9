//! Several lives of a store in a row, each ended by a cut of the power at any moment, also while it opens, on a disk that
//! fails now and then: what was acknowledged is there, once, and nothing that was settled.
//!
//! A life turns the journal's halves, carries over on the other thread, writes changes too long for the journal, recovers
//! space, and changes the journal's length. `LIVES_SEEDS` sets how many stories are told, `LIVES_SEED` the first of them; a failure prints its own.

mod kit;

use std::collections::BTreeMap;
use std::sync::Arc;

use kit::{Dice, Hand, Image, MemoryDisk, Op, Which, apply, hash_of, options};
use whimbrel_storage::{Fetch, Kind, Options, Record, Slot, Space, State, Store, Visitor, open_on};

const LIVES: u64 = 4;
const TURNS: u64 = 40;
const CUTS: u64 = 150;

/// What a store holds, by slot.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
struct Held {
    live: BTreeMap<Slot, (Kind, u64, u64)>, // kind, hash of the body, session
    keyed: BTreeMap<Vec<u8>, Vec<u8>>,
    doubled: Vec<Slot>,
}

impl Held {
    fn of(store: &dyn Store) -> Held {
        let mut held = Held::default();
        store.replay(&mut held).unwrap();
        held
    }
}

impl Visitor for Held {
    fn record(&mut self, record: &Record<'_>, live: &[Slot]) {
        for &slot in live {
            let held = (record.kind, hash_of(record.body), record.receiver(slot).unwrap().session);
            if self.live.insert(slot, held).is_some() {
                self.doubled.push(slot);
            }
        }
    }

    fn keyed(&mut self, _: Space, key: &[u8], value: &[u8]) {
        self.keyed.insert(key.to_vec(), value.to_vec());
    }
}

/// One life: what it began on, what it asked of the disk, and what it held at each acknowledgement.
struct Life {
    began: Image,
    diary: Vec<(Which, Op)>,
    acknowledged: Vec<(usize, Held)>,
}

fn rules(dice: &mut Dice) -> Options {
    Options { journal_bytes: [24 << 10, 64 << 10, 256 << 10][dice.below(3) as usize], ..options() }
}

fn live(began: Image, held: Held, dice: &mut Dice) -> Life {
    let disk = MemoryDisk::of(began.clone());
    disk.inside().keeps_diary = true;
    let store: Arc<dyn Store> = Arc::new(open_on(rules(dice), Arc::new(disk.clone())).unwrap().0);
    let mut hand = Hand::of(Arc::clone(&store));
    let mut life = Life { began, diary: Vec::new(), acknowledged: vec![(0, held.clone())] };
    let mut held = held;
    for _ in 0..TURNS {
        take_turn(&mut hand, &mut held, dice);
        if dice.below(5) == 0 {
            disk.inside().syncs_fail = dice.below(2) == 0;
            disk.inside().fails_after = Some(dice.below(14));
        }
        let ticket = hand.submit();
        hand.bell.until(|| {
            if store.state() != State::Serving {
                disk.inside().fails_after = None;
            }
            store.committed() >= ticket && store.state() == State::Serving
        });
        if dice.below(3) != 0 {
            disk.inside().fails_after = None; // else it may meet another thread
        }
        life.acknowledged.push((disk.inside().diary.len(), held.clone()));
    }
    disk.inside().fails_after = None;
    assert_all_is_found(&mut hand, &held);
    assert_same(&Held::of(&*store), &held, "while it lives");
    life.diary = disk.inside().diary.clone();
    life
}

fn take_turn(hand: &mut Hand, held: &mut Held, dice: &mut Dice) {
    for _ in 0..1 + dice.below(5) {
        let length = if dice.below(25) == 0 { 40_000 } else { dice.below(900) };
        let body = vec![dice.next() as u8; length as usize];
        let kind = Kind::ALL[dice.below(6) as usize];
        let sessions: Vec<u64> = (0..1 + dice.below(3)).collect();
        let slots = hand.put(kind, &body, &sessions).into_iter().zip(sessions);
        held.live.extend(slots.map(|(slot, session)| (slot, (kind, hash_of(&body), session))));
    }
    for _ in 0..dice.below(10) {
        let place = dice.below(1 + held.live.len().min(40) as u64) as usize;
        let Some(&slot) = held.live.keys().nth(place) else { break };
        held.live.remove(&slot);
        hand.writer.settle(slot);
    }
    if dice.below(2) == 0 {
        let (key, value) = ([dice.below(6) as u8], dice.next().to_le_bytes());
        if dice.below(4) == 0 {
            hand.writer.remove(Space::SESSION, &key);
            held.keyed.remove(&key[..]);
        } else {
            hand.writer.put(Space::SESSION, &key, &value);
            held.keyed.insert(key.to_vec(), value.to_vec());
        }
    }
}

fn assert_all_is_found(hand: &mut Hand, held: &Held) {
    let (store, lane) = (Arc::clone(hand.writer.store()), hand.writer.lane());
    store.fetch(Fetch { lane, token: 0, slots: held.live.keys().copied().collect() });
    let mut answers = Vec::new();
    hand.bell.until(|| {
        store.fetched(lane, &mut answers);
        !answers.is_empty()
    });
    assert_eq!(answers[0].missing, Vec::new());
    for found in &answers[0].found {
        assert_eq!(hash_of(found.record().body), held.live[&found.slot].1);
    }
}

/// What the disk holds after a cut at `place` of the diary: all that was synced, and any part of the rest.
fn survivor(life: &Life, place: usize, dice: &mut Dice) -> Image {
    let (mut image, mut unsynced) = (life.began.clone(), Vec::<&(Which, Op)>::new());
    for now in &life.diary[..place] {
        unsynced.push(now);
        if matches!(now.1, Op::Sync) {
            unsynced.iter().filter(|(which, _)| *which == now.0).for_each(|(which, op)| apply(&mut image[*which], op));
            unsynced.retain(|(which, _)| *which != now.0);
        }
    }
    let keeps = dice.below(4); // nothing, a process was killed, or anything between
    for (which, op) in unsynced {
        if keeps == 1 || (keeps > 1 && dice.below(2) == 0) {
            apply(&mut image[*which], op);
        } else if let (2, Op::Write(at, data)) = (keeps, op) {
            let torn = 512 * dice.below(data.len() as u64 / 512 + 1) as usize;
            apply(&mut image[*which], &Op::Write(*at, data[..torn].to_vec()));
        }
    }
    image
}

/// What is there after the cut, if it is what it must be.
fn check(life: &Life, place: usize, image: Image, dice: &mut Dice) -> Held {
    let (store, report) = open_on(rules(dice), Arc::new(MemoryDisk::of(image))).unwrap();
    assert_eq!(report.damaged, Vec::<String>::new());
    let found = Held::of(&store);
    let last = life.acknowledged.partition_point(|(length, _)| *length <= place) - 1;
    let is_next = life.acknowledged.get(last + 1).is_some_and(|(_, held)| found == *held);
    if !is_next {
        assert_same(&found, &life.acknowledged[last].1, &format!("after acknowledgement {last}"));
    }
    found
}

fn assert_same(found: &Held, expected: &Held, when: &str) {
    let lost: Vec<_> = expected.live.keys().filter(|slot| !found.live.contains_key(slot)).collect();
    let back: Vec<_> = found.live.keys().filter(|slot| !expected.live.contains_key(slot)).collect();
    let doubled = &found.doubled;
    assert!(found == expected, "{when}: lost {lost:?}, back {back:?}, doubled {doubled:?}");
}

fn tell(seed: u64) {
    let mut dice = Dice(seed << 32);
    let (mut image, mut held) = (Image::default(), Held::default());
    // Before the first life there must be a store: a cut while it is founded leaves none.
    let disk = MemoryDisk::default();
    drop(open_on(options(), Arc::new(disk.clone())).unwrap());
    std::mem::swap(&mut image, &mut disk.inside().image);
    for number in 0..LIVES {
        let life = live(image.clone(), held.clone(), &mut dice);
        for cut in 0..CUTS {
            let place = dice.below(life.diary.len() as u64 + 1) as usize;
            println!("seed {seed}, life {number}, cut {cut} at {place} of {}", life.diary.len());
            image = survivor(&life, place, &mut dice);
            held = check(&life, place, image.clone(), &mut dice);
        }
    }
}

#[test]
fn life_after_life_nothing_is_lost_or_doubled() {
    let number = |name, default| std::env::var(name).ok().map_or(default, |text| text.parse().expect("a number"));
    let first = number("LIVES_SEED", 1);
    (first..first + number("LIVES_SEEDS", 6)).for_each(tell);
}
