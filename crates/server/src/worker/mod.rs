//! A worker: one thread, its loop, the connections and sessions that it owns.
//!
//! Knows the order of a turn: wait, read all that is ready, decide, deliver, flush once. Everything that a turn changes
//! belongs to this thread; other threads leave mail. The parts of a turn lie in the files beside this one, as methods of
//! [`Worker`].

mod accept;
#[cfg(test)]
mod alone;
mod authority;
mod budget;
mod client;
mod delivery;
mod durable;
mod enhanced;
mod estates;
mod exchanges;
mod flapping;
mod flush;
mod frames;
mod handshake;
mod inbound;
mod keeping;
mod layers;
mod lifecycle;
mod marking;
mod outbox;
mod pacing;
mod paging;
mod passing;
mod presence;
mod recording;
mod refusing;
mod reminders;
mod replay;
mod requests;
mod restoring;
mod sessions;
mod sharing;
mod shortage;
#[cfg(feature = "simulation")]
mod simulated;
mod subscribing;
mod sweeping;
mod system;
mod tidying;

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll;
use slab::Slab;
use whimbrel_protocol::connection::handshake::Request;
use whimbrel_router::MatchCache;

use crate::clock::{Clock, Now};
use crate::event::Event;
use crate::flapping::Flaps;
use crate::ledger::Counts;
use crate::mailbox::{Mail, WEIGHT_MAX};
use crate::pace::Pace;
use crate::shared::Shared;
use crate::timers::Timers;
use client::Client;
use durable::Keeper;
use estates::Estates;
use frames::Frames;
use marking::Marking;
use outbox::Spares;
use paging::Pages;
use presence::Watch;
use recording::Recorder;
use sessions::Sessions;
use sharing::Owing;
pub(crate) use sharing::Parcel;
use shortage::Shortage;
#[cfg(feature = "simulation")]
pub use simulated::{Held, HeldSession};

/// A connection on its way to the worker that owns its session.
#[derive(Debug)]
pub(crate) struct Handoff {
    arrival: client::Arrival,
    connection: whimbrel_protocol::connection::Connection,
    request: Box<Request>,
    rest: Vec<u8>,
    pace: Option<Box<Pace>>,
    is_superuser: bool,
}

/// Bytes that one read takes at most.
const READ_BYTES: usize = 256 * 1024;
/// Readiness events taken in one turn.
const EVENTS_MAX: usize = 1024;
/// How long a congested peer is given before this worker reads on.
const HOLD_BACK: Duration = Duration::from_micros(200);

/// The longest wait for readiness.
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// The thread's state.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    index: u16,
    poll: OwnedFd,
    ready: Vec<epoll::Event>,
    clock: Clock,
    now: Now,
    clients: Slab<Client>,
    next_epoch: u16,
    next_ticket: u32,
    sessions: Sessions,
    flaps: Flaps,
    /// The session that published last and its client identifier.
    speaker: Option<(u32, Arc<str>)>,
    dirty: Vec<u32>,
    spares: Spares,
    frames: Frames,
    cache: MatchCache,
    replaying: VecDeque<(u32, u16)>,
    /// Connections that go on in the next turn.
    resting: Vec<(u32, u16)>,
    /// What the connection being handled has cost in this turn; see `inbound`.
    effort: usize,
    owing: Owing,
    estates: Estates,
    marking: Marking,
    keeper: Keeper,
    recorder: Recorder,
    presence: Watch,
    shortage: Shortage,
    pages: Pages,
    timers: Timers,
    counts: Counts,
    events: Vec<Event>,
    outgoing: Vec<Vec<Mail>>,
    outgoing_weight: usize,
    mail: Vec<Mail>,
    buffer: Vec<u8>,
    /// What a connection that ends now has said or was told, beyond what its end says by itself.
    last_words: Box<str>,
    /// When the log was last told that descriptors had run out.
    exhausted_ms: Option<u64>,
    /// When the log was last told of a handshake that failed.
    failed_ms: Option<u64>,
    /// When to look for retained messages that have expired.
    sweep_at_ms: Option<u64>,
    /// When to give back what was kept for a crowd that has left.
    tidy_at_ms: Option<u64>,
    /// What there was at the last look; see `tidying`.
    tidied: (usize, usize, u64),
    /// Listeners are not watched until then: descriptors had run out.
    accept_again_ms: Option<u64>,
    /// Set by `Stop`: when to end at the latest.
    stop_by_ms: Option<u64>,
}

/// What a readiness event is about, packed in its 64 bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Token {
    Mailbox,
    Listener(u16),
    Client(u32, u16),
}

impl Token {
    fn pack(self) -> epoll::EventData {
        epoll::EventData::new_u64(match self {
            Token::Mailbox => 1 << 48,
            Token::Listener(index) => 2 << 48 | u64::from(index),
            Token::Client(slot, epoch) => u64::from(epoch) << 32 | u64::from(slot),
        })
    }

    fn unpack(packed: u64) -> Token {
        match packed >> 48 {
            1 => Token::Mailbox,
            2 => Token::Listener(packed as u16),
            _ => Token::Client(packed as u32, (packed >> 32) as u16),
        }
    }
}

impl Worker {
    /// The part of the start that can fail: the descriptor that the loop of worker `index` waits on.
    pub(crate) fn prepare(shared: &Shared, index: u16) -> std::io::Result<OwnedFd> {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mailbox = &shared.mailboxes[usize::from(index)];
        let edge = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&poll, mailbox.wake_fd(), Token::Mailbox.pack(), edge)?;
        Ok(poll)
    }

    /// On the worker's own thread, which it never leaves.
    pub(crate) fn new(shared: &Arc<Shared>, index: u16, poll: OwnedFd) -> Worker {
        Worker {
            shared: Arc::clone(shared),
            index,
            poll,
            ready: Vec::with_capacity(EVENTS_MAX),
            clock: Clock::default(),
            now: Now::default(),
            clients: Slab::new(),
            next_epoch: 0,
            next_ticket: 0,
            sessions: Sessions::default(),
            flaps: Flaps::default(),
            speaker: None,
            dirty: Vec::new(),
            spares: Spares::default(),
            frames: Frames::default(),
            cache: MatchCache::new(index),
            replaying: VecDeque::new(),
            resting: Vec::new(),
            effort: 0,
            owing: Owing::default(),
            estates: Estates::default(),
            marking: Marking::default(),
            keeper: Keeper::default(),
            recorder: Recorder::default(),
            presence: Watch::default(),
            shortage: Shortage::default(),
            pages: Pages::default(),
            timers: Timers::default(),
            counts: Counts::default(),
            events: Vec::new(),
            outgoing: (0..shared.mailboxes.len()).map(|_| Vec::new()).collect(),
            outgoing_weight: 0,
            mail: Vec::new(),
            buffer: vec![0; READ_BYTES],
            last_words: "".into(),
            exhausted_ms: None,
            failed_ms: None,
            sweep_at_ms: None,
            tidy_at_ms: None,
            tidied: (0, 0, 0),
            accept_again_ms: None,
            stop_by_ms: None,
        }
    }

    /// The thread's body.
    pub(crate) fn run(&mut self) {
        self.read_clocks();
        while !self.is_done() {
            self.turn();
        }
        self.leave();
    }

    fn turn(&mut self) {
        let patience = self.patience();
        self.wait(patience);
        self.act();
    }

    /// Everything that a turn does behind its wait.
    fn act(&mut self) {
        self.read_clocks();
        self.counts.loop_turns += 1;
        self.look_at_store();
        self.wake_resting();
        let mut ready = std::mem::take(&mut self.ready);
        for event in ready.drain(..) {
            let flags = event.flags;
            self.on_ready(Token::unpack(event.data.u64()), flags);
        }
        self.ready = ready;
        self.take_mail();
        self.release_committed();
        self.answer_recorded();
        self.take_pages();
        self.fire_timers();
        self.step_replays();
        self.flush_dirty();
        self.post();
    }

    /// How long to wait for readiness; None: as long as it takes. Announces sleep to whoever leaves mail.
    fn patience(&self) -> Option<Duration> {
        let has_work = !self.dirty.is_empty() || !self.resting.is_empty() || !self.replaying.is_empty();
        let is_sleepy = !has_work && self.shared.mailboxes[usize::from(self.index)].fall_asleep();
        // Looked at after the store was told to wake us.
        let is_sleepy = is_sleepy && !self.keeper.has_committed() && !self.has_store_turned() && !self.has_page();
        let is_sleepy = is_sleepy && !self.recorder.has_committed();
        if is_sleepy { self.time_to_next() } else { Some(Duration::ZERO) }
    }

    fn wait(&mut self, timeout: Option<Duration>) {
        let timeout = timeout.map(|duration| Timespec {
            tv_sec: duration.as_secs() as i64,
            tv_nsec: i64::from(duration.subsec_nanos()),
        });
        self.ready.clear();
        let room = rustix::buffer::spare_capacity(&mut self.ready);
        // An interrupted wait is a turn without events.
        let _ = epoll::wait(&self.poll, room, timeout.as_ref());
    }

    fn time_to_next(&self) -> Option<Duration> {
        let own = [self.owing.due_ms, self.accept_again_ms, self.sweep_at_ms, self.tidy_at_ms, self.stop_by_ms];
        let own = own.into_iter().chain([self.shortage.look_at_ms(), self.marking.due_ms]);
        let due = own.chain([self.timers.next_ms()]).flatten().min()?;
        // One more than needed, so that the reminder is due when the wait ends; never longer than every kernel takes.
        Some(Duration::from_millis(due.saturating_sub(self.now.ms) + 1).min(WAIT_MAX))
    }

    fn read_clocks(&mut self) {
        self.now = self.clock.read();
    }

    fn on_ready(&mut self, token: Token, flags: epoll::EventFlags) {
        match token {
            Token::Mailbox => {}
            Token::Listener(index) => self.accept(index),
            Token::Client(slot, epoch) => {
                if self.clients.get(slot as usize).is_some_and(|client| client.epoch == epoch) {
                    self.on_client_ready(slot, flags);
                }
            }
        }
    }

    fn on_client_ready(&mut self, slot: u32, flags: epoll::EventFlags) {
        use epoll::EventFlags as Flags;
        if flags.contains(Flags::OUT) {
            self.clients[slot as usize].is_writable = true;
            self.mark_dirty(slot);
        }
        if self.outgoing_weight > WEIGHT_MAX {
            return; // Other workers have enough to do; what is unread now is ready again in the next turn.
        }
        let client = &self.clients[slot as usize];
        let is_read = !client.is_waiting() && client.has_room();
        if flags.intersects(Flags::HUP | Flags::ERR) && !is_read {
            // Reported whether it is watched or not: a connection that is not read would wake us for ever.
            self.on_hung_up(slot, flags.contains(Flags::ERR));
        } else if flags.intersects(Flags::IN | Flags::HUP | Flags::ERR) {
            self.read(slot);
        }
    }

    /// Hands this turn's results to other threads, then waits while one of them has too much to do.
    fn post(&mut self) {
        self.post_once();
        while self.is_peer_congested() && self.stop_by_ms.is_none() && self.clock.passes() {
            self.hold_back();
            self.post_once();
        }
    }

    fn post_once(&mut self) {
        // Before the mail: who gets it may settle what the store must have heard of.
        self.keeper.seal();
        self.ask_for_pages();
        self.tidy_later();
        self.outgoing_weight = 0;
        for (mailbox, mails) in self.shared.mailboxes.iter().zip(&mut self.outgoing) {
            if !mails.is_empty() {
                mailbox.post(mails.drain(..));
            }
        }
        self.counts.route_misses = self.cache.misses;
        // Before the events: whoever is told that something happened reads counters that know of it.
        self.shared.blocks[usize::from(self.index)].publish(&self.counts);
        if !self.events.is_empty() {
            self.counts.notices_dropped += self.shared.outlet.post(&mut self.events);
        }
    }

    fn is_peer_congested(&self) -> bool {
        let own = usize::from(self.index);
        let mut others = self.shared.mailboxes.iter().enumerate().filter(|(index, _)| *index != own);
        others.any(|(_, mailbox)| mailbox.is_congested())
    }

    /// Reads nothing new, but keeps its own mailbox moving, so that two congested workers free each other.
    fn hold_back(&mut self) {
        self.counts.mailbox_throttled += 1;
        std::thread::sleep(HOLD_BACK);
        self.read_clocks();
        self.take_mail();
        self.flush_dirty();
    }

    fn is_done(&self) -> bool {
        let is_sent = |client: &Client| client.held == 0 && client.outbox.len() == 0 && !client.socket.has_waiting();
        let is_empty = || self.clients.iter().all(|(_, client)| is_sent(client));
        self.stop_by_ms.is_some_and(|by_ms| self.now.ms >= by_ms || is_empty())
    }

    fn leave(&mut self) {
        let slots: Vec<u32> = self.clients.iter().map(|(slot, _)| slot as u32).collect();
        for slot in slots {
            self.end(slot, client::End { is_told: false, ..client::End::SHUTDOWN });
        }
        self.shared.mailboxes[usize::from(self.index)].close();
        self.mark();
        self.keeper.seal();
        self.shared.blocks[usize::from(self.index)].publish(&self.counts);
        self.shared.leave(&mut self.events);
    }
}

#[cfg(test)]
mod tests {
    use whimbrel_protocol::Limits;
    use whimbrel_router::{Retained, Router};

    use super::*;

    #[test]
    fn a_worker_waits_while_another_one_has_too_much_mail_and_goes_on_then() {
        let router = Router::new(Retained::new(1, 1));
        let shared = Arc::new(Shared::new(router, Vec::new(), &[Limits::default()], 2).unwrap());
        let mut worker = Worker::new(&shared, 0, Worker::prepare(&shared, 0).unwrap());
        shared.mailboxes[1].post((0..=WEIGHT_MAX).map(|_| Mail::Open));
        let throttled = || {
            let numbers = shared.blocks[0].read();
            numbers.into_iter().find(|(name, _)| *name == "whimbrel.mailbox.throttled").map_or(0, |(_, count)| count)
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while throttled() == 0 {
                    std::thread::yield_now();
                }
                shared.mailboxes[1].take(&mut Vec::new());
            });
            worker.post();
        });
        assert!(throttled() > 0);
    }
}
