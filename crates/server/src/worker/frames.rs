//! The encodings of the publication that is being delivered, and their way into an outbox.
//!
//! Knows shapes, aliases and what is personal in an encoding. Must not know who gets the message, or whether it waits.

use std::ops::Range;

use whimbrel_protocol::connection::outgoing::{Alias, Fingerprint};
use whimbrel_protocol::encode::{Layout, Naming, Shape, publish_head};
use whimbrel_protocol::message::Publication;
use whimbrel_protocol::{QoS, Version};
use whimbrel_router::Target;

use super::client::Client;
use super::outbox::{SHARED_MIN_BYTES, Spares};
use super::passing::Passing;
use crate::ledger::Counts;

/// The encodings of the publication that is being delivered.
#[derive(Default, Debug)]
pub(super) struct Frames {
    pub(super) bytes: Vec<u8>,
    known: Vec<(Shape, Range<usize>, Layout)>,
    fingerprint: Option<Fingerprint>,
    /// Whether aliases are not to be used.
    pub(super) is_plain: bool,
}

/// An encoding that one client takes, and the alias to write into it.
pub(super) type Fitting = (Range<usize>, Layout, Alias);

impl Frames {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.known.clear();
        self.fingerprint = None;
    }

    /// Finds or makes the encoding: its place in `bytes` and its layout. None: longer than the wire allows.
    #[inline]
    fn find(
        &mut self,
        shape: Shape,
        publication: &Publication<'_>,
        identifiers: Option<&[u32]>,
    ) -> Option<(Range<usize>, Layout)> {
        if identifiers.is_none() {
            let known = self.known.iter().find(|(known, ..)| *known == shape);
            if let Some((_, range, layout)) = known {
                return Some((range.clone(), *layout));
            }
        }
        // What lies behind the last known shape was personal to one receiver and is done with.
        let start = self.known.last().map_or(0, |(_, range, _)| range.end);
        self.bytes.truncate(start);
        let layout = publish_head(&mut self.bytes, shape, publication, identifiers.unwrap_or_default())?;
        if publication.payload.len() < SHARED_MIN_BYTES {
            self.bytes.extend_from_slice(publication.payload);
        }
        let range = start..self.bytes.len();
        if identifiers.is_none() {
            self.known.push((shape, range.clone(), layout));
        }
        Some((range, layout))
    }

    /// The encoding for one client that subscribed; None: longer than it takes.
    #[inline]
    pub(super) fn fit_target(
        &mut self,
        client: &mut Client,
        target: &Target,
        passing: &Passing<'_>,
        (qos, retain): (QoS, bool),
    ) -> Option<Fitting> {
        let shape = Shape { version: client.connection.version(), qos, retain, naming: Naming::Topic };
        self.fit(client, shape, &passing.publication, identifiers_for(target, shape.version))
    }

    /// The encoding for one client; None: longer than it takes [MQTT-3.1.2-24].
    #[inline]
    pub(super) fn fit(
        &mut self,
        client: &mut Client,
        shape: Shape,
        publication: &Publication<'_>,
        identifiers: Option<&[u32]>,
    ) -> Option<Fitting> {
        if client.connection.takes_aliases() && !self.is_plain {
            let alias = client.connection.alias(publication.topic, self.fingerprint(publication));
            // The packet may be too long with an alias that is set, and fit without.
            if alias.naming != Naming::Topic
                && let Some(fitting) = self.fit_named(client, (shape, alias), publication, identifiers)
            {
                return Some(fitting);
            }
        }
        self.fit_named(client, (shape, Alias::NONE), publication, identifiers)
    }

    #[inline]
    fn fit_named(
        &mut self,
        client: &Client,
        (shape, alias): (Shape, Alias),
        publication: &Publication<'_>,
        identifiers: Option<&[u32]>,
    ) -> Option<Fitting> {
        let limit = client.connection.peer_max_packet_bytes() as usize;
        let (range, layout) = self.find(Shape { naming: alias.naming, ..shape }, publication, identifiers)?;
        (layout.len <= limit).then_some((range, layout, alias))
    }

    fn fingerprint(&mut self, publication: &Publication<'_>) -> Fingerprint {
        *self.fingerprint.get_or_insert_with(|| Fingerprint::of(publication.topic))
    }

    /// Copies an encoding into the client's outbox, with what is personal; an alias that it sets is known from now on.
    #[inline]
    pub(super) fn put(
        &mut self,
        (client, spares): (&mut Client, &mut Spares),
        publication: &Publication<'_>,
        (range, layout, alias): Fitting,
        packet_id: u16,
    ) {
        let tail = client.outbox.tail(spares);
        let start = tail.len();
        tail.extend_from_slice(&self.bytes[range]);
        if layout.packet_id_at != 0 {
            let at = start + layout.packet_id_at;
            tail[at..at + 2].copy_from_slice(&packet_id.to_be_bytes());
        }
        if layout.alias_at != 0 {
            let at = start + layout.alias_at;
            tail[at..at + 2].copy_from_slice(&alias.number.to_be_bytes());
            let fingerprint = self.fingerprint(publication);
            client.connection.commit_alias(publication.topic, fingerprint, alias);
        }
    }

    /// A message leaves for a client that has room.
    #[inline]
    pub(super) fn send(
        &mut self,
        client: &mut Client,
        (spares, counts): (&mut Spares, &mut Counts),
        passing: &mut Passing<'_>,
        (fitting, qos, packet_id): (Fitting, QoS, u16),
    ) {
        let is_shared = passing.publication.payload.len() >= SHARED_MIN_BYTES;
        self.put((client, spares), &passing.publication, fitting, packet_id);
        if is_shared {
            client.outbox.share(&passing.owned());
        }
        count_sent(counts, qos, passing.is_sys);
        count_first(counts, qos);
        client.flush_early(spares, counts);
    }
}

fn identifiers_for(target: &Target, version: Version) -> Option<&[u32]> {
    target.identifiers.as_deref().filter(|_| version == Version::V5)
}

/// Notes a message that its session's client is sent for the first time.
#[inline]
pub(super) fn count_first(counts: &mut Counts, qos: QoS) {
    counts.messages_delivered += 1;
    counts.acks_awaited += u64::from(qos != QoS::AtMostOnce);
}

#[inline]
pub(super) fn count_sent(counts: &mut Counts, qos: QoS, is_sys: bool) {
    if is_sys {
        return;
    }
    counts.packets_sent += 1;
    counts.publish_sent += 1;
    counts.messages_sent += 1;
    match qos {
        QoS::AtMostOnce => counts.qos0_sent += 1,
        QoS::AtLeastOnce => counts.qos1_sent += 1,
        QoS::ExactlyOnce => counts.qos2_sent += 1,
    }
}
