//! Reads records back by slot, on a thread of its own, from chunks that several requests share.
//!
//! Knows the index (as a reader), the engine, a bounded cache of chunks. Must not know who asks and why.

use std::sync::Arc;
use std::time::Duration;

use crate::chunk::Chunk;
use crate::shared::{Shared, lock};
use crate::{Fetch, Lane, Record, Slot, Ticket};

/// The answer to a [`Fetch`].
#[derive(Debug)]
pub struct Fetched {
    /// Who asked.
    pub lane: Lane,
    /// What was passed with the request.
    pub token: u64,
    /// In the order of the request.
    pub found: Vec<Found>,
    /// What is not there: settled meanwhile, or lost to damage that was reported.
    pub missing: Vec<Slot>,
}

/// A record in a chunk that is in memory for as long as this is.
#[derive(Clone, Debug)]
pub struct Found {
    /// Of the receiver for whom it was fetched.
    pub slot: Slot,
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    Chunk(Arc<Chunk>, u32),
    Frame(Arc<[u8]>),
}

impl Found {
    pub(crate) fn of_frame(slot: Slot, frame: Arc<[u8]>) -> Found {
        Found { slot, source: Source::Frame(frame) }
    }

    /// The record.
    pub fn record(&self) -> Record<'_> {
        let record = match &self.source {
            Source::Chunk(chunk, at) => chunk.record(*at),
            Source::Frame(frame) => crate::codec::trusted(frame),
        };
        record.expect("a frame is found only where it was checked")
    }
}

/// Chunks read last, the newest at the end; as many bytes as allowed, but one chunk at least.
#[derive(Debug, Default)]
struct Cache {
    chunks: Vec<(u64, Arc<Chunk>)>,
    bytes: usize,
}

impl Cache {
    fn get(&mut self, number: u64) -> Option<Arc<Chunk>> {
        let place = self.chunks.iter().rposition(|(found, _)| *found == number)?;
        let entry = self.chunks.remove(place);
        self.chunks.push(entry);
        self.chunks.last().map(|(_, chunk)| Arc::clone(chunk))
    }

    fn put(&mut self, number: u64, chunk: Arc<Chunk>, bytes_max: usize) {
        self.chunks.retain(|(found, old)| {
            self.bytes -= if *found == number { old.len() } else { 0 };
            *found != number
        });
        self.bytes += chunk.len();
        self.chunks.push((number, chunk));
        while self.bytes > bytes_max && self.chunks.len() > 1 {
            self.bytes -= self.chunks.remove(0).1.len();
        }
    }
}

/// The thread's work until the store closes.
pub(crate) fn run(shared: &Shared) {
    let mut cache = Cache::default();
    while let Some(request) = next(shared) {
        let answer = look_up(shared, &mut cache, request);
        shared.answer(answer);
    }
}

/// The oldest request whose slots were committed; None: the store closes.
fn next(shared: &Shared) -> Option<Fetch> {
    let mut fetches = lock(&shared.fetches);
    loop {
        if fetches.is_closing {
            return None;
        }
        let committed = shared.committed();
        let ready = fetches.waiting.iter().position(|(request, ticket)| is_ready(shared, request, *ticket, committed));
        if let Some(place) = ready {
            return fetches.waiting.remove(place).map(|(request, _)| request);
        }
        fetches = shared.asked.wait(fetches).unwrap_or_else(std::sync::PoisonError::into_inner);
    }
}

fn is_ready(shared: &Shared, request: &Fetch, ticket: Ticket, committed: Ticket) -> bool {
    committed >= ticket || {
        let index = lock(&shared.index);
        // What is not there yet is among the newest, which come last: the others are not looked up in vain.
        request.slots.iter().rev().all(|&slot| index.chunk_of(slot).is_some())
    }
}

fn look_up(shared: &Shared, cache: &mut Cache, request: Fetch) -> Fetched {
    let Fetch { lane, token, slots } = request;
    let mut answer = Fetched { lane, token, found: Vec::with_capacity(slots.len()), missing: Vec::new() };
    let numbers: Vec<Option<u64>> = {
        let index = lock(&shared.index);
        slots.iter().map(|&slot| index.chunk_of(slot)).collect()
    };
    let mut last: Option<(u64, Arc<Chunk>)> = None;
    for (slot, number) in slots.into_iter().zip(numbers) {
        let place = number.and_then(|number| find(shared, cache, &mut last, (slot, number)));
        match place {
            Some((chunk, at)) => answer.found.push(Found { slot, source: Source::Chunk(chunk, at) }),
            None => answer.missing.push(slot),
        }
    }
    answer
}

/// Where a slot lies. A chunk is rewritten under its number or joins a neighbour, so a miss is looked up once more.
fn find(
    shared: &Shared,
    cache: &mut Cache,
    last: &mut Option<(u64, Arc<Chunk>)>,
    (slot, number): (Slot, u64),
) -> Option<(Arc<Chunk>, u32)> {
    let known = match last {
        Some((found, chunk)) if *found == number => Some(Arc::clone(chunk)),
        _ => cache.get(number),
    };
    if let Some(chunk) = known
        && let Some(at) = chunk.find(slot)
    {
        *last = Some((number, Arc::clone(&chunk)));
        return Some((chunk, at));
    }
    for attempt in 0..ATTEMPTS {
        let number = lock(&shared.index).chunk_of(slot)?;
        let read = shared.engine.chunk(number);
        // One failed read, and the engine refuses all others until it is opened anew; no commit may come to do that.
        if read.is_err() && attempt % ATTEMPTS_PER_OPENING == 0 {
            drop(shared.engine.reopen());
        }
        let Ok(Some(bytes)) = read else {
            wait_a_moment(shared)?;
            continue;
        };
        let chunk = Arc::new(Chunk::read(bytes).0);
        cache.put(number, Arc::clone(&chunk), shared.options.cache_bytes);
        if let Some(at) = chunk.find(slot) {
            *last = Some((number, Arc::clone(&chunk)));
            return Some((chunk, at));
        }
        wait_a_moment(shared)?;
    }
    None
}

/// Ten minutes of a disk that cannot be read end a request as missing.
const ATTEMPTS: u32 = 6_000;
/// To open the engine anew may take a look at its whole file.
const ATTEMPTS_PER_OPENING: u32 = 20;

/// Until the next commit, or 100 ms; None: the store closes.
fn wait_a_moment(shared: &Shared) -> Option<()> {
    let fetches = lock(&shared.fetches);
    let (fetches, _) = shared
        .asked
        .wait_timeout(fetches, Duration::from_millis(100))
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    (!fetches.is_closing).then_some(())
}
