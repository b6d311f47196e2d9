//! What one session subscribed to.
//!
//! Knows filters and their options. The routing table is the router's; the worker changes both.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::packet::SubscriptionOptions;
use crate::topic::Filter;

/// A subscription's options and identifier.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subscription {
    /// Options of SUBSCRIBE, the QoS as granted.
    pub options: SubscriptionOptions,
    /// Subscription Identifier; 0: none.
    pub identifier: u32,
}

/// Ordered by filter, so that a listing is stable.
#[derive(Default, Debug)]
pub struct Subscriptions(BTreeMap<Box<str>, Subscription>);

impl Subscriptions {
    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the filter is subscribed to.
    pub fn contains(&self, filter: Filter<'_>) -> bool {
        self.0.contains_key(filter.as_str())
    }

    /// A filter's subscription.
    pub fn get(&self, filter: Filter<'_>) -> Option<&Subscription> {
        self.0.get(filter.as_str())
    }

    /// Adds or replaces [MQTT-3.8.4-3]; whether it is new.
    pub fn insert(&mut self, filter: Filter<'_>, subscription: Subscription) -> bool {
        self.0.insert(filter.as_str().into(), subscription).is_none()
    }

    /// Removes; whether it existed.
    pub fn remove(&mut self, filter: Filter<'_>) -> bool {
        self.0.remove(filter.as_str()).is_some()
    }

    /// The filters of the shared ones; costs their number, whatever else there is.
    pub fn shared(&self) -> impl Iterator<Item = Filter<'_>> {
        // Each range ends with the character behind the slash.
        let range =
            |from: &'static str, to: &'static str| self.0.range::<str, _>((Bound::Included(from), Bound::Excluded(to)));
        let ranges = [range("$queue/", "$queue0"), range("$share/", "$share0")];
        ranges.into_iter().flatten().filter_map(|(filter, _)| Filter::new(filter).ok())
    }

    /// All, by filter.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Subscription)> {
        self.0.iter().map(|(filter, subscription)| (filter.as_ref(), subscription))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::QoS;

    #[test]
    fn the_same_filter_again_is_one_subscription_with_its_new_options_and_identifier() {
        let filter = Filter::new("a/+").unwrap();
        let of = |qos, identifier| Subscription { options: SubscriptionOptions::plain(qos), identifier };
        let mut subscriptions = Subscriptions::default();
        assert!(subscriptions.insert(filter, of(QoS::ExactlyOnce, 7)));
        assert!(!subscriptions.insert(filter, of(QoS::AtMostOnce, 0)));
        assert_eq!(subscriptions.get(filter), Some(&of(QoS::AtMostOnce, 0)));
        assert_eq!(subscriptions.len(), 1);
    }
}
