//! Rows of the control plane: accounts, bans, rules, alarms, each a value under a name, kept by the store for Python.
//!
//! Knows how a row is named (`family/key`), what it looks like (`version text`), and their bounds. Must not know what a
//! family means; that is Python's (`services/tables.py`).

/// Longest name of a family; letters, digits and `_`.
pub const FAMILY_MAX: usize = 64;
/// Longest key of a row in its family; bytes of UTF-8.
pub const KEY_MAX: usize = 65_000;
/// Most bytes of one change, all of its names and values together.
pub const CHANGE_MAX: usize = 4 << 20;

/// Name and value of a row that a start found.
pub type KeptRow = (Box<[u8]>, Box<[u8]>);

/// What becomes of one row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RowChange {
    /// Its name, `family/key`.
    pub name: Box<[u8]>,
    /// Its value from now on; None: the row goes.
    pub value: Option<Box<[u8]>>,
    /// What it was before this change and after all earlier ones; None: it was not there.
    pub before: Option<Box<[u8]>>,
}

impl RowChange {
    /// Bytes that the store is handed.
    pub fn size_bytes(&self) -> usize {
        self.name.len() + self.value.as_ref().map_or(0, |value| value.len())
    }
}

/// Family and key of a name; None where no row may be called so.
pub fn split_name(name: &[u8]) -> Option<(&str, &str)> {
    let (family, key) = std::str::from_utf8(name).ok()?.split_once('/')?;
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let is_named = !family.is_empty() && family.len() <= FAMILY_MAX && family.bytes().all(is_letter);
    (is_named && !key.is_empty() && key.len() <= KEY_MAX).then_some((family, key))
}

/// The text of a value that begins with the version of its format; None where it is none.
pub fn text_of(value: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(value).ok()?;
    let (version, _) = text.split_once(' ')?;
    let is_number = !version.is_empty() && version.len() <= 5 && version.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_a_family_and_a_key() {
        assert_eq!(split_name(b"bans/who/a/b"), Some(("bans", "who/a/b")));
        assert_eq!(split_name("users/j\u{f6}rg".as_bytes()), Some(("users", "j\u{f6}rg")));
        let long = ["x".repeat(FAMILY_MAX + 1), "/k".into()].concat();
        for name in [&b"bans"[..], b"/k", b"bans/", b"Bans/k", b"b s/k", b"bans/\xff", long.as_bytes()] {
            assert_eq!(split_name(name), None, "{name:?}");
        }
        assert!(split_name(["a/".as_bytes(), &[b'k'; KEY_MAX]].concat().as_slice()).is_some());
        assert!(split_name(["a/".as_bytes(), &[b'k'; KEY_MAX + 1]].concat().as_slice()).is_none());
    }

    #[test]
    fn a_value_begins_with_a_version() {
        assert_eq!(text_of(b"1 {}"), Some("1 {}"));
        assert_eq!(text_of(b"12345 "), Some("12345 "));
        for value in [&b"{}"[..], b" {}", b"1", b"123456 {}", b"-1 {}", b"1 \xff"] {
            assert_eq!(text_of(value), None, "{value:?}");
        }
    }
}
