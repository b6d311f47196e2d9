//! The measures of a run. Knows names and values; a name ends in its unit.

use whimbrel_protocol::Version;

use crate::broker::{Broker, Span};
use crate::histogram::Histogram;

/// As people write it.
pub fn version_name(version: Version) -> &'static str {
    match version {
        Version::V31 => "3.1",
        Version::V311 => "3.1.1",
        Version::V5 => "5.0",
    }
}

/// One value.
#[derive(Clone, PartialEq, Debug)]
pub enum Measure {
    /// How many.
    Count(u64),
    /// How much.
    Value(f64),
    /// In words.
    Text(String),
}

/// Measures in the order in which they were put.
#[derive(Default, Debug)]
pub struct Report(Vec<(String, Measure)>);

/// What a scenario measures with, and where it writes that down.
pub struct Meter {
    /// The process under load.
    pub broker: Broker,
    /// So far.
    pub report: Report,
}

impl Report {
    /// Of a scenario.
    pub fn new(scenario: &str) -> Report {
        Report(vec![("scenario".to_owned(), Measure::Text(scenario.to_owned()))])
    }

    /// Adds a measure. What is not a number (nothing was counted, so nothing can be divided) is left out.
    pub fn put(&mut self, name: impl Into<String>, value: f64) {
        if value.is_finite() {
            self.0.push((name.into(), Measure::Value(value)));
        }
    }

    /// Adds a count.
    pub fn count(&mut self, name: impl Into<String>, count: u64) {
        self.0.push((name.into(), Measure::Count(count)));
    }

    /// Adds how many of something were done in a span, how fast, and what each cost.
    pub fn cost(&mut self, done: &str, count: u64, span: &Span) {
        self.count(done, count);
        self.put(format!("{done}_seconds"), span.seconds);
        self.put(format!("{done}_per_s"), count as f64 / span.seconds);
        self.put(format!("cpu_us_per_{done}"), span.broker_cpu_s * 1e6 / count as f64);
        self.put(format!("load_us_per_{done}"), span.own_cpu_s * 1e6 / count as f64);
    }

    /// Adds words; none where there are none.
    pub fn text(&mut self, name: &str, text: Option<&String>) {
        self.0.extend(text.map(|text| (name.to_owned(), Measure::Text(text.clone()))));
    }

    /// Adds the percentiles in microseconds; nothing where nothing was seen.
    pub fn percentiles(&mut self, name: &str, seen: &Histogram) {
        for (label, share) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999), ("max", 1.0)] {
            let value_ns = seen.quantile_ns(share).map_or(f64::NAN, |value| value as f64);
            self.put(format!("{name}_{label}_us"), value_ns / 1e3);
        }
        self.put(format!("{name}_mean_us"), seen.mean_ns() / 1e3);
    }

    /// A value by its name; NaN where there is none.
    pub fn value(&self, name: &str) -> f64 {
        let found = self.0.iter().find_map(|(put, measure)| match measure {
            Measure::Value(value) if put == name => Some(*value),
            _ => None,
        });
        found.unwrap_or(f64::NAN)
    }

    /// All of them.
    pub fn measures(&self) -> &[(String, Measure)] {
        &self.0
    }

    /// A count by its name; None where there is none.
    pub fn get_count(&self, name: &str) -> Option<u64> {
        self.0.iter().find_map(|(put, measure)| match measure {
            Measure::Count(count) if put == name => Some(*count),
            _ => None,
        })
    }
}
