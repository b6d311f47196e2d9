//! Shared subscriptions (MQTT 5.0 section 4.8.2): how a filter names its group, and how a group picks a member.
//!
//! Knows the syntax of `$share/group/filter` and of the older `$queue/filter`, and the words for strategies. Does not
//! know groups or members.

use crate::primitives::Decoded;
use crate::reason::ReasonCode;
use crate::topic::Filter;
use crate::violation::Violation;

const SHARE: &str = "$share/";
const QUEUE: &str = "$queue/";

/// The name of a group: at least one character, none of `/`, `+` and `#` [MQTT-4.8.2-1] [MQTT-4.8.2-2].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ShareName<'a>(&'a str);

impl<'a> ShareName<'a> {
    /// The name; `$queue` for the group that has none.
    pub fn as_str(self) -> &'a str {
        self.0
    }
}

/// A filter as SUBSCRIBE names it, taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subscribed<'a> {
    /// Whose members take turns; None: the subscription is not shared.
    pub group: Option<ShareName<'a>>,
    /// What topics are compared with.
    pub filter: Filter<'a>,
}

impl<'a> Subscribed<'a> {
    /// Takes the prefix of a shared subscription off; an invalid group or filter behind it is refused.
    pub fn new(whole: Filter<'a>) -> Decoded<Subscribed<'a>> {
        if let Some(rest) = whole.as_str().strip_prefix(QUEUE) {
            return Ok(Subscribed { group: Some(ShareName("$queue")), filter: Filter::new(rest)? });
        }
        let Some(rest) = whole.as_str().strip_prefix(SHARE) else {
            return Ok(Subscribed { group: None, filter: whole });
        };
        let invalid = |what| Violation::new(ReasonCode::TOPIC_FILTER_INVALID, what);
        let (name, filter) = rest.split_once('/').ok_or_else(|| invalid("share name without a filter"))?;
        if name.is_empty() || name.contains(['+', '#']) {
            return Err(invalid("share name that is empty or has a wildcard"));
        }
        Ok(Subscribed { group: Some(ShareName(name)), filter: Filter::new(filter)? })
    }
}

impl Filter<'_> {
    /// Whether the filter names a shared subscription.
    pub fn is_shared(self) -> bool {
        self.as_str().starts_with(SHARE) || self.as_str().starts_with(QUEUE)
    }
}

/// How a group picks the member that gets a message.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Strategy {
    /// Any.
    Random,
    /// One after the other.
    #[default]
    RoundRobin,
    /// The same one as long as it is there.
    Sticky,
    /// The same one for each publisher while the members stay.
    HashClientId,
    /// The same one for each topic while the members stay.
    HashTopic,
}

impl Strategy {
    /// All, with their words in the configuration.
    pub const NAMES: [(&'static str, Strategy); 5] = [
        ("random", Strategy::Random),
        ("round_robin", Strategy::RoundRobin),
        ("sticky", Strategy::Sticky),
        ("hash_clientid", Strategy::HashClientId),
        ("hash_topic", Strategy::HashTopic),
    ];

    /// By its word in the configuration.
    pub fn from_name(name: &str) -> Option<Strategy> {
        Strategy::NAMES.iter().find(|(known, _)| *known == name).map(|(_, strategy)| *strategy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken_apart(text: &str) -> Option<(Option<&str>, &str)> {
        let subscribed = Filter::new(text).and_then(Subscribed::new).ok()?;
        Some((subscribed.group.map(ShareName::as_str), subscribed.filter.as_str()))
    }

    #[test]
    fn a_shared_filter_is_a_group_and_a_filter() {
        let table = [
            ("$share/g/a", Some("g"), "a"),
            ("$share/g/a/b/#", Some("g"), "a/b/#"),
            ("$share/g//finance", Some("g"), "/finance"),
            ("$share/g/+/+", Some("g"), "+/+"),
            ("$share/größe/a", Some("größe"), "a"),
            ("$share/g/$SYS/#", Some("g"), "$SYS/#"),
            ("$share/g/$share/h/a", Some("g"), "$share/h/a"),
            ("$queue/a", Some("$queue"), "a"),
            ("$queue//", Some("$queue"), "/"),
            ("a/b", None, "a/b"),
            ("$share", None, "$share"),
            ("$queue", None, "$queue"),
            ("$shared/g/a", None, "$shared/g/a"),
            ("/$share/g/a", None, "/$share/g/a"),
        ];
        for (text, group, filter) in table {
            assert_eq!(taken_apart(text), Some((group, filter)), "{text}");
            assert_eq!(Filter::new(text).unwrap().is_shared(), group.is_some(), "{text}");
        }
    }

    #[test]
    fn an_invalid_group_or_filter_cannot_be_built() {
        for text in
            ["$share/", "$share/g", "$share/g/", "$share//a", "$share/+/a", "$share/#", "$queue/", "$share/g/a#"]
        {
            assert_eq!(taken_apart(text), None, "{text}");
        }
    }

    #[test]
    fn every_strategy_has_its_word() {
        for (name, strategy) in Strategy::NAMES {
            assert_eq!(Strategy::from_name(name), Some(strategy));
        }
        assert_eq!(Strategy::from_name("fastest"), None);
    }
}
