//! Groups of shared subscriptions (MQTT 5.0 section 4.8.2): who belongs to one, and which member gets a message.
//!
//! Knows members as places with a [`Presence`] that their worker keeps true. Does not know sessions, nor what becomes of
//! a message. In the tree a group stands as one subscriber, so topics without groups cost nothing, and joining or leaving
//! a group costs the same whatever its size and makes no worker forget its matches. The choice reads the members under a
//! read lock that is held for a few comparisons; nobody waits in it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use indexmap::IndexMap;
use whimbrel_protocol::packet::SubscriptionOptions;
use whimbrel_protocol::{Filter, QoS, Strategy};

use crate::matches::{Audience, Target};
use crate::tree::{Entry, Place};

/// The owner number under which groups stand in the tree.
pub const SHARES: u16 = u16::MAX - 1;

/// Members looked at for one that can take the message at once, in each half of the roster.
const PROBES_MAX: usize = 32;

/// What a member's worker last said of it; read by every worker, so it may be a moment old.
#[derive(Default, Debug)]
pub struct Presence(AtomicU8);

impl Presence {
    /// A message of QoS 1 or 2 would have to wait.
    pub const BUSY: u8 = 1;
    /// A message of QoS 0 would be dropped.
    pub const CHOKED: u8 = 2;
    /// One more waiting message would push out the oldest.
    pub const FULL: u8 = 4;

    /// The bits.
    #[inline]
    pub fn bits(&self) -> u8 {
        self.0.load(Ordering::Relaxed)
    }

    /// Says what is true now. Only the member's own worker calls it.
    #[inline]
    pub fn set(&self, bits: u8) {
        if self.bits() != bits {
            self.0.store(bits, Ordering::Relaxed);
        }
    }
}

/// One session in one group.
#[derive(Clone, Debug)]
pub struct Member {
    /// Whose.
    pub place: Place,
    /// How.
    pub options: SubscriptionOptions,
    /// Subscription Identifier; 0: none.
    pub identifier: u32,
    /// Number under which the store knows the session; 0: it does not.
    pub durable: u32,
    /// Of the session, shared by all its memberships.
    pub presence: Arc<Presence>,
    /// Whether the client is connected.
    pub is_online: bool,
}

/// A member as the roster keeps it.
#[derive(Debug)]
struct Row {
    target: Target,
    presence: Arc<Presence>,
}

/// The members, those whose client is connected first.
#[derive(Default, Debug)]
struct Roster {
    rows: IndexMap<Place, Row>,
    online: usize,
}

impl Roster {
    /// Moves a row to the other half; both are as long as their rows need, so this is one swap.
    fn place_in_half(&mut self, at: usize, is_online: bool) {
        match (at < self.online, is_online) {
            (false, true) => {
                self.rows.swap_indices(at, self.online);
                self.online += 1;
            }
            (true, false) => {
                self.online -= 1;
                self.rows.swap_indices(at, self.online);
            }
            _ => {}
        }
    }

    fn insert(&mut self, member: Member) -> bool {
        let row = Row { target: target_of(&member), presence: member.presence };
        let (at, replaced) = self.rows.insert_full(member.place, row);
        self.place_in_half(at, member.is_online);
        replaced.is_none()
    }

    fn remove(&mut self, place: Place) -> bool {
        let Some(at) = self.rows.get_index_of(&place) else { return false };
        self.place_in_half(at, false);
        self.rows.swap_remove(&place).is_some()
    }
}

fn target_of(member: &Member) -> Target {
    Target {
        slot: member.place.slot,
        epoch: member.place.epoch,
        qos: member.options.qos,
        audience: Audience::All, // No Local is a protocol error on a shared subscription [MQTT-3.8.3-4].
        retain_as_published: member.options.retain_as_published,
        durable: member.durable,
        identifiers: (member.identifier != 0).then(|| Arc::from([member.identifier])),
    }
}

/// What a choice goes by, besides the group's own state.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// Of the message.
    pub qos: QoS,
    /// What a hashing strategy hashes, hashed; no other strategy looks at it.
    pub hash: u64,
    /// Who must not get it, if somebody else is there: it has refused.
    pub not: Option<Place>,
    /// Whether only a connected member that loses nothing may get it.
    pub is_gift: bool,
}

/// The member that gets a message.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Worker.
    pub owner: u16,
    /// Which of its sessions.
    pub target: Target,
    /// Nobody who was looked at has room: the member takes it at the cost of its oldest waiting message.
    pub is_last_resort: bool,
}

/// How good a member is for a message; the least is the best.
const READY: u8 = 0;
const WAITS: u8 = 1;
const AWAY: u8 = 2;
const HURTS: u8 = 3;

/// One group: a name and a filter.
#[derive(Debug)]
pub struct Share {
    /// Never given to another group while anything that survives a restart names it.
    pub number: u32,
    /// How it picks.
    pub strategy: Strategy,
    /// Counts choices: the turn of round robin, the seed of random.
    turn: AtomicU64,
    /// Packed place of the member that sticks; 0: none yet.
    stuck: AtomicU64,
    roster: RwLock<Roster>,
}

impl Share {
    fn new(number: u32, strategy: Strategy) -> Share {
        let (turn, stuck) = (AtomicU64::new(0), AtomicU64::new(0));
        Share { number, strategy, turn, stuck, roster: RwLock::default() }
    }

    /// How it stands in the tree.
    pub fn entry(&self) -> Entry {
        let place = Place { owner: SHARES, slot: self.number, epoch: 0 };
        Entry { place, options: SubscriptionOptions::plain(QoS::AtMostOnce), identifier: 0, durable: 0 }
    }

    /// How many members, and how many of them are connected.
    pub fn counts(&self) -> (usize, usize) {
        let roster = self.roster.read().unwrap_or_else(PoisonError::into_inner);
        (roster.rows.len(), roster.online)
    }

    /// Whether the store knows a member, so that a message of QoS 1 or 2 may have to be stored for it.
    pub fn has_durable(&self) -> bool {
        let roster = self.roster.read().unwrap_or_else(PoisonError::into_inner);
        roster.rows.values().any(|row| row.target.durable != 0 && row.target.qos > QoS::AtMostOnce)
    }

    /// A member's client came or went.
    pub fn set_online(&self, place: Place, is_online: bool) {
        let mut roster = self.roster.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = roster.rows.get_index_of(&place) {
            roster.place_in_half(at, is_online);
        }
    }

    /// What a member wants; None: it is none any more.
    pub fn target(&self, place: Place) -> Option<Target> {
        let roster = self.roster.read().unwrap_or_else(PoisonError::into_inner);
        roster.rows.get(&place).map(|row| row.target.clone())
    }

    /// Whether a connected member other than `not` would take a message that must not get lost.
    pub fn has_taker(&self, not: Place) -> bool {
        let roster = self.roster.read().unwrap_or_else(PoisonError::into_inner);
        let wish = Wish { qos: QoS::ExactlyOnce, hash: 0, not: Some(not), is_gift: true };
        self.best(&roster, 0..roster.online, 0, wish).is_some_and(|(_, rank)| rank < HURTS)
    }

    /// Whether a member, connected or not, would take a message without losing another one.
    pub fn has_room(&self) -> bool {
        let roster = self.roster.read().unwrap_or_else(PoisonError::into_inner);
        let wish = Wish { qos: QoS::ExactlyOnce, hash: 0, not: None, is_gift: false };
        let turn = self.turn.load(Ordering::Relaxed);
        let halves = [0..roster.online, roster.online..roster.rows.len()];
        halves.into_iter().filter_map(|half| self.best(&roster, half, turn, wish)).any(|(_, rank)| rank < HURTS)
    }

    /// Picks the member for one message: connected and with room before connected, before away, before one that must
    /// lose another message for it. None: nobody is there.
    #[inline]
    pub fn choose(&self, wish: Wish) -> Option<Choice> {
        let roster = self.roster.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(choice) = self.stuck_in(&roster, wish) {
            return Some(choice);
        }
        let turn = match self.strategy {
            Strategy::HashClientId | Strategy::HashTopic => wish.hash,
            Strategy::RoundRobin => self.turn.fetch_add(1, Ordering::Relaxed),
            Strategy::Random | Strategy::Sticky => mixed(self.turn.fetch_add(1, Ordering::Relaxed)),
        };
        let online = self.best(&roster, 0..roster.online, turn, wish);
        let found = match online {
            Some((_, READY | WAITS)) => online,
            _ if wish.is_gift => return None,
            _ => {
                let away = self.best(&roster, roster.online..roster.rows.len(), turn, wish);
                // Of two equals the connected one.
                online.into_iter().chain(away).min_by_key(|(_, rank)| *rank)
            }
        };
        let (at, rank) = found.or_else(|| alone(&roster, wish))?;
        let (place, row) = roster.rows.get_index(at)?;
        if self.strategy == Strategy::Sticky {
            self.stuck.store(packed(*place), Ordering::Relaxed);
        }
        Some(Choice { owner: place.owner, target: row.target.clone(), is_last_resort: rank == HURTS })
    }

    /// The member that had the message before, while it is there and takes more.
    fn stuck_in(&self, roster: &Roster, wish: Wish) -> Option<Choice> {
        if self.strategy != Strategy::Sticky {
            return None;
        }
        let place = unpacked(self.stuck.load(Ordering::Relaxed)).filter(|place| Some(*place) != wish.not)?;
        let at = roster.rows.get_index_of(&place).filter(|at| *at < roster.online)?;
        let row = &roster.rows[at];
        let is_ready = self.rank(row, true, wish) == READY;
        is_ready.then(|| Choice { owner: place.owner, target: row.target.clone(), is_last_resort: false })
    }

    /// The best of one half of the roster, from the one whose turn it is on.
    #[inline]
    fn best(&self, roster: &Roster, half: std::ops::Range<usize>, turn: u64, wish: Wish) -> Option<(usize, u8)> {
        let len = half.len();
        if len == 0 {
            return None;
        }
        let start = (turn % len as u64) as usize;
        let mut best: Option<(usize, u8)> = None;
        for step in 0..len.min(PROBES_MAX) {
            let at = half.start + (start + step) % len;
            let Some((place, row)) = roster.rows.get_index(at) else { break };
            if Some(*place) == wish.not {
                continue;
            }
            let rank = self.rank(row, at < roster.online, wish);
            if best.is_none_or(|(_, known)| rank < known) {
                best = Some((at, rank));
            }
            if rank == READY || (rank == AWAY && at >= roster.online) {
                break;
            }
        }
        best
    }

    #[inline]
    fn rank(&self, row: &Row, is_online: bool, wish: Wish) -> u8 {
        let bits = row.presence.bits();
        if wish.qos.min(row.target.qos) == QoS::AtMostOnce {
            return if is_online && bits & Presence::CHOKED == 0 { READY } else { HURTS };
        }
        if bits & Presence::FULL != 0 {
            return HURTS;
        }
        let is_free = matches!(self.strategy, Strategy::Random | Strategy::RoundRobin);
        match is_online {
            false => AWAY,
            // A strategy that keeps to one member lets the message wait there.
            true if bits & Presence::BUSY != 0 && is_free => WAITS,
            true => READY,
        }
    }
}

/// A roster of one has nobody else.
fn alone(roster: &Roster, wish: Wish) -> Option<(usize, u8)> {
    let at = roster.rows.get_index_of(&wish.not?)?;
    Some((at, HURTS))
}

/// Spreads consecutive numbers over all (splitmix64, public domain).
fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A place in one word; never 0, because owner numbers are counted from 1 here.
fn packed(place: Place) -> u64 {
    (u64::from(place.owner) + 1) << 48 | u64::from(place.slot) << 16 | u64::from(place.epoch)
}

fn unpacked(word: u64) -> Option<Place> {
    let owner = ((word >> 48) as u16).checked_sub(1)?;
    Some(Place { owner, slot: (word >> 16) as u32, epoch: word as u16 })
}

/// Room for so many groups is not worth giving back.
const GROUPS_KEPT: usize = 256;

/// All groups, by name and by number.
#[derive(Default, Debug)]
pub struct Shares {
    by_name: HashMap<Box<str>, Arc<Share>>,
    by_number: HashMap<u32, Arc<Share>>,
    last: u32,
    /// Numbers that groups had before a restart, by name; the first one is the group's when it is founded again, and it is
    /// known by the others, too.
    reserved: HashMap<Box<str>, Vec<u32>>,
    /// Such others, and the number of the group.
    others: Vec<(u32, u32)>,
    members: usize,
    members_peak: usize,
}

impl Shares {
    /// As [`crate::Router::join`]; the group, and whether it is new.
    pub fn join(&mut self, whole: Filter<'_>, member: Member, strategy: Strategy) -> (Arc<Share>, bool) {
        let known = self.named(whole);
        let is_new = known.is_none();
        let share = known.unwrap_or_else(|| self.found(whole, strategy));
        let mut roster = share.roster.write().unwrap_or_else(PoisonError::into_inner);
        self.members += usize::from(roster.insert(member));
        self.members_peak = self.members_peak.max(self.members);
        drop(roster);
        (share, is_new)
    }

    /// The group `whole` had this number before a restart; no other group gets it. Before the first member joins.
    pub fn reserve(&mut self, whole: &str, number: u32) {
        self.avoid(number);
        let numbers = self.reserved.entry(whole.into()).or_default();
        if !numbers.contains(&number) {
            numbers.push(number);
        }
    }

    /// Numbers up to this one are given to no new group.
    pub fn avoid(&mut self, number: u32) {
        self.last = self.last.max(number);
    }

    fn next_number(&mut self) -> u32 {
        loop {
            // After four thousand million groups the numbers begin again; 0 says "none".
            self.last = self.last.checked_add(1).unwrap_or(1);
            if !self.by_number.contains_key(&self.last) {
                return self.last;
            }
        }
    }

    fn found(&mut self, whole: Filter<'_>, strategy: Strategy) -> Arc<Share> {
        let mut numbers = self.reserved.remove(whole.as_str()).unwrap_or_default().into_iter();
        let number = numbers.next().unwrap_or_else(|| self.next_number());
        let share = Arc::new(Share::new(number, strategy));
        self.by_name.insert(whole.as_str().into(), Arc::clone(&share));
        self.by_number.insert(share.number, Arc::clone(&share));
        for other in numbers {
            self.others.push((other, number));
            self.by_number.insert(other, Arc::clone(&share));
        }
        share
    }

    /// As [`crate::Router::leave`]; the group, if this was its last member.
    pub fn leave(&mut self, whole: Filter<'_>, place: Place) -> Option<Arc<Share>> {
        let share = self.named(whole)?;
        let mut roster = share.roster.write().unwrap_or_else(PoisonError::into_inner);
        self.members -= usize::from(roster.remove(place));
        let is_empty = roster.rows.is_empty();
        drop(roster);
        if !is_empty {
            return None;
        }
        self.by_name.remove(whole.as_str());
        self.by_number.remove(&share.number);
        for (other, _) in self.others.extract_if(.., |(_, number)| *number == share.number) {
            self.by_number.remove(&other);
        }
        if self.by_number.capacity() > 8 * self.by_number.len() + GROUPS_KEPT {
            self.by_name.shrink_to(2 * self.by_name.len());
            self.by_number.shrink_to(2 * self.by_number.len());
        }
        Some(share)
    }

    /// By its whole name, `$share/group/filter`.
    pub fn named(&self, whole: Filter<'_>) -> Option<Arc<Share>> {
        self.by_name.get(whole.as_str()).map(Arc::clone)
    }

    /// By its number.
    pub fn numbered(&self, number: u32) -> Option<Arc<Share>> {
        self.by_number.get(&number).map(Arc::clone)
    }

    /// How many memberships, and the most there were at the same time.
    pub fn member_counts(&self) -> (usize, usize) {
        (self.members, self.members_peak)
    }

    /// Takes the groups out of what the tree found.
    pub fn take_from(&self, found: &mut Vec<Entry>) -> Box<[Arc<Share>]> {
        let is_group = |entry: &Entry| entry.place.owner == SHARES;
        if self.by_number.is_empty() {
            return Box::default();
        }
        let groups = found.iter().filter(|entry| is_group(entry));
        let shared = groups.filter_map(|entry| self.numbered(entry.place.slot)).collect();
        found.retain(|entry| !is_group(entry));
        shared
    }
}
