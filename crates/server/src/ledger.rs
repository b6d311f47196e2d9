//! Counters: one block a worker, written by that worker alone, summed when somebody reads.
//!
//! Knows names (those of EMQ X 4) and numbers. A worker counts in plain integers ([`Counts`]) and publishes them once a
//! turn, so that a message costs no atomic operation. Each number here moves; a name is added with the code that moves it.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($field:ident = $name:literal;)*) => {
        /// A worker's own numbers.
        #[derive(Clone, Default, Debug)]
        pub struct Counts {
            $(#[doc = $name] pub $field: u64,)*
        }

        impl Counts {
            /// Adds the numbers of another worker.
            pub fn add(&mut self, other: &Counts) {
                $(self.$field += other.$field;)*
            }
        }

        /// The numbers of one worker as others see them, at most one turn old.
        #[derive(Default, Debug)]
        #[repr(align(128))]
        pub struct Block {
            $($field: AtomicU64,)*
        }

        impl Block {
            /// Makes `counts` visible.
            pub fn publish(&self, counts: &Counts) {
                $(self.$field.store(counts.$field, Ordering::Relaxed);)*
            }

            /// Names and numbers, in the order of the table.
            pub fn read(&self) -> Vec<(&'static str, u64)> {
                vec![$(($name, self.$field.load(Ordering::Relaxed)),)*]
            }
        }
    };
}

counters! {
    bytes_received = "bytes.received";
    bytes_sent = "bytes.sent";
    packets_received = "packets.received";
    packets_sent = "packets.sent";
    connect_received = "packets.connect.received";
    connack_sent = "packets.connack.sent";
    connack_error = "packets.connack.error";
    connack_auth_error = "packets.connack.auth_error";
    publish_received = "packets.publish.received";
    publish_sent = "packets.publish.sent";
    publish_inuse = "packets.publish.inuse";
    publish_error = "packets.publish.error";
    publish_auth_error = "packets.publish.auth_error";
    publish_dropped = "packets.publish.dropped";
    puback_received = "packets.puback.received";
    puback_sent = "packets.puback.sent";
    puback_inuse = "packets.puback.inuse";
    puback_missed = "packets.puback.missed";
    pubrec_received = "packets.pubrec.received";
    pubrec_sent = "packets.pubrec.sent";
    pubrec_inuse = "packets.pubrec.inuse";
    pubrec_missed = "packets.pubrec.missed";
    pubrel_received = "packets.pubrel.received";
    pubrel_sent = "packets.pubrel.sent";
    pubrel_missed = "packets.pubrel.missed";
    pubcomp_received = "packets.pubcomp.received";
    pubcomp_sent = "packets.pubcomp.sent";
    pubcomp_inuse = "packets.pubcomp.inuse";
    pubcomp_missed = "packets.pubcomp.missed";
    subscribe_received = "packets.subscribe.received";
    subscribe_error = "packets.subscribe.error";
    subscribe_auth_error = "packets.subscribe.auth_error";
    suback_sent = "packets.suback.sent";
    unsubscribe_received = "packets.unsubscribe.received";
    unsubscribe_error = "packets.unsubscribe.error";
    unsuback_sent = "packets.unsuback.sent";
    pingreq_received = "packets.pingreq.received";
    pingresp_sent = "packets.pingresp.sent";
    disconnect_received = "packets.disconnect.received";
    disconnect_sent = "packets.disconnect.sent";
    auth_received = "packets.auth.received";
    auth_sent = "packets.auth.sent";
    messages_received = "messages.received";
    messages_sent = "messages.sent";
    qos0_received = "messages.qos0.received";
    qos1_received = "messages.qos1.received";
    qos2_received = "messages.qos2.received";
    qos2_expired = "messages.qos2.expired";
    qos0_sent = "messages.qos0.sent";
    qos1_sent = "messages.qos1.sent";
    qos2_sent = "messages.qos2.sent";
    messages_publish = "messages.publish";
    messages_dropped = "messages.dropped";
    dropped_no_subscribers = "messages.dropped.no_subscribers";
    dropped_expired = "messages.dropped.expired";
    dropped_await_pubrel = "messages.dropped.await_pubrel_timeout";
    messages_delivered = "messages.delivered";
    messages_acked = "messages.acked";
    delivery_dropped = "delivery.dropped";
    delivery_dropped_no_local = "delivery.dropped.no_local";
    delivery_dropped_too_large = "delivery.dropped.too_large";
    delivery_dropped_qos0 = "delivery.dropped.qos0_msg";
    delivery_dropped_queue_full = "delivery.dropped.queue_full";
    delivery_dropped_expired = "delivery.dropped.expired";
    delivery_dropped_session_ended = "delivery.dropped.session_ended";
    delivery_dropped_unreadable = "delivery.dropped.unreadable";
    shared_moved = "whimbrel.shared.moved";
    client_connect = "client.connect";
    client_connack = "client.connack";
    client_connected = "client.connected";
    client_authenticate = "client.authenticate";
    client_enhanced_authenticate = "client.enhanced_authenticate";
    client_auth_anonymous = "client.auth.anonymous";
    client_auth_success = "client.auth.success";
    client_auth_failure = "client.auth.failure";
    client_check_acl = "client.check_acl";
    client_acl_allow = "client.acl.allow";
    client_acl_deny = "client.acl.deny";
    client_acl_cache_hit = "client.acl.cache_hit";
    client_subscribe = "client.subscribe";
    client_unsubscribe = "client.unsubscribe";
    client_disconnected = "client.disconnected";
    session_created = "session.created";
    session_resumed = "session.resumed";
    session_takeovered = "session.takeovered";
    session_discarded = "session.discarded";
    session_terminated = "session.terminated";
    notices_dropped = "whimbrel.notices.dropped";
    taps_dropped = "whimbrel.taps.dropped";
    questions_expired = "whimbrel.questions.expired";
    listeners_rested = "whimbrel.listeners.rested";
    accepts_refused = "whimbrel.listeners.refused";
    handshakes_failed = "whimbrel.handshakes.failed";
    delivery_retried = "whimbrel.delivery.retried";
    connections_paced = "whimbrel.connections.paced";
    connections_rested = "whimbrel.connections.rested";
    clients_shut_down = "whimbrel.clients.shut_down";
    flapping_banned = "whimbrel.flapping.banned";
    flapping_refused = "whimbrel.flapping.refused";
    sessions_refused = "whimbrel.sessions.refused";
    mailbox_throttled = "whimbrel.mailbox.throttled";
    retained_refused = "whimbrel.retained.refused";
    retained_expired = "whimbrel.retained.expired";
    storage_refused = "whimbrel.storage.refused";
    storage_held_back = "whimbrel.storage.held_back";
    storage_unstored = "whimbrel.storage.unstored";
    store_pages = "whimbrel.store.pages";
    memory_released = "whimbrel.memory.released";
    loop_turns = "whimbrel.worker.turns";
    route_misses = "whimbrel.router.misses";
    publish_refused = "whimbrel.publish.refused";
    sys_refused = "whimbrel.sys.refused";
    presence_dropped = "whimbrel.presence.dropped";
    routed_clients = "whimbrel.routed.clients";
    routed_wills = "whimbrel.routed.wills";
    routed_inside = "whimbrel.routed.inside";
    routed_sys = "whimbrel.routed.sys";
    deliveries_wanted = "whimbrel.deliveries.wanted";
    deliveries_posted = "whimbrel.deliveries.posted";
    deliveries_arrived = "whimbrel.deliveries.arrived";
    deliveries_made = "whimbrel.deliveries.made";
    deliveries_restored = "whimbrel.deliveries.restored";
    deliveries_passed_over = "whimbrel.deliveries.passed_over";
    deliveries_moved = "whimbrel.deliveries.moved";
    deliveries_offered_again = "whimbrel.deliveries.offered_again";
    acks_awaited = "whimbrel.acks.awaited";
    acks_restored = "whimbrel.acks.restored";
    acks_completed = "whimbrel.acks.completed";
    acks_missing = "whimbrel.acks.missing";
    acks_moved = "whimbrel.acks.moved";
}

/// Names of other versions of EMQ X for the same number, and the name it has here. `messages.forward` is none of them: it
/// counts messages to other nodes, and comes with the code that sends them.
pub const OLD_NAMES: [(&str, &str); 3] = [
    ("messages.expired", "delivery.dropped.expired"),
    ("messages.qos2.dropped", "packets.publish.dropped"),
    ("client.auth.success.anonymous", "client.auth.anonymous"),
];

/// Sums the blocks of all workers, name by name.
pub fn sum<'a>(blocks: impl Iterator<Item = &'a Block>) -> Vec<(&'static str, u64)> {
    let mut total = Block::default().read();
    for block in blocks {
        for (place, (_, number)) in total.iter_mut().zip(block.read()) {
            place.1 += number;
        }
    }
    total
}
