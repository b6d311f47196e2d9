//! The broker's own sign of life: what time it was when it last said so.
//!
//! Knows one value in the store and the clock that it carries on. Must not know sessions.
//!
//! The **kept clock** is Unix time as it was when the store began, and goes on with a clock that never jumps: what the store says
//! of when a session was left is told by it. A wall clock that is set while the broker runs moves nothing. Over the time in
//! which no broker ran nobody knows more than the wall clock, so there it is believed: one that was set forward meanwhile
//! looks like a longer absence, one that was set back like none.

use whimbrel_storage::Space;

/// Where it lies.
pub(crate) const SPACE: Space = Space(4);
pub(crate) const KEY: &[u8] = b"alive";
const VERSION: u8 = 1;

/// The same moment on both clocks; milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Mark {
    pub(crate) kept_ms: u64,
    pub(crate) unix_ms: u64,
}

impl Mark {
    pub(crate) fn encode(self) -> [u8; 17] {
        let mut value = [VERSION; 17];
        value[1..9].copy_from_slice(&self.kept_ms.to_le_bytes());
        value[9..].copy_from_slice(&self.unix_ms.to_le_bytes());
        value
    }

    /// None where it cannot be read.
    pub(crate) fn decode(value: &[u8]) -> Option<Mark> {
        let value: &[u8; 17] = value.try_into().ok().filter(|value: &&[u8; 17]| value[0] == VERSION)?;
        let number = |at: usize| Some(u64::from_le_bytes(value[at..at + 8].try_into().ok()?));
        Some(Mark { kept_ms: number(1)?, unix_ms: number(9)? })
    }

    /// The kept clock when the wall clock says `unix_ms`, at a start.
    pub(crate) fn kept_at(mark: Option<Mark>, unix_ms: u64) -> u64 {
        mark.map_or(unix_ms, |mark| mark.kept_ms.saturating_add(unix_ms.saturating_sub(mark.unix_ms)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_back_as_it_was_and_cut_or_foreign_bytes_are_none() {
        let mark = Mark { kept_ms: 7, unix_ms: 9 };
        let value = mark.encode();
        assert_eq!(Mark::decode(&value), Some(mark));
        assert!((0..17).all(|length| Mark::decode(&value[..length]).is_none()));
        assert_eq!(Mark::decode(&[2; 17]), None);
    }

    #[test]
    fn the_kept_clock_goes_on_by_the_wall_clock_and_never_back() {
        let mark = Some(Mark { kept_ms: 1_000, unix_ms: 50_000 });
        let table = [(50_000, 1_000), (50_500, 1_500), (10, 1_000)];
        assert!(table.iter().all(|(unix_ms, kept_ms)| Mark::kept_at(mark, *unix_ms) == *kept_ms));
        assert_eq!(Mark::kept_at(None, 77), 77);
    }
}
