//! Letting everything come to rest, and what must be true then.
//!
//! Knows that the broker comes to rest within a bounded number of rounds, that its gauges count what is there, that nobody
//! misses what he was promised, and that nothing is left when every session has ended.

use std::collections::{BTreeMap, BTreeSet};

use whimbrel_protocol::Version;
use whimbrel_server::simulation::Held;

use crate::books::Fault;
use crate::line::{Goodbye, Phase};
use crate::world::{Plan, World};

/// Rounds in which everybody has a turn. Narrow sockets take some kilobytes in each.
const ROUNDS_MAX: usize = 3_000;
/// Longer than any session or will waits; milliseconds.
const ALL_OVER_MS: u64 = 100_000_000;
/// So long a client that was too fast waits at most; milliseconds.
const TOKENS_MS: u64 = 1_100;
/// No kick has this number.
const LEDGER_TICKET: u64 = 1 << 40;
/// So long an absent member of a group may keep a message before it is offered again; milliseconds.
const SHARED_PAUSE_MS: u64 = 150;

impl World {
    /// Everybody does what he can until nobody can do anything; then the broker's books must agree with ours.
    pub fn settle(&mut self) -> Result<(), Fault> {
        self.mend_disk();
        self.tell(format_args!("everybody goes on until nothing is left to do"));
        for _ in 0..ROUNDS_MAX {
            if !self.round()? && !self.wait_for_tokens() && !self.step_over_edge() {
                let ended = self.sessions.settle(self.plane.now_ms())?;
                self.note_ended(ended);
                self.check_quiet()?;
                return self.check_ledger();
            }
        }
        Err(format!("the broker did not come to rest in {ROUNDS_MAX} rounds"))
    }

    /// Clients that were too fast are heard after a while; whether somebody is waited for.
    fn wait_for_tokens(&mut self) -> bool {
        let now_ms = self.plane.now_ms();
        let is_waiting = self.is_paced() && (0..self.people.len()).any(|who| self.is_unheard(who));
        let wake_ms = self.plane.next_wake_ms().filter(|wake_ms| is_waiting && *wake_ms <= now_ms + TOKENS_MS);
        wake_ms.into_iter().for_each(|wake_ms| self.plane.advance(wake_ms.saturating_sub(now_ms)));
        wake_ms.is_some()
    }

    /// What is due now may be done or not: a moment later it is done; whether that was so.
    fn step_over_edge(&mut self) -> bool {
        let is_on_edge = self.sessions.is_on_edge(self.plane.now_ms());
        if is_on_edge {
            self.plane.advance(1);
        }
        is_on_edge
    }

    /// Whether a client has sent something that the broker has not answered or routed yet.
    fn is_unheard(&self, who: usize) -> bool {
        let Some(line) = self.people[who].current.map(|line| &self.lines[line]) else { return false };
        let is_unrouted = |number: &usize| {
            let record = self.books.record(*number);
            record.routed == 0 && !record.is_refused
        };
        let is_open = !line.asked.is_empty() || !self.people[who].memory.unsettled.is_empty();
        line.goodbye.is_some() || is_open || (!line.is_judged && line.written.iter().any(is_unrouted))
    }

    fn round(&mut self) -> Result<bool, Fault> {
        let mut is_busy = false;
        self.order += 1;
        for line in 0..self.lines.len() {
            if self.lines[line].is_alive() {
                is_busy |= self.lines[line].release(usize::MAX) > 0;
                is_busy |= self.push(line, usize::MAX) > 0;
                is_busy |= self.pull(line, 1 << 16)? > 0;
                self.hang_up_after_goodbye(line);
            }
        }
        while !self.questions.is_empty() {
            self.answer(0, true);
            is_busy = true;
        }
        is_busy |= self.commit(usize::MAX)? > 0;
        for worker in 0..self.worker_count() {
            is_busy |= self.turn(worker)?;
        }
        Ok(is_busy)
    }

    fn check_quiet(&self) -> Result<(), Fault> {
        let counters: BTreeMap<&str, u64> = self.plane.broker().counters().into_iter().collect();
        let count = |name: &str| counters.get(name).copied().unwrap_or(u64::MAX);
        let entered = self.lines.iter().filter(|line| matches!(line.phase, Phase::Entered(_))).count() as u64;
        let sessions = self.sessions.iter().count() as u64;
        let dropped = counters.iter().filter(|(name, _)| name.starts_with("delivery.dropped."));
        let sums = [
            ("connections.count", count("connections.count"), entered),
            ("connections of the listener", self.plane.accepted_count() as u64, entered),
            ("client.connected", count("client.connected"), entered + count("client.disconnected")),
            ("sessions.count", count("sessions.count"), sessions),
            (
                "session.created",
                count("session.created"),
                sessions + count("session.terminated") + count("session.discarded") - self.restored,
            ),
            ("messages.publish", count("messages.publish"), self.routed_count()),
            ("delivery.dropped", count("delivery.dropped"), dropped.map(|(_, number)| *number).sum()),
        ];
        for (name, is, must) in sums {
            if is != must {
                return Err(format!("{name} is {is} and must be {must}"));
            }
        }
        self.check_written()?;
        self.check_subscriptions(count("subscriptions.count"))
    }

    /// The broker's own account: each delivery and acknowledgement is found again, and none is on its way.
    fn check_ledger(&mut self) -> Result<(), Fault> {
        self.ledger = None;
        self.plane.broker().request_audit(LEDGER_TICKET);
        // Each worker adds its part and passes it on to the next one.
        for worker in 0..self.worker_count() {
            self.turn(worker)?;
        }
        let Some(ledger) = self.ledger.take() else {
            return Err("the broker gives no account of its deliveries".into());
        };
        match ledger.lines().iter().find(|line| line.missing() != 0) {
            Some(line) => Err(format!("the ledger misses {}: {line:?}", line.missing())),
            None if ledger.on_the_way() != 0 => Err(format!("{} deliveries are on their way", ledger.on_the_way())),
            None => Ok(()),
        }
    }

    /// What a client wrote into a connection that holds its session, or that it left in peace, was routed.
    fn check_written(&self) -> Result<(), Fault> {
        for (number, line) in self.lines.iter().enumerate() {
            let is_heard = match line.phase {
                Phase::Entered(_) => line.wire.is_sent(),
                Phase::Gone("normal") => true,
                _ => false,
            };
            let is_certain = is_heard && !line.is_judged;
            let is_lost = |written: &&usize| {
                let record = self.books.record(**written);
                record.routed_ever() == 0 && !record.is_refused && !self.may_have_refused(record.sent_order)
            };
            if let Some(lost) = line.written.iter().find(|written| is_certain && is_lost(written)) {
                return Err(format!("message {lost} was sent on k{number} and never routed"));
            }
        }
        Ok(())
    }

    fn check_subscriptions(&self, counted: u64) -> Result<(), Fault> {
        if self.sessions.iter().any(|(_, session)| session.is_unsure) {
            return Ok(());
        }
        let held = |subs: &[crate::sessions::Sub]| {
            let held = subs.iter().filter(|sub| sub.acked_order.is_some() && sub.ended_order.is_none());
            held.map(|sub| sub.filter).collect::<BTreeSet<_>>().len() as u64
        };
        let known: u64 = self.sessions.iter().map(|(_, session)| held(&session.subs)).sum();
        if counted == known { Ok(()) } else { Err(format!("subscriptions.count is {counted} and must be {known}")) }
    }

    /// Every client comes back for what is his, and must find it.
    pub fn collect(&mut self) -> Result<(), Fault> {
        self.settle()?;
        for who in 0..self.people.len() {
            self.people[who].is_lazy = false;
            if self.sessions.of(who).is_some() && self.usable(who).is_none() {
                self.connect(Plan {
                    who,
                    version: Version::V5,
                    clean_start: false,
                    expiry_s: 3600,
                    keep_alive_s: 0,
                    window: 20,
                    will: None,
                    is_narrow: false,
                    worker: 0,
                })?;
            }
        }
        self.settle()?;
        // What was with absent members is on its way to others.
        for _ in 0..3 {
            self.plane.advance(SHARED_PAUSE_MS);
            self.settle()?;
        }
        self.check_promises()
    }

    fn check_promises(&self) -> Result<(), Fault> {
        let is_living = |(who, epoch)| {
            self.sessions.of(who).is_some_and(|session| session.epoch == epoch) && self.usable(who).is_some()
        };
        let missing = self.books.missing(self.plane.now_ms(), is_living);
        let counters: BTreeMap<&str, u64> = self.plane.broker().counters().into_iter().collect();
        let lost = self.lost_count();
        if missing.len() as u64 > lost {
            return Err(format!("{} missed, {lost} counted as dropped: {}", missing.len(), missing.join(", ")));
        }
        let (twice, moved) = (self.books.moved(), self.before.1 + counters["whimbrel.shared.moved"]);
        if twice > moved {
            return Err(format!("{twice} messages of the group reached one member more, {moved} were moved"));
        }
        self.check_retained()
    }

    /// Everybody goes for good: nothing may be left.
    pub fn clear_out(&mut self) -> Result<(), Fault> {
        for line in 0..self.lines.len() {
            if self.lines[line].is_usable() {
                self.disconnect(line, Goodbye { keeps_will: false, expiry_s: Some(0) });
            }
        }
        self.settle()?;
        self.plane.advance(ALL_OVER_MS);
        self.settle()?;
        self.close_tap();
        for (worker, held) in self.plane.held().into_iter().enumerate() {
            if held != Held::default() {
                return Err(format!("worker {worker} still holds {held:?}"));
            }
        }
        let counters: BTreeMap<&str, u64> = self.plane.broker().counters().into_iter().collect();
        for name in ["topics.count", "subscriptions.shared.count", "subscriptions.count"] {
            if counters[name] > 0 {
                return Err(format!("{name} is {} when everybody has gone", counters[name]));
            }
        }
        self.check_store_is_empty((counters["messages.retained"], counters["whimbrel.storage.unstored"]))?;
        match self.plane.kept_count() {
            0 => Ok(()),
            kept => Err(format!("{kept} sessions are counted as kept when everybody has gone")),
        }
    }
}
