//! A store in a folder: who may look, who may open it, which formats, what a backup is, what damage leaves behind.

mod kit;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kit::{Contents, Hand};
use whimbrel_storage::{DiskStore, Durability, Failure, Kind, Options, Report, Space, Store, open};

/// A folder that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("whimbrel-store-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Scratch(path)
    }

    fn open(&self) -> Result<(DiskStore, Report), Failure> {
        open(Options { durability: Durability::Os, ..Options::new(&self.0) })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn fill(store: DiskStore) -> Contents {
    let store: Arc<dyn Store> = Arc::new(store);
    let mut hand = Hand::of(Arc::clone(&store));
    for turn in 0..50_u64 {
        hand.put(Kind::Message, &[turn as u8; 2000], &[turn]);
        hand.writer.put(Space::CONTROL, &turn.to_le_bytes(), b"account");
    }
    hand.commit();
    Contents::of(&*store)
}

fn modes_below(folder: &Path, modes: &mut Vec<u32>) {
    modes.push(folder.metadata().unwrap().permissions().mode());
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            modes_below(&path, modes)
        } else {
            modes.push(path.metadata().unwrap().permissions().mode())
        }
    }
}

#[test]
fn what_was_stored_is_there_after_reopening_and_nobody_else_may_look() {
    let scratch = Scratch::new("modes");
    std::fs::create_dir(&scratch.0).unwrap();
    std::fs::set_permissions(&scratch.0, std::fs::Permissions::from_mode(0o755)).unwrap();
    let contents = fill(scratch.open().unwrap().0);
    let (again, report) = scratch.open().unwrap();
    assert_eq!((Contents::of(&again), report.live, report.damaged), (contents, 50, Vec::new()));
    let mut modes = Vec::new();
    modes_below(&scratch.0, &mut modes);
    assert!(modes.len() >= 2 && modes.iter().all(|mode| mode & 0o77 == 0), "{modes:?}");
}

#[test]
fn a_closed_store_can_be_opened_again_whoever_still_holds_it() {
    let scratch = Scratch::new("closed");
    let (store, _) = scratch.open().unwrap();
    store.close();
    scratch.open().unwrap();
    drop(store);
}

#[test]
fn files_that_were_put_there_open_to_others_are_closed_to_them() {
    let scratch = Scratch::new("put-there");
    drop(fill(scratch.open().unwrap().0));
    for file in ["store.redb", "store.journal"] {
        std::fs::set_permissions(scratch.0.join(file), std::fs::Permissions::from_mode(0o644)).unwrap();
    }
    scratch.open().unwrap();
    let mut modes = Vec::new();
    modes_below(&scratch.0, &mut modes);
    assert!(modes.len() >= 3 && modes.iter().all(|mode| mode & 0o77 == 0), "{modes:?}");
}

#[test]
fn a_store_is_open_once() {
    let scratch = Scratch::new("twice");
    let _first = scratch.open().unwrap();
    let second = scratch.open().unwrap_err();
    assert!(matches!(second, Failure::InUse(_)), "{second}");
}

#[test]
fn a_newer_format_is_refused_in_a_clear_sentence_and_left_alone() {
    let scratch = Scratch::new("newer");
    fill(scratch.open().unwrap().0);
    let path = scratch.0.join("store.redb");
    let meta = redb::TableDefinition::<&str, u64>::new("meta");
    let database = redb::Database::open(&path).unwrap();
    let write = database.begin_write().unwrap();
    write.open_table(meta).unwrap().insert("format", 99).unwrap();
    write.commit().unwrap();
    drop(database);
    let before = std::fs::read(&path).unwrap();
    let sentence = scratch.open().unwrap_err().to_string();
    assert!(sentence.contains("format 99") && sentence.contains("start the newer version"), "{sentence}");
    let after = std::fs::read(&path).unwrap();
    // The engine may note in its head that it was open; what it holds stays.
    assert_eq!(before.len(), after.len());
    assert!(redb::Database::open(&path).is_ok());
}

#[test]
fn a_store_of_format_1_is_copied_and_goes_on_with_a_journal() {
    let scratch = Scratch::new("older");
    let contents = fill(scratch.open().unwrap().0);
    std::fs::remove_file(scratch.0.join("store.journal")).unwrap();
    let meta = redb::TableDefinition::<&str, u64>::new("meta");
    let database = redb::Database::open(scratch.0.join("store.redb")).unwrap();
    let write = database.begin_write().unwrap();
    {
        let mut numbers = write.open_table(meta).unwrap();
        numbers.insert("format", 1).unwrap();
        numbers.remove("identity").unwrap();
        numbers.remove("applied").unwrap();
    }
    write.commit().unwrap();
    drop(database);
    let (store, report) = scratch.open().unwrap();
    assert_eq!((Contents::of(&store), report.damaged), (contents.clone(), Vec::new()));
    let mut hand = Hand::of(Arc::new(store));
    hand.put(Kind::Message, b"after the upgrade", &[1]);
    hand.commit();
    drop(hand);
    assert_eq!(Contents::of(&scratch.open().unwrap().0).records.len(), contents.records.len() + 1);
    assert!(scratch.0.join("store.redb.format-1").exists());
}

#[test]
fn a_backup_is_a_store_of_its_own() {
    let (scratch, copy) = (Scratch::new("original"), Scratch::new("copy"));
    let contents = fill(scratch.open().unwrap().0);
    let (store, _) = scratch.open().unwrap();
    std::fs::create_dir(&copy.0).unwrap();
    let path = copy.0.join("store.redb");
    store.backup(&path).unwrap();
    assert!(store.backup(&path).unwrap_err().to_string().contains("store.redb"), "it must not overwrite");
    // The journal that is found beside it belongs to the store that was there before.
    std::fs::copy(scratch.0.join("store.journal"), copy.0.join("store.journal")).unwrap();
    assert_eq!(Contents::of(&copy.open().unwrap().0), contents);
}

#[test]
fn a_file_that_the_engine_cannot_read_is_kept_and_its_chunks_are_saved() {
    let scratch = Scratch::new("ruined");
    let contents = fill(scratch.open().unwrap().0);
    let path = scratch.0.join("store.redb");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[..4096].fill(0xA5); // the engine's own head
    std::fs::write(&path, &bytes).unwrap();
    let (store, report) = scratch.open().unwrap();
    assert_eq!(Contents::of(&store), contents);
    let kept = scratch.0.join("store.redb.damaged-1");
    assert_eq!(std::fs::read(&kept).unwrap(), bytes);
    assert!(report.damaged[0].contains(&kept.display().to_string()), "{:?}", report.damaged);
    drop(store);
    assert_eq!(scratch.open().unwrap().1.damaged, Vec::<String>::new(), "reported once");
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let failure = open(Options::new("/proc/whimbrel")).unwrap_err().to_string();
    assert!(failure.contains("/proc/whimbrel"), "{failure}");
}
