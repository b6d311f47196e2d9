//! Batches of work from one thread to a worker.
//!
//! Knows a queue and how to wake the worker if it sleeps. Bound: when deliveries of more than [`WEIGHT_MAX`] wait, their
//! senders stop reading from their clients until it is less (back-pressure, nothing is lost); the rest is bounded by
//! connections and by the requests that Python has open.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::{EventfdFlags, eventfd};
use whimbrel_protocol::Message;
use whimbrel_protocol::connection::handshake::Secret;
use whimbrel_router::Target;

use crate::answer::Answer;
use crate::audit::Audit;
use crate::rows::RowChange;
use crate::worker::{Handoff, Parcel};

/// Weight of the waiting mails beyond which senders of deliveries hold back: so many small messages, or 64 MiB.
pub(crate) const WEIGHT_MAX: usize = 16_384;
/// A message weighs one more for each of so many bytes.
const HEAVY_BYTES: usize = 4096;

/// One piece of work.
#[derive(Debug)]
pub(crate) enum Mail {
    /// Deliver to sessions of this worker.
    Deliver(Arc<Message>, Arc<[Target]>, Stored),
    /// Deliver to the member of a group that lives here.
    Share(Box<Parcel>),
    /// A connection whose session lives here.
    Adopt(Box<Handoff>),
    /// Route a message from inside and answer the ticket.
    Publish { ticket: u64, message: Arc<Message> },
    /// Answer to a question.
    Authenticated { ticket: u64, answer: Answer, is_superuser: bool, is_anonymous: bool },
    /// Answer to a question.
    EnhancedAuthenticated { ticket: u64, answer: Answer, auth_data: Option<Secret>, is_superuser: bool },
    /// Answer to a question.
    Authorized { ticket: u64, answers: Vec<Answer> },
    /// A page of clients from a slot on.
    Clients { ticket: u64, from: u32, limit: usize },
    /// The same of connected clients for which so much waits: bytes, or messages.
    Congested { ticket: u64, from: u32, limit: usize, backlog: Backlog },
    /// Add what this worker holds and pass it on; the last one answers.
    Audit { ticket: u64, audit: Box<Audit> },
    /// End a client and its session.
    Kick { ticket: u64, client_id: Arc<str> },
    /// Change rows of the control plane, all or none; the first worker alone gets this.
    ChangeRows { ticket: u64, seen: u64, changes: Vec<RowChange> },
    /// Take connections from the listeners from now on.
    Open,
    /// End, within so many milliseconds.
    Stop { grace_ms: u64 },
}

/// What makes a connection a congested one: as many unsent bytes, or as many messages that wait behind its window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Backlog {
    /// Unsent bytes.
    pub bytes: usize,
    /// Messages.
    pub messages: usize,
}

/// What the store knows of a message on its way.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Stored {
    /// Slot of the first durable target; 0: there is none.
    pub(crate) first_slot: u64,
    /// Whether at QoS 2 it must not leave before it is stored.
    pub(crate) is_held: bool,
}

impl Mail {
    /// What it adds to the bound.
    #[inline]
    pub(crate) fn weight(&self) -> usize {
        match self {
            Mail::Deliver(message, ..) => 1 + message.size_bytes() / HEAVY_BYTES,
            Mail::Share(parcel) => 1 + parcel.size_bytes() / HEAVY_BYTES,
            _ => 1,
        }
    }
}

/// The queue of one worker.
#[derive(Debug)]
pub(crate) struct Mailbox {
    waiting: Mutex<Vec<Mail>>,
    weight: AtomicUsize,
    is_asleep: AtomicBool,
    is_closed: AtomicBool,
    wake: OwnedFd,
}

impl Mailbox {
    pub(crate) fn new() -> std::io::Result<Mailbox> {
        let wake = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        let (is_asleep, is_closed) = (AtomicBool::new(false), AtomicBool::new(false));
        Ok(Mailbox { waiting: Mutex::default(), weight: AtomicUsize::new(0), is_asleep, is_closed, wake })
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
        let mut weight = self.weight.load(Ordering::Relaxed); // Only changed under the lock.
        waiting.extend(mails.into_iter().inspect(|mail| weight += mail.weight()));
        self.weight.store(weight, Ordering::Relaxed);
        drop(waiting);
        self.nudge();
    }

    /// Takes everything into `mails`, which must be empty.
    pub(crate) fn take(&self, mails: &mut Vec<Mail>) {
        self.is_asleep.store(false, Ordering::SeqCst);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut *waiting, mails);
        self.weight.store(0, Ordering::Relaxed);
    }

    /// The worker ends: what waits is dropped, sockets on their way here are closed, and nothing more is taken.
    pub(crate) fn close(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_closed.store(true, Ordering::SeqCst);
        self.weight.store(0, Ordering::Relaxed);
        waiting.clear();
    }

    /// Wakes the worker if it sleeps: something else than mail is there.
    pub(crate) fn nudge(&self) {
        if self.is_asleep.swap(false, Ordering::SeqCst) {
            let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
        }
    }

    /// Announces sleep; false if mail is there already.
    pub(crate) fn fall_asleep(&self) -> bool {
        self.is_asleep.store(true, Ordering::SeqCst);
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Mails that wait.
    #[cfg(feature = "simulation")]
    pub(crate) fn len(&self) -> usize {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether senders of deliveries should hold back.
    pub(crate) fn is_congested(&self) -> bool {
        self.weight.load(Ordering::Relaxed) > WEIGHT_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use whimbrel_protocol::message::{Origin, Publication};
    use whimbrel_protocol::properties::Properties;
    use whimbrel_protocol::{QoS, Topic};

    fn deliveries(count: usize, size: usize) -> Vec<Mail> {
        let payload = &vec![0; size][..];
        let topic = Topic::new("t").unwrap();
        let publication = Publication { topic, properties: Properties::default(), expiry_s: None, payload };
        let origin = Origin { client_id: "p".into(), received_ms: 0 };
        let message = Arc::new(Message::new(&publication, QoS::AtMostOnce, false, origin));
        (0..count).map(|_| Mail::Deliver(Arc::clone(&message), Arc::from([]), Stored::default())).collect()
    }

    #[test]
    fn senders_hold_back_for_many_messages_or_few_large_ones() {
        for (count, size, is_congested) in
            [(16_000, 100, false), (16_385, 100, true), (60, 1 << 20, false), (65, 1 << 20, true)]
        {
            let mailbox = Mailbox::new().unwrap();
            mailbox.post(deliveries(count, size));
            assert_eq!(mailbox.is_congested(), is_congested, "{count} of {size} bytes");
            mailbox.take(&mut Vec::new());
            assert!(!mailbox.is_congested());
        }
    }
}
