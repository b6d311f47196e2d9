//! What the store costs: `cargo run --release -p whimbrel-storage --example measure FOLDER [sync|os] [MESSAGES]`.
//!
//! Knows the shapes of load that matter: a subscriber that keeps up, a sleeping one, retained messages and sessions, a start.
//! Must not know the store's inside.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use whimbrel_protocol::message::Publication;
use whimbrel_protocol::properties::Properties;
use whimbrel_protocol::{QoS, Topic};
use whimbrel_storage::{
    Durability, Fetch, Kind, Options, Receiver, Record, Slot, Space, Store, StoredMessage, Ticket, Visitor, Writer,
    open,
};

fn time_of(clock: rustix::time::ClockId) -> Duration {
    let time = rustix::time::clock_gettime(clock);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn cpu() -> Duration {
    time_of(rustix::time::ClockId::ProcessCPUTime)
}

/// When something began, and the CPU time of the process and of this thread then.
type Start = (Instant, Duration, Duration);

fn begin() -> Start {
    (Instant::now(), cpu(), time_of(rustix::time::ClockId::ThreadCPUTime))
}

fn rss_mib() -> f64 {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    pages.split(' ').nth(1).and_then(|text| text.parse::<f64>().ok()).expect("resident pages") / 256.0
}

fn report(title: &str, count: u64, (began, cpu_before, own_before): Start, store: &dyn Store) {
    let own = (time_of(rustix::time::ClockId::ThreadCPUTime) - own_before).as_secs_f64();
    let (wall, used) = (began.elapsed().as_secs_f64(), (cpu() - cpu_before).as_secs_f64());
    let statistics = store.statistics();
    println!(
        "{title}: {count} in {wall:.2} s = {:.0}/s, CPU {:.3} us each ({:.3} in the store's threads), RSS {:.1} MiB, commits {}, elided {}, written {}, chunks {}, {:.1} MiB, longest commit {} us",
        count as f64 / wall,
        used * 1e6 / count as f64,
        (used - own) * 1e6 / count as f64,
        rss_mib(),
        statistics.commits,
        statistics.elided,
        statistics.written,
        statistics.chunks,
        statistics.bytes as f64 / 1_048_576.0,
        statistics.commit_max_us,
    );
}

/// A writer whose thread sleeps until it is woken.
struct Worker {
    writer: Writer,
    is_woken: Arc<AtomicBool>,
}

impl Worker {
    fn of(store: &Arc<dyn Store>) -> Worker {
        let is_woken = Arc::new(AtomicBool::new(false));
        let (sign, thread) = (Arc::clone(&is_woken), std::thread::current());
        let wake = Arc::new(move || {
            sign.store(true, Ordering::Release);
            thread.unpark();
        });
        Worker { writer: Writer::join(Arc::clone(store), wake).expect("a lane is free"), is_woken }
    }

    fn put(&mut self, kind: Kind, topic: &str, session: u64) -> Slot {
        let publication = Publication {
            topic: Topic::new(topic).expect("a topic"),
            properties: Properties::default(),
            expiry_s: None,
            payload: &[7; 100],
        };
        let message = StoredMessage::new(publication, (QoS::AtLeastOnce, false), "sensor-0001", 1_700_000_000_000);
        let mut record = self.writer.record(kind);
        let slot = record.receiver(&Receiver::of(session, QoS::AtLeastOnce));
        record.message(&message);
        slot
    }

    fn wait(&self, ticket: Ticket) {
        while self.writer.store().committed() < ticket {
            if !self.is_woken.swap(false, Ordering::Acquire) {
                std::thread::park();
            }
        }
    }

    fn wait_below_pressure(&self) {
        while self.writer.store().is_pressed() {
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }
}

/// `rate` messages a second (0: as many as it takes), 20 turns a millisecond at most, settled `lag` turns later.
fn keeping_up(store: &Arc<dyn Store>, (count, rate, lag): (u64, u64, usize)) {
    let mut worker = Worker::of(store);
    let start = begin();
    let mut unsettled: std::collections::VecDeque<Vec<Slot>> = std::collections::VecDeque::new();
    let mut done = 0;
    let mut ticket = Ticket(0);
    while done < count {
        let due = if rate == 0 { done + 64 } else { (start.0.elapsed().as_secs_f64() * rate as f64) as u64 };
        let slots: Vec<Slot> =
            (done..due.min(count)).map(|n| worker.put(Kind::Message, "plant/7/line/3/temp", n % 50)).collect();
        done += slots.len() as u64;
        unsettled.push_back(slots);
        if unsettled.len() > lag {
            unsettled.pop_front().into_iter().flatten().for_each(|slot| worker.writer.settle(slot));
        }
        ticket = worker.writer.submit();
        worker.wait_below_pressure();
        if rate != 0 {
            std::thread::sleep(Duration::from_micros(50));
        }
    }
    unsettled.into_iter().flatten().for_each(|slot| worker.writer.settle(slot));
    ticket = worker.writer.submit().max(ticket);
    worker.wait(ticket);
    report(&format!("kept up with at {rate}/s, settled {lag} turns later"), count, start, &**store);
}

fn sleeping(store: &Arc<dyn Store>, count: u64) -> Vec<Slot> {
    let mut worker = Worker::of(store);
    let mut slots = Vec::with_capacity(count as usize);
    let start = begin();
    for n in 0..count {
        slots.push(worker.put(Kind::Message, "plant/7/line/3/temp", 1));
        if n % 64 == 63 {
            worker.writer.submit();
            worker.wait_below_pressure();
        }
    }
    let ticket = worker.writer.submit();
    worker.wait(ticket);
    report("queued for a sleeping session", count, start, &**store);
    slots
}

fn drain(store: &Arc<dyn Store>, slots: &[Slot]) {
    let mut worker = Worker::of(store);
    let start = begin();
    let mut answers = Vec::new();
    let ask = |worker: &Worker, slots: &[Slot]| {
        store.fetch(Fetch { lane: worker.writer.lane(), token: 0, slots: slots.to_vec() });
    };
    let mut batches = slots.chunks(1000);
    batches.by_ref().take(2).for_each(|slots| ask(&worker, slots));
    let (mut seen, mut bytes) = (0, 0);
    while seen < slots.len() {
        store.fetched(worker.writer.lane(), &mut answers);
        if answers.is_empty() && !worker.is_woken.swap(false, Ordering::Acquire) {
            std::thread::park();
        }
        for answer in answers.drain(..) {
            assert!(answer.missing.is_empty());
            if let Some(next) = batches.next() {
                ask(&worker, next);
            }
            for found in answer.found {
                bytes += StoredMessage::decode(found.record().body).expect("it was stored").publication.payload.len();
                worker.writer.settle(found.slot);
                seen += 1;
            }
            worker.writer.submit();
        }
    }
    let ticket = worker.writer.submit();
    worker.wait(ticket);
    assert_eq!(bytes, slots.len() * 100);
    report("drained in order and settled", slots.len() as u64, start, &**store);
}

fn retained_and_sessions(store: &Arc<dyn Store>, count: u64) {
    let mut worker = Worker::of(store);
    let start = begin();
    for n in 0..count {
        worker.put(Kind::Retained, &format!("plant/{}/line/{}/temp", n % 1000, n), 0);
        if n % 64 == 63 {
            worker.writer.submit();
            worker.wait_below_pressure();
        }
    }
    let ticket = worker.writer.submit();
    worker.wait(ticket);
    report("retained", count, start, &**store);
    let start = begin();
    for n in 0..count / 10 {
        worker.writer.put(
            Space::SESSION,
            format!("client-{}", n.wrapping_mul(2_654_435_761) % 1_000_000_007).as_bytes(),
            &[1; 80],
        );
        if n % 16 == 15 {
            worker.writer.submit();
            worker.wait_below_pressure();
        }
    }
    let ticket = worker.writer.submit();
    worker.wait(ticket);
    report("sessions", count / 10, start, &**store);
}

#[derive(Default)]
struct Count {
    records: u64,
    keyed: u64,
}

impl Visitor for Count {
    fn record(&mut self, record: &Record<'_>, _live: &[Slot]) {
        self.records += u64::from(StoredMessage::decode(record.body).is_ok());
    }

    fn keyed(&mut self, _space: Space, _key: &[u8], _value: &[u8]) {
        self.keyed += 1;
    }
}

fn reopen(options: &Options, title: &str) -> Arc<dyn Store> {
    let (began, cpu_before) = (Instant::now(), cpu());
    let (store, opened) = open(options.clone()).expect("it opens");
    let opening = began.elapsed();
    let mut count = Count::default();
    store.replay(&mut count).expect("it can be read");
    println!(
        "{title}: opened in {:.2} s, read through in {:.2} s more ({} records, {} keyed, {} live), CPU {:.2} s, RSS {:.1} MiB",
        opening.as_secs_f64(),
        (began.elapsed() - opening).as_secs_f64(),
        count.records,
        count.keyed,
        opened.live,
        (cpu() - cpu_before).as_secs_f64(),
        rss_mib()
    );
    Arc::new(store)
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let folder = arguments.get(1).expect("usage: measure FOLDER [sync|os] [MESSAGES]");
    let durability = if arguments.get(2).is_some_and(|mode| mode == "os") { Durability::Os } else { Durability::Sync };
    let count: u64 = arguments.get(3).map_or(100_000, |text| text.parse().expect("a number"));
    let _ = std::fs::remove_dir_all(folder);
    let options = Options { durability, ..Options::new(Path::new(folder)) };
    let store: Arc<dyn Store> = Arc::new(open(options.clone()).expect("it opens").0);
    for (rate, lag) in [(0, 1), (200_000, 1), (200_000, 10), (20_000, 4)] {
        keeping_up(&store, (if rate == 0 { 2_000_000 } else { rate }, rate, lag));
    }
    let slots = sleeping(&store, count);
    retained_and_sessions(&store, count);
    drop(store);
    let store = reopen(&options, "after an orderly end");
    // The file as a crash would leave it: copied while it is open.
    let copy = format!("{folder}.crashed");
    let _ = std::fs::remove_dir_all(&copy);
    std::fs::create_dir(&copy).expect("a folder");
    std::fs::copy(Path::new(folder).join("store.redb"), Path::new(&copy).join("store.redb")).expect("a copy");
    drop(reopen(&Options { folder: copy.clone().into(), ..options }, "after a crash"));
    let file_mib = || Path::new(folder).join("store.redb").metadata().map_or(0, |found| found.len()) >> 20;
    let full_mib = file_mib();
    drain(&store, &slots);
    let drained_mib = file_mib();
    std::thread::sleep(Duration::from_secs(2)); // what space recovery does with idle time
    println!(
        "file: {full_mib} MiB full, {drained_mib} MiB drained, {} MiB after 2 s of rest; {:?}",
        file_mib(),
        store.statistics()
    );
    let _ = std::fs::remove_dir_all(&copy);
}
