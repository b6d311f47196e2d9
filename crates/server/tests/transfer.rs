//! A store as rows, and rows as a store: nothing is left out, and the same content gives the same rows.

use std::path::PathBuf;
use std::sync::Arc;

use whimbrel_protocol::message::Publication;
use whimbrel_protocol::properties::Properties;
use whimbrel_protocol::{QoS, Topic};
use whimbrel_server::transfer::{ControlRow, Importer, Row, export, survey};
use whimbrel_storage::{Identifiers, Kind, Options, Receiver, Slot, Space, Store, StoredMessage, Writer, open};

/// A folder of the test's own; gone with it.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let path = std::env::temp_dir().join(format!("whimbrel-transfer-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        Place(path)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn message<'a>(topic: &'a str, payload: &'a [u8], expiry_s: Option<u32>) -> StoredMessage<'a> {
    let topic = Topic::new(topic).unwrap();
    let publication = Publication { topic, properties: Properties::default(), expiry_s, payload };
    StoredMessage::new(publication, (QoS::ExactlyOnce, true), "publisher", 1_700_000_000_000)
}

fn put(writer: &mut Writer, kind: Kind, sessions: &[u64], stored: &StoredMessage<'_>) -> Vec<Slot> {
    let mut record = writer.record(kind);
    let identifiers = Identifiers::Numbers(&[7, 300]);
    let receiver = |session: &u64| Receiver { identifiers, ..Receiver::of(*session, QoS::AtLeastOnce) };
    let slots = sessions.iter().map(|session| record.receiver(&receiver(session))).collect();
    record.message(stored);
    slots
}

fn note(writer: &mut Writer, kind: Kind, session: u64, body: &[u8]) {
    let mut record = writer.record(kind);
    record.receiver(&Receiver::of(session, QoS::AtMostOnce));
    record.finish(body);
}

/// Of two workers that wrote in turns; a part of it is settled, and a part makes no sense.
fn fill(folder: &std::path::Path) {
    let (store, _) = open(Options::new(folder)).unwrap();
    let store: Arc<dyn Store> = Arc::new(store);
    let mut writers = [0, 1].map(|_| Writer::join(Arc::clone(&store), Arc::new(|| {})).unwrap());
    let session = [&[1][..], &9_u32.to_le_bytes(), &60_u32.to_le_bytes(), &[0], &0_u64.to_le_bytes()].concat();
    writers[0].put(Space::SESSION, b"sleeper", &session);
    writers[0].put(Space::SESSION, b"from the future", &[99, 1, 2]);
    writers[1].put(Space::SUBSCRIPTION, &[&9_u32.to_le_bytes()[..], b"a/+"].concat(), &[1, 1 | 4 | 8 | 32, 5, 0, 0, 0]);
    writers[1].put(Space::CONTROL, b"ban", &[0, 255, 10]);
    writers[1].put(Space::CONTROL, b"bans/who/a/b", "1 {\"by\":\"j\u{f6}rg\"}".as_bytes());
    writers[0].put(Space::CONTROL, b"alarms/1", b"1 {}");
    writers[0].put(Space::CONTROL, b"alarms/2", b"no version");
    writers[0].put(Space(Space::CONTROL.0 + 1), b"of a later version", b"?");
    for turn in 0..40_u64 {
        let writer = &mut writers[turn as usize % 2];
        let payload = vec![turn as u8; 3000];
        let slots = put(writer, Kind::Message, &[9, 10, 11], &message("a/b", &payload, Some(turn as u32)));
        put(writer, Kind::Retained, &[0], &message(&format!("kept/{turn}"), b"\xff\x00", None));
        if turn % 4 == 0 {
            let body = [&(turn as u16 + 1).to_le_bytes()[..], &slots[1].0.to_le_bytes()].concat();
            note(writer, Kind::Sent, 10, &body);
        }
        note(writer, Kind::Received, 9, &(turn as u16 + 1).to_le_bytes());
        writer.submit();
        writer.settle(slots[turn as usize % 3]);
        let ticket = writer.submit();
        while store.committed() < ticket {
            std::thread::yield_now();
        }
    }
    note(&mut writers[0], Kind::Released, 10, &3_u16.to_le_bytes());
    note(&mut writers[0], Kind::Other, 10, b"whatever");
    note(&mut writers[0], Kind::Message, 10, b"no message");
    writers[0].submit();
    store.close();
}

fn rows_of(folder: &std::path::Path) -> Vec<Row> {
    let mut rows = Vec::new();
    assert_eq!(export(folder, |row| rows.push(row)).unwrap(), Vec::<String>::new());
    rows
}

#[test]
fn what_is_imported_is_exported_again_as_it_was() {
    let (first, second) = (Place::new("first"), Place::new("second"));
    fill(&first.0);
    let rows = rows_of(&first.0);
    let mut importer = Importer::begin(&second.0).unwrap();
    rows.iter().for_each(|row| importer.add(row).unwrap());
    importer.finish().unwrap();
    assert_eq!(rows_of(&second.0), rows);
    assert!(Importer::begin(&second.0).is_err_and(|failure| failure.to_string().contains("not empty")));
}

#[test]
fn a_row_of_the_control_plane_can_be_read_and_one_without_sense_is_not_taken() {
    let place = Place::new("control");
    fill(&place.0);
    let rows = rows_of(&place.0);
    let row = |family: &str, key: &str, value: &str| {
        Row::Control(ControlRow { family: family.into(), key: key.into(), value: value.into() })
    };
    let found: Vec<&Row> = rows.iter().filter(|row| matches!(row, Row::Control(_))).collect();
    assert_eq!(found, [&row("alarms", "1", "1 {}"), &row("bans", "who/a/b", "1 {\"by\":\"j\u{f6}rg\"}")]);
    let empty = Place::new("control-again");
    let mut importer = Importer::begin(&empty.0).unwrap();
    for (family, key, value) in [("", "k", "1 {}"), ("a/b", "k", "1 {}"), ("a", "", "1 {}"), ("a", "k", "{}")] {
        assert!(importer.add(&row(family, key, value)).is_err(), "{family}/{key}: {value}");
    }
}

#[test]
fn everything_is_there_and_messages_in_flight_are_named_by_their_rows() {
    let place = Place::new("all");
    fill(&place.0);
    let found = survey(&place.0).unwrap();
    let counts = [found.sessions, found.subscriptions, found.messages, found.retained, found.exchanges, found.others];
    assert_eq!(counts, [1, 1, 40, 40, 40 + 10 + 1, 1]);
    assert_eq!((found.deliveries, found.unreadable, found.damaged), (80, 3 + 2, Vec::new()));
    assert_eq!(found.families, [("alarms".to_owned(), 1), ("bans".to_owned(), 1)].into());
    let rows = rows_of(&place.0);
    let messages: Vec<&Row> = rows.iter().filter(|row| matches!(row, Row::Message(_) | Row::Retained(_))).collect();
    let mut named = 0;
    for row in &rows {
        let Row::Exchange(row) = row else { continue };
        let Some((number, receiver)) = row.message else { continue };
        let Row::Message(meant) = messages[number as usize - 1] else { panic!("a message") };
        assert_eq!(meant.receivers[receiver as usize].session, 10);
        assert_eq!(meant.message.expiry_s, Some(u32::from(row.packet_id) - 1));
        named += 1;
    }
    assert_eq!(named, 7, "the others were settled");
}
