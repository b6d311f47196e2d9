//! What must survive a crash, and when it does: records in chunks, group commit with tickets, reading back by slot.
//!
//! Knows records, receivers, slots, tickets, an embedded engine. Must not know sockets, sessions' rules, routing, Python:
//! a worker says what is to be kept and asks when it is. Driven by the server's workers; time and disk can be replaced.
//!
//! # The model
//!
//! A **record** is bytes that somebody still needs: a message with its durable receivers, a retained message, a QoS 2
//! identifier. It is written once and never changed. Each of its receivers has a **slot**: the slots of one record are
//! consecutive numbers, and the worker that writes the record knows them at once. A receiver that needs the record no longer
//! (acknowledged, expired, dropped, replaced) **settles** its slot. A record whose slots are all settled is dead; its
//! space comes back in the background. Small state that is looked up by name (sessions, subscriptions, wills, the control
//! plane's records) is **keyed**: one value for each (space, key).
//!
//! # From a worker's side
//!
//! ```text
//! let mut writer = Writer::join(store, wake);         // once per worker; `wake` is called from the store's threads
//! per publish:      let mut record = writer.record(Kind::Message);
//!                   for each durable receiver: slot = record.receiver(...)
//!                   record.message(&publication, ...);
//! per PUBACK etc.:  writer.settle(slot);
//! end of the turn:  let ticket = writer.submit();      // one short lock; before mail is posted and sockets are flushed
//!                   hold back the acknowledgements of this turn under `ticket`
//! when woken:       release what is held under tickets <= store.committed()
//! ```
//!
//! `submit` never waits for the disk and allocates nothing per record: full buffers are exchanged for empty ones. All that
//! one `submit` hands over becomes durable together or not at all, so "put the new one, supersede the old one" is atomic.
//! Submit before other threads can learn of the new slots: then a settlement can never reach the store before its record.
//!
//! A ticket counts submissions; what was handed over under a ticket is durable as soon as `committed()` is not less
//! than it. Tickets rise, so a worker releases in its own order by comparing one number.
//!
//! # Settle or supersede
//!
//! [`Writer::settle`] says something that is true whatever happens next: a receiver acknowledged, a message expired or was
//! dropped. It may take effect before the rest of its submission. [`Writer::supersede`] is for a slot whose record is replaced
//! by one of the same submission, and takes effect with it: a retained message by the next one, a QoS 2 delivery by
//! [`Kind::Released`] on PUBREC, a [`Kind::Sent`] by the next state. A QoS 2 PUBLISH goes out only when its `Sent` record, which
//! names its packet identifier, is committed: a client that got it must not get it again under another identifier.
//!
//! # Why a fast subscriber costs nearly nothing
//!
//! A record whose slots are all settled before its group is taken is never written, because nobody could ask for it after a
//! crash: every receiver has confirmed it. Its ticket completes all the same. Where that is the fate of a good part of the
//! records, a submission is let wait for at most [`Options::pace`], is looked at several times meanwhile, and completes without
//! a write as soon as it needs none. Where it is not (a sleeping client's queue, QoS 2, retained messages), waiting would gain
//! nothing: a group of some size is committed as soon as the one before is, and only a few records wait for more of them. On
//! an idle store a group is committed at once.
//!
//! # Long queues
//!
//! A session that sleeps keeps only slots; the bodies are fetched back with [`Store::fetch`], a batch at a time, by
//! another thread, and arrive as references into shared chunks. A slot may be fetched as soon as it is submitted: the
//! answer comes after the commit.
//!
//! # On the disk
//!
//! A commit is one frame of a short journal, written and synced. What is still needed of many frames goes into the engine in
//! one change, on a thread of its own; a record that came and went meanwhile never does. Opening carries over what a crash
//! left in the journal, so everybody else sees one store.
//!
//! # When the disk is full
//!
//! [`Store::state`] becomes [`State::Refusing`]; the group that could not be written stays, its tickets do not complete, and
//! it is tried again until there is room. The workers refuse new durable publishes meanwhile.

mod batch;
mod chunk;
mod codec;
mod committer;
mod engine;
mod failure;
mod group;
mod index;
mod journal;
mod journaled;
mod memory;
mod message;
mod open;
mod overlay;
mod patience;
mod reader;
mod reclaim;
mod salvage;
mod shared;
#[cfg(feature = "simulation")]
mod stepped;
mod upgrade;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use batch::{Batch, RecordWriter, Writer};
pub use chunk::examine;
pub use codec::{Identifiers, Kind, Receiver, Record, decode, seal};
pub use engine::{Disk, Folder};
pub use failure::Failure;
pub use memory::Memory;
pub use message::StoredMessage;
pub use open::{DiskStore, Report, open, open_on};
pub use reader::{Fetched, Found};
#[cfg(feature = "simulation")]
pub use stepped::Stepped;

/// Names one receiver's share of a record: the lane of the writer in the upper 8 bits, a count in the lower 56. Never
/// 0, and never used again while anything on disk mentions it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Slot(pub u64);

/// A submission, counted over all lanes from 1 on; 0 is always committed. See the crate's documentation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Ticket(pub u64);

/// Names a writer among those of one run of the store; 0 to 254.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Lane(pub u8);

/// Called from the store's threads when tickets of a lane completed, when something it fetched is there, or when the
/// state changed. Must only leave a sign (an eventfd, a flag): it runs between two commits.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// A family of keyed values.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Space(pub u8);

impl Space {
    /// Durable sessions by client identifier.
    pub const SESSION: Space = Space(1);
    /// Subscriptions by session and filter.
    pub const SUBSCRIPTION: Space = Space(2);
    /// Pending wills by session.
    pub const WILL: Space = Space(3);
    /// From here on: the control plane's (accounts, bans, rules, resources, delayed messages, alarms).
    pub const CONTROL: Space = Space(64);
}

/// What "committed" means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// Survives the loss of power: fdatasync per group.
    Sync,
    /// Survives the end of the process, not the loss of power.
    Os,
}

/// How a store on disk behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its folder; made with mode 0700 if it is missing.
    pub folder: PathBuf,
    /// What "committed" means.
    pub durability: Durability,
    /// Under load, how long a record is let wait to be settled before it is written, or for others to be written with; 0 or more.
    pub pace: Duration,
    /// Bytes that wait for their commit: above it a commit starts at once, above four times it [`Store::is_pressed`].
    pub group_bytes: usize,
    /// Bytes of chunks that are kept in memory for reading, and as much again for the engine's pages.
    pub cache_bytes: usize,
    /// What the journal may grow to; up to as much again is held in memory until the engine has it.
    pub journal_bytes: usize,
    /// How long after a failed commit the disk is looked at again.
    pub retry: Duration,
    /// Space recovery.
    pub reclaiming: Reclaiming,
}

/// How eagerly space is recovered.
#[derive(Clone, Copy, Debug)]
pub struct Reclaiming {
    /// Bytes that it may read and write in one commit.
    pub bytes: usize,
    /// Dead chunks that are worth a sweep in a commit that has other work.
    pub sweep_from: usize,
    /// So many of the newest chunks are not written together: most of what is in them dies by itself.
    pub young: u64,
    /// On an idle store, a file beyond this and three times the chunks' bytes is made smaller by moving the chunks.
    pub slack_bytes: u64,
    /// A store on which nothing happened for so long recovers space in commits of its own.
    pub idle_after: Duration,
}

impl Default for Reclaiming {
    fn default() -> Reclaiming {
        Reclaiming {
            bytes: 512 << 10,
            sweep_from: 32,
            young: 4096,
            slack_bytes: 32 << 20,
            idle_after: Duration::from_millis(200),
        }
    }
}

impl Options {
    /// The defaults, in `folder`.
    pub fn new(folder: impl Into<PathBuf>) -> Options {
        Options {
            folder: folder.into(),
            durability: Durability::Sync,
            pace: Duration::from_millis(2),
            group_bytes: 4 << 20,
            cache_bytes: 16 << 20,
            journal_bytes: 16 << 20,
            retry: Duration::from_millis(100),
            reclaiming: Reclaiming::default(),
        }
    }
}

/// Whether the store takes new records.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum State {
    /// All is well.
    Serving,
    /// The last commit failed (no room, read-only, I/O error); it is tried again. Says why and how to mend it.
    Refusing(String),
    /// Closed.
    Closed,
}

/// Figures of this run; bytes and counts of now, or totals since the start.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Statistics {
    /// Chunks now.
    pub chunks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Length of the file; it shrinks when the store has time for it.
    pub file_bytes: u64,
    /// Slots in them, and those of them that are not settled.
    pub slots: u64,
    /// See `slots`.
    pub live: u64,
    /// Commits that reached the disk, in total.
    pub commits: u64,
    /// Commits that failed, in total.
    pub failures: u64,
    /// Slots written, in total.
    pub written: u64,
    /// Slots that needed no write, because they were settled before; in total.
    pub elided: u64,
    /// Chunks that space recovery removed or rewrote, in total.
    pub reclaimed: u64,
    /// Bytes of the journal that the engine does not have yet.
    pub journal_bytes: u64,
    /// How often the engine took over what was in the journal, in total.
    pub carried: u64,
    /// Bytes that wait for their commit.
    pub waiting_bytes: u64,
    /// How long the last commit took; microseconds.
    pub commit_us: u64,
    /// The longest commit; microseconds.
    pub commit_max_us: u64,
}

impl Statistics {
    /// Share of the stored slots that is settled; 0 to 1.
    pub fn dead_share(&self) -> f64 {
        if self.slots == 0 { 0.0 } else { 1.0 - self.live as f64 / self.slots as f64 }
    }
}

/// Sees everything that a store holds, once, before the workers start.
pub trait Visitor {
    /// A record of which the slots in `live` are not settled (rising; never empty). Oldest first.
    fn record(&mut self, record: &Record<'_>, live: &[Slot]);
    /// A keyed value; rising by (space, key).
    fn keyed(&mut self, space: Space, key: &[u8], value: &[u8]);
}

/// A request to read records back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fetch {
    /// Who asks, and is woken.
    pub lane: Lane,
    /// Comes back with the answer.
    pub token: u64,
    /// What to read, in the order wanted; submitted and not settled before. 4,096 at most.
    pub slots: Vec<Slot>,
}

/// Where durable state lives. Methods may be called from any thread; none of them waits for the disk unless it says so.
pub trait Store: Send + Sync {
    /// A new writer's lane and its first slot. Fails when 255 lanes are given away.
    fn join(&self, wake: Wake) -> Result<(Lane, Slot), Failure>;

    /// Takes over what `batch` holds and leaves an empty one with recycled buffers.
    fn submit(&self, batch: &mut Batch) -> Ticket;

    /// The newest ticket that is durable, like all before it.
    fn committed(&self) -> Ticket;

    /// Asks for records; the answer is taken with `fetched` after the lane's wake.
    fn fetch(&self, request: Fetch);

    /// Moves the lane's answers, oldest first, behind what `into` holds.
    fn fetched(&self, lane: Lane, into: &mut Vec<Fetched>);

    /// Whether new records are taken.
    fn state(&self) -> State;

    /// Whether the state is [`State::Refusing`]; cheap enough for every turn.
    fn is_refusing(&self) -> bool {
        matches!(self.state(), State::Refusing(_))
    }

    /// Whether so much waits for its commit that publishers should not be read from for a while.
    fn is_pressed(&self) -> bool;

    /// Figures.
    fn statistics(&self) -> Statistics;

    /// Shows everything that is committed. Waits for the disk.
    fn replay(&self, visitor: &mut dyn Visitor) -> Result<(), Failure>;

    /// Writes a copy of what is committed to `path`, which must not exist, while serving. Waits for the disk.
    fn backup(&self, path: &Path) -> Result<(), Failure>;

    /// Commits what was submitted and ends the threads. Waits for the disk. Later submissions are never committed.
    fn close(&self);
}
