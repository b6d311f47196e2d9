//! Power is lost at any moment: what was acknowledged is there afterwards, and a submission is there whole or not at all.
//!
//! The disk forgets what was not synced: each write since the last sync is kept, lost or torn, in any order. `CRASH_CUTS`
//! sets the number of cuts, `CRASH_SEED` the story; a failure prints both.

mod kit;

use std::sync::Arc;

use kit::{Contents, Dice, Hand, Image, MemoryDisk, Op, Which, apply, options};
use whimbrel_storage::{Kind, Memory, Slot, Space, Store, open_on};

const SUBMISSIONS: u64 = 120;
const SECTOR: usize = 512;

/// What happened: the disk's diary, and what the store held after each submission that was acknowledged.
struct Story {
    diary: Vec<(Which, Op)>,
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
    // To ask the store itself would carry its journal over; its twin is asked, to which the same happens.
    let mut sides = [Side::of(Arc::new(store)), Side::of(Arc::new(Memory::new()))];
    let mut story = Story { diary: Vec::new(), acknowledged: vec![(disk.inside().diary.len(), Contents::default())] };
    for turn in 0..SUBMISSIONS {
        for side in &mut sides {
            take_turn(side, &mut Dice(seed << 32 | turn));
            side.hand.commit();
        }
        let length = disk.inside().diary.len();
        story.acknowledged.push((length, Contents::of(&**sides[1].hand.writer.store())));
    }
    story.diary = disk.inside().diary.clone();
    story
}

/// A store with what is live in it.
struct Side {
    hand: Hand,
    live: Vec<Slot>,
}

impl Side {
    fn of(store: Arc<dyn Store>) -> Side {
        Side { hand: Hand::of(store), live: Vec::new() }
    }
}

fn take_turn(Side { hand, live }: &mut Side, dice: &mut Dice) {
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
fn survivors(synced: &Image, unsynced: &[&(Which, Op)], dice: &mut Dice) -> Image {
    let mut image = synced.clone();
    let mut order = unsynced.to_vec();
    for place in (1..order.len()).rev() {
        order.swap(place, dice.below(place as u64 + 1) as usize);
    }
    for (which, op) in order {
        match (op, dice.below(3)) {
            (Op::Write(at, data), 1) => tear(&mut image[*which], *at, data, dice),
            (op, 2) => apply(&mut image[*which], op),
            _ => {}
        }
    }
    image
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
    let (mut synced, mut unsynced) = (Image::default(), Vec::<&(Which, Op)>::new());
    let (mut done, mut wrong) = (0, Vec::new());
    for place in 0..=story.diary.len() {
        for variant in 0..if place > first { per_place } else { 0 } {
            let mut dice = Dice((seed << 32) ^ ((place as u64) << 8) ^ variant);
            let image = survivors(&synced, &unsynced, &mut dice);
            wrong.extend(check(story, place, image).map(|what| format!("cut {place}, variant {variant}: {what}")));
            done += 1;
        }
        let Some(now @ (file, op)) = story.diary.get(place) else { break };
        unsynced.push(now);
        if matches!(op, Op::Sync) {
            // A sync is one file's.
            unsynced.iter().filter(|(which, _)| which == file).for_each(|(_, op)| apply(&mut synced[*file], op));
            unsynced.retain(|(which, _)| which != file);
        }
    }
    (done, wrong)
}

/// What is wrong: the store must be what it was at the last acknowledgement before the cut, or one whole submission further.
fn check(story: &Story, place: usize, image: Image) -> Option<String> {
    let (store, report) = match open_on(options(), Arc::new(MemoryDisk::of(image))) {
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
    let syncs = story.diary.iter_mut().skip(first).filter(|(_, op)| matches!(op, Op::Sync));
    syncs.for_each(|(_, op)| *op = Op::Write(0, Vec::new()));
    let (done, wrong) = cut_everywhere(&story, 200, 7);
    assert!(wrong.len() as u64 > done / 2, "only {} of {done} cuts showed that nothing was synced", wrong.len());
}
