//! The tree's twin: a list, searched from end to end. Property tests compare the two.
//!
//! Knows only `Filter::matches`; too slow for anything but tests and fuzzers.

use whimbrel_protocol::{Filter, Topic};

use crate::tree::{Entry, Place};

/// Every subscription, in order of arrival.
#[derive(Default, Debug)]
pub struct NaiveTree(Vec<(String, Entry)>);

impl NaiveTree {
    /// As [`crate::Tree::subscribe`].
    pub fn subscribe(&mut self, filter: Filter<'_>, entry: Entry) -> bool {
        let is_new = !self.unsubscribe(filter, entry.place);
        self.0.push((filter.as_str().into(), entry));
        is_new
    }

    /// As [`crate::Tree::unsubscribe`].
    pub fn unsubscribe(&mut self, filter: Filter<'_>, place: Place) -> bool {
        let before = self.0.len();
        self.0.retain(|(known, entry)| known != filter.as_str() || entry.place != place);
        self.0.len() < before
    }

    /// As [`crate::Tree::collect`].
    pub fn collect(&self, topic: Topic<'_>, found: &mut Vec<Entry>) {
        let wanted = |filter: &str| Filter::new(filter).is_ok_and(|filter| filter.matches(topic));
        found.extend(self.0.iter().filter(|(filter, _)| wanted(filter)).map(|(_, entry)| *entry));
    }

    /// As [`crate::Tree::is_watched`]: whether a topic under `prefix` can be made that a filter matches.
    pub fn is_watched(&self, prefix: &str) -> bool {
        let depth = prefix.split('/').count();
        self.0.iter().any(|(filter, _)| {
            let below: Vec<&str> = filter.split('/').skip(depth).map(|level| level.trim_matches(['+', '#'])).collect();
            let topic = format!("{prefix}/{}", below.join("/"));
            let matches = |topic| Filter::new(filter).is_ok_and(|filter| filter.matches(topic));
            Topic::new(&topic).is_ok_and(matches)
        })
    }

    /// As [`crate::Tree::filter_count`].
    pub fn filter_count(&self) -> usize {
        let mut filters: Vec<&str> = self.0.iter().map(|(filter, _)| filter.as_str()).collect();
        filters.sort_unstable();
        filters.dedup();
        filters.len()
    }
}
