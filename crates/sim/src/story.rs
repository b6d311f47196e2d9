//! What happened, in words: the same seed tells the same story, byte for byte.
//!
//! Knows lines with a time. Must not know addresses, descriptors or anything else that differs between two runs.

use std::fmt::{Arguments, Write};

/// The lines so far.
#[derive(Default, Debug)]
pub struct Story(String);

impl Story {
    /// Adds a line.
    pub fn tell(&mut self, now_ms: u64, line: Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "{now_ms:>9}  {line}");
    }

    /// All of it.
    pub fn text(&self) -> &str {
        &self.0
    }
}

/// The last lines of a text.
pub fn tail(text: &str, lines: usize) -> &str {
    let start = text.rmatch_indices('\n').nth(lines).map_or(0, |(at, _)| at + 1);
    &text[start..]
}
