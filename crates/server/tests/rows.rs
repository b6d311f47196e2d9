//! Rows of the control plane: answered when they are durable, refused whole, taken back where the store fails them.
//!
//! Knows the front of the broker, and stores that are in the mood that a test says.

mod house;

use std::path::PathBuf;
use std::sync::Arc;

use house::House;
use house::moody::Moody;
use whimbrel_protocol::Limits;
use whimbrel_server::Event;
use whimbrel_server::rows::RowChange;
use whimbrel_storage::{Record, Slot, Space, Store, Visitor};

fn change(name: &str, value: Option<&str>, before: Option<&str>) -> RowChange {
    let boxed = |text: Option<&str>| text.map(|text| text.as_bytes().into());
    RowChange { name: name.as_bytes().into(), value: boxed(value), before: boxed(before) }
}

/// Asks for a change; its ticket.
fn ask(house: &mut House, changes: &[RowChange]) -> u64 {
    ask_after(house, 0, changes)
}

/// The same from somebody who has heard of so many refusals.
fn ask_after(house: &mut House, seen: u64, changes: &[RowChange]) -> u64 {
    let ticket = house.ticket();
    house.broker.change_rows(ticket, seen, changes.to_vec());
    ticket
}

/// Why it was refused; None: it is durable.
fn answer(house: &mut House, asked: u64) -> Option<String> {
    house.wait_for("answer", |event| match event {
        Event::RowsChanged { ticket, refusal } if *ticket == asked => Some(refusal.clone()),
        _ => None,
    })
}

#[derive(Default)]
struct Contents(Vec<(String, String)>);

impl Visitor for Contents {
    fn record(&mut self, _: &Record<'_>, _: &[Slot]) {}

    fn keyed(&mut self, space: Space, key: &[u8], value: &[u8]) {
        if space == Space(4) {
            return; // The broker's own.
        }
        assert_eq!(space, Space::CONTROL);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        self.0.push((text(key), text(value)));
    }
}

fn contents(store: &dyn Store) -> Vec<(String, String)> {
    let mut found = Contents::default();
    store.replay(&mut found).unwrap();
    found.0
}

fn rows(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A folder of the test's own; gone with it.
struct Place(PathBuf);

impl Place {
    fn new() -> Place {
        let path = std::env::temp_dir().join(format!("whimbrel-rows-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Place(path)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn rows_come_back_at_the_next_start_and_are_taken_once() {
    let place = Place::new();
    {
        let mut house = House::start_in(&place.0, 2);
        assert!(house.broker.take_rows().is_empty());
        let first = ask(&mut house, &[change("b/2", Some("1 x"), None), change("a/1", Some("1 y"), None)]);
        let second = ask(&mut house, &[change("b/2", None, Some("1 x")), change("b/3", Some("1 z"), None)]);
        assert_eq!((answer(&mut house, first), answer(&mut house, second)), (None, None));
    }
    let house = House::start_in(&place.0, 1);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let found: Vec<_> = house.broker.take_rows().iter().map(|(name, value)| (text(name), text(value))).collect();
    assert_eq!(found, rows(&[("a/1", "1 y"), ("b/3", "1 z")]));
    assert!(house.broker.take_rows().is_empty());
}

#[test]
fn without_a_store_a_change_is_answered_at_once() {
    let mut house = House::start(2, Limits::default());
    let asked = ask(&mut house, &[change("a/1", Some("1 y"), None)]);
    assert_eq!(answer(&mut house, asked), None);
}

#[test]
fn what_the_store_fails_after_it_was_handed_over_is_taken_back_whole() {
    let store = Arc::new(Moody::new());
    let mut house = House::start_storing(vec![Limits::default()], Arc::clone(&store) as Arc<dyn Store>);
    let old = ask(&mut house, &[change("a/1", Some("1 old"), None)]);
    assert_eq!(answer(&mut house, old), None);
    store.stall();
    let first = ask(&mut house, &[change("a/1", Some("1 new"), Some("1 old")), change("a/2", Some("1 b"), None)]);
    let second = ask(&mut house, &[change("a/1", None, Some("1 new")), change("a/3", Some("1 c"), None)]);
    house::until("both are handed over", || contents(&*store).len() == 2 && contents(&*store)[1].0 == "a/3");
    store.refuse(true);
    for asked in [first, second] {
        assert_eq!(answer(&mut house, asked).as_deref(), Some("no room on the test's disk"));
    }
    assert_eq!(contents(&*store), rows(&[("a/1", "1 old")]));
    let refused = ask(&mut house, &[change("a/4", Some("1 d"), None)]);
    assert_eq!(answer(&mut house, refused).as_deref(), Some("no room on the test's disk"));
    store.refuse(false);
    house.wait_for("recovery", |event| matches!(event, Event::StoreTurned { refusal: None, .. }).then_some(()));
    // Whoever has not heard of all refusals may build on what does not hold.
    let early = ask_after(&mut house, 2, &[change("a/4", None, Some("1 d"))]);
    assert!(answer(&mut house, early).is_some_and(|why| why.contains("just recovers")));
    let taken = ask_after(&mut house, 4, &[change("a/4", Some("1 d"), None)]);
    assert_eq!(answer(&mut house, taken), None);
    assert_eq!(contents(&*store), rows(&[("a/1", "1 old"), ("a/4", "1 d")]));
}

#[test]
fn the_store_turning_is_told_once_each_way() {
    let store = Arc::new(Moody::new());
    let mut house = House::start_storing(vec![Limits::default()], Arc::clone(&store) as Arc<dyn Store>);
    for _ in 0..2 {
        store.refuse(true);
        let told = house.wait_for("notice", |event| match event {
            Event::StoreTurned { refusal: Some(why), timestamp_ms } => Some((why.clone(), *timestamp_ms)),
            _ => None,
        });
        assert!(told.0 == "no room on the test's disk" && told.1 > 1_600_000_000_000, "{told:?}");
        store.refuse(false);
        house.wait_for("notice", |event| matches!(event, Event::StoreTurned { refusal: None, .. }).then_some(()));
    }
    let more = house.drain().into_iter().filter(|event| matches!(event, Event::StoreTurned { .. })).count();
    assert_eq!(more, 0);
}
