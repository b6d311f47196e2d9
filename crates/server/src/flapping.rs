//! Client identifiers that come and go too often, and those that are refused for it.
//!
//! Knows counts and times of one worker's clients; a client identifier has one owner, so no other worker counts it. Bounded:
//! when it is full of identifiers that still matter, new ones are not looked at. Does not know connections or sessions.

use std::collections::HashMap;
use std::sync::Arc;

use crate::options::Flapping;

/// Client identifiers that one worker looks at.
const KNOWN_MAX: usize = 16_384;
/// A full table is searched for what may be forgotten once in so many milliseconds.
const SEARCH_MS: u64 = 1000;

#[derive(Debug)]
struct Record {
    since_ms: u64,
    count: u32,
    refused_until_ms: u64,
}

/// The table of one worker.
#[derive(Default, Debug)]
pub(crate) struct Flaps {
    known: HashMap<Arc<str>, Record>,
    searched_ms: u64,
}

impl Flaps {
    /// A connection of this client has ended; whether the client is refused from now on.
    pub(crate) fn note(&mut self, rule: &Flapping, client_id: &Arc<str>, now_ms: u64) -> bool {
        if !self.has_place(rule, client_id, now_ms) {
            return false;
        }
        let fresh = || Record { since_ms: now_ms, count: 0, refused_until_ms: 0 };
        let record = self.known.entry(Arc::clone(client_id)).or_insert_with(fresh);
        if now_ms >= record.since_ms + rule.window_ms {
            (record.since_ms, record.count) = (now_ms, 0);
        }
        record.count += 1;
        let is_ban = record.count >= rule.max_count && record.refused_until_ms <= now_ms;
        if is_ban {
            *record = Record { since_ms: now_ms, count: 0, refused_until_ms: now_ms + rule.ban_ms };
        }
        is_ban
    }

    /// Whether the client may not enter yet.
    pub(crate) fn is_refused(&self, client_id: &str, now_ms: u64) -> bool {
        self.known.get(client_id).is_some_and(|record| now_ms < record.refused_until_ms)
    }

    fn has_place(&mut self, rule: &Flapping, client_id: &Arc<str>, now_ms: u64) -> bool {
        if self.known.len() < KNOWN_MAX || self.known.contains_key(client_id) {
            return true;
        }
        if now_ms >= self.searched_ms + SEARCH_MS {
            self.searched_ms = now_ms;
            let matters =
                |record: &Record| now_ms < record.refused_until_ms || now_ms < record.since_ms + rule.window_ms;
            self.known.retain(|_, record| matters(record));
        }
        self.known.len() < KNOWN_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Flapping = Flapping { max_count: 3, window_ms: 1_000, ban_ms: 10_000 };

    fn id(number: usize) -> Arc<str> {
        format!("c{number}").into()
    }

    #[test]
    fn a_client_that_comes_and_goes_too_often_is_refused_for_its_time() {
        let mut flaps = Flaps::default();
        assert_eq!([0, 500, 999].map(|now_ms| flaps.note(&RULE, &id(1), now_ms)), [false, false, true]);
        assert!(flaps.is_refused("c1", 10_998));
        assert!(!flaps.is_refused("c1", 10_999));
        assert!(!flaps.is_refused("c2", 999));
    }

    #[test]
    fn a_new_window_begins_when_the_old_one_is_over() {
        let mut flaps = Flaps::default();
        let bans = [0, 999, 1_000, 1_500, 2_000].map(|now_ms| flaps.note(&RULE, &id(1), now_ms));
        assert_eq!(bans, [false; 5]);
        assert_eq!([2_001, 2_002].map(|now_ms| flaps.note(&RULE, &id(1), now_ms)), [false, true]);
    }

    #[test]
    fn the_table_is_bounded_and_forgets_what_no_longer_matters() {
        let mut flaps = Flaps::default();
        for number in 0..2 * KNOWN_MAX {
            flaps.note(&RULE, &id(number), 0);
        }
        assert_eq!(flaps.known.len(), KNOWN_MAX);
        flaps.note(&RULE, &id(2 * KNOWN_MAX), 1_000);
        assert_eq!(flaps.known.len(), 1);
    }
}
