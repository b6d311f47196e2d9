//! `--name value` pairs. Knows no scenario: each takes what it needs and then asks whether anything is left.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::RangeInclusive;
use std::str::FromStr;

use crate::failure::Outcome;

/// What the command line said and nobody has taken yet.
pub struct Arguments(BTreeMap<String, String>);

impl Arguments {
    /// Reads the words behind the scenario.
    pub fn parse(mut words: impl Iterator<Item = String>) -> Outcome<Arguments> {
        let mut pairs = BTreeMap::new();
        while let Some(word) = words.next() {
            let Some(name) = word.strip_prefix("--") else {
                return Err(format!("found {word:?}, expected --NAME VALUE").into());
            };
            let value = words.next().ok_or(format!("--{name} has no value"))?;
            pairs.insert(name.to_owned(), value);
        }
        Ok(Arguments(pairs))
    }

    /// The value of `--name`, or `default`; an error names what is allowed.
    pub fn take<T>(&mut self, name: &str, default: T, allowed: RangeInclusive<T>) -> Outcome<T>
    where
        T: FromStr + PartialOrd + Debug,
    {
        let Some(text) = self.0.remove(name) else {
            return Ok(default);
        };
        text.parse()
            .ok()
            .filter(|value| allowed.contains(value))
            .ok_or_else(|| format!("--{name}: found {text:?}, allowed is {allowed:?}").into())
    }

    /// The text of `--name`, or `default`.
    pub fn take_text(&mut self, name: &str, default: &str) -> String {
        self.0.remove(name).unwrap_or_else(|| default.to_owned())
    }

    /// Fails where something is left that no scenario knows.
    pub fn finish(self) -> Outcome<()> {
        match self.0.first_key_value() {
            Some((name, _)) => Err(format!("--{name} means nothing to this scenario").into()),
            None => Ok(()),
        }
    }
}
