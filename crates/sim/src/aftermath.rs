//! A crash, and what must be true behind it.
//!
//! Knows what a promise is: an acknowledgement that its receiver has read. What was promised must be there; what was
//! submitted behind the last surviving ticket must not; of anything between, either is right, and the model goes on with
//! what it finds. Must not know records or slots.

use std::collections::BTreeMap;
use std::sync::Arc;

use whimbrel_server::simulation::{Beginning, EPOCH_MS, HeldSession, Plane};
use whimbrel_storage::{Record, Slot, Space, Store, StoredMessage, Visitor};

use crate::books::{Fault, number_of};
use crate::line::Phase;
use crate::rng::Rng;
use crate::sessions::{Entry, Life, Session, Span, Sub, WillState};
use crate::world::{RETAINED_TOPICS, World, look_on};

/// Rounding on two clocks; milliseconds.
const SLACK_MS: u64 = 3;

impl World {
    /// The newest ticket.
    pub(crate) fn submitted(&self) -> u64 {
        self.store.as_ref().map_or(0, |store| store.submitted().0)
    }

    /// The oldest submissions are committed; how many were.
    pub fn commit(&mut self, count: usize) -> Result<usize, Fault> {
        let Some(store) = &self.store else { return Ok(0) };
        let count = store.commit(count);
        let strays = store.stray_count();
        if count > 0 {
            self.tell(format_args!("the disk has {count} more submissions"));
        }
        if strays > 0 { Err(format!("{strays} slots were settled that were not live")) } else { Ok(count) }
    }

    /// The disk fails from now on, or works again.
    pub fn refuse(&mut self, is_refusing: bool) {
        self.tell(format_args!("the disk fails: {is_refusing}"));
        if self.is_refusing() {
            self.refused_order = Some(self.order);
        }
        self.store.iter().for_each(|store| store.refuse(is_refusing));
    }

    /// Whether the store takes nothing.
    pub(crate) fn is_refusing(&self) -> bool {
        self.store.as_ref().is_some_and(|store| store.is_refusing())
    }

    /// Whether there was a time since then at which something may have been refused for that.
    pub(crate) fn may_have_refused(&self, since_order: u64) -> bool {
        self.is_refusing() || self.refused_order.is_some_and(|order| order >= since_order)
    }

    pub(crate) fn mend_disk(&mut self) {
        if self.is_refusing() {
            self.refuse(false);
        }
    }

    /// Nobody is left who needs anything but the retained messages.
    /// `unstored` at most are in memory only.
    pub(crate) fn check_store_is_empty(&self, (retained, unstored): (u64, u64)) -> Result<(), Fault> {
        let Some(store) = &self.store else { return Ok(()) };
        let (live, keyed) = (store.statistics().live, store.keyed_count());
        // The broker's own sign of life stays.
        if (retained.saturating_sub(unstored)..=retained).contains(&live) && keyed <= 1 {
            return Ok(());
        }
        let mut remains = Remains::default();
        store.replay(&mut remains).map_err(|failure| failure.to_string())?;
        let what = remains.0.join(", ");
        Err(format!(
            "only {retained} retained messages are left, and the store holds {live} slots, {keyed} values: {what}"
        ))
    }

    /// Deliveries that were dropped for a reason that is counted.
    pub(crate) fn lost_count(&self) -> u64 {
        let counters: BTreeMap<&str, u64> = self.plane.broker().counters().into_iter().collect();
        let lost = ["queue_full", "too_large"].iter().map(|why| counters[&*format!("delivery.dropped.{why}")]);
        self.before.0 + lost.sum::<u64>()
    }

    /// A session begins or goes on: under which number the store knows it.
    pub(crate) fn note_life(&mut self, entry: Entry, session_present: bool) {
        if self.store.is_none() {
            return;
        }
        let Entry { who, expiry_s, .. } = entry;
        let client_id = format!("c{who}");
        let number =
            self.plane.sessions().iter().find(|held| held.client_id == client_id).map_or(0, |held| held.number);
        let memory = &self.people[who].memory;
        if !session_present {
            let past = self.sessions.past.entry(who).or_default();
            past.retain(|life| life.session.number != number); // It came and went within this turn.
            past.iter_mut().filter(|life| life.memory.is_none()).for_each(|life| life.memory = Some(memory.clone()));
        }
        let Some(session) = self.sessions.of(who).cloned() else { return };
        if session_present && expiry_s == 0 && session.number != 0 {
            // From now on it ends with its connection. A crash brings it back as it was, unless CONNACK was read.
            self.sessions.bury(who, session, true);
        }
        self.sessions.of_mut(who).into_iter().for_each(|session| {
            session.number = match (expiry_s, session_present) {
                (0, _) => 0,
                (_, true) => session.number,
                (_, false) => number,
            };
            session.is_told &= session_present;
        });
    }

    pub(crate) fn note_retained(&mut self, topic: &str, number: Option<usize>) {
        let span = self.sessions.span;
        self.retained.entry(topic.to_owned()).or_default().push((span, number));
    }

    /// The power fails when so many of the waiting submissions have reached the disk. Clients may have read what was sent to
    /// them. Then the broker starts again.
    pub fn crash(&mut self, survivors: usize, is_heard: bool) -> Result<(), Fault> {
        for line in 0..self.lines.len() {
            if is_heard && self.lines[line].is_alive() {
                self.pull(line, 1 << 16)?;
            }
        }
        let counters: BTreeMap<&str, u64> = self.plane.broker().counters().into_iter().collect();
        self.before = (self.lost_count(), self.before.1 + counters["whimbrel.shared.moved"]);
        self.mend_disk();
        let Some(store) = self.store.take() else { return Ok(()) };
        let (after, kept) = store.crash(survivors);
        self.tell(format_args!("THE POWER FAILS; what was submitted up to {} survives", kept.0));
        self.forget_connections();
        let store = Arc::new(after);
        self.restart(Arc::clone(&store) as Arc<dyn Store>)?;
        self.store = Some(store);
        self.look_around(kept.0)
    }

    fn forget_connections(&mut self) {
        for line in &mut self.lines {
            if matches!(line.phase, Phase::Opening | Phase::Entered(_)) {
                line.phase = Phase::Gone("crashed");
            }
            line.wire.close();
        }
        self.people.iter_mut().for_each(|person| person.leave());
        self.questions.clear();
        self.tickets.clear();
        self.routed = 0;
    }

    fn restart(&mut self, store: Arc<dyn Store>) -> Result<(), Fault> {
        let (now_ms, wall_offset_ms) = (self.plane.now_ms(), self.plane.wall_offset_ms());
        self.key = Rng::new(self.key).number();
        let mut life = SignOfLife::default();
        store.replay(&mut life).map_err(|failure| failure.to_string())?;
        self.lost_ms = life.0.map_or(now_ms, |said_ms| now_ms.min(said_ms + GRACE_MS));
        let beginning = Beginning { store: Some(store), now_ms, wall_offset_ms };
        let plane = Plane::start(&self.options, self.key, beginning);
        self.plane = plane.map_err(|error| format!("the broker does not start again: {error}"))?;
        self.tap = look_on(&self.plane, self.interest)?;
        self.plane.broker().open();
        Ok(())
    }

    /// What the start has found is compared with what must be there, and taken over.
    fn look_around(&mut self, kept: u64) -> Result<(), Fault> {
        let found = self.plane.sessions();
        self.restored = found.len() as u64;
        for held in &found {
            self.tell(format_args!("  found {held:?}"));
        }
        let members = self.sessions.iter().filter(|(_, session)| session.is_member());
        let members: Vec<_> = members.map(|(who, session)| (who, session.epoch)).collect();
        for who in 0..self.people.len() {
            let client_id = format!("c{who}");
            self.adopt(who, found.iter().find(|held| held.client_id == client_id), kept)?;
        }
        let readers: Vec<_> = self.sessions.iter().map(|(who, session)| (who, session.epoch)).collect();
        self.books.crash(kept, |reader| readers.contains(&reader));
        if members.iter().any(|member| !readers.contains(member)) {
            self.books.lose_member(self.order, false);
        }
        self.adopt_retained(kept)
    }

    /// One client's session: the one that held, one before it, or none.
    fn adopt(&mut self, who: usize, found: Option<&HeldSession>, kept: u64) -> Result<(), Fault> {
        let now_ms = self.now_ms();
        let past = self.sessions.past.remove(&who).unwrap_or_default();
        let current = self.sessions.held.remove(&who);
        let current = current.map(|session| Life { session, ended: LIVES_ON, is_exact: true, memory: None });
        let lives: Vec<Life> = past.into_iter().chain(current).filter(|life| life.session.number != 0).collect();
        let number = found.map_or(0, |held| held.number);
        for life in &lives {
            let Session { number: its, is_told, begun, expires_ms, .. } = life.session;
            let may_be_over = !life.is_exact || expires_ms.is_some_and(|due_ms| due_ms <= now_ms);
            let has_begun = is_told || begun.is_kept(kept);
            if has_begun && life.ended.is_lost(kept) && !may_be_over && its != number {
                return Err(format!("c{who}: session {its} is lost, and {number} is there"));
            }
            let cannot_be = !is_told && begun.is_lost(kept) || life.ended.is_kept(kept) && life.ended != LIVES_ON;
            if its == number && cannot_be {
                return Err(format!("c{who}: session {its} is there, but it began too late or has ended"));
            }
        }
        let Some(held) = found else {
            self.void_wills(who);
            return Ok(());
        };
        let Some(life) = lives.into_iter().find(|life| life.session.number == number) else {
            return Err(format!("c{who}: nobody knows session {number}"));
        };
        if let Some(memory) = life.memory {
            self.people[who].memory = memory;
        }
        let mut session = life.session;
        self.check_expiry(&session, held, kept).map_err(|fault| format!("c{who}: {fault}"))?;
        if session.line.is_some() || !session.left.is_kept(kept) {
            session.left = LIVES_ON; // The start has said when it was left; whether that is stored, nobody knows.
        } else {
            session.left = Span::default();
        }
        (session.line, session.expires_ms) = (None, held.expires_ms);
        adopt_filters(&mut session, &held.filters).map_err(|fault| format!("c{who}: {fault}"))?;
        session.begun = Default::default();
        let is_told = session.is_told;
        self.sessions.held.insert(who, session);
        self.adopt_will(who, (held, is_told), kept)
    }

    fn check_expiry(&self, session: &Session, held: &HeldSession, kept: u64) -> Result<(), Fault> {
        let is_unknown = self.is_wall_set || session.is_postponed;
        let (Some(found_ms), false) = (held.expires_ms, is_unknown) else { return Ok(()) };
        let must_ms = match (session.line, session.expires_ms) {
            (None, Some(expires_ms)) if session.left.is_kept(kept) => expires_ms.max(self.now_ms()),
            (Some(line), _) if self.lines[line].is_ready && self.lines[line].goodbye.is_none() => {
                self.now_ms().max(self.lost_ms + u64::from(session.expiry_s) * 1000)
            }
            _ => return Ok(()),
        };
        match found_ms.abs_diff(must_ms) <= SLACK_MS {
            true => Ok(()),
            false => Err(format!("the session ends at {found_ms} and must end at {must_ms}")),
        }
    }

    fn void_wills(&mut self, who: usize) {
        self.sessions.will_of.remove(&who);
        for will in self.sessions.wills.values_mut().filter(|will| will.who == who) {
            will.state = if will.state == WillState::Sent { WillState::Sent } else { WillState::Void };
        }
    }

    fn adopt_will(&mut self, who: usize, (held, is_told): (&HeldSession, bool), kept: u64) -> Result<(), Fault> {
        let found = held.will.as_deref().and_then(number_of);
        let last = self.sessions.will_of.get(&who).copied();
        if let Some(last) = last.filter(|last| found != Some(*last)) {
            let will = self.sessions.wills[&last];
            let is_due = matches!(will.state, WillState::Armed | WillState::Due(_));
            // One that was left with a broker that could not store it was in memory.
            let is_promised = is_told && will.left != Span::UNKNOWN && self.is_entry_told(last);
            let is_left = will.left.is_kept(kept) || is_promised;
            if is_due && is_left {
                return Err(format!("c{who}: will {last} is lost, {found:?} is there"));
            }
        }
        if let Some(number) = found {
            let will = self.sessions.wills.get(&number).copied();
            let is_void = will.is_none_or(|will| will.voided.is_some_and(|span| span.is_kept(kept)));
            if is_void {
                return Err(format!("c{who}: will {number} is there again, which was taken back"));
            }
        }
        self.void_wills(who);
        let due_ms = held.will_due_ms.into_iter().chain(held.expires_ms).min();
        if let Some((number, due_ms)) = found.zip(due_ms) {
            self.sessions.will_of.insert(who, number);
            let will = self.sessions.wills.get_mut(&number);
            will.into_iter().for_each(|will| (will.state, will.voided) = (WillState::Due(due_ms), None));
        }
        Ok(())
    }

    /// Whether the client has read the CONNACK of the connection that left this will.
    fn is_entry_told(&self, will: usize) -> bool {
        self.lines.iter().any(|line| line.is_ready && line.entry.will.is_some_and(|(number, _)| number == will))
    }

    fn adopt_retained(&mut self, kept: u64) -> Result<(), Fault> {
        for topic in RETAINED_TOPICS {
            let found = self.plane.retained(topic).and_then(|payload| number_of(&payload));
            let mut all = self.retained.remove(topic).unwrap_or_default();
            all.insert(0, (Default::default(), None));
            let is_promised = |number: Option<usize>| number.is_some_and(|number| self.books.record(number).is_taken);
            // Where it could not be stored (QoS 0) it took the place of the one before in memory only: any of them may be there.
            if all.iter().any(|(span, _)| *span == Span::UNKNOWN) {
                all.push((Span::UNKNOWN, None));
            }
            let is_there =
                |(span, number): &(Span, _)| span.is_kept(kept) || (*span != Span::UNKNOWN && is_promised(*number));
            let first = all.iter().rposition(is_there).unwrap_or(0);
            let allowed = all[first..].iter().enumerate();
            let mut allowed = allowed.filter(|(place, (span, _))| *place == 0 || !span.is_lost(kept));
            if !allowed.any(|(_, (_, number))| *number == found) {
                return Err(format!("{topic} retains {found:?} behind the crash, of {:?}", &all[first..]));
            }
            self.retained.insert(topic.to_owned(), vec![(Default::default(), found)]);
        }
        Ok(())
    }
}

/// What a store holds, in words.
#[derive(Default)]
struct Remains(Vec<String>);

impl Visitor for Remains {
    fn record(&mut self, record: &Record<'_>, live: &[Slot]) {
        let message = StoredMessage::decode(record.body).ok().and_then(|stored| number_of(stored.publication.payload));
        let receivers = record.receivers().filter(|(slot, _)| live.contains(slot));
        let sessions: Vec<u64> = receivers.map(|(_, receiver)| receiver.session).collect();
        self.0.push(format!(
            "{:?} of sessions {sessions:?}, message {message:?}, {:?}",
            record.kind,
            record.body.get(..2)
        ));
    }

    fn keyed(&mut self, space: Space, key: &[u8], _: &[u8]) {
        if space == Space(4) {
            return; // That the broker is alive.
        }
        self.0.push(format!("{space:?} {:?}", String::from_utf8_lossy(key)));
    }
}

/// So long after a sign of life the broker may have been alive; milliseconds.
const GRACE_MS: u64 = 120_000;

/// When the broker last said that it is alive, by the simulation's clock.
#[derive(Default)]
struct SignOfLife(Option<u64>);

impl Visitor for SignOfLife {
    fn record(&mut self, _: &Record<'_>, _: &[Slot]) {}

    fn keyed(&mut self, space: Space, _: &[u8], value: &[u8]) {
        let bytes = value.get(1..9).filter(|_| space == Space(4));
        let kept_ms = bytes.and_then(|bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?)));
        self.0 = kept_ms.map(|kept_ms| kept_ms.saturating_sub(EPOCH_MS)).or(self.0);
    }
}

/// Of a session that has not ended.
const LIVES_ON: Span = Span { before: u64::MAX, after: u64::MAX };

fn adopt_filters(session: &mut Session, found: &[String]) -> Result<(), Fault> {
    let mut filters: Vec<&'static str> = session.subs.iter().map(|sub| sub.filter).collect();
    filters.sort_unstable();
    filters.dedup();
    for filter in &filters {
        let is_there = found.iter().any(|found| found == filter);
        let told = session.told.get(filter).copied().unwrap_or(false);
        let is_wished = session.wishes.contains(&(*filter, is_there));
        if is_there != told && !is_wished {
            return Err(format!("subscribed to {filter} behind the crash: {is_there}, and it was told {told}"));
        }
        let is_effective = |sub: &Sub| sub.filter == *filter && sub.ended_order.is_none() && sub.acked_order.is_some();
        session.is_unsure |= is_there != session.subs.iter().any(is_effective);
        session.told.insert(filter, is_there);
    }
    session.wishes.clear();
    match found.iter().find(|found| !filters.contains(&found.as_str())) {
        Some(filter) => Err(format!("subscribed to {filter} behind the crash, which it never asked for")),
        None => Ok(()),
    }
}
