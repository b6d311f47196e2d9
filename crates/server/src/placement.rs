//! Which worker a name belongs to: a hash that strangers cannot foresee.
//!
//! Knows a key. In production it is random, so that nobody can aim all clients at one worker; a simulation gives its own,
//! so that a seed tells the whole story. Does not know workers.

use std::hash::{BuildHasher, Hash, RandomState};

/// A keyed hash.
#[derive(Debug)]
pub(crate) enum Placement {
    /// By a key of this process.
    Random(RandomState),
    /// By a key that is known.
    #[cfg(feature = "simulation")]
    Seeded(u64),
}

impl Default for Placement {
    fn default() -> Placement {
        Placement::Random(RandomState::new())
    }
}

impl Placement {
    /// The same number for the same value as long as the key lives.
    pub(crate) fn hash(&self, value: impl Hash) -> u64 {
        match self {
            Placement::Random(state) => state.hash_one(value),
            #[cfg(feature = "simulation")]
            Placement::Seeded(key) => {
                use std::hash::{BuildHasherDefault, DefaultHasher};
                BuildHasherDefault::<DefaultHasher>::default().hash_one((key, value))
            }
        }
    }
}
