//! One line of JSON. Knows numbers and their names; the names end in their units.

use std::fmt::{Display, Formatter, Result};

/// Measures in the order in which they were put.
#[derive(Default)]
pub struct Report(Vec<(&'static str, f64)>);

impl Report {
    /// Adds a measure. What is not a number (nothing was counted, so nothing can be divided) is left out.
    pub fn put(&mut self, name: &'static str, value: f64) {
        if value.is_finite() {
            self.0.push((name, value));
        }
    }

    /// Adds a count.
    pub fn count(&mut self, name: &'static str, count: u64) {
        self.put(name, count as f64);
    }
}

impl Display for Report {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> Result {
        let fields: Vec<String> = self.0.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
        write!(formatter, "{{{}}}", fields.join(", "))
    }
}
