//! The front of the data plane: start, ask, tell, stop.
//!
//! Knows the shared state and the workers' threads. Every call but `start` and `join` returns at once; answers come
//! through the outlet. May be called from any thread.

use std::collections::BTreeMap;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use whimbrel_protocol::connection::handshake::Secret;
use whimbrel_protocol::packet::SubscriptionOptions;
use whimbrel_protocol::session::Line;
use whimbrel_protocol::{Filter, Limits, Message, QoS, ReasonCode, Violation};
use whimbrel_router::{Entry, Place, Retained, Router};
use whimbrel_storage::{Failure, State, Store, Wake, Writer};

use crate::answer::Answer;
use crate::durable::{Durable, Kept, KeptSession};
use crate::event::Event;
use crate::gauges;
use crate::ledger;
use crate::listener::Listener;
use crate::mailbox::{Backlog, Mail};
use crate::options::{Options, StorageOptions};
use crate::rows::{KeptRow, RowChange};
use crate::shared::{Interest, Shared};
use crate::sys::Sys;
use crate::tap::TAPS;
use crate::transport::Layering;
use crate::worker::Worker;

/// Why a broker could not start. The operator is at fault, or the machine; nothing is retried here.
#[derive(Debug)]
pub enum StartError {
    /// A listener could not be bound.
    Listen {
        /// "tcp:default"
        listener: String,
        /// What was tried.
        address: String,
        /// What the kernel said.
        error: std::io::Error,
    },
    /// A listener's certificates cannot be used.
    Certificates {
        /// "tls:default"
        listener: String,
        /// A sentence that names the file.
        text: String,
    },
    /// Descriptors or threads could not be had.
    Resources(std::io::Error),
    /// The store cannot be used.
    Storage {
        /// Its folder.
        folder: PathBuf,
        /// A sentence that says why and how to mend it.
        text: String,
    },
}

/// A running data plane.
#[derive(Debug)]
pub struct Broker {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// What the start found of the control plane, until somebody takes it.
    rows: Mutex<Vec<KeptRow>>,
}

impl Broker {
    /// Binds every listener, then starts the workers. Clients wait in the listeners' backlog until `open`.
    pub fn start(options: &Options) -> Result<Broker, StartError> {
        Broker::start_on(options, None)
    }

    /// As `start`, on a store that is open already; `options.storage` says then only where it lies.
    pub fn start_on(options: &Options, store: Option<Arc<dyn Store>>) -> Result<Broker, StartError> {
        let listeners = options.listeners.iter().map(bind).collect::<Result<Vec<_>, _>>()?;
        let retained = Retained::new(options.retained_messages_max, options.retained_bytes_max);
        let mut shared = Shared::new(Router::new(retained), listeners, &options.zones, options.workers)
            .map_err(StartError::Resources)?;
        shared.set_question_deadline_ms(u64::from(options.question_deadline_ms));
        shared.flapping = options.flapping;
        shared.sys = Sys::new(&options.node_name, options.sys);
        let mut kept = open_store(&mut shared, options, store)?;
        let rows = Mutex::new(std::mem::take(&mut kept.rows));
        let shared = Arc::new(shared);
        let polls = (0..options.workers).map(|index| Worker::prepare(&shared, index));
        let polls = polls.collect::<Result<Vec<_>, _>>().map_err(StartError::Resources)?;
        let broker = Broker { shared, threads: Mutex::default(), rows };
        let (ready, all_ready) = mpsc::channel();
        let duties = duties(&broker.shared, kept).map_err(|failure| not_usable(options, &failure))?;
        for ((index, poll), duty) in (0..).zip(polls).zip(duties) {
            // On failure the broker is dropped, which ends the workers that run already.
            let thread = spawn(&broker.shared, (index, poll), duty, ready.clone()).map_err(StartError::Resources)?;
            broker.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        }
        drop(ready);
        // Every session has its seat before anybody publishes; a worker that panicked instead has said so.
        while all_ready.recv().is_ok() {}
        Ok(broker)
    }

    /// The front of workers that have no threads.
    #[cfg(feature = "simulation")]
    pub(crate) fn unthreaded(shared: Arc<Shared>) -> Broker {
        Broker { shared, threads: Mutex::default(), rows: Mutex::default() }
    }

    /// Lets clients in. Separate from the start, so that questions can be asked from the first client on.
    pub fn open(&self) {
        for mailbox in &self.shared.mailboxes {
            mailbox.post([Mail::Open]);
        }
    }

    /// (kind, name, address) of every listener, as bound.
    pub fn listeners(&self) -> Vec<(&'static str, String, String)> {
        let row = |listener: &Listener| {
            (listener.options.kind_name(), listener.options.name.clone(), listener.address.clone())
        };
        self.shared.listeners.iter().map(row).collect()
    }

    /// Reads the certificates of all listeners again. All of them are replaced, or none where one cannot be used; then the
    /// error names the listener and the file. Connections go on as they are. Returns how many listeners there were.
    pub fn reload_certificates(&self) -> Result<usize, String> {
        let listeners = self.shared.listeners.iter();
        let read = listeners.filter_map(|listener| Some((&listener.label, listener.layering.certificates.as_ref()?)));
        let read = read.map(|(label, certificates)| match certificates.read_again() {
            Ok(configuration) => Ok((certificates, configuration)),
            Err(text) => Err(format!("{label}: {text}")),
        });
        let read = read.collect::<Result<Vec<_>, _>>()?;
        let count = read.len();
        for (certificates, configuration) in read {
            certificates.replace(configuration);
        }
        Ok(count)
    }

    /// Readable while events wait.
    pub fn wake_fd(&self) -> BorrowedFd<'_> {
        self.shared.outlet.wake_fd()
    }

    /// Takes all events that wait; tap rows give their places back.
    pub fn drain(&self) -> Vec<Event> {
        let mut events = self.shared.outlet.drain();
        for event in &mut events {
            let Event::TapBatch { tap, messages, dropped } = event else { continue };
            let Some(tap) = self.shared.taps.get(*tap) else { continue };
            // A tap only drops while messages wait, so the batch that takes them away can tell of all drops.
            *dropped = tap.take_dropped();
            tap.release(messages.len(), messages.iter().map(|message| message.size_bytes()).sum());
        }
        events
    }

    /// From now on these questions and notices leave the data plane, and no others.
    pub fn set_interest(&self, interest: Interest) {
        self.shared.set_interest(interest);
    }

    /// Other limits (by zone, in the order of the start) for connections from now on, and another deadline for questions.
    pub fn reload(&self, zones: &[Limits], question_deadline_ms: u32) {
        self.shared.set_zones(zones);
        self.shared.set_question_deadline_ms(u64::from(question_deadline_ms));
    }

    /// Answers a question about a CONNECT; 0 lets the client in.
    pub fn answer_authenticate(&self, ticket: u64, answer: Answer, is_superuser: bool) {
        self.post_to_ticket(ticket, Mail::Authenticated { ticket, answer, is_superuser, is_anonymous: false });
    }

    /// Answers it with yes: nobody knows the client, and its listener lets such clients in.
    pub fn admit_anonymous(&self, ticket: u64) {
        let answer = Answer::new(ReasonCode::SUCCESS);
        self.post_to_ticket(ticket, Mail::Authenticated { ticket, answer, is_superuser: false, is_anonymous: true });
    }

    /// Answers a question of an exchange: 0 lets the client in, 0x18 goes on with `auth_data`, an error refuses.
    pub fn answer_enhanced(&self, ticket: u64, answer: Answer, auth_data: Option<Secret>, is_superuser: bool) {
        self.post_to_ticket(ticket, Mail::EnhancedAuthenticated { ticket, answer, auth_data, is_superuser });
    }

    /// Answers a question about a PUBLISH or SUBSCRIBE; one answer for each topic.
    pub fn answer_authorize(&self, ticket: u64, answers: Vec<Answer>) {
        self.post_to_ticket(ticket, Mail::Authorized { ticket, answers });
    }

    fn post_to_ticket(&self, ticket: u64, mail: Mail) {
        let worker = usize::from(Worker::of_ticket(ticket));
        if let Some(mailbox) = self.shared.mailboxes.get(worker) {
            mailbox.post([mail]);
        }
    }

    /// Routes a message from inside; `Published` answers.
    pub fn publish(&self, ticket: u64, message: Arc<Message>) {
        let worker = self.shared.router_of(message.topic_bytes());
        self.shared.mailboxes[usize::from(worker)].post([Mail::Publish { ticket, message }]);
    }

    /// Opens a tap on filters; at most `capacity` messages wait for the reader. Returns its number.
    pub fn open_tap(&self, filters: Vec<String>, capacity: usize) -> Result<u32, Violation> {
        for filter in &filters {
            if Filter::new(filter)?.is_shared() {
                let what = "a tap sees every message: it cannot be a member of a shared subscription";
                return Err(Violation::new(ReasonCode::SHARED_SUBSCRIPTIONS_NOT_SUPPORTED, what));
            }
        }
        let tap = self.shared.taps.open(filters, capacity);
        let place = Place { owner: TAPS, slot: tap.id, epoch: 0 };
        let options = SubscriptionOptions { retain_as_published: true, ..SubscriptionOptions::plain(QoS::ExactlyOnce) };
        let entry = Entry { place, options, identifier: 0, durable: 0 };
        self.shared.router.subscribe(checked(&tap.filters).map(|filter| (filter, entry)));
        Ok(tap.id)
    }

    /// Closes a tap; messages that wait are still drained.
    pub fn close_tap(&self, id: u32) {
        if let Some(tap) = self.shared.taps.close(id) {
            self.shared.router.unsubscribe(checked(&tap.filters), Place { owner: TAPS, slot: id, epoch: 0 });
        }
    }

    /// Asks for a page of clients; `cursor` is 0 or what the page before named. `ClientPage` answers.
    pub fn request_clients(&self, ticket: u64, cursor: u64, limit: usize) {
        self.ask_at(ticket, cursor, |from| Mail::Clients { ticket, from, limit: limit.max(1) });
    }

    /// The same, of connected clients for which so much waits; `cursor` as there. A page may be empty and have a next one.
    pub fn request_congested(&self, ticket: u64, cursor: u64, backlog: Backlog, limit: usize) {
        self.ask_at(ticket, cursor, |from| Mail::Congested { ticket, from, limit: limit.max(1), backlog });
    }

    fn ask_at(&self, ticket: u64, cursor: u64, mail: impl FnOnce(u32) -> Mail) {
        let (worker, from) = ((cursor >> 32) as usize, cursor as u32);
        match self.shared.mailboxes.get(worker) {
            Some(mailbox) => mailbox.post([mail(from)]),
            None => {
                let page = Event::ClientPage { ticket, records: Vec::new(), next_cursor: None };
                self.shared.outlet.post(&mut vec![page]);
            }
        }
    }

    /// Ends a client and its session; `Kicked` answers.
    pub fn kick(&self, ticket: u64, client_id: &str) {
        let worker = self.shared.owner_of(client_id);
        self.shared.mailboxes[usize::from(worker)].post([Mail::Kick { ticket, client_id: client_id.into() }]);
    }

    /// The rows of the control plane that the start found, by name. Once: they are Python's from then on.
    pub fn take_rows(&self) -> Vec<KeptRow> {
        std::mem::take(&mut *self.rows.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes rows, all or none; `RowsChanged` answers when they are durable, or why nothing holds. `seen`: how many refusals
    /// the caller has heard of; with one on its way, what it takes for the value before may be wrong, and it is refused.
    pub fn change_rows(&self, ticket: u64, seen: u64, changes: Vec<RowChange>) {
        self.shared.mailboxes[0].post([Mail::ChangeRows { ticket, seen, changes }]);
    }

    /// Asks what became of every delivery; `Audited` answers. Costs each worker a look at all of its sessions.
    pub fn request_audit(&self, ticket: u64) {
        self.shared.mailboxes[0].post([Mail::Audit { ticket, audit: Box::default() }]);
    }

    /// Whether somebody would get a message under `prefix` ("a/b", for topics "a/b/...").
    pub fn is_watched(&self, prefix: &str) -> bool {
        self.shared.router.is_watched(prefix)
    }

    /// All metrics, summed over the workers; at most a turn old. They only grow, but for `messages.retained`.
    pub fn metrics(&self) -> Vec<(&'static str, u64)> {
        let mut metrics = ledger::sum(self.shared.blocks.iter());
        let find = |name| metrics.iter().find(|(known, _)| *known == name).map_or(0, |(_, count)| *count);
        let again = ledger::OLD_NAMES.map(|(old, name)| (old, find(name)));
        metrics.extend(again);
        let retained = self.shared.router.retained.read().unwrap_or_else(PoisonError::into_inner).len();
        metrics.push(("messages.retained", retained as u64));
        metrics.extend(Durable::figures(self.shared.durable.as_ref()));
        metrics
    }

    /// All statistics: how many there are, and the most there were since the start. Exact at the moment of the call.
    pub fn stats(&self) -> Vec<(&'static str, u64)> {
        gauges::read(&self.shared)
    }

    /// Metrics and statistics in one list.
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        let mut counters = self.metrics();
        counters.extend(self.stats());
        counters
    }

    /// What the store says of itself; None: there is none.
    pub fn storage_state(&self) -> Option<State> {
        self.shared.durable.as_ref().map(|durable| durable.store.state())
    }

    /// Writes a copy of what is committed to `path`, which must not exist, while serving. Waits for the disk. The error is a
    /// sentence.
    pub fn backup(&self, path: &Path) -> Result<(), String> {
        let Some(durable) = &self.shared.durable else {
            return Err("there is no store to copy: storage.durability is off".to_owned());
        };
        durable.store.backup(path).map_err(|failure| failure.to_string())
    }

    /// Ends every worker within `grace_ms`; `Stopped` is the last event.
    pub fn stop(&self, grace_ms: u64) {
        self.shared.stop(grace_ms);
    }

    /// Waits for the workers to end, and for what they handed to the store.
    pub fn join(&self) {
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // A worker that panicked has said so on standard error; there is nothing to add at the end.
            let _ = thread.join();
        }
        // Here and not where the last reference goes: that may be the store's own thread, which cannot wait for itself.
        self.shared.durable.iter().for_each(|durable| durable.store.close());
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stop(0);
        self.join();
    }
}

fn checked(filters: &[String]) -> impl Iterator<Item = Filter<'_>> {
    filters.iter().filter_map(|filter| Filter::new(filter).ok())
}

fn bind(options: &crate::ListenerOptions) -> Result<Listener, StartError> {
    let listener = options.label();
    let layering = match Layering::load(&options.layers) {
        Ok(layering) => layering,
        Err(text) => return Err(StartError::Certificates { listener, text }),
    };
    Listener::bind(options, layering).map_err(|(address, error)| StartError::Listen { listener, address, error })
}

/// What a worker begins with.
#[derive(Default)]
pub(crate) struct Duty {
    pub(crate) writer: Option<Writer>,
    /// For rows; the first worker's.
    pub(crate) recorder: Option<Writer>,
    pub(crate) sessions: Vec<KeptSession>,
    pub(crate) orphans: Vec<u64>,
    pub(crate) estates: BTreeMap<u32, Line>,
}

/// Opens the store, if there is to be one, and puts its retained messages into the router.
fn open_store(shared: &mut Shared, options: &Options, given: Option<Arc<dyn Store>>) -> Result<Kept, StartError> {
    let Some(storage) = &options.storage else { return Ok(Kept::default()) };
    let failed = |failure: Failure| not_usable(options, &failure);
    let store = match given {
        Some(store) => store,
        None => Arc::new(open_folder(shared, storage).map_err(failed)?),
    };
    take_store(shared, store).map_err(failed)
}

/// Reads back what a store holds; its retained messages go into the router.
pub(crate) fn take_store(shared: &mut Shared, store: Arc<dyn Store>) -> Result<Kept, Failure> {
    let rules = shared.zone(0).queue_rules.clone();
    let (durable, mut kept) = Durable::open(store, rules)?;
    shared.durable = Some(durable);
    let groups = kept.groups.iter().map(|(whole, number)| (&**whole, *number));
    shared.router.reserve_groups(groups, kept.highest_group);
    let mut retained = shared.router.retained.write().unwrap_or_else(PoisonError::into_inner);
    for (message, slot) in std::mem::take(&mut kept.retained) {
        let (_, free) = retained.store_under(message, slot);
        kept.orphans.extend(Some(free).filter(|free| *free != 0));
    }
    drop(retained);
    Ok(kept)
}

/// Opens the store in its folder; the log is told what is damaged.
fn open_folder(shared: &Shared, storage: &StorageOptions) -> Result<whimbrel_storage::DiskStore, Failure> {
    let store_options = whimbrel_storage::Options {
        durability: storage.durability,
        ..whimbrel_storage::Options::new(storage.folder.clone())
    };
    let (store, report) = whimbrel_storage::open(store_options)?;
    for damage in report.damaged {
        let text = format!("store: damaged and left out: {damage}");
        shared.outlet.post(&mut vec![Event::Log { level: 40, text }]);
    }
    Ok(store)
}

fn not_usable(options: &Options, failure: &Failure) -> StartError {
    let advice = match failure {
        Failure::Disk(_) => "; let this user write there, make room, or choose another data directory",
        Failure::Damaged(_) | Failure::Engine(_) => {
            "; move the folder away (nothing in it was removed) and start anew, or put a backup in its place"
        }
        _ => "", // They say it themselves.
    };
    let folder = options.storage.as_ref().map(|storage| storage.folder.clone()).unwrap_or_default();
    StartError::Storage { folder, text: format!("{failure}{advice}") }
}

/// Each worker's way into the store and the sessions that it owns.
pub(crate) fn duties(shared: &Arc<Shared>, kept: Kept) -> Result<Vec<Duty>, Failure> {
    let mut duties = Vec::new();
    for index in (0..).take(shared.mailboxes.len()) {
        let join = |durable: &Durable| Writer::join(Arc::clone(&durable.store), waker(shared, index));
        let writer = shared.durable.as_ref().map(join).transpose()?;
        duties.push(Duty { writer, ..Duty::default() });
    }
    let join = |durable: &Durable| Writer::join(Arc::clone(&durable.store), waker(shared, 0));
    duties[0].recorder = shared.durable.as_ref().map(join).transpose()?;
    for session in kept.sessions {
        let owner = shared.owner_of(&session.client_id);
        duties[usize::from(owner)].sessions.push(session);
    }
    duties[0].orphans = kept.orphans;
    duties[0].estates = kept.estates;
    Ok(duties)
}

/// Tells a worker that commits are done. The store must not keep the broker alive.
fn waker(shared: &Arc<Shared>, index: u16) -> Wake {
    let shared = Arc::downgrade(shared);
    Arc::new(move || {
        if let Some(shared) = shared.upgrade() {
            shared.mailboxes[usize::from(index)].nudge();
        }
    })
}

fn spawn(
    shared: &Arc<Shared>,
    (index, poll): (u16, OwnedFd),
    duty: Duty,
    ready: mpsc::Sender<()>,
) -> std::io::Result<JoinHandle<()>> {
    let shared = Arc::clone(shared);
    let thread = std::thread::Builder::new().name(format!("whimbrel-{index}"));
    thread.spawn(move || {
        let own = Arc::clone(&shared);
        let work = AssertUnwindSafe(move || {
            let mut worker = Worker::new(&own, index, poll);
            worker.keep_in(duty.writer);
            worker.record_in(duty.recorder);
            worker.restore(duty.sessions, &duty.orphans);
            worker.inherit(duty.estates);
            drop(ready);
            worker.run();
        });
        if catch_unwind(work).is_err() {
            shared.fail(index);
        }
    })
}
