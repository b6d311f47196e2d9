//! Topic names and topic filters (MQTT 5.0 section 4.7): types that cannot hold an invalid one.
//!
//! Knows the syntax and how a filter matches one topic. Does not know who subscribed to what.

use crate::primitives::Decoded;
use crate::reason::ReasonCode;
use crate::violation::Violation;

/// A topic name: not empty, no wildcard, no U+0000, at most 65,535 bytes of UTF-8.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Topic<'a>(&'a str);

/// A topic filter: not empty, wildcards only where the specification allows them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Filter<'a>(&'a str);

/// Bytes that the quick check of a topic leaves to the thorough one: wildcards, control characters, non-ASCII.
const fn is_plain(byte: u8) -> bool {
    byte >= 0x20 && byte < 0x7F && byte != b'+' && byte != b'#'
}

impl<'a> Topic<'a> {
    /// Checks the bytes of a topic name. Cost: one pass, vectorised for printable ASCII.
    pub fn parse(bytes: &'a [u8]) -> Decoded<Topic<'a>> {
        let text = crate::primitives::text(bytes)?;
        if bytes.is_empty() {
            return Err(Violation::new(ReasonCode::TOPIC_NAME_INVALID, "empty topic name")); // [MQTT-4.7.3-1]
        }
        let plain = bytes.iter().fold(true, |all, byte| all & is_plain(*byte));
        if !plain && text.contains(['+', '#']) {
            // [MQTT-3.3.2-2]
            return Err(Violation::new(ReasonCode::TOPIC_NAME_INVALID, "wildcard in a topic name"));
        }
        Ok(Topic(text))
    }

    /// Checks a topic that comes from inside, where its length is not bounded by the wire.
    pub fn new(text: &'a str) -> Decoded<Topic<'a>> {
        if text.len() > usize::from(u16::MAX) {
            return Err(Violation::new(ReasonCode::TOPIC_NAME_INVALID, "topic name of more than 65,535 bytes"));
        }
        Topic::parse(text.as_bytes())
    }

    /// The name.
    pub fn as_str(self) -> &'a str {
        self.0
    }

    /// Whether the name begins with `$`, which no leading wildcard matches [MQTT-4.7.2-1].
    pub fn is_reserved(self) -> bool {
        self.0.starts_with('$')
    }

    /// Whether it is one of the broker's own.
    #[inline]
    pub fn is_sys(self) -> bool {
        self.is_reserved() && (self.0.starts_with("$SYS/") || self.0 == "$SYS")
    }

    /// The levels, empty ones included.
    pub fn levels(self) -> impl Iterator<Item = &'a str> {
        self.0.split('/')
    }

    /// How many levels.
    pub fn level_count(self) -> usize {
        count_levels(self.0)
    }
}

impl<'a> Filter<'a> {
    /// Checks a filter: `#` only alone in the last level [MQTT-4.7.1-1], `+` only alone in its level [MQTT-4.7.1-2].
    pub fn new(text: &'a str) -> Decoded<Filter<'a>> {
        let invalid = |what| Err(Violation::new(ReasonCode::TOPIC_FILTER_INVALID, what));
        if text.is_empty() || text.len() > usize::from(u16::MAX) {
            return invalid("topic filter of 0 or more than 65,535 bytes");
        }
        let mut levels = text.split('/').peekable();
        while let Some(level) = levels.next() {
            if level.contains(['+', '#']) && level.len() > 1 {
                return invalid("wildcard beside other characters in one level");
            }
            if level == "#" && levels.peek().is_some() {
                return invalid("# before the last level");
            }
        }
        Ok(Filter(text))
    }

    /// The filter's text.
    pub fn as_str(self) -> &'a str {
        self.0
    }

    /// The levels, wildcards included.
    pub fn levels(self) -> impl Iterator<Item = &'a str> {
        self.0.split('/')
    }

    /// How many levels.
    pub fn level_count(self) -> usize {
        count_levels(self.0)
    }

    /// Whether the filter has a wildcard.
    pub fn has_wildcard(self) -> bool {
        self.0.contains(['+', '#'])
    }

    /// The part before the first wildcard level: every topic that matches starts with it (for `a/#` also `a` itself).
    pub fn literal_prefix(self) -> &'a str {
        match self.0.find(['+', '#']) {
            Some(at) => &self.0[..at],
            None => self.0,
        }
    }

    /// Whether the filter matches the topic (section 4.7).
    pub fn matches(self, topic: Topic<'_>) -> bool {
        if topic.is_reserved() && self.0.starts_with(['+', '#']) {
            return false;
        }
        let mut names = topic.levels();
        for level in self.levels() {
            match (level, names.next()) {
                ("#", _) => return true,
                (_, None) => return false,
                (level, Some(name)) if level != "+" && level != name => return false,
                _ => {}
            }
        }
        names.next().is_none()
    }
}

fn count_levels(text: &str) -> usize {
    1 + text.bytes().filter(|byte| *byte == b'/').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_as_the_examples_of_section_4_7_say() {
        let table = [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/ranking", true),
            ("sport/#", "sport", true),
            ("#", "sport", true),
            ("sport/tennis/+", "sport/tennis/player1", true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("#", "$SYS/uptime", false),
            ("+/monitor/Clients", "$SYS/monitor/Clients", false),
            ("$SYS/#", "$SYS/uptime", true),
            ("$SYS/monitor/+", "$SYS/monitor/Clients", true),
            ("a/b", "a/B", false),
        ];
        for (filter, topic, expected) in table {
            let matched = Filter::new(filter).unwrap().matches(Topic::new(topic).unwrap());
            assert_eq!(matched, expected, "{filter} against {topic}");
        }
    }

    #[test]
    fn invalid_filters_cannot_be_built() {
        for filter in ["", "a#", "a/#/b", "+a", "a/b+", "a/#b", "##"] {
            assert_eq!(Filter::new(filter).unwrap_err().reason, ReasonCode::TOPIC_FILTER_INVALID, "{filter}");
        }
        for filter in ["#", "+", "/", "a//b", "+/#", "a/+/b", "$share/g/t"] {
            assert!(Filter::new(filter).is_ok(), "{filter}");
        }
    }

    #[test]
    fn invalid_topics_cannot_be_built() {
        for topic in [&b""[..], b"a/+", b"#", "ü#".as_bytes()] {
            assert_eq!(Topic::parse(topic).unwrap_err().reason, ReasonCode::TOPIC_NAME_INVALID);
        }
        for topic in [&b"a\0b"[..], b"\xFF", b"\xED\xA0\x80"] {
            assert_eq!(Topic::parse(topic).unwrap_err().reason, ReasonCode::MALFORMED_PACKET);
        }
        assert!(Topic::parse("größe/\u{1}".as_bytes()).is_ok());
    }
}
