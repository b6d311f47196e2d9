//! What each number means and when it moves: the text of the reference, beside the code that counts.
//!
//! Knows names and sentences. A test compares the names with those that are counted, so none is without a meaning.

/// Metrics: they only grow, but for those whose meaning begins with "Gauge". By name; the sentence says what moves it.
pub const METRICS: &[(&str, &str)] = &[
    ("bytes.received", "A byte of MQTT was read from a client: behind TLS and WebSocket, without their frames."),
    ("bytes.sent", "A byte of MQTT was written to a client: before TLS and WebSocket."),
    ("packets.received", "A whole control packet of a client was read."),
    ("packets.sent", "A control packet was written to a client; not a PUBLISH under `$SYS/`."),
    ("packets.connect.received", "CONNECT was read."),
    ("packets.connack.sent", "CONNACK was written, whatever it says."),
    ("packets.connack.error", "CONNACK was written that refuses the client."),
    ("packets.connack.auth_error", "CONNACK was written with bad user name or password, or not authorized."),
    ("packets.publish.received", "PUBLISH was read."),
    ("packets.publish.sent", "PUBLISH was written, for the first time or again; not under `$SYS/`."),
    ("packets.publish.inuse", "A QoS 2 PUBLISH came whose packet identifier still waits for PUBREL."),
    ("packets.publish.error", "PUBACK or PUBREC was written with a reason of 0x80 or above."),
    ("packets.publish.auth_error", "PUBACK or PUBREC was written with the reason not authorized."),
    ("packets.publish.dropped", "A QoS 2 PUBLISH was refused because `mqtt.max_awaiting_rel` others wait for PUBREL."),
    ("packets.puback.received", "PUBACK was read."),
    ("packets.puback.sent", "PUBACK was written."),
    ("packets.puback.inuse", "PUBACK came for a message in flight that waits for another packet."),
    ("packets.puback.missed", "PUBACK came for an identifier that is not in flight."),
    ("packets.pubrec.received", "PUBREC was read."),
    ("packets.pubrec.sent", "PUBREC was written."),
    ("packets.pubrec.inuse", "PUBREC came for a message in flight that waits for another packet."),
    ("packets.pubrec.missed", "PUBREC came for an identifier that is not in flight."),
    ("packets.pubrel.received", "PUBREL was read."),
    ("packets.pubrel.sent", "PUBREL was written."),
    ("packets.pubrel.missed", "PUBREL came for an identifier that nobody awaits."),
    ("packets.pubcomp.received", "PUBCOMP was read."),
    ("packets.pubcomp.sent", "PUBCOMP was written."),
    ("packets.pubcomp.inuse", "PUBCOMP came for a message in flight that waits for another packet."),
    ("packets.pubcomp.missed", "PUBCOMP came for an identifier that is not in flight."),
    ("packets.subscribe.received", "SUBSCRIBE was read, and its question, if there was one, is answered."),
    ("packets.subscribe.error", "A SUBSCRIBE had a filter that was refused."),
    ("packets.subscribe.auth_error", "A SUBSCRIBE had a filter that was refused as not authorized."),
    ("packets.suback.sent", "SUBACK was written."),
    ("packets.unsubscribe.received", "UNSUBSCRIBE was read."),
    ("packets.unsubscribe.error", "An UNSUBSCRIBE had a filter that is none."),
    ("packets.unsuback.sent", "UNSUBACK was written."),
    ("packets.pingreq.received", "PINGREQ was read."),
    ("packets.pingresp.sent", "PINGRESP was written."),
    ("packets.disconnect.received", "DISCONNECT was read."),
    ("packets.disconnect.sent", "DISCONNECT was written (MQTT 5)."),
    ("packets.auth.received", "AUTH was read (MQTT 5)."),
    ("packets.auth.sent", "AUTH was written (MQTT 5)."),
    ("messages.received", "PUBLISH was read: the sum of the three below."),
    ("messages.sent", "PUBLISH was written, not under `$SYS/`: the sum of the three below."),
    ("messages.qos0.received", "A QoS 0 PUBLISH was read."),
    ("messages.qos1.received", "A QoS 1 PUBLISH was read."),
    ("messages.qos2.received", "A QoS 2 PUBLISH was read."),
    ("messages.qos0.sent", "A QoS 0 PUBLISH was written, not under `$SYS/`."),
    ("messages.qos1.sent", "A QoS 1 PUBLISH was written, not under `$SYS/`."),
    ("messages.qos2.sent", "A QoS 2 PUBLISH was written, not under `$SYS/`."),
    ("messages.qos2.expired", "A QoS 2 message of a client got no PUBREL within `mqtt.await_rel_timeout` (EMQ X 3)."),
    ("messages.qos2.dropped", "The same as `packets.publish.dropped`, by its name in EMQ X 3."),
    ("messages.publish", "A message reached the routing table, whoever published it; not under `$SYS/`."),
    ("messages.dropped", "The sum of `messages.dropped.no_subscribers` and `messages.dropped.expired`."),
    (
        "messages.dropped.no_subscribers",
        "Nobody wanted a message; not under `$SYS/`. One that is retained counts, too.",
    ),
    ("messages.dropped.expired", "A QoS 2 message of a client got no PUBREL in time, as `messages.qos2.expired`."),
    ("messages.dropped.await_pubrel_timeout", "The same event, by its name in EMQ X 4.3."),
    ("messages.expired", "The same as `delivery.dropped.expired`, by its name in EMQ X 3."),
    ("messages.delivered", "A message was handed to a connected client's session and written for the first time."),
    ("messages.acked", "PUBACK (QoS 1) or PUBREC (QoS 2) came for a message in flight that awaited it."),
    ("messages.retained", "Gauge: retained messages in the store now; the same as `retained.count`."),
    ("delivery.dropped", "The sum of the six below."),
    ("delivery.dropped.no_local", "A client's own message was not sent to it: No Local."),
    ("delivery.dropped.too_large", "A PUBLISH would be larger than the client's Maximum Packet Size."),
    ("delivery.dropped.qos0_msg", "A QoS 0 message found its client away, or not reading fast enough."),
    ("delivery.dropped.queue_full", "A message left a full queue, or found none (`mqtt.max_mqueue_len`)."),
    ("delivery.dropped.expired", "A message's expiry elapsed before it could be sent."),
    ("delivery.dropped.session_ended", "A message waited in a session that ended, or was on its way to it."),
    ("client.connect", "CONNECT was taken up, before anybody was asked about it."),
    ("client.connack", "CONNACK is about to be written."),
    ("client.connected", "A client has its CONNACK and is in."),
    ("client.authenticate", "Somebody must decide whether a client may enter; not for enhanced authentication."),
    ("client.enhanced_authenticate", "A packet of an enhanced authentication became a question."),
    ("client.auth.success", "The decision of `client.authenticate` was yes."),
    ("client.auth.failure", "The decision of `client.authenticate` was no, or nobody answered in time."),
    ("client.auth.anonymous", "It was yes because nobody knows the client and the listener lets such clients in."),
    ("client.auth.success.anonymous", "The same as `client.auth.anonymous`, by its name in EMQ X 4.3."),
    ("client.check_acl", "The hooks were asked about one topic or filter; what is remembered does not count."),
    ("client.acl.allow", "A topic or filter was allowed, by the hooks or by what is remembered of them."),
    ("client.acl.deny", "A topic or filter was refused by them, or nobody answered in time."),
    ("client.acl.cache_hit", "What is remembered was the answer."),
    ("client.subscribe", "A SUBSCRIBE was carried out."),
    ("client.unsubscribe", "An UNSUBSCRIBE was carried out."),
    ("client.disconnected", "The connection of a client that was in ended, for whatever reason."),
    ("session.created", "A session began."),
    ("session.resumed", "A CONNECT with clean start off took up a session that was there."),
    ("session.takeovered", "A CONNECT with clean start off got the session of a connection that was still open."),
    ("session.discarded", "A CONNECT with clean start on threw away a session that was there."),
    ("session.terminated", "A session ended for any other reason: goodbye, expiry, kick."),
    ("whimbrel.acks.awaited", "A message of QoS 1 or 2 was written for the first time."),
    ("whimbrel.acks.restored", "A message of QoS 2 that was in flight when the broker ended was found in the store."),
    ("whimbrel.acks.completed", "PUBACK, PUBCOMP or a refusing PUBREC ended the delivery of such a message."),
    (
        "whimbrel.acks.missing",
        "Such a message's session ended without it, or its client takes no packet of that size any more.",
    ),
    ("whimbrel.acks.moved", "Such a message of a group was taken from an absent member, to be offered to another one."),
    ("whimbrel.clients.shut_down", "A client held more than `mqtt.force_shutdown_size` and was disconnected."),
    ("whimbrel.connections.paced", "A client sent faster than its zone allows and was not read for a while."),
    ("whimbrel.connections.rested", "A client's bytes cost more than a turn has for one, and wait for the next turn."),
    ("whimbrel.deliveries.arrived", "A delivery came from another worker."),
    ("whimbrel.deliveries.made", "A delivery, one message for one session, was decided on: sent, queued, or dropped."),
    (
        "whimbrel.deliveries.restored",
        "A message that waited for a session when the broker ended was found in the store.",
    ),
    (
        "whimbrel.deliveries.moved",
        "A waiting message of a group was taken from one member, to be offered to another one.",
    ),
    (
        "whimbrel.deliveries.passed_over",
        "Of a session's two targets, with and without No Local, this one was not meant.",
    ),
    ("whimbrel.deliveries.offered_again", "A message of a group that was taken from one member was offered to others."),
    ("whimbrel.deliveries.posted", "A delivery was sent to another worker."),
    (
        "whimbrel.deliveries.wanted",
        "A message in the routing table, or a retained one for a new subscription, asked for a delivery.",
    ),
    ("whimbrel.delivery.retried", "A PUBLISH or PUBREL was sent again after `mqtt.retry_interval` (MQTT 3.x)."),
    ("whimbrel.flapping.banned", "A client identifier came and went too often and is refused for a while."),
    ("whimbrel.flapping.refused", "A CONNECT came with such an identifier."),
    ("whimbrel.handshakes.failed", "A connection ended in its PROXY header, TLS or WebSocket handshake."),
    ("whimbrel.listeners.refused", "A connection was closed at accept: too many, or no descriptor left."),
    ("whimbrel.listeners.rested", "A listener let connections wait: more than `max_conn_rate` a second."),
    ("whimbrel.mailbox.throttled", "A worker waited 0.2 ms because another one has too much mail."),
    (
        "whimbrel.memory.released",
        "A byte, by estimate, was given back to the allocator by a client, session or message.",
    ),
    ("whimbrel.notices.dropped", "A notice found no place on its way to Python."),
    ("whimbrel.presence.dropped", "A client came or went whose identifier cannot stand in a topic: it has a wildcard."),
    (
        "whimbrel.publish.refused",
        "A PUBLISH of a client was refused before it was routed: not allowed, or without a topic.",
    ),
    ("whimbrel.questions.expired", "A question to Python was answered by the data plane itself, after the deadline."),
    ("whimbrel.retained.expired", "A retained message left the store because its expiry elapsed."),
    ("whimbrel.retained.refused", "A message was not retained: `retained.max_messages` or `retained.max_size`."),
    ("whimbrel.router.misses", "A topic's subscribers were looked up in the table, because no cache had them."),
    ("whimbrel.routed.clients", "A message of a client reached the routing table."),
    ("whimbrel.routed.inside", "A message of this program reached it: `publish`, `$SYS`."),
    ("whimbrel.routed.sys", "A message under `$SYS/` reached it."),
    ("whimbrel.routed.wills", "A will reached it."),
    ("whimbrel.sessions.refused", "A session that wanted to outlive its connection may not: `mqtt.max_sessions`."),
    ("whimbrel.shared.moved", "A message of a group was refused by, or taken from, one member on its way to another."),
    ("whimbrel.sys.refused", "A client may not publish, or not subscribe, under `$SYS/`."),
    ("whimbrel.taps.dropped", "A message found no place in a subscription of this program."),
    ("whimbrel.worker.turns", "A worker's loop went round once."),
];

/// Statistics: how many there are now. The peak of each, the highest value since the start, is the same name with `.max`.
pub const STATS: &[(&str, &str)] = &[
    ("connections.count", "Open network connections, those before CONNECT included."),
    ("channels.count", "Clients, connected or away: the same as `sessions.count`."),
    ("sessions.count", "Sessions, connected or away."),
    ("sessions.persistent.count", "Sessions that outlive their connection: clean start off, or an expiry above 0."),
    (
        "topics.count",
        "Different filters in the routing table, those of this program included; a shared one without its group.",
    ),
    ("suboptions.count", "Subscription options: one for each session and filter."),
    ("subscribers.count", "Rows from filter to session: subscriptions that are not shared."),
    ("subscriptions.count", "Rows from session to filter: all subscriptions."),
    ("subscriptions.shared.count", "Memberships in groups of shared subscriptions."),
    ("routes.count", "Rows from filter to node: on one node the same as `topics.count`."),
    ("retained.count", "Retained messages."),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{Broker, Options, SysOptions};

    #[test]
    fn every_number_has_a_meaning_and_every_meaning_a_number() {
        let options = Options {
            node_name: "n".into(),
            workers: 1,
            listeners: Vec::new(),
            zones: Vec::new(),
            question_deadline_ms: 1,
            flapping: None,
            sys: SysOptions::default(),
            retained_messages_max: 1,
            retained_bytes_max: 1,
            storage: None,
        };
        let broker = Broker::start(&options).unwrap();
        let names = |rows: Vec<(&'static str, u64)>| rows.into_iter().map(|(name, _)| name).collect::<BTreeSet<_>>();
        let meant = |rows: &[(&'static str, &str)]| rows.iter().map(|(name, _)| *name).collect::<BTreeSet<_>>();
        assert_eq!(names(broker.metrics()), meant(METRICS));
        let counts = broker.stats().into_iter().filter(|(name, _)| name.ends_with(".count")).collect();
        assert_eq!(names(counts), meant(STATS));
        assert_eq!(broker.stats().len(), 2 * STATS.len());
    }
}
