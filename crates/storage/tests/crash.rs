//! Power is lost at any moment: what was acknowledged is there afterwards, and a submission is there whole or not at all.
//!
//! The disk forgets what was not synced: each write since the last sync is kept, lost or torn, in any order. `CRASH_CUTS`
//! sets the number of cuts, `CRASH_SEED` the story; a failure prints both.

mod kit;

use std::sync::Arc;

use kit::{Contents, Dice, Hand, MemoryDisk, Op, apply, options};
use whimbrel_storage::{Kind, Slot, Space, Store, open_on};

const SUBMISSIONS: u64 = 120;
const SECTOR: usize = 512;

/// What happened: the disk's diary, and what the store held after each submission that was acknowledged.
struct Story {
    diary: Vec<Op>,
    /// Length of the diary at the acknowledgement, and what the store held then.
    acknowledged: Vec<(usize, Contents)>,
}

fn number_from(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().expect("a number"))
}

fn tell(seed: u64) -> Story {
    let disk = MemoryDisk::default();
    disk.inside().keeps_diary = true;
    let (store, _) = open_on(options(), Arc::new(disk.clone())).unwrap();
    let store: Arc<dyn Store> = Arc::new(store);
    let mut hand = Hand::of(Arc::clone(&store));
    let mut dice = Dice(seed);
    let mut live = Vec::new();
    let mut story = Story { diary: Vec::new(), acknowledged: vec![(disk.inside().diary.len(), Contents::default())] };
    for _ in 0..SUBMISSIONS {
        take_turn(&mut hand, &mut dice, &mut live);
        hand.commit();
        let length = disk.inside().diary.len();
        story.acknowledged.push((length, Contents::of(&*store)));
    }
    story.diary = disk.inside().diary.clone();
    story
}

fn take_turn(hand: &mut Hand, dice: &mut Dice, live: &mut Vec<Slot>) {
    for _ in 0..dice.below(6) {
        let body = vec![dice.next() as u8; dice.below(400) as usize];
        let sessions: Vec<u64> = (0..1 + dice.below(3)).collect();
        live.extend(hand.put(Kind::ALL[dice.below(6) as usize], &body, &sessions));
    }
    for _ in 0..dice.below(10).min(live.len() as u64) {
        let place = dice.below(live.len().min(30) as u64) as usize;
        hand.writer.settle(live.remove(place));
    }
    if dice.below(3) == 0 && !live.is_empty() {
        hand.writer.supersede(live.pop().expect("not empty"));
        live.extend(hand.put(Kind::Retained, b"the new one", &[9]));
    }
    if dice.below(3) == 0 {
        hand.writer.put(Space::SESSION, &[dice.below(5) as u8], &dice.next().to_le_bytes());
    }
}

/// What the disk may hold after a cut: all that was synced, and of the rest whatever it likes.
fn survivors(synced: &[u8], unsynced: &[Op], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = synced.to_vec();
    let mut order: Vec<&Op> = unsynced.iter().collect();
    for place in (1..order.len()).rev() {
        order.swap(place, dice.below(place as u64 + 1) as usize);
    }
    for op in order {
        match (op, dice.below(3)) {
            (Op::Write(at, data), 1) => tear(&mut bytes, *at, data, dice),
            (op, 2) => apply(&mut bytes, op),
            _ => {}
        }
    }
    bytes
}

fn tear(bytes: &mut Vec<u8>, at: u64, data: &[u8], dice: &mut Dice) {
    for (place, sector) in data.chunks(SECTOR).enumerate() {
        if dice.below(2) == 0 {
            apply(bytes, &Op::Write(at + (place * SECTOR) as u64, sector.to_vec()));
        }
    }
}

/// Cuts the power `cuts` times or more, spread over the whole story; returns how often, and what went wrong.
fn cut_everywhere(story: &Story, cuts: u64, seed: u64) -> (u64, Vec<String>) {
    let first = story.acknowledged[0].0; // before that, there is no store yet
    let per_place = cuts.div_ceil((story.diary.len() - first) as u64);
    let (mut synced, mut unsynced_from) = (Vec::new(), 0);
    let (mut done, mut wrong) = (0, Vec::new());
    for place in 0..=story.diary.len() {
        for variant in 0..if place > first { per_place } else { 0 } {
            let mut dice = Dice((seed << 32) ^ ((place as u64) << 8) ^ variant);
            let bytes = survivors(&synced, &story.diary[unsynced_from..place], &mut dice);
            wrong.extend(check(story, place, bytes).map(|what| format!("cut {place}, variant {variant}: {what}")));
            done += 1;
        }
        if let Some(Op::Sync) = story.diary.get(place) {
            story.diary[unsynced_from..=place].iter().for_each(|op| apply(&mut synced, op));
            unsynced_from = place + 1;
        }
    }
    (done, wrong)
}

/// What is wrong: the store must be what it was at the last acknowledgement before the cut, or one whole submission further.
fn check(story: &Story, place: usize, bytes: Vec<u8>) -> Option<String> {
    let (store, report) = match open_on(options(), Arc::new(MemoryDisk::of(bytes))) {
        Ok(opened) => opened,
        Err(failure) => return Some(failure.to_string()),
    };
    let found = Contents::of(&store);
    let last = story.acknowledged.partition_point(|(length, _)| *length <= place) - 1;
    let expected = &story.acknowledged[last].1;
    let is_next = story.acknowledged.get(last + 1).is_some_and(|(_, contents)| found == *contents);
    if found != *expected && !is_next {
        return Some(format!("after acknowledgement {last} there is\n{found:?}\ninstead of\n{expected:?}"));
    }
    (!report.damaged.is_empty()).then(|| format!("{:?}", report.damaged))
}

#[test]
fn nothing_acknowledged_is_lost_wherever_the_power_goes() {
    let cuts = number_from("CRASH_CUTS", 10_000);
    let seed = number_from("CRASH_SEED", 1);
    let (done, wrong) = cut_everywhere(&tell(seed), cuts, seed);
    assert!(wrong.is_empty(), "CRASH_SEED={seed} CRASH_CUTS={cuts}: {} of {done} wrong; {}", wrong.len(), wrong[0]);
    assert!(done >= cuts, "{done} cuts");
}

#[test]
fn a_disk_that_does_not_sync_is_found_out() {
    let mut story = tell(7);
    let first = story.acknowledged[0].0; // until then the engine's file is made; without it there is nothing to open
    let syncs = story.diary.iter_mut().skip(first).filter(|op| matches!(op, Op::Sync));
    syncs.for_each(|op| *op = Op::Write(0, Vec::new()));
    let (done, wrong) = cut_everywhere(&story, 200, 7);
    assert!(wrong.len() as u64 > done / 2, "only {} of {done} cuts showed that nothing was synced", wrong.len());
}
