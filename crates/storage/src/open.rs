//! Opens a store: checks what is there, builds the index, starts the threads; and is the store from then on.
//!
//! Knows the order of opening and what is reported. Must not know how commits and reads work.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crate::chunk::{Built, Chunk};
use crate::codec::{check_of, frame_slots, slot_runs, u32_at};
use crate::committer::{Committer, RESERVED_BLOCK, Start};
use crate::engine::{Change, Disk, Engine, Folder, Replacement};
use crate::index::Index;
use crate::journal::Journal;
use crate::journaled::Journaled;
use crate::shared::{Shared, lock};
use crate::{
    Batch, Failure, Fetch, Fetched, Kind, Lane, Options, Slot, Space, State, Statistics, Store, Ticket, Visitor, Wake,
};
use crate::{reader, salvage};

/// What opening found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Chunks read.
    pub chunks: u64,
    /// Slots that are not settled.
    pub live: u64,
    /// One sentence for each damaged piece: where it is and what it held.
    pub damaged: Vec<String>,
}

/// A store on a disk. Dropping it closes it.
#[derive(Debug)]
pub struct DiskStore {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// Opens or begins the store in the folder of `options`. Waits for the disk.
pub fn open(options: Options) -> Result<(DiskStore, Report), Failure> {
    let folder = Folder::new(&options.folder, options.durability)?;
    open_on(options, Arc::new(folder))
}

/// As `open`, on any disk; the folder and the durability of `options` mean nothing then.
pub fn open_on(options: Options, disk: Arc<dyn Disk>) -> Result<(DiskStore, Report), Failure> {
    let opened = guarded(|| load(&options, &disk)).or_else(|failure| match failure {
        Failure::Damaged(_) | Failure::Engine(_) => rescue(&options, &disk, &failure),
        failure => Err(failure),
    });
    let Loaded { engine, index, mut report } = opened?;
    report.live = index.live;
    let first_slot = engine.number("reserved")?.max(1);
    let reserved = first_slot + RESERVED_BLOCK;
    let start = Start { next_chunk: index.next_number(), commits: first_slot, reserved };
    engine.commit_to_engine(&Change { reserved: Some(reserved), ..Change::default() })?;
    let shared = Arc::new(Shared::new(options, engine, index, first_slot));
    let threads = Mutex::new(vec![
        spawn("store-commit", &shared, move |shared| Committer::new(shared, start).run())?,
        spawn("store-read", &shared, reader::run)?,
        spawn("store-carry", &shared, |shared| shared.engine.run())?,
    ]);
    Ok((DiskStore { shared, threads }, report))
}

struct Loaded {
    engine: Journaled,
    index: Index,
    report: Report,
}

/// The engine panics where a page that it trusts makes no sense; that is damage like other damage.
fn guarded(load: impl FnOnce() -> Result<Loaded, Failure>) -> Result<Loaded, Failure> {
    let engine_gave_up = || Err(Failure::Damaged("the engine gave up reading it; see standard error".to_owned()));
    catch_unwind(AssertUnwindSafe(load)).unwrap_or_else(|_| engine_gave_up())
}

fn load(options: &Options, disk: &Arc<dyn Disk>) -> Result<Loaded, Failure> {
    let (engine, damaged) = Journaled::open(Arc::clone(disk), options)?;
    let (mut index, mut report) = (Index::default(), Report { damaged, ..Report::default() });
    engine.chunks(|number, bytes| {
        take_chunk(&mut index, &mut report, (number, bytes), engine.disk());
        Ok(())
    })?;
    apply_marks(&engine, &mut index, &mut report)?;
    engine.keyed(|space, key, value| {
        if value.is_none() {
            report.damaged.push(format!("the value of key {:?} in space {}", String::from_utf8_lossy(key), space.0));
        }
    })?;
    Ok(Loaded { engine, index, report })
}

/// Saves what can be found in the bytes themselves, sets them aside, and begins anew with what was saved.
fn rescue(options: &Options, disk: &Arc<dyn Disk>, failure: &Failure) -> Result<Loaded, Failure> {
    let source = disk.open()?;
    let mut saved = salvage::search(&*source)?;
    let engine = Engine::open(Arc::new(Replacement(Arc::clone(disk))), options.cache_bytes)?;
    let counts = saved.copy_into(&*source, &engine)?;
    engine.put_number("reserved", saved.highest + 2 * RESERVED_BLOCK)?;
    if let Some((identity, applied)) = Journal::owner(&*disk.open_journal()?)? {
        engine.put_number("identity", identity)?;
        engine.put_number("applied", applied)?;
    }
    drop(engine);
    source.close()?;
    drop(source);
    let place = disk.replace()?;
    let mut loaded = load(options, disk)?;
    loaded.report.damaged.insert(
        0,
        format!(
            "{failure}; the file is kept as {place}, {} chunks and {} keyed values were found in it and saved; records \
             that were settled and keys that were removed shortly before may have come back",
            counts.0, counts.1
        ),
    );
    Ok(loaded)
}

fn spawn(
    name: &str,
    shared: &Arc<Shared>,
    work: impl FnOnce(&Shared) + Send + 'static,
) -> Result<JoinHandle<()>, Failure> {
    let shared = Arc::clone(shared);
    Ok(std::thread::Builder::new().name(name.to_owned()).spawn(move || work(&shared))?)
}

fn take_chunk(index: &mut Index, report: &mut Report, (number, bytes): (u64, &[u8]), disk: &dyn Disk) {
    let (chunk, damage) = Chunk::read(bytes.into());
    let frames = chunk.offsets().iter().map(|&at| frame_slots(chunk.frame(at))).collect();
    index.insert(&Built { number, bytes: Vec::new(), frames, settled: Vec::new() });
    index.weigh(number, bytes.len() as u64);
    chunk.settled().for_each(|(first, count)| index.settle(number, first, count));
    report.chunks += 1;
    if damage.is_none() {
        return;
    }
    let kept = disk.quarantine(&format!("chunk-{number}"), bytes);
    let place = match kept {
        Ok(place) => format!("chunk {number}, kept in {place}"),
        Err(error) => format!("chunk {number}, which could not be kept apart ({error})"),
    };
    report.damaged.extend(damage.parts.iter().map(|part| format!("{place}: its {part}")));
    for (at, kind) in damage.records {
        let kind = Kind::ALL.into_iter().find(|known| *known as u8 == kind);
        let held =
            kind.map_or("a record of a kind that cannot be read".to_owned(), |kind| format!("a record {kind:?}"));
        report.damaged.push(format!("{place}: {held} at byte {at}"));
    }
    index.sparse.insert(number); // written anew, it holds only what is whole
}

fn apply_marks(engine: &Journaled, index: &mut Index, report: &mut Report) -> Result<(), Failure> {
    for (number, mark) in engine.marks()? {
        match mark.split_last_chunk::<4>() {
            Some((runs, check)) if check_of(runs) == u32_at(check, 0) => index.restrict(number, slot_runs(runs)),
            _ => report.damaged.push(format!("the mark of chunk {number}: settled records in it may come back")),
        }
    }
    Ok(())
}

impl Store for DiskStore {
    fn join(&self, wake: Wake) -> Result<(Lane, Slot), Failure> {
        self.shared.join(wake)
    }

    fn submit(&self, batch: &mut Batch) -> Ticket {
        self.shared.submit(batch)
    }

    fn committed(&self) -> Ticket {
        self.shared.committed()
    }

    fn fetch(&self, request: Fetch) {
        self.shared.fetch(request);
    }

    fn fetched(&self, lane: Lane, into: &mut Vec<Fetched>) {
        self.shared.fetched(lane, into);
    }

    fn state(&self) -> State {
        self.shared.state()
    }

    fn is_refusing(&self) -> bool {
        self.shared.is_refusing()
    }

    fn is_pressed(&self) -> bool {
        self.shared.waiting_bytes() > 4 * self.shared.options.group_bytes
    }

    fn statistics(&self) -> Statistics {
        let index = lock(&self.shared.index);
        Statistics {
            chunks: index.chunk_count(),
            bytes: index.bytes,
            file_bytes: self.shared.engine.file_bytes(),
            slots: index.slots,
            live: index.live,
            journal_bytes: self.shared.engine.journal_bytes(),
            carried: self.shared.engine.carried(),
            waiting_bytes: self.shared.waiting_bytes() as u64,
            ..*lock(&self.shared.statistics)
        }
    }

    fn replay(&self, visitor: &mut dyn Visitor) -> Result<(), Failure> {
        self.shared.engine.chunks(|_, bytes| {
            let (chunk, _) = Chunk::read(bytes.into());
            show(&self.shared.index, &chunk, visitor)
        })?;
        let mut show_keyed = |space: Space, key: &[u8], value: Option<&[u8]>| {
            if let Some(value) = value {
                visitor.keyed(space, key, value);
            }
        };
        self.shared.engine.keyed(&mut show_keyed)
    }

    fn backup(&self, path: &Path) -> Result<(), Failure> {
        self.shared.engine.copy_to(path)
    }

    fn close(&self) {
        self.shared.close();
        let mut threads = lock(&self.threads).drain(..).collect::<Vec<_>>().into_iter();
        drop(threads.next().map(JoinHandle::join)); // the committer; then nobody waits for it any more
        self.shared.end_reading();
        self.shared.engine.end();
        threads.for_each(|thread| drop(thread.join()));
        self.shared.set_state(State::Closed);
        self.shared.engine.shut();
    }
}

impl Drop for DiskStore {
    fn drop(&mut self) {
        self.close();
    }
}

/// Space recovery may have moved the records since these chunks were read: what is live is asked by slot, not by chunk.
fn show(index: &Mutex<Index>, chunk: &Chunk, visitor: &mut dyn Visitor) -> Result<(), Failure> {
    let mut places = chunk.offsets().to_vec();
    places.sort_unstable(); // as they were written
    let mut live = Vec::new();
    for at in places {
        let record = chunk.record(at)?;
        live.clear();
        {
            let index = lock(index);
            live.extend(record.slots().filter(|&slot| index.chunk_of(slot).is_some()));
        }
        if !live.is_empty() {
            visitor.record(&record, &live);
        }
    }
    Ok(())
}
