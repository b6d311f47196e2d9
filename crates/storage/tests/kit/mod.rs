//! What the tests of the store share: a disk in memory that keeps a diary, and a look at everything a store holds.
//!
//! Knows what a disk may do between two syncs. Must not know what a test expects.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use redb::StorageBackend;
use whimbrel_storage::{
    Disk, Kind, Options, Receiver, Reclaiming, Record, Slot, Space, Store, Ticket, Visitor, Wake, Writer,
};

/// Files of a store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Which {
    Engine,
    Journal,
}

/// The bytes of both files.
#[derive(Clone, Default, Debug)]
pub struct Image([Vec<u8>; 2]);

impl std::ops::Index<Which> for Image {
    type Output = Vec<u8>;

    fn index(&self, which: Which) -> &Vec<u8> {
        &self.0[which as usize]
    }
}

impl std::ops::IndexMut<Which> for Image {
    fn index_mut(&mut self, which: Which) -> &mut Vec<u8> {
        &mut self.0[which as usize]
    }
}

/// One thing that was asked of a file.
#[derive(Clone, Debug)]
pub enum Op {
    Write(u64, Vec<u8>),
    SetLen(u64),
    Sync,
}

#[derive(Debug, Default)]
pub struct Inside {
    pub image: Image,
    pub diary: Vec<(Which, Op)>,
    pub keeps_diary: bool,
    pub replacement: Option<MemoryDisk>,
    /// How many changes were asked for.
    pub changes: u64,
    /// Changes after which every change fails; None: never.
    pub fails_after: Option<u64>,
    /// Syncs fail, too, once changes fail.
    pub syncs_fail: bool,
    /// No block is free: what was written once can be overwritten, everything else fails.
    pub is_full: bool,
    blocks: HashSet<(bool, u64)>,
    pub sync_takes: Duration,
    /// Reads of the engine's file after which one fails; None: none.
    pub reads_left: Option<u64>,
}

/// A disk in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk(pub Arc<Mutex<Inside>>);

impl MemoryDisk {
    pub fn of(image: Image) -> MemoryDisk {
        MemoryDisk(Arc::new(Mutex::new(Inside { image, ..Inside::default() })))
    }

    fn file(&self, which: Which) -> Box<dyn StorageBackend> {
        Box::new(MemoryFile { disk: self.clone(), which })
    }

    /// The engine's file, for a test that changes it by the engine itself.
    pub fn engine(&self) -> impl StorageBackend + use<> {
        MemoryFile { disk: self.clone(), which: Which::Engine }
    }

    pub fn inside(&self) -> std::sync::MutexGuard<'_, Inside> {
        self.0.lock().unwrap()
    }
}

impl Disk for MemoryDisk {
    fn open(&self) -> io::Result<Box<dyn StorageBackend>> {
        Ok(self.file(Which::Engine))
    }

    fn open_journal(&self) -> io::Result<Box<dyn StorageBackend>> {
        Ok(self.file(Which::Journal))
    }

    fn open_replacement(&self) -> io::Result<Box<dyn StorageBackend>> {
        let replacement = MemoryDisk::default();
        self.inside().replacement = Some(replacement.clone());
        Ok(replacement.file(Which::Engine))
    }

    fn replace(&self) -> io::Result<String> {
        let replacement = self.inside().replacement.take().expect("it was opened");
        let bytes = std::mem::take(&mut replacement.inside().image[Which::Engine]);
        self.inside().image[Which::Engine] = bytes;
        Ok("nowhere".to_owned())
    }
}

impl Inside {
    fn change(&mut self, which: Which, op: Op) -> io::Result<()> {
        self.changes += 1;
        if let Some(left) = &mut self.fails_after {
            let is_sync = matches!(op, Op::Sync);
            if *left == 0 && (!is_sync || self.syncs_fail) {
                return Err(io::Error::from_raw_os_error(28)); // ENOSPC
            }
            *left = left.saturating_sub(1);
        }
        if let Op::Write(at, data) = &op {
            let numbers = at / 4096..=(at + data.len() as u64).saturating_sub(1) / 4096;
            let blocks = numbers.map(|number| (which == Which::Journal, number));
            if self.is_full && blocks.clone().any(|block| !self.blocks.contains(&block)) {
                return Err(io::Error::from_raw_os_error(28));
            }
            self.blocks.extend(blocks);
        }
        apply(&mut self.image[which], &op);
        if self.keeps_diary {
            self.diary.push((which, op));
        }
        Ok(())
    }
}

pub fn apply(bytes: &mut Vec<u8>, op: &Op) {
    match op {
        Op::Write(at, data) => {
            let end = *at as usize + data.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[*at as usize..end].copy_from_slice(data);
        }
        Op::SetLen(len) => bytes.resize(*len as usize, 0),
        Op::Sync => {}
    }
}

#[derive(Debug)]
struct MemoryFile {
    disk: MemoryDisk,
    which: Which,
}

impl StorageBackend for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.inside().image[self.which].len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut inside = self.disk.inside();
        if let (Which::Engine, Some(left)) = (self.which, inside.reads_left) {
            inside.reads_left = left.checked_sub(1);
            inside.reads_left.ok_or_else(|| io::Error::from_raw_os_error(5))?; // EIO
        }
        let range = offset as usize..offset as usize + out.len();
        let found = inside.image[self.which].get(range).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.inside().change(self.which, Op::SetLen(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        let takes = self.disk.inside().sync_takes;
        if !takes.is_zero() {
            std::thread::sleep(takes); // the slow disk itself, not a wait of the test
        }
        self.disk.inside().change(self.which, Op::Sync)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.disk.inside().change(self.which, Op::Write(offset, data.to_vec()))
    }
}

/// Small numbers for tests: no pause between commits, tight budgets.
pub fn options() -> Options {
    Options {
        pace: Duration::ZERO,
        retry: Duration::from_millis(1),
        cache_bytes: 1 << 20,
        journal_bytes: 64 << 10,
        reclaiming: Reclaiming {
            bytes: 64 << 10,
            sweep_from: 1,
            slack_bytes: 256 << 10,
            young: 1,
            idle_after: Duration::from_micros(200),
        },
        ..Options::new("unused")
    }
}

/// Rung by the store's threads; a test waits for a condition.
#[derive(Clone, Default)]
pub struct Bell(Arc<(Mutex<u64>, Condvar)>);

impl Bell {
    pub fn wake(&self) -> Wake {
        let inside = Arc::clone(&self.0);
        Arc::new(move || {
            *inside.0.lock().unwrap() += 1;
            inside.1.notify_all();
        })
    }

    /// Waits until `condition` holds; 60 s without that fail the test.
    pub fn until(&self, mut condition: impl FnMut() -> bool) {
        let (count, rung) = &*self.0;
        let began = Instant::now();
        let mut guard = count.lock().unwrap();
        while !condition() {
            assert!(began.elapsed() < Duration::from_secs(60), "the condition did not come true");
            guard = rung.wait_timeout(guard, Duration::from_millis(5)).unwrap().0;
        }
    }
}

/// A writer with its bell.
pub struct Hand {
    pub writer: Writer,
    pub bell: Bell,
}

impl Hand {
    pub fn of(store: Arc<dyn Store>) -> Hand {
        let bell = Bell::default();
        Hand { writer: Writer::join(store, bell.wake()).unwrap(), bell }
    }

    /// A record with a body and receivers; their slots.
    pub fn put(&mut self, kind: Kind, body: &[u8], sessions: &[u64]) -> Vec<Slot> {
        let mut record = self.writer.record(kind);
        let qos = whimbrel_protocol::QoS::AtLeastOnce;
        let slots = sessions.iter().map(|&session| record.receiver(&Receiver::of(session, qos))).collect();
        record.finish(body);
        slots
    }

    pub fn submit(&mut self) -> Ticket {
        self.writer.submit()
    }

    /// Until what was submitted under `ticket` is committed.
    pub fn wait(&self, ticket: Ticket) {
        let store = Arc::clone(self.writer.store());
        self.bell.until(|| store.committed() >= ticket);
    }

    pub fn commit(&mut self) {
        let ticket = self.submit();
        self.wait(ticket);
    }
}

/// Everything that a store holds, in comparable form.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Contents {
    /// Kind, hash of the body and the sessions whose slots are live, in the order of the store.
    pub records: Vec<(Kind, u64, Vec<u64>)>,
    pub keyed: BTreeMap<(u8, Vec<u8>), Vec<u8>>,
}

impl Contents {
    pub fn of(store: &dyn Store) -> Contents {
        let mut contents = Contents::default();
        store.replay(&mut contents).unwrap();
        contents
    }
}

impl Visitor for Contents {
    fn record(&mut self, record: &Record<'_>, live: &[Slot]) {
        let sessions = live.iter().map(|&slot| record.receiver(slot).unwrap().session).collect();
        self.records.push((record.kind, hash_of(record.body), sessions));
    }

    fn keyed(&mut self, space: Space, key: &[u8], value: &[u8]) {
        self.keyed.insert((space.0, key.to_vec()), value.to_vec());
    }
}

/// Short enough to be read in a failure.
pub fn hash_of(bytes: &[u8]) -> u64 {
    use std::hash::{DefaultHasher, Hasher};
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

/// Numbers that follow from a seed (SplitMix64).
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}
