//! Measures embedded engines with the broker's record shapes; see README.md.
//!
//! `store-engines commits|queue|full FOLDER [SECONDS]`: one line per measurement, values separated by tabs.

mod engines;

use std::path::Path;
use std::time::{Duration, Instant};

use engines::{Engine, Failure, NAMES};

/// A PUBLISH of a sensor with its receivers: head and slots 24 bytes, topic 32, publisher 16, properties 8, payload 120.
const RECORD_BYTES: usize = 200;

/// What one run did.
struct Run {
    commits: u64,
    messages: u64,
    wall: Duration,
    cpu: Duration,
    latencies_us: Vec<u32>,
}

impl Run {
    fn percentile_us(&mut self, share: f64) -> u32 {
        self.latencies_us.sort_unstable();
        let last = self.latencies_us.len() - 1;
        self.latencies_us[(last as f64 * share) as usize]
    }

    fn report(&mut self, title: &str) {
        let per_second = |count: u64| count as f64 / self.wall.as_secs_f64();
        let (commits, messages) = (per_second(self.commits), per_second(self.messages));
        let cpu_us = self.cpu.as_secs_f64() * 1e6 / self.messages as f64;
        let commit_cpu_us = self.cpu.as_secs_f64() * 1e6 / self.commits as f64;
        let (p50, p99, max) = (self.percentile_us(0.5), self.percentile_us(0.99), self.percentile_us(1.0));
        println!("{title}\t{commits:.0}\t{messages:.0}\t{cpu_us:.3}\t{commit_cpu_us:.0}\t{p50}\t{p99}\t{max}");
    }
}

fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// How messages become entries.
#[derive(Clone, Copy, PartialEq)]
enum Shape {
    Each,
    Chunk,
}

/// What a run asks of an engine.
#[derive(Clone, Copy)]
struct Load {
    shape: Shape,
    /// Messages per commit.
    group: usize,
    length: Duration,
    /// All but the newest so many messages are removed as it goes.
    live: Option<u64>,
}

/// Commits for as long as `load` says; the keys go on at `key`.
fn run(engine: &mut dyn Engine, load: Load, key: &mut u64) -> Result<Run, Failure> {
    let Load { shape, group, length, live } = load;
    let bytes: Vec<u8> = (0..group * RECORD_BYTES).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let entries: Vec<&[u8]> = match shape {
        Shape::Each => bytes.chunks(RECORD_BYTES).collect(),
        Shape::Chunk => vec![&bytes],
    };
    let live = live.map(|live| live * entries.len() as u64 / group as u64);
    let (began, cpu_before) = (Instant::now(), cpu_time());
    let mut done = Run { commits: 0, messages: 0, wall: length, cpu: Duration::ZERO, latencies_us: Vec::new() };
    while began.elapsed() < length {
        let before = Instant::now();
        // Acknowledged ranges go in one sweep, every sixteenth commit.
        let sweep = live.filter(|live| done.commits.is_multiple_of(16) && *key > *live);
        engine.commit(*key, &entries, sweep.map(|live| *key - live))?;
        done.latencies_us.push(before.elapsed().as_micros() as u32);
        *key += entries.len() as u64;
        done.commits += 1;
        done.messages += group as u64;
    }
    done.wall = began.elapsed();
    done.cpu = cpu_time() - cpu_before;
    Ok(done)
}

fn disk_bytes(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let size =
        |path: &Path| if path.is_dir() { disk_bytes(path) } else { path.metadata().map_or(0, |m| m.blocks() * 512) };
    entries.map(|entry| size(&entry.path())).sum()
}

fn fresh(folder: &Path, name: &str) -> Result<Box<dyn Engine>, Failure> {
    let folder = folder.join(name);
    let _ = std::fs::remove_dir_all(&folder);
    engines::open(name, &folder)
}

/// Commits and messages a second at 1, 10, 100 and 1,000 messages per commit, candidates interleaved.
fn commits(folder: &Path, length: Duration) -> Result<(), Failure> {
    for (shape, title) in [(Shape::Each, "each"), (Shape::Chunk, "chunk")] {
        for group in [1, 10, 100, 1000] {
            for name in NAMES {
                let mut engine = fresh(folder, name)?;
                run(&mut *engine, Load { shape, group, length, live: None }, &mut 0)?
                    .report(&format!("{name}\t{title}\t{group}"));
                drop(engine);
                std::fs::remove_dir_all(folder.join(name))?;
            }
        }
    }
    Ok(())
}

/// Queue-like use: 100 messages per commit, 100,000 live ones, the oldest removed; the size on disk in five steps.
fn queue(folder: &Path, length: Duration) -> Result<(), Failure> {
    const LIVE: u64 = 100_000;
    for (shape, title) in [(Shape::Each, "each"), (Shape::Chunk, "chunk")] {
        for name in NAMES {
            let mut engine = fresh(folder, name)?;
            let load = Load { shape, group: 100, length: length / 5, live: Some(LIVE) };
            let (mut sizes, mut key) = (Vec::new(), 0);
            for step in 0..5 {
                let mut done = run(&mut *engine, load, &mut key)?;
                sizes.push(disk_bytes(&folder.join(name)) >> 20);
                if step == 4 {
                    done.report(&format!(
                        "{name}\t{title}\tqueue MiB {sizes:?} of {}",
                        (LIVE * RECORD_BYTES as u64) >> 20
                    ));
                }
            }
            drop(engine);
            std::fs::remove_dir_all(folder.join(name))?;
        }
    }
    Ok(())
}

/// Commits one engine's chunks in `folder` (a small file system) until it is full, frees room, goes on, reopens, counts.
fn full(folder: &Path, name: &str) -> Result<(), Failure> {
    let ballast = folder.join("ballast");
    std::fs::write(&ballast, vec![1; 8 << 20])?;
    let path = folder.join(name);
    let mut engine = engines::open(name, &path)?;
    let bytes = vec![7; 100 * RECORD_BYTES];
    let mut committed = 0;
    let failure = loop {
        match engine.commit(committed, &[&bytes], None) {
            Ok(()) => committed += 1,
            Err(failure) => break failure,
        }
    };
    println!("{name}\tfull after {committed} commits: {failure}");
    println!("{name}\tagain while full: {:?}", engine.commit(committed, &[&bytes], None).map_err(|e| e.to_string()));
    std::fs::remove_file(ballast)?;
    let after = engine.commit(committed, &[&bytes], None);
    println!("{name}\twith room, same handle: {:?}", after.as_ref().map_err(|e| e.to_string()));
    committed += u64::from(after.is_ok());
    drop(engine);
    let began = Instant::now();
    let mut engine = engines::open(name, &path)?;
    let found = engine.count()?;
    println!("{name}\treopened in {:?}: {found} of {committed} entries", began.elapsed());
    println!("{name}\tafter reopening: {:?}", engine.commit(1 << 40, &[&bytes], None).map_err(|e| e.to_string()));
    Ok(())
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, what, folder, rest @ ..] = &arguments[..] else {
        return Err("usage: store-engines commits|queue|full FOLDER [SECONDS or ENGINE]".into());
    };
    let folder = Path::new(folder);
    let seconds = rest.first().and_then(|text| text.parse().ok()).unwrap_or(1.0);
    match what.as_str() {
        "commits" => commits(folder, Duration::from_secs_f64(seconds)),
        "queue" => queue(folder, Duration::from_secs_f64(seconds)),
        "full" => full(folder, rest.first().ok_or("which engine?")?),
        other => Err(format!("{other}: not one of commits, queue, full").into()),
    }
}
