//! Batches of work from one thread to a worker.
//!
//! Knows a queue and how to wake the worker if it sleeps. Bound: when more than [`MAILS_MAX`] deliveries wait, their
//! senders stop reading from their clients until it is less (back-pressure, nothing is lost); the rest is bounded by
//! connections and by the requests that Python has open.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::{EventfdFlags, eventfd};
use whimbrel_protocol::Message;
use whimbrel_protocol::connection::handshake::Secret;
use whimbrel_router::Target;

use crate::audit::Audit;
use crate::worker::{Handoff, Parcel};

/// Waiting mails beyond which senders of deliveries hold back.
pub(crate) const MAILS_MAX: usize = 16_384;

/// One piece of work.
#[derive(Debug)]
pub(crate) enum Mail {
    /// Deliver to sessions of this worker.
    Deliver(Arc<Message>, Arc<[Target]>),
    /// Deliver to the member of a group that lives here.
    Share(Box<Parcel>),
    /// A connection whose session lives here.
    Adopt(Box<Handoff>),
    /// Route a message from inside and answer the ticket.
    Publish { ticket: u64, message: Arc<Message> },
    /// Answer to a question.
    Authenticated { ticket: u64, reason_code: u8, is_superuser: bool, is_anonymous: bool },
    /// Answer to a question.
    EnhancedAuthenticated { ticket: u64, reason_code: u8, auth_data: Option<Secret>, is_superuser: bool },
    /// Answer to a question.
    Authorized { ticket: u64, reason_codes: Vec<u8> },
    /// A page of clients from a slot on.
    Clients { ticket: u64, from: u32, limit: usize },
    /// Add what this worker holds and pass it on; the last one answers.
    Audit { ticket: u64, audit: Box<Audit> },
    /// End a client and its session.
    Kick { ticket: u64, client_id: Arc<str> },
    /// Take connections from the listeners from now on.
    Open,
    /// End, within so many milliseconds.
    Stop { grace_ms: u64 },
}

/// The queue of one worker.
#[derive(Debug)]
pub(crate) struct Mailbox {
    waiting: Mutex<Vec<Mail>>,
    len: AtomicUsize,
    is_asleep: AtomicBool,
    is_closed: AtomicBool,
    wake: OwnedFd,
}

impl Mailbox {
    pub(crate) fn new() -> std::io::Result<Mailbox> {
        let wake = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        let (is_asleep, is_closed) = (AtomicBool::new(false), AtomicBool::new(false));
        Ok(Mailbox { waiting: Mutex::default(), len: AtomicUsize::new(0), is_asleep, is_closed, wake })
    }

    /// Becomes readable when a sleeping worker gets mail. Never read: it is watched edge-triggered.
    pub(crate) fn wake_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// Adds mails and wakes the worker if it sleeps.
    pub(crate) fn post(&self, mails: impl IntoIterator<Item = Mail>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_closed.load(Ordering::SeqCst) {
            return; // The worker has ended, and with it everything that the mail was about.
        }
        waiting.extend(mails);
        self.len.store(waiting.len(), Ordering::Relaxed);
        drop(waiting);
        if self.is_asleep.swap(false, Ordering::SeqCst) {
            let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
        }
    }

    /// Takes everything into `mails`, which must be empty.
    pub(crate) fn take(&self, mails: &mut Vec<Mail>) {
        self.is_asleep.store(false, Ordering::SeqCst);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut *waiting, mails);
        self.len.store(0, Ordering::Relaxed);
    }

    /// The worker ends: what waits is dropped, sockets on their way here are closed, and nothing more is taken.
    pub(crate) fn close(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_closed.store(true, Ordering::SeqCst);
        self.len.store(0, Ordering::Relaxed);
        waiting.clear();
    }

    /// Announces sleep; false if mail is there already.
    pub(crate) fn fall_asleep(&self) -> bool {
        self.is_asleep.store(true, Ordering::SeqCst);
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Whether senders of deliveries should hold back.
    pub(crate) fn is_congested(&self) -> bool {
        self.len.load(Ordering::Relaxed) > MAILS_MAX
    }
}
