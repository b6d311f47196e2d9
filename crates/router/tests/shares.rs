//! Groups against a naive model, under random joins, leaves, comings and goings; what each strategy promises.
//!
//! Knows the router's public face. The model is a list of members with what is known of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use whimbrel_protocol::packet::SubscriptionOptions;
use whimbrel_protocol::{Filter, QoS, Strategy as Picking, Subscribed, Topic};
use whimbrel_router::share::{Choice, Wish};
use whimbrel_router::{MatchCache, Member, Place, Presence, Retained, Router, Share};

const NAMES: [&str; 4] = ["$share/g/a/+", "$share/g/a/b", "$share/h/a/b", "$queue/a/b"];
const MEMBERS: u32 = 6;
const BITS: [u8; 4] = [0, Presence::BUSY, Presence::BUSY | Presence::CHOKED, Presence::BUSY | Presence::FULL];

fn parts(name: &str) -> (Filter<'_>, Filter<'_>) {
    let whole = Filter::new(name).unwrap();
    (whole, Subscribed::new(whole).unwrap().filter)
}

fn place(number: u32) -> Place {
    Place { owner: (number % 3) as u16, slot: number / 3, epoch: 7 }
}

fn place_of(choice: &Choice) -> Place {
    Place { owner: choice.owner, slot: choice.target.slot, epoch: choice.target.epoch }
}

fn member(number: u32, presence: &Arc<Presence>, is_online: bool) -> Member {
    let options = SubscriptionOptions::plain(QoS::ExactlyOnce);
    Member { place: place(number), options, identifier: 0, durable: 0, presence: Arc::clone(presence), is_online }
}

fn wish(qos: QoS) -> Wish {
    Wish { qos, hash: 0, not: None, is_gift: false }
}

/// A router and what it must hold.
struct Twins {
    router: Router,
    strategy: Picking,
    presences: Vec<Arc<Presence>>,
    model: BTreeMap<&'static str, BTreeMap<Place, (usize, bool)>>,
}

#[derive(Clone, Debug)]
enum Step {
    Join(usize, u32, bool),
    Leave(usize, u32),
    Online(usize, u32, bool),
    Bits(u32, u8),
    Publish(QoS, u64),
}

impl Twins {
    fn new(strategy: Picking) -> Twins {
        let presences = (0..MEMBERS).map(|_| Arc::default()).collect();
        Twins { router: Router::new(Retained::new(0, 0)), strategy, presences, model: BTreeMap::new() }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Join(name, number, is_online) => {
                let joining = member(number, &self.presences[number as usize], is_online);
                self.router.join(parts(NAMES[name]), joining, self.strategy);
                let group = self.model.entry(NAMES[name]).or_default();
                group.insert(place(number), (number as usize, is_online));
            }
            Step::Leave(name, number) => {
                self.router.leave(parts(NAMES[name]), place(number));
                if let Some(group) = self.model.get_mut(NAMES[name]) {
                    group.remove(&place(number));
                }
                self.model.retain(|_, group| !group.is_empty());
            }
            Step::Online(name, number, is_online) => {
                if let Some(share) = self.router.share(parts(NAMES[name]).0) {
                    share.set_online(place(number), is_online);
                }
                let known = self.model.get_mut(NAMES[name]).and_then(|group| group.get_mut(&place(number)));
                known.into_iter().for_each(|known| known.1 = is_online);
            }
            Step::Bits(number, bits) => self.presences[number as usize].set(BITS[usize::from(bits)]),
            Step::Publish(qos, hash) => self.publish(qos, hash),
        }
        let members: usize = self.model.values().map(BTreeMap::len).sum();
        assert_eq!(self.router.member_count(), members);
    }

    /// Every group with members, and no other, is found, and its choice is the best that the model knows.
    fn publish(&self, qos: QoS, hash: u64) {
        let matches = self.router.find(Topic::new("a/b").unwrap(), 0);
        assert_eq!((matches.shared.len(), matches.len()), (self.model.len(), self.model.len()));
        for (name, group) in &self.model {
            let share = self.router.share(parts(name).0).unwrap();
            assert!(matches.shared.iter().any(|found| Arc::ptr_eq(found, &share)));
            let choice = share.choose(Wish { hash, ..wish(qos) }).expect("a group has a member");
            let rank = |place: &Place| self.rank(group[place], qos);
            let best = group.keys().map(rank).min().unwrap();
            assert_eq!(rank(&place_of(&choice)), best, "{name} {group:?}");
            assert_eq!(choice.is_last_resort, best == 3);
        }
        assert!(self.router.find(Topic::new("$a/b").unwrap(), 0).is_empty());
    }

    fn rank(&self, (number, is_online): (usize, bool), qos: QoS) -> u8 {
        let has = |bit| self.presences[number].bits() & bit != 0;
        let may_wait = !matches!(self.strategy, Picking::Random | Picking::RoundRobin);
        match qos {
            QoS::AtMostOnce if is_online && !has(Presence::CHOKED) => 0,
            QoS::AtMostOnce => 3,
            _ if has(Presence::FULL) => 3,
            _ if !is_online => 2,
            _ if has(Presence::BUSY) && !may_wait => 1,
            _ => 0,
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    let qos = prop::sample::select(vec![QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]);
    prop_oneof![
        4 => (0..NAMES.len(), 0..MEMBERS, any::<bool>()).prop_map(|(name, number, is)| Step::Join(name, number, is)),
        2 => (0..NAMES.len(), 0..MEMBERS).prop_map(|(name, number)| Step::Leave(name, number)),
        2 => (0..NAMES.len(), 0..MEMBERS, any::<bool>()).prop_map(|(name, number, is)| Step::Online(name, number, is)),
        2 => (0..MEMBERS, 0..4_u8).prop_map(|(number, bits)| Step::Bits(number, bits)),
        4 => (qos, any::<u64>()).prop_map(|(qos, hash)| Step::Publish(qos, hash)),
    ]
}

fn picking() -> impl Strategy<Value = Picking> {
    prop::sample::select(Picking::NAMES.map(|(_, strategy)| strategy).to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn each_group_gives_each_message_to_one_of_its_best_members(
        strategy in picking(),
        steps in prop::collection::vec(step(), 1..150),
    ) {
        let mut twins = Twins::new(strategy);
        steps.iter().for_each(|step| twins.step(step));
    }

    #[test]
    fn a_router_whose_groups_are_empty_has_no_filter(
        steps in prop::collection::vec((0..NAMES.len(), 0..MEMBERS), 1..60),
    ) {
        let mut twins = Twins::new(Picking::RoundRobin);
        steps.iter().for_each(|(name, number)| twins.step(&Step::Join(*name, *number, true)));
        prop_assert!(twins.router.filter_count() > 0);
        steps.iter().for_each(|(name, number)| twins.step(&Step::Leave(*name, *number)));
        prop_assert_eq!((twins.router.filter_count(), twins.router.member_count()), (0, 0));
    }
}

/// A group of `count` connected members.
fn group(strategy: Picking, count: u32) -> (Router, Arc<Share>, Vec<Arc<Presence>>) {
    let router = Router::new(Retained::new(0, 0));
    let presences: Vec<Arc<Presence>> = (0..count).map(|_| Arc::default()).collect();
    for (number, presence) in (0..).zip(&presences) {
        router.join(parts("$share/g/a"), member(number, presence, true), strategy);
    }
    let share = router.share(parts("$share/g/a").0).unwrap();
    (router, share, presences)
}

fn chosen(share: &Share, count: usize, hash: impl Fn(usize) -> u64) -> BTreeMap<Place, usize> {
    let mut shares = BTreeMap::new();
    for number in 0..count {
        let choice = share.choose(Wish { hash: hash(number), ..wish(QoS::AtLeastOnce) }).unwrap();
        *shares.entry(place_of(&choice)).or_default() += 1;
    }
    shares
}

#[test]
fn round_robin_gives_each_member_the_same() {
    for count in [1, 2, 7, 100] {
        let (_router, share, _) = group(Picking::RoundRobin, count);
        let shares = chosen(&share, 10 * count as usize, |_| 0);
        assert_eq!((shares.len(), shares.values().all(|times| *times == 10)), (count as usize, true), "{shares:?}");
    }
}

#[test]
fn random_gives_each_member_about_the_same() {
    let (_router, share, _) = group(Picking::Random, 10);
    let shares = chosen(&share, 10_000, |_| 0);
    assert!(shares.len() == 10 && shares.values().all(|times| (800..1200).contains(times)), "{shares:?}");
}

#[test]
fn sticky_stays_with_one_member_until_it_goes_or_is_full() {
    let (router, share, presences) = group(Picking::Sticky, 10);
    let number_of = |place: Place| (0..10).find(|number| self::place(*number) == place).unwrap();
    let only = || {
        let shares = chosen(&share, 50, |_| 0);
        assert_eq!(shares.len(), 1, "{shares:?}");
        *shares.keys().next().unwrap()
    };
    let first = only();
    presences[number_of(first) as usize].set(Presence::BUSY);
    assert_eq!(only(), first, "the message waits there");
    presences[number_of(first) as usize].set(Presence::FULL);
    let second = only();
    assert_ne!(second, first);
    share.set_online(second, false);
    let third = only();
    assert!(third != second && third != first);
    router.leave(parts("$share/g/a"), third);
    assert!(![first, second, third].contains(&only()));
}

#[test]
fn a_hash_names_the_same_member_every_time_and_all_members_over_many_keys() {
    for strategy in [Picking::HashClientId, Picking::HashTopic] {
        let (_router, share, presences) = group(strategy, 10);
        presences.iter().for_each(|presence| presence.set(Presence::BUSY));
        for key in 0..100 {
            assert_eq!(chosen(&share, 20, |_| key).len(), 1, "key {key}");
        }
        assert_eq!(chosen(&share, 1000, |number| number as u64).len(), 10);
    }
}

#[test]
fn a_member_that_refused_is_asked_again_only_if_nobody_else_is_there() {
    let (router, share, _) = group(Picking::RoundRobin, 2);
    for number in 0..10 {
        let not = place(number % 2);
        let choice = share.choose(Wish { not: Some(not), ..wish(QoS::AtLeastOnce) }).unwrap();
        assert!(place_of(&choice) != not && !choice.is_last_resort);
    }
    router.leave(parts("$share/g/a"), place(1));
    let choice = share.choose(Wish { not: Some(place(0)), ..wish(QoS::AtLeastOnce) }).unwrap();
    assert!(place_of(&choice) == place(0) && choice.is_last_resort);
    router.leave(parts("$share/g/a"), place(0));
    assert!(share.choose(wish(QoS::AtLeastOnce)).is_none());
}

#[test]
fn joining_and_leaving_a_group_that_stays_makes_no_cache_forget() {
    let (router, _share, presences) = group(Picking::RoundRobin, 2);
    let mut cache = MatchCache::new(0);
    let find = |cache: &mut MatchCache| assert_eq!(cache.find(&router, Topic::new("a").unwrap()).shared.len(), 1);
    (0..3).for_each(|_| find(&mut cache));
    let misses = cache.misses;
    for _ in 0..10 {
        router.leave(parts("$share/g/a"), place(1));
        find(&mut cache);
        router.join(parts("$share/g/a"), member(1, &presences[1], true), Picking::RoundRobin);
        find(&mut cache);
    }
    assert_eq!(cache.misses, misses);
    (0..2).for_each(|number| router.leave(parts("$share/g/a"), place(number)));
    assert!(cache.find(&router, Topic::new("a").unwrap()).is_empty());
}

#[test]
fn the_options_of_a_member_are_those_of_its_last_subscription() {
    let (router, share, presences) = group(Picking::RoundRobin, 1);
    let options = SubscriptionOptions { retain_as_published: true, ..SubscriptionOptions::plain(QoS::AtMostOnce) };
    let again = Member { options, identifier: 9, ..member(0, &presences[0], true) };
    router.join(parts("$share/g/a"), again, Picking::RoundRobin);
    let target = share.choose(wish(QoS::ExactlyOnce)).unwrap().target;
    assert_eq!((target.qos, target.retain_as_published), (QoS::AtMostOnce, true));
    assert_eq!((target.identifiers.as_deref(), router.member_count()), (Some(&[9][..]), 1));
}

#[test]
fn a_hundred_thousand_members_cost_as_much_each_as_a_hundred() {
    const CROWD: u32 = 100_000;
    let (router, share, presences) = group(Picking::RoundRobin, CROWD);
    // A list searched or copied from end to end would make ten thousand million steps of these loops.
    for number in 0..CROWD {
        share.set_online(place(number), number % 2 == 0);
        assert!(share.choose(wish(QoS::AtLeastOnce)).is_some());
    }
    assert_eq!(share.counts(), (CROWD as usize, CROWD as usize / 2));
    for (number, presence) in (0..).zip(&presences) {
        router.leave(parts("$share/g/a"), place(number));
        router.join(parts("$share/g/a"), member(number, presence, false), Picking::RoundRobin);
    }
    (0..CROWD).for_each(|number| router.leave(parts("$share/g/a"), place(number)));
    assert_eq!((router.member_count(), router.filter_count()), (0, 0));
}
