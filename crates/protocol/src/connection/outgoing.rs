//! Topic aliases that we set for the peer (MQTT 5.0 section 3.3.2.3.4).
//!
//! Knows the other direction of `aliases`. Nothing is allocated before a peer that grants aliases is sent something; a topic
//! gets an alias when it comes the second time within a short memory, so that a stream of ever new topics costs no bytes.
//! Bounded by what the peer grants and by `max_topic_alias_out`; a topic beyond [`TOPIC_LEN_MAX`] gets none.

use crate::encode::Naming;
use crate::topic::Topic;

/// Longer topics are always sent whole; bytes.
const TOPIC_LEN_MAX: usize = 1024;
/// An alias takes three bytes, so shorter topics gain nothing worth its memory.
const TOPIC_LEN_MIN: usize = 8;
/// Topics remembered by their fingerprint; a power of two.
const SEEN_PLACES: usize = 16;

/// A topic's fingerprint. A wrong match costs nothing but an alias set one message too early: texts are compared.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Fingerprint(u32);

impl Fingerprint {
    /// FNV-1a over the topic, never 0.
    pub fn of(topic: Topic<'_>) -> Fingerprint {
        let bytes = topic.as_str().bytes();
        Fingerprint(bytes.fold(0x811C_9DC5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)) | 1)
    }
}

/// How one PUBLISH names its topic to one peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Alias {
    /// With or without the topic, with or without an alias.
    pub naming: Naming,
    /// The alias; 0 where there is none.
    pub number: u16,
}

impl Alias {
    /// By its topic alone.
    pub const NONE: Alias = Alias { naming: Naming::Topic, number: 0 };
}

/// Alias `n` is at `n - 1`.
#[derive(Default, Debug)]
pub(super) struct Outgoing {
    set: Vec<(Fingerprint, Box<str>)>,
    seen: [Fingerprint; SEEN_PLACES],
    next: u16, // the one to give up when all are in use
}

impl Outgoing {
    /// The alias to use or to set, of at most `max`.
    pub(super) fn name(&mut self, topic: Topic<'_>, fingerprint: Fingerprint, max: u16) -> Alias {
        let text = topic.as_str();
        let is_set = |(known, of): &(Fingerprint, Box<str>)| *known == fingerprint && **of == *text;
        if let Some(place) = self.set.iter().position(is_set) {
            return Alias { naming: Naming::Alias, number: place as u16 + 1 };
        }
        let seen = &mut self.seen[(fingerprint.0 >> 8) as usize % SEEN_PLACES];
        let came_before = std::mem::replace(seen, fingerprint) == fingerprint;
        if !came_before || !(TOPIC_LEN_MIN..=TOPIC_LEN_MAX).contains(&text.len()) {
            return Alias::NONE;
        }
        let place = if self.set.len() < usize::from(max) { self.set.len() as u16 } else { self.next % max };
        Alias { naming: Naming::Both, number: place + 1 }
    }

    /// The packet that sets the alias is on its way.
    pub(super) fn commit(&mut self, topic: Topic<'_>, fingerprint: Fingerprint, number: u16) {
        let entry = (fingerprint, topic.as_str().into());
        match self.set.get_mut(usize::from(number) - 1) {
            Some(place) => {
                *place = entry;
                self.next = number; // The one behind it is the oldest.
            }
            None => self.set.push(entry),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends topics one after another; what each became.
    fn sent(outgoing: &mut Outgoing, max: u16, topics: &[&str]) -> Vec<(Naming, u16)> {
        let send = |text: &&str| {
            let topic = Topic::new(text).unwrap();
            let fingerprint = Fingerprint::of(topic);
            let alias = outgoing.name(topic, fingerprint, max);
            if alias.naming == Naming::Both {
                outgoing.commit(topic, fingerprint, alias.number);
            }
            (alias.naming, alias.number)
        };
        topics.iter().map(send).collect()
    }

    const A: &str = "sensors/a";
    const B: &str = "sensors/b";
    const C: &str = "sensors/c";

    #[test]
    fn the_second_message_sets_the_alias_and_the_third_uses_it() {
        let got = sent(&mut Outgoing::default(), 16, &[A, A, A, B, A]);
        let none = (Naming::Topic, 0);
        assert_eq!(got, [none, (Naming::Both, 1), (Naming::Alias, 1), none, (Naming::Alias, 1)]);
    }

    #[test]
    fn when_all_are_in_use_the_oldest_is_set_anew() {
        let mut outgoing = Outgoing::default();
        sent(&mut outgoing, 2, &[A, A, B, B]);
        assert_eq!(sent(&mut outgoing, 2, &[C, C])[1], (Naming::Both, 1));
        assert_eq!(sent(&mut outgoing, 2, &[C, B])[..], [(Naming::Alias, 1), (Naming::Alias, 2)]);
        // Its fingerprint is still there.
        assert_eq!(sent(&mut outgoing, 2, &[A]), [(Naming::Both, 2)]);
        assert_eq!(outgoing.set.len(), 2);
    }

    #[test]
    fn ever_new_topics_set_none() {
        let topics: Vec<String> = (0..1000).map(|number| format!("sensors/{number}")).collect();
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        let mut outgoing = Outgoing::default();
        assert!(sent(&mut outgoing, 16, &topics).iter().all(|(naming, _)| *naming == Naming::Topic));
        assert!(outgoing.set.is_empty());
    }

    #[test]
    fn short_and_very_long_topics_stand_for_themselves() {
        let long = "x".repeat(1025);
        for topic in ["short/7", &long] {
            assert_eq!(sent(&mut Outgoing::default(), 16, &[topic; 3]), [(Naming::Topic, 0); 3]);
        }
    }
}
