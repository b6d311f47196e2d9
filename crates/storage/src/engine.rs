//! The embedded engine, redb: chunks by number, marks, keyed values, a few numbers; and the disk below it.
//!
//! Knows tables, transactions, the engine's errors. Must not know records, settlements, threads. After a failed
//! commit the engine refuses everything until it is opened again: `reopen` does that.

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io;
use std::ops::Bound;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use redb::{Database, ReadableDatabase as _, ReadableTable as _, StorageBackend, TableDefinition};

use crate::chunk::Built;
use crate::codec::{check_of, u32_at, u64_at};
use crate::overlay::Overlay;
use crate::upgrade::{FORMAT, upgrade};
use crate::{Batch, Durability, Failure, Space};

const CHUNKS: TableDefinition<u64, &[u8]> = TableDefinition::new("chunks");
const MARKS: TableDefinition<u64, &[u8]> = TableDefinition::new("marks");
const KEYED: TableDefinition<&[u8], &[u8]> = TableDefinition::new("keyed");
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
pub(crate) const KEYED_MAGIC: [u8; 4] = *b"WHMK";
pub(crate) const KEYED_HEAD: usize = 24;

/// What a store is written on; a test's can forget, tear and fail.
pub trait Disk: Send + Sync {
    /// The bytes, exclusively ours; called again after each failure, when the one before is dropped.
    fn open(&self) -> io::Result<Box<dyn StorageBackend>>;
    /// The bytes of the journal that stands before them, exclusively ours; empty at first.
    fn open_journal(&self) -> io::Result<Box<dyn StorageBackend>>;
    /// Empty bytes beside them, for what is saved from damaged ones.
    fn open_replacement(&self) -> io::Result<Box<dyn StorageBackend>>;
    /// Puts the replacement, which is closed, in their place, at once or not at all; returns where the old ones are kept.
    fn replace(&self) -> io::Result<String>;
    /// Whether it is worth while to try again after a failure.
    fn has_room(&self) -> bool {
        true
    }
    /// Keeps a copy of the bytes, which nobody changes meanwhile, under this name, unless there is one already.
    fn keep_copy(&self, name: &str) -> io::Result<()> {
        let _ = name;
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Keeps damaged bytes apart, for whoever wants to look at them; returns where.
    fn quarantine(&self, name: &str, bytes: &[u8]) -> io::Result<String> {
        let _ = bytes;
        Ok(format!("{name}, forgotten"))
    }
}

/// A disk of which the replacement is used.
pub(crate) struct Replacement(pub(crate) Arc<dyn Disk>);

impl Disk for Replacement {
    fn open(&self) -> io::Result<Box<dyn StorageBackend>> {
        self.0.open_replacement()
    }

    fn open_journal(&self) -> io::Result<Box<dyn StorageBackend>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn open_replacement(&self) -> io::Result<Box<dyn StorageBackend>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn replace(&self) -> io::Result<String> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// A file in a folder that only its owner may enter.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
    durability: Durability,
}

/// Room that a full disk must have before a failed commit is tried again; bytes.
const WORTH_TRYING_BYTES: u64 = 1 << 20;

impl Folder {
    /// Makes the folder with mode 0700 if it is missing, and closes it to others if it is there.
    pub fn new(path: &Path, durability: Durability) -> Result<Folder, Failure> {
        let at = |error: io::Error| Failure::Disk(format!("{}: {error}", path.display()));
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(at)?;
        if path.metadata().map_err(at)?.permissions().mode() & 0o77 != 0 {
            std::fs::set_permissions(path, PermissionsExt::from_mode(0o700)).map_err(at)?;
        }
        Ok(Folder { path: path.to_owned(), durability })
    }

    /// The store's file.
    pub fn file(&self) -> PathBuf {
        self.path.join("store.redb")
    }

    fn journal(&self) -> PathBuf {
        self.path.join("store.journal")
    }

    fn replacement(&self) -> PathBuf {
        self.beside("new")
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.path.join(format!("store.redb.{name}"))
    }

    fn open_file(&self, path: &Path, is_emptied: bool) -> io::Result<Box<dyn StorageBackend>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(is_emptied).mode(0o600);
        let file = options.open(path)?;
        // The journal goes with the engine's file, which is opened first and given back first.
        if path != self.journal() {
            rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
        }
        // A backup may have been put there with other permissions.
        if file.metadata()?.permissions().mode() & 0o77 != 0 {
            file.set_permissions(PermissionsExt::from_mode(0o600))?;
        }
        // A new file's name must survive, too.
        File::open(&self.path)?.sync_all()?;
        Ok(Box::new(Bytes { file, is_synced: self.durability == Durability::Sync }))
    }
}

impl Disk for Folder {
    fn open(&self) -> io::Result<Box<dyn StorageBackend>> {
        self.open_file(&self.file(), false)
    }

    fn open_journal(&self) -> io::Result<Box<dyn StorageBackend>> {
        self.open_file(&self.journal(), false)
    }

    fn open_replacement(&self) -> io::Result<Box<dyn StorageBackend>> {
        self.open_file(&self.replacement(), true)
    }

    fn replace(&self) -> io::Result<String> {
        let mut free = (1_u32..).map(|number| self.path.join(format!("store.redb.damaged-{number}")));
        let place = free.find(|place| !place.exists()).ok_or(io::ErrorKind::AlreadyExists)?;
        std::fs::hard_link(self.file(), &place)?;
        std::fs::rename(self.replacement(), self.file())?;
        File::open(&self.path)?.sync_all()?;
        Ok(place.display().to_string())
    }

    fn keep_copy(&self, name: &str) -> io::Result<()> {
        let (place, growing) = (self.beside(name), self.beside(&format!("{name}.partial")));
        if place.exists() {
            return Ok(());
        }
        std::fs::copy(self.file(), &growing)?;
        std::fs::set_permissions(&growing, PermissionsExt::from_mode(0o600))?;
        File::open(&growing)?.sync_all()?;
        std::fs::rename(&growing, &place)?;
        File::open(&self.path)?.sync_all()
    }

    fn quarantine(&self, name: &str, bytes: &[u8]) -> io::Result<String> {
        let folder = self.path.join("quarantine");
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let path = folder.join(name);
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        file.write_all_at(bytes, 0)?;
        Ok(path.display().to_string())
    }

    fn has_room(&self) -> bool {
        rustix::fs::statvfs(&self.path).is_ok_and(|fs| fs.f_bavail * fs.f_frsize >= WORTH_TRYING_BYTES)
    }
}

#[derive(Debug)]
struct Bytes {
    file: File,
    is_synced: bool,
}

impl StorageBackend for Bytes {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.is_synced { self.file.sync_data() } else { Ok(()) }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, offset)
    }
}

#[derive(Debug)]
struct Boxed(Box<dyn StorageBackend>, Arc<AtomicU64>);

impl StorageBackend for Boxed {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)?;
        self.1.store(len, Ordering::Relaxed);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.0.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, redb::BackendError> {
        self.0.try_lock_range(start, end)
    }
}

/// All that one commit changes.
#[derive(Default)]
pub(crate) struct Change<'a> {
    pub(crate) commit: u64,
    pub(crate) chunks: Vec<&'a Built>,
    pub(crate) removed: Vec<u64>,
    /// Live slots of chunks, encoded; they take the place of settlements in chunks that go.
    pub(crate) marks: Vec<(u64, Vec<u8>)>,
    pub(crate) batches: &'a [Batch],
    /// Slots below this may be given away.
    pub(crate) reserved: Option<u64>,
}

/// The open engine.
pub(crate) struct Engine {
    disk: Arc<dyn Disk>,
    cache_bytes: usize,
    database: RwLock<Option<Arc<Database>>>,
    file_bytes: Arc<AtomicU64>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Engine")
    }
}

impl Engine {
    /// Opens what is there, or begins a new store. Refuses a newer format before it changes anything of ours.
    pub(crate) fn open(disk: Arc<dyn Disk>, cache_bytes: usize) -> Result<Engine, Failure> {
        let engine = Engine { disk, cache_bytes, database: RwLock::new(None), file_bytes: Arc::default() };
        engine.open_database(true)?;
        let database = engine.database()?;
        if let Some(found) = format_of(&database)? {
            upgrade(&database, &*engine.disk, found)?;
        }
        found_tables(&database)?;
        Ok(engine)
    }

    /// Lets go of the engine's handle and opens it anew.
    pub(crate) fn reopen(&self) -> Result<(), Failure> {
        self.open_database(false)
    }

    /// `is_first`: every page is checked, unless the engine did so itself because the last run did not end in order.
    fn open_database(&self, is_first: bool) -> Result<(), Failure> {
        let mut place = self.database.write().unwrap_or_else(PoisonError::into_inner);
        *place = None;
        let bytes = self.disk.open().map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => Failure::InUse("the store".to_owned()),
            _ => error.into(),
        })?;
        self.file_bytes.store(bytes.len()?, Ordering::Relaxed);
        let backend = Boxed(bytes, Arc::clone(&self.file_bytes));
        let was_repaired = Arc::new(AtomicBool::new(false));
        let sign = Arc::clone(&was_repaired);
        let opened = Database::builder()
            .set_cache_size(self.cache_bytes)
            .set_repair_callback(move |_| sign.store(true, Ordering::Relaxed))
            .create_with_backend(backend);
        let mut database = opened.map_err(redb::Error::from)?;
        if is_first
            && !was_repaired.load(Ordering::Relaxed)
            && !database.check_integrity().map_err(redb::Error::from)?
        {
            return Err(Failure::Damaged("a page's checksum is wrong".to_owned()));
        }
        *place = Some(Arc::new(database));
        Ok(())
    }

    pub(crate) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    /// Length of the file.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.file_bytes.load(Ordering::Relaxed)
    }

    /// Gives the file back.
    pub(crate) fn shut(&self) {
        *self.database.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn database(&self) -> Result<Arc<Database>, Failure> {
        let place = self.database.read().unwrap_or_else(PoisonError::into_inner);
        place.clone().ok_or(Failure::Closed)
    }

    /// Makes changes durable, the later ones over the earlier ones, whole or not at all.
    pub(crate) fn write(&self, changes: &[&Overlay]) -> Result<(), Failure> {
        Ok(apply(&*self.database()?, changes)?)
    }

    /// The highest number of a chunk; 0: there is none.
    pub(crate) fn last_chunk(&self) -> Result<u64, Failure> {
        let database = self.database()?;
        let read = || -> Result<u64, redb::Error> {
            Ok(database.begin_read()?.open_table(CHUNKS)?.last()?.map_or(0, |(number, _)| number.value()))
        };
        Ok(read()?)
    }

    /// Puts a number of the store's own.
    pub(crate) fn put_number(&self, name: &str, number: u64) -> Result<(), Failure> {
        let database = self.database()?;
        Ok(put_number(&database, name, number)?)
    }

    /// Puts back what was saved from a damaged store: chunks and wrapped values as they were.
    pub(crate) fn restore(&self, chunks: &[(u64, Vec<u8>)], keyed: &[Vec<u8>]) -> Result<(), Failure> {
        let database = self.database()?;
        let write_down = || -> Result<(), redb::Error> {
            let write = database.begin_write()?;
            {
                let (mut table, mut values) = (write.open_table(CHUNKS)?, write.open_table(KEYED)?);
                chunks.iter().try_for_each(|(number, bytes)| table.insert(number, &bytes[..]).map(drop))?;
                let whole = keyed.iter().filter_map(|bytes| Some((unwrap_keyed(bytes)?.1, bytes)));
                whole.into_iter().try_for_each(|(key, bytes)| values.insert(key, &bytes[..]).map(drop))?;
            }
            Ok(write.commit()?)
        };
        Ok(write_down()?)
    }

    /// A chunk's bytes.
    pub(crate) fn chunk(&self, number: u64) -> Result<Option<Arc<[u8]>>, Failure> {
        let database = self.database()?;
        let read = || -> Result<Option<Arc<[u8]>>, redb::Error> {
            let table = database.begin_read()?.open_table(CHUNKS)?;
            Ok(table.get(number)?.map(|value| value.value().into()))
        };
        Ok(read()?)
    }

    /// Every chunk, by rising number, until `see` says no.
    pub(crate) fn chunks(&self, mut see: impl FnMut(u64, &[u8]) -> Result<(), Failure>) -> Result<(), Failure> {
        let database = self.database()?;
        let table = database.begin_read().map_err(redb::Error::from)?.open_table(CHUNKS).map_err(redb::Error::from)?;
        for entry in table.iter().map_err(redb::Error::from)? {
            let (number, bytes) = entry.map_err(redb::Error::from)?;
            see(number.value(), bytes.value())?;
        }
        Ok(())
    }

    /// The marks: chunk, and its live slots as they were encoded.
    pub(crate) fn marks(&self) -> Result<Vec<(u64, Vec<u8>)>, Failure> {
        let database = self.database()?;
        let read = || -> Result<Vec<(u64, Vec<u8>)>, redb::Error> {
            let table = database.begin_read()?.open_table(MARKS)?;
            let rows = table.iter()?.map(|row| row.map(|(number, mark)| (number.value(), mark.value().to_vec())));
            Ok(rows.collect::<Result<_, _>>()?)
        };
        Ok(read()?)
    }

    /// Every keyed value by rising key; None where its bytes are damaged.
    pub(crate) fn keyed(&self, mut see: impl FnMut(Space, &[u8], Option<&[u8]>)) -> Result<(), Failure> {
        let database = self.database()?;
        let table = database.begin_read().map_err(redb::Error::from)?.open_table(KEYED).map_err(redb::Error::from)?;
        for entry in table.iter().map_err(redb::Error::from)? {
            let (key, bytes) = entry.map_err(redb::Error::from)?;
            let Some((&space, name)) = key.value().split_first() else { continue };
            let whole = unwrap_keyed(bytes.value()).filter(|(_, found, _)| *found == key.value());
            see(Space(space), name, whole.map(|(_, _, value)| value));
        }
        Ok(())
    }

    /// Moves pages from the end of the file to free places before them and cuts it off, where all that it holds is `bytes_max`
    /// at most. Does nothing while somebody reads; readers wait until it is done.
    pub(crate) fn compact(&self, bytes_max: u64) -> Result<(), Failure> {
        if self.held_bytes()? > bytes_max {
            return Ok(());
        }
        let mut place = self.database.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(database) = place.as_mut().and_then(Arc::get_mut) {
            database.compact().map_err(redb::Error::from)?;
        }
        Ok(())
    }

    fn held_bytes(&self) -> Result<u64, Failure> {
        let database = self.database()?;
        let count = || -> Result<u64, redb::Error> { Ok(database.begin_write()?.stats()?.stored_bytes()) };
        Ok(count()?)
    }

    /// A number of the store's own.
    pub(crate) fn number(&self, name: &str) -> Result<u64, Failure> {
        let database = self.database()?;
        let read = || -> Result<u64, redb::Error> {
            Ok(database.begin_read()?.open_table(META)?.get(name)?.map_or(0, |value| value.value()))
        };
        Ok(read()?)
    }

    /// Copies everything as of now into a new file, which has its name when it is whole.
    pub(crate) fn copy_to(&self, path: &Path) -> Result<(), Failure> {
        let source = self.database()?;
        let at = |error: io::Error| Failure::Disk(format!("{}: {error}", path.display()));
        if path.exists() {
            return Err(at(io::ErrorKind::AlreadyExists.into()));
        }
        let mut growing = path.as_os_str().to_owned();
        growing.push(".partial");
        let growing = PathBuf::from(growing);
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(true).mode(0o600).open(&growing).map_err(at)?;
        let named = copy_all(&source, file).map_err(Failure::from).and_then(|()| name_copy(&growing, path).map_err(at));
        named.inspect_err(|_| drop(std::fs::remove_file(&growing)))
    }
}

fn copy_all(source: &Database, file: File) -> Result<(), redb::Error> {
    let target = Database::builder().create_file(file)?;
    let (read, write) = (source.begin_read()?, target.begin_write()?);
    copy_table(&read, &write, CHUNKS)?;
    copy_table(&read, &write, MARKS)?;
    copy_table(&read, &write, KEYED)?;
    copy_table(&read, &write, META)?;
    write.open_table(META)?.insert("identity", new_identity())?;
    Ok(write.commit()?)
}

fn name_copy(growing: &Path, path: &Path) -> io::Result<()> {
    std::fs::rename(growing, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

fn copy_table<K: redb::Key + 'static, V: redb::Value + 'static>(
    read: &redb::ReadTransaction,
    write: &redb::WriteTransaction,
    table: TableDefinition<K, V>,
) -> Result<(), redb::Error> {
    let (source, mut target) = (read.open_table(table)?, write.open_table(table)?);
    for row in source.iter()? {
        let (key, value) = row?;
        target.insert(key.value(), value.value())?;
    }
    Ok(())
}

pub(crate) fn format_of(database: &Database) -> Result<Option<u64>, redb::Error> {
    match database.begin_read()?.open_table(META) {
        Ok(meta) => Ok(meta.get("format")?.map(|value| value.value())),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(crate) fn set_format(database: &Database, format: u64) -> Result<(), redb::Error> {
    put_number(database, "format", format)
}

fn found_tables(database: &Database) -> Result<(), redb::Error> {
    if format_of(database)?.is_some() {
        return Ok(());
    }
    let write = database.begin_write()?;
    write.open_table(CHUNKS)?;
    write.open_table(MARKS)?;
    write.open_table(KEYED)?;
    let mut meta = write.open_table(META)?;
    meta.insert("format", FORMAT)?;
    meta.insert("identity", new_identity())?;
    drop(meta);
    Ok(write.commit()?)
}

fn put_number(database: &Database, name: &str, number: u64) -> Result<(), redb::Error> {
    let write = database.begin_write()?;
    write.open_table(META)?.insert(name, number)?;
    Ok(write.commit()?)
}

/// Stores of the format before had no journal and so no name that one could carry.
pub(crate) fn give_identity(database: &Database) -> Result<(), redb::Error> {
    put_number(database, "identity", new_identity())
}

/// A number that no other store has, so that a journal is never taken for that of a store which was put in its place.
fn new_identity() -> u64 {
    RandomState::new().build_hasher().finish()
}

fn apply(database: &Database, changes: &[&Overlay]) -> Result<(), redb::Error> {
    let write = database.begin_write()?;
    for change in changes {
        apply_to(&mut write.open_table(CHUNKS)?, change.chunks.iter().map(|(key, value)| (*key, value.as_deref())))?;
        apply_to(&mut write.open_table(MARKS)?, change.marks.iter().map(|(key, value)| (*key, value.as_deref())))?;
        let keyed = change.keyed.iter().map(|(key, value)| (&key[..], value.as_deref()));
        apply_to(&mut write.open_table(KEYED)?, keyed)?;
        let mut meta = write.open_table(META)?;
        meta.insert("applied", change.sequence)?;
        if let Some(reserved) = change.reserved {
            let known = meta.get("reserved")?.map_or(0, |known| known.value());
            meta.insert("reserved", reserved.max(known))?; // what was saved from damage may be beyond the journal's
        }
    }
    Ok(write.commit()?)
}

fn apply_to<'k, 'v, K: redb::Key + 'static>(
    table: &mut redb::Table<'_, K, &'static [u8]>,
    rows: impl Iterator<Item = (K::SelfType<'k>, Option<&'v [u8]>)>,
) -> Result<(), redb::Error> {
    for (key, value) in rows {
        match value {
            Some(value) => drop(table.insert(key, value)?),
            None => drop(table.remove(key)?),
        }
    }
    Ok(())
}

/// `magic 4 | check u32 | commit u64 | bytes of key u32 | bytes of value u32 | key | value`: whole without the engine's tables.
pub(crate) fn wrap_keyed(commit: u64, key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(KEYED_HEAD + key.len() + value.len());
    bytes.extend(KEYED_MAGIC);
    bytes.extend([0; 4]);
    bytes.extend(commit.to_le_bytes());
    bytes.extend((key.len() as u32).to_le_bytes());
    bytes.extend((value.len() as u32).to_le_bytes());
    bytes.extend_from_slice(key);
    bytes.extend_from_slice(value);
    let check = check_of(&bytes[8..]);
    bytes[4..8].copy_from_slice(&check.to_le_bytes());
    bytes
}

/// Length that the head of a wrapped value tells; it may be anything.
pub(crate) fn wrapped_len(head: &[u8]) -> u64 {
    KEYED_HEAD as u64 + u64::from(u32_at(head, 16)) + u64::from(u32_at(head, 20))
}

/// Commit, key and value of a wrapped value that is whole.
pub(crate) fn unwrap_keyed(bytes: &[u8]) -> Option<(u64, &[u8], &[u8])> {
    let is_whole = bytes.len() >= KEYED_HEAD
        && bytes[..4] == KEYED_MAGIC
        && wrapped_len(bytes) == bytes.len() as u64
        && check_of(&bytes[8..]) == u32_at(bytes, 4);
    let rest = is_whole.then(|| &bytes[KEYED_HEAD..])?;
    let (key, value) = rest.split_at(u32_at(bytes, 16) as usize);
    Some((u64_at(bytes, 8), key, value))
}
