//! A start with a full store, in time and within its memory: what the records cost, not what one session does.
//!
//! Knows the records and the front of the broker. Slow, so it runs where it is asked for: `cargo test -p whimbrel-server full_store
//! -- --ignored --nocapture`.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use whimbrel_protocol::message::Publication;
use whimbrel_protocol::packet::SubscriptionOptions;
use whimbrel_protocol::properties::Properties;
use whimbrel_protocol::session::subscriptions::Subscription;
use whimbrel_protocol::{Limits, QoS, Topic};
use whimbrel_storage::{Durability, Kind, Receiver, Space, Store, StoredMessage, Writer};

use super::record::{SessionRecord, key_of_subscription, subscription_value};
use crate::{Broker, Options, StorageOptions, SysOptions};

const SESSIONS: u32 = 100_000;
const QUEUED: u32 = 1_000_000;
const RETAINED: u32 = 1_000_000;
/// Names the folder to the process that fills it.
const FOLDER: &str = "WHIMBREL_SCALE_FOLDER";
/// CPU time of the whole process, so that a busy machine does not count; what was written a moment ago is in the page cache.
const START_MAX: Duration = Duration::from_secs(10);
/// 300 bytes for each retained message, which is served from memory; 1,500 for each session; 60 for each that waits; the store's caches.
const GROWTH_MAX: u64 = RETAINED as u64 * 300 + SESSIONS as u64 * 1500 + QUEUED as u64 * 60 + (64 << 20);

fn cpu_time() -> Duration {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(spent.tv_sec as u64, spent.tv_nsec as u32)
}

fn rss_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

fn put_message(writer: &mut Writer, (kind, session): (Kind, u32), topic: &str) {
    let topic = Topic::new(topic).unwrap();
    let publication = Publication { topic, properties: Properties::default(), expiry_s: None, payload: &[b'x'; 64] };
    let mut record = writer.record(kind);
    record.receiver(&Receiver::of(u64::from(session), QoS::AtLeastOnce));
    record.message(&StoredMessage::new(publication, (QoS::AtLeastOnce, kind == Kind::Retained), "publisher", 1));
}

fn put_session(writer: &mut Writer, number: u32) {
    let record = SessionRecord { number, expiry_s: u32::MAX, disconnected_ms: 1, username: None, will: None };
    let mut bytes = Vec::new();
    record.encode(&mut bytes);
    writer.put(Space::SESSION, format!("client-{number}").as_bytes(), &bytes);
    key_of_subscription(number, &format!("to/{number}"), &mut bytes);
    let options =
        SubscriptionOptions { qos: QoS::AtLeastOnce, no_local: false, retain_as_published: false, retain_handling: 0 };
    writer.put(Space::SUBSCRIPTION, &bytes, &subscription_value(&Subscription { options, identifier: 0 }));
}

fn fill(folder: &Path) {
    let options = whimbrel_storage::Options { durability: Durability::Os, ..whimbrel_storage::Options::new(folder) };
    let store: Arc<dyn Store> = Arc::new(whimbrel_storage::open(options).unwrap().0);
    let mut writer = Writer::join(Arc::clone(&store), Arc::new(|| {})).unwrap();
    for number in 1..=QUEUED.max(RETAINED) {
        if number <= SESSIONS {
            put_session(&mut writer, number);
        }
        if number <= QUEUED {
            let session = 1 + number % SESSIONS;
            put_message(&mut writer, (Kind::Message, session), &format!("to/{session}"));
        }
        if number <= RETAINED {
            put_message(&mut writer, (Kind::Retained, 0), &format!("state/{number}"));
        }
        if number % 1000 == 0 {
            let ticket = writer.submit();
            while store.is_pressed() && store.committed() < ticket {
                std::thread::yield_now();
            }
        }
    }
    store.close();
}

#[test]
#[ignore = "a million of everything takes a while; see the head of the file"]
fn a_full_store_opens_in_time_and_within_its_memory() {
    if let Ok(folder) = std::env::var(FOLDER) {
        return fill(Path::new(&folder));
    }
    let folder = std::env::temp_dir().join(format!("whimbrel-scale-{}", std::process::id()));
    // In a process of its own, so that what it leaves on the heap hides nothing.
    let this = std::env::current_exe().unwrap();
    let mut filling = std::process::Command::new(this);
    filling.args(["--ignored", "--exact", "durable::scale::a_full_store_opens_in_time_and_within_its_memory"]);
    assert!(filling.env(FOLDER, &folder).status().unwrap().success());
    let options = Options {
        node_name: "test".into(),
        workers: 2,
        listeners: Vec::new(),
        zones: vec![Limits::default()],
        question_deadline_ms: 5_000,
        flapping: None,
        sys: SysOptions::default(),
        retained_messages_max: RETAINED as usize,
        retained_bytes_max: 1 << 40,
        storage: Some(StorageOptions { folder: folder.clone(), durability: Durability::Os }),
    };
    let before = rss_bytes();
    let (start, cpu_before) = (Instant::now(), cpu_time());
    let broker = Broker::start(&options).unwrap();
    let (took, growth) = (cpu_time() - cpu_before, rss_bytes().saturating_sub(before));
    let waited = start.elapsed();
    let counts = broker.counters();
    let count = |name: &str| counts.iter().find(|(known, _)| *known == name).unwrap().1;
    println!("started in {waited:?} with {took:?} of CPU time, {} MB more than before", growth >> 20);
    assert_eq!((count("sessions.count"), count("subscriptions.count")), (u64::from(SESSIONS), u64::from(SESSIONS)));
    broker.stop(0);
    broker.join();
    drop(broker);
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(took < START_MAX, "{took:?}");
    assert!(growth < GROWTH_MAX, "{growth} bytes, at most {GROWTH_MAX}");
}
