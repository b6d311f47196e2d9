//! What a hook answers: a reason code, and words that the client may read with it.
//!
//! Knows how long words may be and what a reason string cannot hold. Does not know which packet will carry them, or whether
//! the client wants them (MQTT 5.0 section 3.1.2.11.7).

use std::sync::Arc;

use whimbrel_protocol::ReasonCode;

/// Longer words are cut; bytes of UTF-8. A client's remembered refusals hold them, so they are bounded.
pub const WORDS_MAX_BYTES: usize = 1024;

/// One answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// 0: yes.
    pub reason: ReasonCode,
    /// The reason string for an MQTT 5 client.
    pub words: Option<Arc<str>>,
}

impl Answer {
    /// A yes, or a no without words.
    pub const fn new(reason: ReasonCode) -> Answer {
        Answer { reason, words: None }
    }

    /// Words that are empty or hold U+0000, which no string of MQTT can, are left out.
    pub fn in_words(reason: ReasonCode, words: &str) -> Answer {
        let words = (!words.is_empty() && !words.contains('\0')).then(|| Arc::from(cut(words)));
        Answer { reason, words }
    }

    /// The words, or those of the code.
    pub(crate) fn told(&self) -> &str {
        self.words.as_deref().unwrap_or(self.reason.text())
    }
}

/// At most [`WORDS_MAX_BYTES`] of them, whole characters.
pub(crate) fn cut(words: &str) -> &str {
    let mut end = words.len().min(WORDS_MAX_BYTES);
    while !words.is_char_boundary(end) {
        end -= 1;
    }
    &words[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_cut_between_characters_and_left_out_where_no_string_can_hold_them() {
        let told = |words: &str| Answer::in_words(ReasonCode::NOT_AUTHORIZED, words).words;
        assert_eq!(told("no").as_deref(), Some("no"));
        assert_eq!(told(&"ü".repeat(600)).as_deref(), Some("ü".repeat(512).as_str()));
        assert_eq!(told(&format!("x{}", "ü".repeat(600))).map(|words| words.len()), Some(1023));
        assert_eq!(told(""), None);
        assert_eq!(told("a\0b"), None);
        assert_eq!(Answer::new(ReasonCode::NOT_AUTHORIZED).told(), "not authorized");
    }
}
