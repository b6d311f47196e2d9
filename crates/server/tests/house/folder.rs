//! A folder for one test, and what a crash would leave of the store in it.
//!
//! Knows the names of the store's files. Must not know what is in them.

use std::path::{Path, PathBuf};

/// A place for a folder that nobody else uses; what is there goes with it. A store makes the folder itself.
pub struct Folder(PathBuf);

impl Folder {
    /// `name` tells it from the others of the same test binary.
    pub fn new(name: &str) -> Folder {
        let folder = std::env::temp_dir().join(format!("whimbrel-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        Folder(folder)
    }

    /// What a crash at this moment would leave; the journal first, because it is emptied into the other.
    pub fn crash(&self, name: &str) -> Folder {
        let copy = Folder::new(name);
        std::fs::create_dir_all(&copy.0).unwrap();
        for file in ["store.journal", "store.redb"] {
            std::fs::copy(self.0.join(file), copy.0.join(file)).unwrap();
        }
        copy
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
