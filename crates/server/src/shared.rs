//! What all workers and the broker's front see.
//!
//! Knows the router, the mailboxes, the outlet, the taps, the counters. Holds no session and no socket of a client.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use whimbrel_protocol::Limits;
use whimbrel_router::Router;

use crate::durable::Durable;
use crate::event::Event;
use crate::gauges::Gauges;
use crate::ledger::Block;
use crate::listener::Listener;
use crate::mailbox::{Mail, Mailbox};
use crate::options::Flapping;
use crate::outlet::Outlet;
use crate::placement::Placement;
use crate::sys::Sys;
use crate::tap::Taps;

/// What Python wants to be asked and told, as bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interest(pub u8);

impl Interest {
    /// Questions before CONNACK.
    pub const AUTHENTICATE: Interest = Interest(1);
    /// Questions before PUBLISH and SUBSCRIBE.
    pub const AUTHORIZE: Interest = Interest(2);
    /// Notices of connections.
    pub const CONNECTED: Interest = Interest(4);
    /// Notices of their end.
    pub const DISCONNECTED: Interest = Interest(8);
    /// Questions about each packet of an enhanced authentication.
    pub const ENHANCED_AUTHENTICATE: Interest = Interest(16);
}

/// The broker's common ground.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) router: Router,
    pub(crate) mailboxes: Vec<Mailbox>,
    pub(crate) blocks: Vec<Block>,
    pub(crate) outlet: Outlet,
    pub(crate) taps: Taps,
    pub(crate) listeners: Vec<Listener>,
    zones: RwLock<Vec<Arc<Limits>>>,
    question_deadline_ms: AtomicU64,
    pub(crate) flapping: Option<Flapping>,
    /// What survives a crash; None: nothing does.
    pub(crate) durable: Option<Durable>,
    running: AtomicUsize,
    pub(crate) gauges: Gauges,
    pub(crate) sys: Sys,
    pub(crate) assigned: AtomicU64,
    interest: AtomicU8,
    interest_epoch: AtomicU32,
    placement: Placement,
}

impl Shared {
    pub(crate) fn new(
        router: Router,
        listeners: Vec<Listener>,
        zones: &[Limits],
        workers: u16,
    ) -> std::io::Result<Shared> {
        Shared::placed(router, listeners, zones, (workers, Placement::default()))
    }

    /// As `new`, with a key for what is placed by hash.
    pub(crate) fn placed(
        router: Router,
        listeners: Vec<Listener>,
        zones: &[Limits],
        (workers, placement): (u16, Placement),
    ) -> std::io::Result<Shared> {
        let mailboxes = (0..workers).map(|_| Mailbox::new()).collect::<Result<_, _>>()?;
        Ok(Shared {
            router,
            mailboxes,
            blocks: (0..workers).map(|_| Block::default()).collect(),
            outlet: Outlet::new()?,
            taps: Taps::default(),
            listeners,
            zones: RwLock::new(zones.iter().cloned().map(Arc::new).collect()),
            question_deadline_ms: AtomicU64::new(0),
            flapping: None,
            durable: None,
            running: AtomicUsize::new(usize::from(workers)),
            gauges: Gauges::default(),
            sys: Sys::default(),
            // Identifiers that we assign must not repeat after a restart while old sessions are kept.
            assigned: AtomicU64::new(placement.hash("assigned")),
            interest: AtomicU8::new(0),
            interest_epoch: AtomicU32::new(0),
            placement,
        })
    }

    /// The limits that a new connection of this zone gets.
    /// The longest queue that any zone allows, in messages and bytes (0: no bound), with what may be in flight besides.
    pub(crate) fn longest_queue(&self) -> (u32, u32) {
        let zones = self.zones.read().unwrap_or_else(PoisonError::into_inner);
        let len = |zone: &Arc<Limits>| zone.max_mqueue_len.saturating_add(u32::from(zone.max_inflight));
        let bytes = |zone: &Arc<Limits>| zone.max_mqueue_bytes;
        let has_bound = zones.iter().all(|zone| bytes(zone) > 0);
        let most = zones.iter().map(bytes).max().filter(|_| has_bound);
        (zones.iter().map(len).max().unwrap_or_default(), most.unwrap_or_default())
    }

    pub(crate) fn zone(&self, index: usize) -> Arc<Limits> {
        Arc::clone(&self.zones.read().unwrap_or_else(PoisonError::into_inner)[index])
    }

    /// Other limits for connections from now on. A zone that is not among `zones` keeps its own.
    pub(crate) fn set_zones(&self, zones: &[Limits]) {
        let mut held = self.zones.write().unwrap_or_else(PoisonError::into_inner);
        for (held, limits) in held.iter_mut().zip(zones) {
            *held = Arc::new(limits.clone());
        }
    }

    /// How long a question may stay unanswered.
    pub(crate) fn question_deadline_ms(&self) -> u64 {
        self.question_deadline_ms.load(Ordering::Relaxed)
    }

    pub(crate) fn set_question_deadline_ms(&self, deadline_ms: u64) {
        self.question_deadline_ms.store(deadline_ms, Ordering::Relaxed);
    }

    /// Every worker ends within `grace_ms`.
    pub(crate) fn stop(&self, grace_ms: u64) {
        for mailbox in &self.mailboxes {
            mailbox.post([Mail::Stop { grace_ms }]);
        }
    }

    /// A worker ended by a defect of ours. A broker that has lost a part of its sessions must not go on as if nothing
    /// were missing: all of it ends, and who runs it is told.
    pub(crate) fn fail(&self, index: u16) {
        let text = format!("worker {index} ended by a defect (standard error says where); the broker stops");
        self.outlet.post(&mut vec![Event::Log { level: 50, text }]);
        self.stop(0);
        self.leave(&mut Vec::new());
    }

    /// A worker is gone: its last events go out, and if it is the last one, `Stopped` behind them.
    pub(crate) fn leave(&self, events: &mut Vec<Event>) {
        self.outlet.post(events);
        if self.running.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.outlet.post(&mut vec![Event::Stopped]);
        }
    }

    /// The worker that owns a client identifier's session.
    pub(crate) fn owner_of(&self, client_id: &str) -> u16 {
        match self.mailboxes.len() {
            1 => 0,
            workers => (self.placement.hash(client_id) % workers as u64) as u16,
        }
    }

    /// The worker that routes a message from inside: one for each topic, so that its order is kept.
    pub(crate) fn router_of(&self, topic: &[u8]) -> u16 {
        (self.placement.hash(topic) % self.mailboxes.len() as u64) as u16
    }

    /// The same number for the same text as long as the broker lives.
    pub(crate) fn hash(&self, text: &str) -> u64 {
        self.placement.hash(text)
    }

    #[inline]
    pub(crate) fn wants(&self, interest: Interest) -> bool {
        self.interest.load(Ordering::Relaxed) & interest.0 != 0
    }

    pub(crate) fn set_interest(&self, interest: Interest) {
        self.interest.store(interest.0, Ordering::Relaxed);
        self.interest_epoch.fetch_add(1, Ordering::Relaxed);
    }

    /// Raised by every `set_interest`: other hooks may answer otherwise.
    pub(crate) fn interest_epoch(&self) -> u32 {
        self.interest_epoch.load(Ordering::Relaxed)
    }

    /// A client identifier that nobody has.
    pub(crate) fn assign_client_id(&self) -> Arc<str> {
        let number = self.assigned.fetch_add(1, Ordering::Relaxed);
        format!("auto-{:016x}", self.placement.hash(number)).into()
    }
}
