//! Topic aliases that the peer sets (MQTT 5.0 section 3.3.2.3.4).
//!
//! Knows that direction of one connection. Bounded by `max_topic_alias`, and nothing is allocated until the first is set.

use std::sync::Arc;

use super::Rare;
use super::outgoing::Outgoing;
use crate::packet::Publish;
use crate::primitives::Decoded;
use crate::properties::id;
use crate::reason::ReasonCode;
use crate::topic::Topic;
use crate::violation::Violation;

/// The aliases of both directions.
#[derive(Default, Debug)]
pub(super) struct Aliases {
    /// Set by the peer so far; alias `n` is at `n - 1`.
    incoming: Vec<Option<Arc<str>>>,
    /// Set by us.
    pub(super) outgoing: Outgoing,
}

impl Aliases {
    /// Of the topics, which are what a client chooses the length of.
    pub(super) fn bytes(&self) -> usize {
        self.incoming.iter().flatten().map(|topic| topic.len()).sum()
    }
}

/// A topic, from the packet or from an alias set before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Named<'a> {
    /// It stood in the packet.
    Here(Topic<'a>),
    /// The alias stands for it.
    Aliased(Arc<str>),
}

impl Named<'_> {
    /// The topic.
    pub fn topic(&self) -> Topic<'_> {
        match self {
            Named::Here(topic) => *topic,
            // Only a `Topic` is ever set as an alias.
            Named::Aliased(text) => Topic::new(text).expect("an alias stands for a checked topic"),
        }
    }
}

pub(super) fn name<'a>(
    rare: &mut Option<Box<Rare>>,
    max_topic_alias: u16,
    publish: &Publish<'a>,
) -> Decoded<Named<'a>> {
    let Some(alias) = publish.properties.number(id::TOPIC_ALIAS) else {
        let missing = Violation::protocol("PUBLISH with neither a topic name nor an alias");
        return publish.topic.map(Named::Here).ok_or(missing);
    };
    if alias == 0 || alias > u32::from(max_topic_alias) {
        // [MQTT-3.3.2-8], [MQTT-3.3.2-9]
        return Err(Violation::new(ReasonCode::TOPIC_ALIAS_INVALID, "topic alias 0 or above max_topic_alias"));
    }
    let place = alias as usize - 1;
    let known = &mut rare.get_or_insert_default().aliases.incoming;
    if known.len() <= place {
        known.resize(place + 1, None);
    }
    match publish.topic {
        Some(topic) => {
            known[place] = Some(Arc::from(topic.as_str()));
            Ok(Named::Here(topic))
        }
        None => known[place].clone().map(Named::Aliased).ok_or(Violation::protocol("topic alias that was never set")),
    }
}
