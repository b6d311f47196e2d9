//! Whatever is done to them, the store on disk and its twin in memory hold the same, after reopening, too.

mod kit;

use std::sync::Arc;

use kit::{Contents, Hand, MemoryDisk, options};
use proptest::prelude::*;
use whimbrel_storage::{Fetch, Kind, Memory, Slot, Space, open_on};

#[derive(Clone, Debug)]
enum Step {
    Put { kind: usize, receivers: u64, bytes: usize },
    Settle(prop::sample::Index),
    SettleOldest(usize),
    Supersede(prop::sample::Index),
    Key(u8, Option<u8>),
    Submit,
    Commit,
    Reopen,
    Fetch,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (0..Kind::ALL.len(), 0..4_u64, 0..300_usize)
            .prop_map(|(kind, receivers, bytes)| Step::Put { kind, receivers, bytes }),
        1 => Just(Step::Put { kind: 0, receivers: 2, bytes: 80_000 }),
        6 => any::<prop::sample::Index>().prop_map(Step::Settle),
        2 => (0..20_usize).prop_map(Step::SettleOldest),
        2 => any::<prop::sample::Index>().prop_map(Step::Supersede),
        2 => (0..4_u8, prop::option::of(any::<u8>())).prop_map(|(key, value)| Step::Key(key, value)),
        3 => Just(Step::Submit),
        3 => Just(Step::Commit),
        1 => Just(Step::Reopen),
        1 => Just(Step::Fetch),
    ];
    prop::collection::vec(step, 1..250)
}

/// Both stores, and what is live in them: the slot on disk, the twin's slot.
struct Pair {
    disk: MemoryDisk,
    real: Hand,
    twin: Hand,
    live: Vec<(Slot, Slot)>,
    puts: u64,
}

impl Pair {
    fn new() -> Pair {
        let disk = MemoryDisk::default();
        let twin = Hand::of(Arc::new(Memory::new()));
        Pair { real: reopened(&disk), disk, twin, live: Vec::new(), puts: 0 }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Put { kind, receivers, bytes } => self.put(Kind::ALL[*kind], *receivers, *bytes),
            Step::Settle(which) if !self.live.is_empty() => {
                let place = which.index(self.live.len());
                self.settle(place);
            }
            Step::Supersede(which) if !self.live.is_empty() => {
                let (real, twin) = self.live.remove(which.index(self.live.len()));
                self.real.writer.supersede(real);
                self.twin.writer.supersede(twin);
                self.put(Kind::Retained, 1, 50);
            }
            Step::SettleOldest(count) => (0..(*count).min(self.live.len())).for_each(|_| self.settle(0)),
            Step::Key(key, value) => self.key(*key, *value),
            Step::Submit => self.submit(),
            Step::Commit => self.commit(),
            Step::Reopen => self.reopen(),
            Step::Fetch => self.fetch(),
            Step::Settle(_) | Step::Supersede(_) => {}
        }
    }

    fn put(&mut self, kind: Kind, receivers: u64, bytes: usize) {
        self.puts += 1;
        let mut body = self.puts.to_le_bytes().to_vec();
        body.resize(8 + bytes, self.puts as u8);
        let sessions: Vec<u64> = (0..receivers).map(|receiver| self.puts * 10 + receiver).collect();
        let slots = self.real.put(kind, &body, &sessions);
        self.live.extend(slots.into_iter().zip(self.twin.put(kind, &body, &sessions)));
    }

    fn settle(&mut self, place: usize) {
        let (real, twin) = self.live.remove(place);
        self.real.writer.settle(real);
        self.twin.writer.settle(twin);
    }

    fn key(&mut self, key: u8, value: Option<u8>) {
        for hand in [&mut self.real, &mut self.twin] {
            match value {
                Some(value) => hand.writer.put(Space::SESSION, &[key], &[value; 40]),
                None => hand.writer.remove(Space::SESSION, &[key]),
            }
        }
    }

    fn submit(&mut self) {
        self.real.submit();
        self.twin.submit();
    }

    fn commit(&mut self) {
        self.real.commit();
        self.twin.commit();
    }

    fn reopen(&mut self) {
        self.commit();
        self.real.writer.store().close();
        self.real = reopened(&self.disk);
        self.compare();
    }

    fn fetch(&mut self) {
        let (real, twin): (Vec<Slot>, Vec<Slot>) = self.live.iter().copied().unzip();
        self.submit();
        assert_eq!(fetched(&self.real, real), fetched(&self.twin, twin));
    }

    fn compare(&self) {
        let (real, twin) = (self.real.writer.store(), self.twin.writer.store());
        assert_eq!(Contents::of(&**real), Contents::of(&**twin));
        assert_eq!(real.statistics().live, self.live.len() as u64);
    }
}

fn reopened(disk: &MemoryDisk) -> Hand {
    let (store, report) = open_on(options(), Arc::new(disk.clone())).unwrap();
    assert_eq!(report.damaged, Vec::<String>::new());
    Hand::of(Arc::new(store))
}

/// The bodies behind slots, and how many were missing.
fn fetched(hand: &Hand, slots: Vec<Slot>) -> (Vec<Vec<u8>>, usize) {
    let store = hand.writer.store();
    store.fetch(Fetch { lane: hand.writer.lane(), token: 7, slots });
    let mut answers = Vec::new();
    hand.bell.until(|| {
        store.fetched(hand.writer.lane(), &mut answers);
        !answers.is_empty()
    });
    let answer = answers.remove(0);
    assert_eq!(answer.token, 7);
    (answer.found.iter().map(|found| found.record().body.to_vec()).collect(), answer.missing.len())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn the_store_and_its_twin_hold_the_same(steps in steps()) {
        let mut pair = Pair::new();
        steps.iter().for_each(|step| pair.take(step));
        pair.commit();
        pair.compare();
        pair.reopen();
        pair.fetch();
    }
}
