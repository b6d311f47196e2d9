//! The rules of the `$SYS` tree, where clients meet it.
//!
//! Knows who may publish and subscribe there. Superusers may do both; see `crate::sys` for everybody else.

use whimbrel_protocol::connection::handshake::Request;
use whimbrel_protocol::{Filter, Topic};

use super::Worker;

impl Worker {
    /// Whether this topic is one of the broker's own, and the client may not publish there. Asked only about topics that
    /// begin with `$`.
    #[cold]
    pub(super) fn is_sys_refused(&mut self, slot: u32, topic: Topic<'_>) -> bool {
        let is_refused = topic.is_sys() && !self.clients[slot as usize].is_superuser;
        self.counts.sys_refused += u64::from(is_refused);
        is_refused
    }

    /// Whether a client wants to leave a will there.
    pub(super) fn is_will_refused(&mut self, request: &Request, is_superuser: bool) -> bool {
        let is_sys = request.will.as_ref().is_some_and(|will| will.topic().is_sys());
        let is_refused = is_sys && !is_superuser;
        self.counts.sys_refused += u64::from(is_refused);
        is_refused
    }

    /// Whether the client may subscribe to this filter (without the part that shares it). A wildcard in the first level
    /// matches nothing there [MQTT-4.7.2-1].
    pub(super) fn may_read(&mut self, slot: u32, filter: Filter<'_>) -> bool {
        let is_sys = filter.levels().next() == Some("$SYS");
        let client = &self.clients[slot as usize];
        let may_read = !is_sys || client.is_superuser || self.shared.sys.admits(&client.peer);
        self.counts.sys_refused += u64::from(!may_read);
        may_read
    }
}
