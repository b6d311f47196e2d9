//! Changes and questions to the tree and to its naive twin; in the end everything is unsubscribed.
//!
//! Knows both by their public face. Levels come from a small alphabet, so that filters meet. Driven by libFuzzer.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use whimbrel_protocol::packet::SubscriptionOptions;
use whimbrel_protocol::{Filter, QoS, Topic};
use whimbrel_router::naive::NaiveTree;
use whimbrel_router::{Entry, Place, Tree};

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Level {
    Empty,
    A,
    B,
    Dollar,
    Plus,
    Hash,
}

#[derive(Arbitrary, Debug)]
enum Step {
    Subscribe(Vec<Level>, u8, u8),
    Unsubscribe(Vec<Level>, u8),
    Collect(Vec<Level>),
}

fuzz_target!(|steps: Vec<Step>| {
    let (mut tree, mut naive) = (Tree::default(), NaiveTree::default());
    for step in &steps {
        play(&mut tree, &mut naive, step);
        assert_eq!(tree.filter_count(), naive.filter_count());
    }
    for step in &steps {
        if let Step::Subscribe(levels, number, _) = step {
            play(&mut tree, &mut naive, &Step::Unsubscribe(levels.clone(), *number));
        }
    }
    assert_eq!((tree.node_count(), tree.filter_count()), (1, 0));
});

fn play(tree: &mut Tree, naive: &mut NaiveTree, step: &Step) {
    let (Step::Subscribe(levels, ..) | Step::Unsubscribe(levels, _) | Step::Collect(levels)) = step;
    let text = text(levels);
    match step {
        Step::Collect(_) => compare(tree, naive, &text),
        Step::Subscribe(_, number, identifier) => {
            let Ok(filter) = Filter::new(&text) else { return };
            let entry = entry(*number, *identifier);
            assert_eq!(tree.subscribe(filter, entry), naive.subscribe(filter, entry));
        }
        Step::Unsubscribe(_, number) => {
            let Ok(filter) = Filter::new(&text) else { return };
            assert_eq!(tree.unsubscribe(filter, place(*number)), naive.unsubscribe(filter, place(*number)));
        }
    }
}

fn compare(tree: &Tree, naive: &NaiveTree, topic: &str) {
    let Ok(topic) = Topic::new(topic) else { return };
    let (mut found, mut expected) = (Vec::new(), Vec::new());
    tree.collect(topic, &mut found);
    naive.collect(topic, &mut expected);
    for entries in [&mut found, &mut expected] {
        entries.sort_unstable_by_key(|entry| (entry.place, entry.identifier));
    }
    assert_eq!(found, expected);
}

fn text(levels: &[Level]) -> String {
    let words = levels.iter().map(|level| match level {
        Level::Empty => "",
        Level::A => "a",
        Level::B => "b",
        Level::Dollar => "$a",
        Level::Plus => "+",
        Level::Hash => "#",
    });
    words.collect::<Vec<_>>().join("/")
}

fn place(number: u8) -> Place {
    Place { owner: u16::from(number % 3), slot: u32::from(number), epoch: 0 }
}

fn entry(number: u8, identifier: u8) -> Entry {
    let options = SubscriptionOptions::plain(QoS::AtMostOnce);
    Entry { place: place(number), options, identifier: u32::from(identifier), durable: 0 }
}
