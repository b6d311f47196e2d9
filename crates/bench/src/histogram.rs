//! Latencies in a fixed amount of memory: 128 buckets for each octave, so a percentile is at most 1/128 too high.
//!
//! Pure. Values are nanoseconds; 64 bits of them fit. 59 KiB whatever is recorded.

/// Bits of a value that tell buckets of one octave apart.
const SUB_BITS: u32 = 7;
const SUB_BUCKETS: usize = 1 << SUB_BITS;
const BUCKETS: usize = (64 - SUB_BITS as usize + 1) * SUB_BUCKETS;

/// How often which latency was seen.
pub struct Histogram {
    counts: Box<[u64]>,
    count: u64,
    max_ns: u64,
    sum_ns: u128,
}

impl Histogram {
    /// Nothing was seen.
    pub fn new() -> Histogram {
        Histogram { counts: vec![0; BUCKETS].into_boxed_slice(), count: 0, max_ns: 0, sum_ns: 0 }
    }

    /// Notes one value.
    #[inline]
    pub fn record(&mut self, value_ns: u64) {
        self.counts[bucket(value_ns)] += 1;
        self.count += 1;
        self.max_ns = self.max_ns.max(value_ns);
        self.sum_ns += u128::from(value_ns);
    }

    /// Values noted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The largest value, exact.
    pub fn max_ns(&self) -> u64 {
        self.max_ns
    }

    /// The mean, exact; NaN where nothing was seen.
    pub fn mean_ns(&self) -> f64 {
        self.sum_ns as f64 / self.count as f64
    }

    /// The smallest bucket's end that at least this share (0 to 1) of the values does not exceed; None where there are none.
    pub fn quantile_ns(&self, share: f64) -> Option<u64> {
        let wanted = ((share * self.count as f64).ceil() as u64).max(1);
        let mut seen = 0;
        let holds_it = |count: &u64| {
            seen += count;
            seen >= wanted
        };
        let index = self.counts.iter().position(holds_it)?;
        Some(bucket_end(index).min(self.max_ns))
    }
}

fn bucket(value: u64) -> usize {
    if value < SUB_BUCKETS as u64 {
        return value as usize;
    }
    let octave = 63 - value.leading_zeros() - SUB_BITS;
    ((octave as usize + 1) << SUB_BITS) + ((value >> octave) as usize & (SUB_BUCKETS - 1))
}

/// The largest value of a bucket.
fn bucket_end(index: usize) -> u64 {
    if index < SUB_BUCKETS {
        return index as u64;
    }
    let octave = (index >> SUB_BITS) as u32 - 1;
    let mantissa = (SUB_BUCKETS + (index & (SUB_BUCKETS - 1))) as u64;
    (mantissa << octave) + ((1 << octave) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_a_bucket_that_ends_at_most_one_128th_above_it() {
        let edges = (0..64).flat_map(|bit| [1_u64 << bit, (1 << bit) - 1, (1 << bit) + (1 << bit) / 3]);
        for value in edges.chain([u64::MAX]) {
            let end = bucket_end(bucket(value));
            assert!(end >= value && end - value <= value / 128, "{value} is taken for {end}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn buckets_follow_each_other_without_gap_or_overlap() {
        for index in 0..BUCKETS - 1 {
            assert_eq!(bucket(bucket_end(index)), index);
            assert_eq!(bucket(bucket_end(index) + 1), index + 1);
        }
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_values() {
        let mut histogram = Histogram::new();
        (1..=10_000).for_each(|thousand| histogram.record(thousand * 1_000));
        for (share, exact) in [(0.5, 5_000_000), (0.9, 9_000_000), (0.99, 9_900_000), (0.999, 9_990_000)] {
            let found = histogram.quantile_ns(share).unwrap();
            assert!(found >= exact && found <= exact + exact / 128, "{share}: {found}");
        }
        assert_eq!(histogram.quantile_ns(1.0), Some(10_000_000));
        assert_eq!((histogram.max_ns(), histogram.count(), histogram.mean_ns()), (10_000_000, 10_000, 5_000_500.0));
    }

    #[test]
    fn one_outlier_is_the_maximum_and_nothing_else() {
        let mut histogram = Histogram::new();
        (0..999).for_each(|_| histogram.record(100));
        histogram.record(1_000_000_000);
        assert_eq!(histogram.quantile_ns(0.999), Some(100));
        assert_eq!(histogram.max_ns(), 1_000_000_000);
    }

    #[test]
    fn without_values_there_is_no_percentile() {
        assert_eq!(Histogram::new().quantile_ns(0.5), None);
    }
}
