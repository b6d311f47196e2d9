//! What the broker must know of each client: its session, who holds it, what it subscribed to, its will.
//!
//! Knows when sessions begin and end and when wills are due (MQTT 5.0 sections 3.1.2.5, 3.1.2.11.2, 3.1.3.2, 4.1), as a few
//! lines that nobody needs to make fast. The broker's notices say in which order it did things; whether it was allowed to
//! is judged here.

use std::collections::BTreeMap;

use whimbrel_protocol::{Filter, QoS, Topic};

use crate::books::Fault;
use crate::line::Memory;

/// A subscription, or the wish for one.
#[derive(Clone, Debug)]
pub struct Sub {
    /// As in SUBSCRIBE.
    pub filter: &'static str,
    /// The highest to deliver with.
    pub qos: QoS,
    /// Not what the client itself published.
    pub no_local: bool,
    /// When SUBACK was read; steps of the simulation.
    pub acked_order: Option<u64>,
    /// When UNSUBSCRIBE was sent; steps of the simulation.
    pub ended_order: Option<u64>,
}

impl Sub {
    /// Whether it is one of a group.
    pub fn is_shared(&self) -> bool {
        self.filter.starts_with("$share/")
    }

    /// Whether its filter matches.
    pub fn matches(&self, topic: &str) -> bool {
        let compared = self.filter.strip_prefix("$share/g/").unwrap_or(self.filter);
        match (Filter::new(compared), Topic::new(topic)) {
            (Ok(filter), Ok(topic)) => filter.matches(topic),
            _ => false,
        }
    }

    /// Whether it was in force when a message was sent, and nobody asked for its end.
    pub fn holds_since(&self, sent_order: u64) -> bool {
        self.ended_order.is_none() && self.acked_order.is_some_and(|acked_order| acked_order < sent_order)
    }
}

/// The submissions to the store of one turn: behind the first ticket, up to the second.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Span {
    /// The last ticket before it.
    pub before: u64,
    /// The last ticket of it.
    pub after: u64,
}

impl Span {
    /// Nobody can say whether what was not submitted while the store took nothing will be there.
    pub const UNKNOWN: Span = Span { before: 0, after: u64::MAX };

    /// Whether all of it is in what survived up to `kept`.
    pub fn is_kept(self, kept: u64) -> bool {
        self.after <= kept
    }

    /// Whether nothing of it is.
    pub fn is_lost(self, kept: u64) -> bool {
        self.after > kept && self.before >= kept
    }
}

/// A session.
#[derive(Clone, Debug)]
pub struct Session {
    /// Which life of this client's session.
    pub epoch: u32,
    /// Seconds.
    pub expiry_s: u32,
    /// The connection that holds it.
    pub line: Option<usize>,
    /// While nobody holds it.
    pub expires_ms: Option<u64>,
    /// Everything that was ever asked for in this life.
    pub subs: Vec<Sub>,
    /// Whether an answer about a subscription was lost with its connection.
    pub is_unsure: bool,
    /// Number under which the store knows it; 0: it does not.
    pub number: u32,
    /// When it began, and when it was last left.
    pub begun: Span,
    /// See `begun`.
    pub left: Span,
    /// Whether its client came or left last while the store took nothing: what is stored of it is older.
    pub is_postponed: bool,
    /// Whether its client has read a CONNACK that told of it.
    pub is_told: bool,
    /// Filters whose last answer was read, and whether they are there.
    pub told: BTreeMap<&'static str, bool>,
    /// What was asked for since: filters and whether they are to be there.
    pub wishes: Vec<(&'static str, bool)>,
}

impl Session {
    /// Whether it has or had a place in the group.
    pub fn is_member(&self) -> bool {
        self.subs.iter().any(Sub::is_shared)
    }
}

/// Where a will stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WillState {
    /// Its connection lives.
    Armed,
    /// To be sent at this time.
    Due(u64),
    /// Its delay was over when the client came back: both are right.
    Either,
    /// Never to be sent.
    Void,
    /// Sent before it was due; the end of its session in the same turn may explain it.
    Early,
    /// Sent.
    Sent,
}

/// A will that CONNECT left.
#[derive(Clone, Copy, Debug)]
pub struct Will {
    /// Whose.
    pub who: usize,
    /// Seconds.
    pub delay_s: u32,
    /// Where it stands.
    pub state: WillState,
    /// When its client left it with the broker.
    pub left: Span,
    /// When it became void.
    pub voided: Option<Span>,
}

/// What CONNECT asked for.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Client.
    pub who: usize,
    /// Connection.
    pub line: usize,
    /// Clean start.
    pub clean_start: bool,
    /// Seconds, as granted.
    pub expiry_s: u32,
    /// Number of the message, and its delay in seconds.
    pub will: Option<(usize, u32)>,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug)]
pub struct Exit {
    /// Client.
    pub who: usize,
    /// Connection.
    pub line: usize,
    /// Whether it said goodbye, so that there is no will.
    pub is_goodbye: bool,
    /// What its DISCONNECT said; seconds.
    pub expiry_s: Option<u32>,
}

/// What an ended session means for others.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Ended {
    /// It was a member of the group.
    pub was_member: bool,
    /// The broker ended it at this moment, and not at some time before.
    pub is_exact: bool,
}

/// A session that has ended, which a crash may bring back.
#[derive(Clone, Debug)]
pub struct Life {
    /// As it was.
    pub session: Session,
    /// When it ended.
    pub ended: Span,
    /// Whether it ended then, and not at some time before.
    pub is_exact: bool,
    /// What its client remembered; None: what it remembers now.
    pub memory: Option<Memory>,
}

/// All clients' sessions.
#[derive(Default, Debug)]
pub struct Sessions {
    pub(crate) held: BTreeMap<usize, Session>,
    pub(crate) wills: BTreeMap<usize, Will>,
    pub(crate) will_of: BTreeMap<usize, usize>,
    /// By client, oldest first.
    pub(crate) past: BTreeMap<usize, Vec<Life>>,
    /// The turn that is being taken in.
    pub(crate) span: Span,
    next_epoch: u32,
}

/// Reminders may be a little late: a millisecond of rounding on each of two clocks.
const SLACK_MS: u64 = 3;

impl Sessions {
    /// A client's session, as far as it has not expired for certain.
    pub fn of(&self, who: usize) -> Option<&Session> {
        self.held.get(&who)
    }

    /// The same, to change it.
    pub fn of_mut(&mut self, who: usize) -> Option<&mut Session> {
        self.held.get_mut(&who)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &Session)> {
        self.held.iter().map(|(who, session)| (*who, session))
    }

    /// Whether the group has a member that is there for certain.
    pub fn has_member(&self, now_ms: u64) -> bool {
        let is_there = |session: &&Session| session.expires_ms.is_none_or(|due_ms| now_ms < due_ms);
        let holds = |sub: &Sub| sub.is_shared() && sub.holds_since(u64::MAX);
        self.held.values().filter(is_there).any(|session| session.subs.iter().any(holds))
    }

    /// A client has its CONNACK.
    pub fn enter(&mut self, entry: Entry, session_present: bool, now_ms: u64) -> Result<Ended, Fault> {
        let Entry { who, line, clean_start, expiry_s, will } = entry;
        let held = self.held.get(&who);
        if let Some(Session { line: Some(other), .. }) = held {
            return Err(format!("c{who}: connection {line} entered while connection {other} holds the session"));
        }
        let is_certain = held.is_some_and(|session| session.expires_ms.is_none_or(|due_ms| now_ms < due_ms));
        if session_present && (clean_start || held.is_none()) {
            return Err(format!("c{who}: session present, but there cannot be one"));
        }
        if !session_present && !clean_start && is_certain {
            return Err(format!("c{who}: the session is gone before its time"));
        }
        let mut ended = Ended::default();
        if session_present {
            self.will_of.remove(&who).into_iter().for_each(|number| self.cancel(number, now_ms));
        } else {
            ended = self.end(who, now_ms);
            self.next_epoch += 1;
            let (subs, epoch) = (Vec::new(), self.next_epoch);
            let session = Session {
                epoch,
                expiry_s,
                line: None,
                expires_ms: None,
                subs,
                is_unsure: false,
                number: 0,
                begun: self.span,
                left: Span::default(),
                is_postponed: false,
                is_told: false,
                told: BTreeMap::new(),
                wishes: Vec::new(),
            };
            self.held.insert(who, session);
        }
        if let Some((number, delay_s)) = will {
            let (state, left) = (WillState::Armed, self.span);
            self.wills.insert(number, Will { who, delay_s, state, left, voided: None });
            self.will_of.insert(who, number);
        }
        if let Some(session) = self.held.get_mut(&who) {
            (session.expiry_s, session.line, session.expires_ms) = (expiry_s, Some(line), None);
        }
        Ok(ended)
    }

    fn cancel(&mut self, number: usize, now_ms: u64) {
        let Some(will) = self.wills.get_mut(&number) else { return };
        will.state = match will.state {
            WillState::Due(due_ms) if due_ms <= now_ms => WillState::Either,
            WillState::Due(_) => WillState::Void,
            other => other,
        };
        will.voided = Some(self.span);
    }

    /// A connection that had its CONNACK is gone.
    pub fn exit(&mut self, exit: Exit, now_ms: u64) -> Result<Ended, Fault> {
        let Exit { who, line, is_goodbye, expiry_s } = exit;
        let Some(session) = self.held.get_mut(&who).filter(|session| session.line == Some(line)) else {
            return Err(format!("c{who}: connection {line} left a session that it did not hold"));
        };
        (session.line, session.left) = (None, self.span);
        session.expiry_s = expiry_s.unwrap_or(session.expiry_s);
        let expires_ms = now_ms + u64::from(session.expiry_s) * 1000;
        session.expires_ms = Some(expires_ms);
        let will = self.will_of.get(&who).and_then(|number| self.wills.get_mut(number));
        if let Some(will) = will.filter(|will| will.state == WillState::Armed) {
            let due_ms = now_ms + u64::from(will.delay_s) * 1000;
            will.state = if is_goodbye { WillState::Void } else { WillState::Due(due_ms.min(expires_ms)) };
            will.voided = is_goodbye.then_some(self.span);
        }
        Ok(if session.expiry_s == 0 { self.end(who, now_ms) } else { Ended::default() })
    }

    /// A session ends, and a will that waits is due.
    pub fn end(&mut self, who: usize, now_ms: u64) -> Ended {
        let will = self.will_of.remove(&who).and_then(|number| self.wills.get_mut(&number));
        if let Some(will) = will {
            will.state = match will.state {
                WillState::Armed => WillState::Due(now_ms),
                WillState::Due(due_ms) => WillState::Due(due_ms.min(now_ms)),
                WillState::Early => WillState::Sent,
                other => other,
            };
        }
        let Some(session) = self.held.remove(&who) else { return Ended::default() };
        let was_member = session.subs.iter().any(Sub::is_shared);
        let is_exact = session.expires_ms.is_none_or(|due_ms| now_ms < due_ms || session.expiry_s == 0);
        self.bury(who, session, is_exact);
        Ended { was_member, is_exact }
    }

    /// It may come back with a crash, where the store knew of it.
    pub(crate) fn bury(&mut self, who: usize, session: Session, is_exact: bool) {
        if session.number != 0 {
            let life = Life { session, ended: self.span, is_exact, memory: None };
            self.past.entry(who).or_default().push(life);
        }
    }

    /// The broker published a will.
    pub fn send_will(&mut self, number: usize, now_ms: u64) -> Result<(), Fault> {
        let Some(will) = self.wills.get_mut(&number) else {
            return Err(format!("will {number} was sent, but its connection never entered"));
        };
        will.state = match will.state {
            WillState::Due(due_ms) if due_ms > now_ms => WillState::Early,
            WillState::Due(_) | WillState::Either => WillState::Sent,
            state => return Err(format!("c{}: will {number} was sent although it is {state:?}", will.who)),
        };
        Ok(())
    }

    /// All notices of a turn were taken in: nothing may be left unexplained.
    pub fn check_turn(&self) -> Result<(), Fault> {
        let early = self.wills.iter().find(|(_, will)| will.state == WillState::Early);
        early.map_or(Ok(()), |(number, _)| Err(format!("will {number} was sent before it was due")))
    }

    /// Whether a session or a will is due so recently that nobody can say whether the broker knows.
    pub fn is_on_edge(&self, now_ms: u64) -> bool {
        let is_near = |due_ms: u64| due_ms <= now_ms && now_ms < due_ms + SLACK_MS;
        let wills = self.wills.values().filter_map(|will| match will.state {
            WillState::Due(due_ms) => Some(due_ms),
            _ => None,
        });
        self.held.values().filter_map(|session| session.expires_ms).chain(wills).any(is_near)
    }

    /// Nobody has anything to do: what was due is done. Sessions whose time is over are gone; how many had a place in the
    /// group.
    pub fn settle(&mut self, now_ms: u64) -> Result<Ended, Fault> {
        let is_over = |session: &Session| session.expires_ms.is_some_and(|due_ms| due_ms + SLACK_MS <= now_ms);
        let over: Vec<usize> = self.iter().filter(|(_, session)| is_over(session)).map(|(who, _)| who).collect();
        let mut ended = Ended::default();
        for who in over {
            ended.was_member |= self.end(who, now_ms).was_member;
        }
        ended.is_exact = false;
        for (number, will) in &self.wills {
            if let WillState::Due(due_ms) = will.state
                && due_ms + SLACK_MS <= now_ms
            {
                return Err(format!("c{}: will {number} was due at {due_ms} and never sent", will.who));
            }
        }
        Ok(ended)
    }
}
