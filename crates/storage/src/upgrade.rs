//! From the format of an older version to ours: a copy first, then one step after the other.
//!
//! Knows which step leads from which format. Must not know what a step changes: each belongs to the code whose layout it
//! leaves behind. Format 2 has a journal before the engine.

use redb::Database;

use crate::Failure;
use crate::engine::{Disk, give_identity, set_format};

/// The newest format of a store that this program knows.
pub(crate) const FORMAT: u64 = 2;

/// From one format to the next, in transactions of its own. One that was cut off is begun again at the next start.
pub(crate) type Step = fn(&Database) -> Result<(), redb::Error>;

/// `STEPS[n]` leads from format `n + 1` to format `n + 2`.
const STEPS: [Step; FORMAT as usize - 1] = [give_identity];

/// Brings a store of format `found` to ours, if it is older. A newer one is refused and left as it is.
pub(crate) fn upgrade(database: &Database, disk: &dyn Disk, found: u64) -> Result<(), Failure> {
    upgrade_by(&STEPS, (database, disk), found)
}

fn upgrade_by(steps: &[Step], (database, disk): (&Database, &dyn Disk), found: u64) -> Result<(), Failure> {
    let known = steps.len() as u64 + 1;
    if found > known {
        return Err(Failure::NewerFormat { found, known });
    }
    let first = (found as usize).checked_sub(1);
    let first = first.ok_or(Failure::Malformed("a format that a version of this program has written"))?;
    if first == steps.len() {
        return Ok(());
    }
    disk.keep_copy(&format!("format-{found}"))?;
    for (step, format) in steps[first..].iter().zip(found + 1..) {
        step(database)?;
        set_format(database, format)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::{Path, PathBuf};

    use redb::{ReadableDatabase as _, ReadableTable as _, TableDefinition};

    use super::*;
    use crate::Durability;
    use crate::engine::{Folder, format_of};

    const NOTES: TableDefinition<&str, u64> = TableDefinition::new("notes");
    const OURS: [Step; 3] = [|database| note(database, "first"), |database| note(database, "second"), |_| cut_off()];

    fn note(database: &Database, name: &str) -> Result<(), redb::Error> {
        let write = database.begin_write()?;
        {
            let mut notes = write.open_table(NOTES)?;
            let count = notes.get(name)?.map_or(0, |count| count.value());
            notes.insert(name, count + 1)?;
        }
        Ok(write.commit()?)
    }

    fn cut_off() -> Result<(), redb::Error> {
        Err(redb::Error::Corrupted("the power went".to_owned()))
    }

    fn noted(database: &Database, name: &str) -> Option<u64> {
        let notes = database.begin_read().unwrap().open_table(NOTES).ok()?;
        notes.get(name).unwrap().map(|count| count.value())
    }

    /// A store of this format in a folder of its own.
    fn store(name: &str, format: u64) -> (PathBuf, Folder, Database) {
        let path = std::env::temp_dir().join(format!("whimbrel-upgrade-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        let folder = Folder::new(&path, Durability::Sync).unwrap();
        let database = Database::create(folder.file()).unwrap();
        set_format(&database, format).unwrap();
        (path, folder, database)
    }

    fn format_in(file: &Path) -> u64 {
        format_of(&Database::open(file).unwrap()).unwrap().unwrap()
    }

    #[test]
    fn an_older_store_is_copied_and_then_brought_up_to_date_step_by_step() {
        let (path, folder, database) = store("older", 1);
        upgrade_by(&OURS[..2], (&database, &folder), 1).unwrap();
        assert_eq!((noted(&database, "first"), noted(&database, "second")), (Some(1), Some(1)));
        assert_eq!(format_of(&database).unwrap(), Some(3));
        let copy = path.join("store.redb.format-1");
        assert_eq!(copy.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(format_in(&copy), 1);
        // What has our format is left alone, and so is its copy.
        upgrade_by(&OURS[..2], (&database, &folder), 3).unwrap();
        assert_eq!(noted(&database, "second"), Some(1));
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn an_upgrade_that_was_cut_off_goes_on_where_it_was_and_keeps_the_first_copy() {
        let (path, folder, database) = store("cut", 2);
        assert!(upgrade_by(&OURS, (&database, &folder), 2).is_err());
        assert_eq!((noted(&database, "first"), noted(&database, "second")), (None, Some(1)));
        assert_eq!(format_of(&database).unwrap(), Some(3));
        let whole: [Step; 3] = [OURS[0], OURS[1], |database| note(database, "third")];
        upgrade_by(&whole, (&database, &folder), 3).unwrap();
        assert_eq!((noted(&database, "third"), format_of(&database).unwrap()), (Some(1), Some(4)));
        assert_eq!(format_in(&path.join("store.redb.format-2")), 2);
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_newer_store_is_refused_and_left_as_it_is() {
        let (path, folder, database) = store("newer", 9);
        let refused = upgrade_by(&OURS, (&database, &folder), 9);
        assert_eq!(refused, Err(Failure::NewerFormat { found: 9, known: 4 }));
        assert!(upgrade_by(&OURS, (&database, &folder), 0).is_err(), "no version wrote that");
        assert_eq!(format_of(&database).unwrap(), Some(9));
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 1, "nothing was copied");
        std::fs::remove_dir_all(path).unwrap();
    }
}
