//! How overlapping subscriptions of one session combine (MQTT 5.0 section 3.3.4), and how targets are grouped.
//!
//! Knows `Matches::group` alone: the entries that a lookup finds are made by hand here.

use whimbrel_protocol::packet::SubscriptionOptions;
use whimbrel_protocol::{QoS, Topic};
use whimbrel_router::Audience::{self, All, Others, OthersOfTwo, Own};
use whimbrel_router::{Entry, Matches, Place, Target};

const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

/// QoS, No Local, Retain As Published, identifier.
type Subscription = (u8, bool, bool, u32);
/// Highest QoS, whose messages, any Retain As Published, identifiers of those that have one.
type Merged = (u8, Audience, bool, &'static [u32]);

fn entry(
    (owner, slot, epoch): (u16, u32, u16),
    (qos, no_local, retain_as_published, identifier): Subscription,
) -> Entry {
    Entry {
        place: Place { owner, slot, epoch },
        options: SubscriptionOptions {
            no_local,
            retain_as_published,
            ..SubscriptionOptions::plain(QOS[usize::from(qos)])
        },
        identifier,
        durable: 0,
    }
}

fn group(home: u16, found: Vec<Entry>) -> Matches {
    Matches::group(Topic::new("t").unwrap(), 7, home, found)
}

/// What the subscriptions of one session become.
fn merged(subscriptions: &[Subscription]) -> Vec<Target> {
    let found = subscriptions.iter().map(|subscription| entry((0, 1, 2), *subscription));
    let matches = group(0, found.collect());
    assert_eq!((matches.len(), matches.away.len()), (1, 0));
    matches.home.to_vec()
}

#[test]
fn overlapping_subscriptions_become_targets_as_the_table_says() {
    let table: [(&[Subscription], &[Merged]); 11] = [
        (&[(1, false, false, 0)], &[(1, All, false, &[])]),
        (&[(0, false, false, 0), (2, false, false, 0), (1, false, false, 0)], &[(2, All, false, &[])]),
        (&[(0, true, false, 0)], &[(0, Others, false, &[])]),
        (&[(0, true, false, 0), (0, true, false, 0)], &[(0, Others, false, &[])]),
        (&[(0, true, false, 0), (0, false, false, 0)], &[(0, OthersOfTwo, false, &[]), (0, Own, false, &[])]),
        (&[(2, true, false, 0), (1, false, false, 0)], &[(2, OthersOfTwo, false, &[]), (1, Own, false, &[])]),
        (&[(0, true, true, 7), (1, false, false, 8)], &[(1, OthersOfTwo, true, &[7, 8]), (1, Own, false, &[8])]),
        (&[(0, true, false, 7), (2, false, true, 0)], &[(2, OthersOfTwo, true, &[7]), (2, Own, true, &[])]),
        (&[(0, false, true, 0), (0, false, false, 0)], &[(0, All, true, &[])]),
        (&[(0, false, false, 9), (0, false, false, 0), (0, false, false, 4)], &[(0, All, false, &[4, 9])]),
        (&[(1, true, true, 3), (2, true, false, 3)], &[(2, Others, true, &[3, 3])]),
    ];
    for (subscriptions, targets) in table {
        let target = |(qos, audience, retain_as_published, identifiers): &Merged| Target {
            slot: 1,
            epoch: 2,
            qos: QOS[usize::from(*qos)],
            audience: *audience,
            retain_as_published: *retain_as_published,
            durable: 0,
            identifiers: (!identifiers.is_empty()).then(|| (*identifiers).into()),
        };
        let expected: Vec<Target> = targets.iter().map(target).collect();
        assert_eq!(merged(subscriptions), expected, "{subscriptions:?}");
    }
}

#[test]
fn targets_are_grouped_by_owner_and_the_asking_worker_is_at_home() {
    let plain = (0, false, false, 0);
    let places = [(2, 5, 0), (0, 1, 0), (1, 3, 0), (2, 4, 0), (0, 0, 0), (0, 1, 0)];
    let found: Vec<Entry> = places.iter().map(|place| entry(*place, plain)).collect();
    for (home, at_home, away) in [
        (0, vec![0, 1], vec![(1, vec![3]), (2, vec![4, 5])]),
        (2, vec![4, 5], vec![(0, vec![0, 1]), (1, vec![3])]),
        (9, vec![], vec![(0, vec![0, 1]), (1, vec![3]), (2, vec![4, 5])]),
    ] {
        let matches = group(home, found.clone());
        let slots = |targets: &[Target]| targets.iter().map(|target| target.slot).collect::<Vec<u32>>();
        let others: Vec<_> = matches.away.iter().map(|group| (group.owner, slots(&group.targets))).collect();
        assert_eq!((slots(&matches.home), others), (at_home, away), "from worker {home}");
        assert_eq!(matches.len(), 5);
    }
}

#[test]
fn two_lives_of_one_slot_are_two_targets() {
    let plain = (0, false, false, 0);
    let matches = group(0, vec![entry((0, 1, 1), plain), entry((0, 1, 2), plain)]);
    let epochs: Vec<u16> = matches.home.iter().map(|target| target.epoch).collect();
    assert_eq!(epochs, [1, 2]);
}

#[test]
fn nothing_found_is_an_empty_match_that_still_names_its_topic_and_generation() {
    let matches = group(0, Vec::new());
    assert!(matches.is_empty());
    assert_eq!((matches.len(), &*matches.topic, matches.generation), (0, "t", 7));
}
