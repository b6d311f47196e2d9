//! The candidates behind one small face: a durable group of entries with rising keys, and the removal of the oldest.
//!
//! Knows each engine's quickest safe setting. Must not know what is measured.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use redb::{Database, Durability, ReadableDatabase, TableDefinition};

pub type Failure = Box<dyn std::error::Error>;

/// One commit: entries with the keys `first..`, and the removal of all keys below `keep_from`.
pub trait Engine {
    fn commit(&mut self, first: u64, entries: &[&[u8]], keep_from: Option<u64>) -> Result<(), Failure>;
    /// How many entries can be read back.
    fn count(&self) -> Result<u64, Failure>;
}

pub const NAMES: [&str; 5] = ["file", "redb", "fjall", "lmdb", "sqlite"];

pub fn open(name: &str, folder: &Path) -> Result<Box<dyn Engine>, Failure> {
    std::fs::create_dir_all(folder)?;
    Ok(match name {
        "file" => Box::new(Plain::open(folder)?),
        "redb" => Box::new(Redb::open(folder)?),
        "fjall" => Box::new(Fjall::open(folder)?),
        "lmdb" => Box::new(Lmdb::open(folder)?),
        "sqlite" => Box::new(Sqlite::open(folder)?),
        other => return Err(format!("no engine is called {other}; there are {NAMES:?}").into()),
    })
}

/// The yardstick: append and fdatasync. Whole files of 64 MiB are unlinked when everything in them is removed.
struct Plain {
    folder: PathBuf,
    file: File,
    length: u64,
    buffer: Vec<u8>,
    segments: Vec<(u64, PathBuf)>,
}

impl Plain {
    fn open(folder: &Path) -> Result<Plain, Failure> {
        let path = folder.join("0");
        let file = OpenOptions::new().create(true).append(true).open(&path)?;
        let segments = vec![(0, path)];
        Ok(Plain { folder: folder.to_owned(), file, length: 0, buffer: Vec::new(), segments })
    }
}

impl Engine for Plain {
    fn commit(&mut self, first: u64, entries: &[&[u8]], keep_from: Option<u64>) -> Result<(), Failure> {
        if self.length > 64 << 20 {
            let path = self.folder.join(first.to_string());
            self.file = OpenOptions::new().create(true).append(true).open(&path)?;
            self.segments.push((first, path));
            self.length = 0;
        }
        self.buffer.clear();
        for entry in entries {
            self.buffer.extend((entry.len() as u32).to_le_bytes());
            self.buffer.extend_from_slice(entry);
        }
        self.file.write_all(&self.buffer)?;
        self.file.sync_data()?;
        self.length += self.buffer.len() as u64;
        while self.segments.len() > 1 && keep_from.is_some_and(|keep| keep >= self.segments[1].0) {
            std::fs::remove_file(self.segments.remove(0).1)?;
        }
        Ok(())
    }

    fn count(&self) -> Result<u64, Failure> {
        let mut count = 0;
        for (_, path) in &self.segments {
            let (file, mut at, mut head) = (File::open(path)?, 0, [0; 4]);
            let length = file.metadata()?.len();
            while at + 4 <= length {
                file.read_exact_at(&mut head, at)?;
                at += 4 + u64::from(u32::from_le_bytes(head));
                count += u64::from(at <= length);
            }
        }
        Ok(count)
    }
}

const TABLE: TableDefinition<u64, &[u8]> = TableDefinition::new("entries");

struct Redb(Database);

impl Redb {
    fn open(folder: &Path) -> Result<Redb, Failure> {
        let database = Database::builder().set_cache_size(64 << 20).create(folder.join("redb"))?;
        let write = database.begin_write()?;
        write.open_table(TABLE)?;
        write.commit()?;
        Ok(Redb(database))
    }
}

impl Engine for Redb {
    fn commit(&mut self, first: u64, entries: &[&[u8]], keep_from: Option<u64>) -> Result<(), Failure> {
        let mut write = self.0.begin_write()?;
        write.set_durability(Durability::Immediate)?;
        {
            let mut table = write.open_table(TABLE)?;
            for (key, entry) in (first..).zip(entries) {
                table.insert(key, *entry)?;
            }
            if let Some(keep_from) = keep_from {
                table.retain_in(..keep_from, |_, _| false)?;
            }
        }
        Ok(write.commit()?)
    }

    fn count(&self) -> Result<u64, Failure> {
        use redb::ReadableTableMetadata as _;
        Ok(self.0.begin_read()?.open_table(TABLE)?.len()?)
    }
}

struct Fjall {
    database: fjall::Database,
    entries: fjall::Keyspace,
    kept_from: u64,
}

impl Fjall {
    fn open(folder: &Path) -> Result<Fjall, Failure> {
        let database = fjall::Database::builder(folder.join("fjall")).cache_size(64 << 20).open()?;
        let entries = database.keyspace("entries", fjall::KeyspaceCreateOptions::default)?;
        Ok(Fjall { database, entries, kept_from: 0 })
    }
}

impl Engine for Fjall {
    fn commit(&mut self, first: u64, entries: &[&[u8]], keep_from: Option<u64>) -> Result<(), Failure> {
        let mut batch = self.database.batch().durability(Some(fjall::PersistMode::SyncData));
        for (key, entry) in (first..).zip(entries) {
            batch.insert(&self.entries, key.to_be_bytes(), *entry);
        }
        for key in self.kept_from..keep_from.unwrap_or(self.kept_from) {
            batch.remove(&self.entries, key.to_be_bytes());
        }
        self.kept_from = keep_from.unwrap_or(self.kept_from);
        Ok(batch.commit()?)
    }

    fn count(&self) -> Result<u64, Failure> {
        Ok(self.entries.len()? as u64)
    }
}

type Keys = heed::types::U64<heed::byteorder::BigEndian>;

struct Lmdb {
    environment: heed::Env,
    entries: heed::Database<Keys, heed::types::Bytes>,
}

impl Lmdb {
    fn open(folder: &Path) -> Result<Lmdb, Failure> {
        let folder = folder.join("lmdb");
        std::fs::create_dir_all(&folder)?;
        // SAFETY: nobody else opens this folder.
        let environment = unsafe { heed::EnvOpenOptions::new().map_size(8 << 30).open(folder)? };
        let mut write = environment.write_txn()?;
        let entries = environment.create_database(&mut write, None)?;
        write.commit()?;
        Ok(Lmdb { environment, entries })
    }
}

impl Engine for Lmdb {
    fn commit(&mut self, first: u64, entries: &[&[u8]], keep_from: Option<u64>) -> Result<(), Failure> {
        let mut write = self.environment.write_txn()?;
        for (key, entry) in (first..).zip(entries) {
            self.entries.put_with_flags(&mut write, heed::PutFlags::APPEND, &key, entry)?;
        }
        if let Some(keep_from) = keep_from {
            self.entries.delete_range(&mut write, &(..keep_from))?;
        }
        Ok(write.commit()?)
    }

    fn count(&self) -> Result<u64, Failure> {
        let read = self.environment.read_txn()?;
        Ok(self.entries.len(&read)?)
    }
}

struct Sqlite(rusqlite::Connection);

impl Sqlite {
    fn open(folder: &Path) -> Result<Sqlite, Failure> {
        let connection = rusqlite::Connection::open(folder.join("sqlite"))?;
        connection.execute_batch(
            "PRAGMA journal_mode=wal; PRAGMA synchronous=full; PRAGMA cache_size=-65536;
             CREATE TABLE IF NOT EXISTS entries (key INTEGER PRIMARY KEY, value BLOB)",
        )?;
        Ok(Sqlite(connection))
    }
}

impl Engine for Sqlite {
    fn commit(&mut self, first: u64, entries: &[&[u8]], keep_from: Option<u64>) -> Result<(), Failure> {
        let transaction = self.0.transaction()?;
        {
            let mut insert = transaction.prepare_cached("INSERT INTO entries VALUES (?, ?)")?;
            for (key, entry) in (first as i64..).zip(entries) {
                insert.execute((key, entry))?;
            }
            if let Some(keep_from) = keep_from {
                transaction.prepare_cached("DELETE FROM entries WHERE key < ?")?.execute([keep_from as i64])?;
            }
        }
        Ok(transaction.commit()?)
    }

    fn count(&self) -> Result<u64, Failure> {
        Ok(self.0.query_row("SELECT count(*) FROM entries", [], |row| row.get::<_, i64>(0))? as u64)
    }
}
