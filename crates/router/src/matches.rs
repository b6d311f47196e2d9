//! The subscribers of one topic, grouped by owner and merged: one delivery a session, however many filters overlap.
//!
//! Knows how overlapping subscriptions combine (MQTT 5.0 section 3.3.4). Does not know how a delivery is carried out.

use std::sync::Arc;

use whimbrel_protocol::{QoS, Topic};

use crate::share::Share;
use crate::tree::{Entry, Place};

/// Whose messages a target stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Audience {
    /// Everybody's.
    All,
    /// Everybody's but the session's own: every matching subscription asked for No Local [MQTT-3.8.3-3].
    Others,
    /// Everybody's but the session's own, for which there is a second target.
    OthersOfTwo,
    /// The session's own: only the subscriptions without No Local count.
    Own,
}

/// One session (or tap) that wants the topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// Which of its owner's.
    pub slot: u32,
    /// Which life of the slot.
    pub epoch: u16,
    /// The highest QoS of the matching subscriptions [MQTT-3.3.5-1].
    pub qos: QoS,
    /// Whose messages.
    pub audience: Audience,
    /// A matching subscription asked for Retain As Published.
    pub retain_as_published: bool,
    /// The identifiers of all matching subscriptions that have one.
    pub identifiers: Option<Arc<[u32]>>,
}

/// The targets of one owner.
#[derive(Clone, Debug)]
pub struct Group {
    /// Worker, or the taps' number.
    pub owner: u16,
    /// Each session once.
    pub targets: Arc<[Target]>,
}

/// What the router found for one topic.
#[derive(Debug)]
pub struct Matches {
    /// The topic.
    pub topic: Box<str>,
    /// The router's number when this was found.
    pub generation: u64,
    /// Targets on the worker that asked.
    pub home: Box<[Target]>,
    /// Targets elsewhere.
    pub away: Box<[Group]>,
    /// Groups of which one member each gets the message.
    pub shared: Box<[Arc<Share>]>,
    /// What the search cost; see [`crate::Tree::collect`].
    pub steps: usize,
    pub(crate) session_count: usize,
}

impl Matches {
    /// Merges and groups raw entries.
    pub fn group(topic: Topic<'_>, generation: u64, home: u16, mut found: Vec<Entry>) -> Matches {
        found.sort_unstable_by_key(|entry| (entry.place, entry.identifier));
        let mut groups: Vec<(u16, Vec<Target>)> = Vec::new();
        let mut session_count = 0;
        for entries in found.chunk_by(|one, other| one.place == other.place) {
            let owner = entries[0].place.owner;
            session_count += 1;
            if groups.last().is_none_or(|(last, _)| *last != owner) {
                groups.push((owner, Vec::new()));
            }
            groups.last_mut().into_iter().for_each(|(_, targets)| Target::put_merged(entries, targets));
        }
        let at_home = groups.iter().position(|(owner, _)| *owner == home);
        let home = at_home.map(|at| groups.remove(at).1).unwrap_or_default();
        let away = groups.into_iter().map(|(owner, targets)| Group { owner, targets: targets.into() });
        Matches {
            topic: topic.as_str().into(),
            generation,
            home: home.into(),
            away: away.collect(),
            shared: Box::default(),
            steps: 0,
            session_count,
        }
    }

    /// How many sessions, taps and groups.
    pub fn len(&self) -> usize {
        self.shared.len() + self.session_count
    }

    /// Bytes that these matches occupy, roughly.
    pub fn size_bytes(&self) -> usize {
        let targets = self.home.iter().chain(self.away.iter().flat_map(|group| group.targets.iter()));
        let of_target = |target: &Target| {
            size_of::<Target>() + target.identifiers.as_ref().map_or(0, |identifiers| 16 + 4 * identifiers.len())
        };
        size_of::<Matches>() + self.topic.len() + 8 * self.shared.len() + targets.map(of_target).sum::<usize>()
    }

    /// Whether nobody wants the topic.
    pub fn is_empty(&self) -> bool {
        self.home.is_empty() && self.away.is_empty() && self.shared.is_empty()
    }
}

impl Target {
    /// Appends what the subscriptions of one session come to: one target, or two where only some have No Local.
    fn put_merged(entries: &[Entry], targets: &mut Vec<Target>) {
        let own = || entries.iter().filter(|entry| !entry.options.no_local);
        let audience = match own().count() {
            count if count == entries.len() => Audience::All,
            0 => Audience::Others,
            _ => Audience::OthersOfTwo,
        };
        targets.push(Target::merge(entries.iter(), entries[0].place, audience));
        if audience == Audience::OthersOfTwo {
            targets.push(Target::merge(own(), entries[0].place, Audience::Own));
        }
    }

    fn merge<'a>(entries: impl Iterator<Item = &'a Entry> + Clone, place: Place, audience: Audience) -> Target {
        let options = || entries.clone().map(|entry| entry.options);
        let identifiers: Vec<u32> = entries.clone().map(|entry| entry.identifier).filter(|id| *id != 0).collect();
        Target {
            slot: place.slot,
            epoch: place.epoch,
            qos: options().map(|options| options.qos).max().unwrap_or(QoS::AtMostOnce),
            audience,
            retain_as_published: options().any(|options| options.retain_as_published),
            identifiers: (!identifiers.is_empty()).then(|| identifiers.into()),
        }
    }
}
