"""Every setting that exists: one row each, and the tree that finds the row of a key.

Reference pages, checks, defaults and hints are all made from these rows. A new setting is one row here and the field of
the same name in `model`. Knows no source and no value that an operator wrote.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, Final

from whimbrel.settings.shapes import (
    DAY,
    GB,
    HOUR,
    KB,
    MINUTE,
    NAME,
    NAME_ALLOWED,
    SECOND,
    TB,
    Address,
    Choice,
    Directory,
    Duration,
    Line,
    Name,
    Networks,
    NodeName,
    PemFile,
    Priorities,
    Shape,
    Size,
    SocketPath,
    Truth,
    UrlPath,
    Users,
    Whole,
)

KINDS: Final = ("tcp", "unix", "tls", "ws", "wss")
TLS_KINDS: Final = ("tls", "wss")
WATERMARKS: Final = ("cpu", "system_memory", "process_memory", "disk", "tasks")
"""What `sysmon.<name>_high_watermark` and `_low_watermark` exist for."""

_WORKERS_MAX: Final = 256
_U16: Final = 2**16 - 1
_U32: Final = 2**32 - 1
# MQTT 5 section 2.1.4: the largest remaining length four bytes can say.
_PACKET_MAX: Final = 268_435_455
# MQTT 5 section 3.1.2.11.2: 0xFFFFFFFF means "never", which no broker can promise.
_EXPIRY_MAX: Final = (_U32 - 1) * SECOND


@dataclass(frozen=True, slots=True, kw_only=True)
class Computed:
    """A default that depends on the machine. `text` says it in the reference; None means that there is none here."""

    text: str
    compute: Callable[[Mapping[str, str]], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One setting.

    `key` is dotted; a part `<name>` stands for any name and `<a|b>` for one of these words. `field` is the attribute
    in `model`. `default` is what an operator would have written, None for "unset".
    """

    key: str
    field: str
    shape: Shape
    default: object
    doc: str
    needs_restart: bool = True

    @property
    def section(self) -> str:
        """The key without its last part."""
        return self.key.rpartition(".")[0]

    def default_in(self, environment: Mapping[str, str]) -> object:
        """The default as written, computed where it depends on the machine."""
        return self.default.compute(environment) if isinstance(self.default, Computed) else self.default


def _cores(_environment: Mapping[str, str]) -> int:
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(available, _WORKERS_MAX)


def _state_directory(environment: Mapping[str, str]) -> Path | None:
    # The XDG base directory specification: a relative path in the variable is to be ignored.
    state = environment.get("XDG_STATE_HOME", "")
    if state.startswith("/"):
        return Path(state) / "whimbrel"
    if os.geteuid() == 0:
        return Path("/var/lib/whimbrel")
    home = environment.get("HOME") or os.path.expanduser("~")
    return Path(home) / ".local/state/whimbrel" if home.startswith("/") else None


def _own_users(_environment: Mapping[str, str]) -> object:
    return tuple(dict.fromkeys((os.geteuid(), 0)))


def _watermarks(name: str, defaults: tuple[int, int], what: str) -> tuple[Row, Row]:
    high, low = defaults
    ends = f"The alarm is over when it is below so many percent; at most sysmon.{name}_high_watermark."
    return (
        Row(
            key=f"sysmon.{name}_high_watermark",
            field=f"{name}_high",
            shape=Whole(1, 100),
            default=high,
            doc=f"An alarm is raised above so many percent: {what}.",
            needs_restart=False,
        ),
        Row(
            key=f"sysmon.{name}_low_watermark",
            field=f"{name}_low",
            shape=Whole(1, 100),
            default=low,
            doc=ends,
            needs_restart=False,
        ),
    )


_NODE: Final = (
    Row(
        key="node.name",
        field="name",
        shape=NodeName(),
        default="whimbrel@127.0.0.1",
        doc="What this broker is called by other brokers, in APIs and in logs.",
    ),
    Row(
        key="node.data_dir",
        field="data_dir",
        shape=Directory(),
        default=Computed(
            text="`$XDG_STATE_HOME/whimbrel`, else `/var/lib/whimbrel` for root, else `~/.local/state/whimbrel`",
            compute=_state_directory,
        ),
        doc="Where the broker keeps what is its own. One broker per directory. A relative path starts at the working "
        "directory.",
    ),
    Row(
        key="workers",
        field="workers",
        shape=Whole(1, _WORKERS_MAX),
        default=Computed(text="the cores this process may use", compute=_cores),
        doc="Threads of the data plane.",
    ),
)

_LISTENERS: Final = (
    Row(
        key="listeners.<tcp|tls|ws|wss>.<name>.bind",
        field="bind",
        shape=Address(),
        default=None,
        doc='Where the listener accepts; "off" switches it off. Every listener needs one. `tcp.default` exists with '
        "127.0.0.1:1883 and `ws.default` with 127.0.0.1:8083.",
    ),
    Row(
        key="listeners.unix.<name>.bind",
        field="bind",
        shape=SocketPath(),
        default=None,
        doc='The path of the socket, at most 107 bytes; a relative one starts at node.data_dir. "off" switches the '
        "listener off.",
    ),
    Row(
        key="listeners.<tcp|tls|ws|wss|unix>.<name>.zone",
        field="zone",
        shape=Name(),
        default=None,
        doc="The zone whose limits hold on this listener. Unset: the limits of mqtt.*.",
    ),
    Row(
        key="listeners.<tcp|tls|ws|wss|unix>.<name>.max_connections",
        field="max_connections",
        shape=Whole(1, 10_000_000),
        default=1_000_000,
        doc="Connections at the same time; the next one is closed at once.",
    ),
    Row(
        key="listeners.<tcp|tls|ws|wss|unix>.<name>.max_conn_rate",
        field="max_conn_rate",
        shape=Whole(0, 1_000_000),
        default=0,
        doc="Connections that the listener takes in a second, with a burst of one second; more wait in the kernel's "
        "backlog. 0: no limit.",
    ),
    Row(
        key="listeners.<ws|wss>.<name>.path",
        field="path",
        shape=UrlPath(),
        default="/mqtt",
        doc="The path of the HTTP request that opens a WebSocket.",
    ),
    Row(
        key="listeners.<tls|wss>.<name>.cert_file",
        field="cert_file",
        shape=PemFile(),
        default=None,
        doc="The broker's certificate, and behind it those between it and the root. Needed. Read at start and at a "
        "reload, like all files here; a relative path starts at the working directory.",
    ),
    Row(
        key="listeners.<tls|wss>.<name>.key_file",
        field="key_file",
        shape=PemFile(),
        default=None,
        doc="The private key of the certificate, without a password. Needed.",
    ),
    Row(
        key="listeners.<tls|wss>.<name>.ca_file",
        field="ca_file",
        shape=PemFile(),
        default=None,
        doc="The authorities that sign clients' certificates; needed where verify asks for them.",
    ),
    Row(
        key="listeners.<tls|wss>.<name>.verify",
        field="verify",
        shape=Choice(("none", "optional", "required")),
        default="none",
        doc="Clients' certificates. none: not asked for; optional: one that is shown must be good; required: nobody "
        "enters without one.",
    ),
    Row(
        key="listeners.<tls|wss>.<name>.crl_file",
        field="crl_file",
        shape=PemFile(),
        default=None,
        doc="Clients' certificates that are no longer good: the revocation list of each authority that signs them.",
    ),
    Row(
        key="listeners.<tcp|tls|ws|wss|unix>.<name>.proxy_protocol",
        field="proxy_protocol",
        shape=Truth(),
        default=False,
        doc="Whether a proxy stands before the listener and sends a PROXY header (version 1 or 2) that names the "
        "client; nobody enters without one then.",
    ),
    Row(
        key="listeners.<tcp|tls|ws|wss>.<name>.proxy_trusted",
        field="trusted_proxies",
        shape=Networks(),
        default=("127.0.0.1", "::1"),
        doc="The proxies: with proxy_protocol nobody else may connect.",
    ),
    Row(
        key="listeners.unix.<name>.proxy_trusted",
        field="trusted_proxies",
        shape=Users(),
        default=Computed(text="the broker's own user, and root", compute=_own_users),
        doc="The users whose processes are proxies, by name or number: with proxy_protocol nobody else may connect. "
        "The permissions of the socket and its directory must let them in, too.",
    ),
)

_BROKER: Final = (
    Row(
        key="auth.allow_anonymous",
        field="allow_anonymous",
        shape=Truth(),
        default=None,
        doc="Whether a client that nobody vouches for may enter. Unset: on listeners that only this machine reaches "
        "(loopback, Unix sockets); any other listener is then refused at start.",
    ),
    Row(
        key="storage.durability",
        field="durability",
        shape=Choice(("sync", "os", "off")),
        default="sync",
        doc="What an acknowledgement promises. sync: what it says survives the loss of power. os: it survives the end "
        "of the process, however sudden. off: sessions and retained messages live in memory. Without a data directory "
        "(brokers inside programs) everything does.",
    ),
    Row(
        key="hooks.deadline",
        field="deadline_ms",
        shape=Duration(10, MINUTE),
        default="5s",
        doc="How long a question to a hook may take; beyond it a CONNECT is refused with 0x88, all else with 0x83.",
        needs_restart=False,
    ),
    Row(
        key="flapping.enable",
        field="is_enabled",
        shape=Truth(),
        default=False,
        doc="Whether a client id whose connections end too often is refused for a while (0x8A).",
    ),
    Row(
        key="flapping.max_count",
        field="max_count",
        shape=Whole(2, 1_000_000),
        default=15,
        doc="How many connections of a client id may end within flapping.window; the last of them is one too many.",
    ),
    Row(
        key="flapping.window",
        field="window_ms",
        shape=Duration(SECOND, DAY),
        default="1m",
        doc="The time in which connections that end are counted.",
    ),
    Row(
        key="flapping.ban_time",
        field="ban_ms",
        shape=Duration(SECOND, 30 * DAY),
        default="5m",
        doc="How long such a client id is refused.",
    ),
    Row(
        key="retained.max_messages",
        field="max_messages",
        shape=Whole(1, _U32),
        default=1_000_000,
        doc="Retained messages in the whole broker.",
    ),
    Row(
        key="retained.max_size",
        field="max_bytes",
        shape=Size(64 * KB, TB),
        default="256MB",
        doc="Bytes of retained messages in the whole broker.",
    ),
    Row(
        key="sys.interval",
        field="interval_ms",
        shape=Duration(0, DAY),
        default="1m",
        doc="How often version, description, statistics and metrics are published under `$SYS/brokers`. 0: never.",
    ),
    Row(
        key="sys.heartbeat",
        field="heartbeat_ms",
        shape=Duration(0, DAY),
        default="30s",
        doc="How often uptime and time of day are published there. 0: never.",
    ),
    Row(
        key="sys.presence",
        field="is_presence_published",
        shape=Truth(),
        default=True,
        doc="Whether clients that come and go are told of there, as long as somebody subscribes to it.",
    ),
    Row(
        key="sys.readers",
        field="readers",
        shape=Choice(("local", "all", "nobody")),
        default="local",
        doc="Who may subscribe under `$SYS`: clients of this machine (loopback, Unix sockets), everybody, or nobody. "
        "Superusers always may, and hooks may still refuse. Only superusers may publish there.",
    ),
    Row(
        key="alarm.size_limit",
        field="size_limit",
        shape=Whole(1, 10_000),
        default=1_000,
        doc="How many alarms that are over the history keeps; beyond it the oldest go.",
        needs_restart=False,
    ),
    Row(
        key="alarm.validity_period",
        field="validity_ms",
        shape=Duration(MINUTE, 365 * DAY),
        default="1d",
        doc="How long the history keeps an alarm that is over.",
        needs_restart=False,
    ),
    Row(
        key="sysmon.interval",
        field="interval_ms",
        shape=Duration(0, DAY),
        default="1m",
        doc="How often the broker looks at itself and its machine, and raises or ends alarms. 0: never.",
        needs_restart=False,
    ),
    *_watermarks("cpu", (80, 60), "busy time of all cores since the last look"),
    *_watermarks("system_memory", (70, 65), "memory of the machine that is in use"),
    *_watermarks("process_memory", (50, 45), "memory of the machine that this process has (resident)"),
    *_watermarks("disk", (90, 85), "disk of the data directory that is in use"),
    *_watermarks("tasks", (80, 60), "sysmon.max_tasks that are alive"),
    Row(
        key="sysmon.max_tasks",
        field="max_tasks",
        shape=Whole(10, 10_000_000),
        default=10_000,
        doc="How many tasks of the Python side (asyncio) are taken for all that there may be.",
        needs_restart=False,
    ),
    Row(
        key="sysmon.congestion_size",
        field="congestion_bytes",
        shape=Size(KB, 4 * GB),
        default="512KB",
        doc="A connection is congested while so many bytes wait for its socket, at two looks one after the other.",
        needs_restart=False,
    ),
    Row(
        key="sysmon.congestion_len",
        field="congestion_len",
        shape=Whole(1, _U32),
        default=500,
        doc="A connection is congested while so many messages wait behind its window, at two looks one after the "
        "other.",
        needs_restart=False,
    ),
    Row(
        key="log.level",
        field="level",
        shape=Choice(("debug", "info", "warning", "error")),
        default="info",
        doc="The least important line that is logged.",
        needs_restart=False,
    ),
)

_MQTT: Final = (
    Row(
        key="mqtt.max_packet_size",
        field="max_packet_size_bytes",
        shape=Size(KB, _PACKET_MAX),
        default="1MB",
        doc="The largest packet a client may send.",
    ),
    Row(
        key="mqtt.max_clientid_len",
        field="max_clientid_len",
        shape=Whole(1, _U16),
        default=_U16,
        doc="Bytes in a client id.",
    ),
    Row(
        key="mqtt.max_topic_levels",
        field="max_topic_levels",
        shape=Whole(1, _U16),
        default=128,
        doc="Levels in a topic or filter.",
    ),
    Row(
        key="mqtt.max_qos_allowed",
        field="max_qos_allowed",
        shape=Whole(0, 2),
        default=2,
        doc="The highest quality of service a client may use.",
    ),
    Row(
        key="mqtt.max_topic_alias",
        field="max_topic_alias",
        shape=Whole(0, _U16),
        default=64,
        doc="Topic aliases that a client may set (MQTT 5).",
    ),
    Row(
        key="mqtt.max_topic_alias_out",
        field="max_topic_alias_out",
        shape=Whole(0, 256),
        default=16,
        doc="Topic aliases that the broker sets for a client that takes them; up to 1 KB of memory each (MQTT 5).",
    ),
    Row(
        key="mqtt.max_inflight",
        field="max_inflight",
        shape=Whole(1, _U16),
        default=32,
        doc="Messages sent to a client and not yet acknowledged.",
    ),
    Row(
        key="mqtt.receive_maximum",
        field="receive_maximum",
        shape=Whole(1, _U16),
        default=1024,
        doc="Messages a client may send before the first is acknowledged (MQTT 5).",
    ),
    Row(
        key="mqtt.max_awaiting_rel",
        field="max_awaiting_rel",
        shape=Whole(1, _U16),
        default=1024,
        doc="QoS 2 messages of a client that wait for its PUBREL; one more is refused (MQTT 5). MQTT 3.x has no word "
        "for that, so there only the packet identifiers limit them.",
    ),
    Row(
        key="mqtt.await_rel_timeout",
        field="await_rel_timeout_s",
        shape=Duration(0, DAY, unit_ms=SECOND),
        default="5m",
        doc="How long a QoS 2 message of a connected client may wait for PUBREL until its identifier is free again. "
        "0: for ever.",
    ),
    Row(
        key="mqtt.retry_interval",
        field="retry_interval_ms",
        shape=Duration(0, HOUR),
        default=0,
        doc="What an MQTT 3.x client has not acknowledged for so long, and for twice as long at most, is sent to it "
        "again. 0: only when it connects again. MQTT 5 forbids it.",
    ),
    Row(
        key="mqtt.max_mqueue_len",
        field="max_mqueue_len",
        shape=Whole(1, _U32),
        default=1000,
        doc="Messages that wait in a session for room in its window or for its client.",
    ),
    Row(
        key="mqtt.max_mqueue_size",
        field="max_mqueue_bytes",
        shape=Size(0, 4 * GB - 1),
        default="64MB",
        doc="Bytes of the messages that wait in a session, rounded up to 64 KB; beyond it messages go as if there were "
        "too many, but for the last one. A message that waits in several sessions counts in each. 0: only their number "
        "is limited.",
    ),
    Row(
        key="mqtt.mqueue_drop_policy",
        field="mqueue_drop_policy",
        shape=Choice(("oldest", "newest")),
        default="oldest",
        doc="Which message goes when a queue is full; where topics have priorities, one of the lowest that waits.",
    ),
    Row(
        key="mqtt.mqueue_priorities",
        field="mqueue_priorities",
        shape=Priorities(),
        default="",
        doc="Topics whose messages leave a queue before others; a higher number goes first, and within one number the "
        "order is kept. Empty: all messages leave as they came.",
    ),
    Row(
        key="mqtt.mqueue_default_priority",
        field="mqueue_default_priority",
        shape=Choice(("lowest", "highest")),
        default="lowest",
        doc="Whether all other topics leave behind or before those of mqtt.mqueue_priorities.",
    ),
    Row(
        key="mqtt.store_qos0",
        field="is_qos0_stored",
        shape=Truth(),
        default=False,
        doc="Whether QoS 0 messages wait for an absent client that has a session.",
    ),
    Row(
        key="mqtt.max_subscriptions",
        field="max_subscriptions",
        shape=Whole(1, _U32),
        default=100_000,
        doc="Subscriptions of one session.",
    ),
    Row(
        key="mqtt.max_outbox_size",
        field="max_outbox_bytes",
        shape=Size(64 * KB, 4 * GB),
        default="1MB",
        doc="Bytes that wait for a slow client's socket.",
    ),
    Row(
        key="mqtt.force_shutdown_size",
        field="force_shutdown_bytes",
        shape=Size(0, 4 * GB - 1),
        default="0B",
        doc="Bytes that a client and its session may hold: what waits for its socket and in its queue, the packet that "
        "it is sending, its topic aliases. Above it the client is disconnected (0x97); the queue alone loses messages "
        "instead. It should have room for a packet, an outbox and a queue. 0: only each of these is limited.",
    ),
    Row(
        key="mqtt.server_keepalive",
        field="server_keepalive_s",
        shape=Duration(0, _U16 * SECOND, unit_ms=SECOND),
        default="0s",
        doc="The keep-alive that a client is told to use instead of its own; 0 leaves the choice to it (MQTT 5).",
    ),
    Row(
        key="mqtt.response_information",
        field="response_information",
        shape=Line(1024),
        default="",
        doc="What a client that asks for it is told to build its response topics from, such as a prefix (MQTT 5).",
    ),
    Row(
        key="mqtt.idle_timeout",
        field="idle_timeout_ms",
        shape=Duration(100, HOUR),
        default="15s",
        doc="How long a new connection may take to send its CONNECT.",
    ),
    Row(
        key="mqtt.max_publish_rate",
        field="max_publish_rate",
        shape=Whole(0, 10_000_000),
        default=0,
        doc="Messages a second that one connection may publish, with a burst of one second; a faster client waits, and "
        "nothing of it is dropped. 0: no limit.",
    ),
    Row(
        key="mqtt.max_bytes_rate",
        field="max_bytes_rate",
        shape=Size(0, 4 * GB - 1),
        default="0B",
        doc="Bytes a second that are read from one connection, with a burst of one second; a faster client waits, and "
        "nothing of it is dropped. 0: no limit.",
    ),
    Row(
        key="mqtt.session_expiry_interval",
        field="session_expiry_s",
        shape=Duration(0, _EXPIRY_MAX, unit_ms=SECOND),
        default="2h",
        doc="How long a session outlives its connection (MQTT 3.1.1 with clean session 0).",
    ),
    Row(
        key="mqtt.max_session_expiry_interval",
        field="session_expiry_max_s",
        shape=Duration(0, _EXPIRY_MAX, unit_ms=SECOND),
        default="7d",
        doc="The longest session expiry interval that a client gets (MQTT 5).",
    ),
    Row(
        key="mqtt.max_sessions",
        field="max_sessions",
        shape=Whole(0, _U32),
        default=1_000_000,
        doc="Sessions in the whole broker that may outlive their connection. Beyond it an MQTT 5 client is granted a "
        "session that ends with its connection, and an MQTT 3.1.1 client, which cannot be told so, is refused. The "
        "number of a zone says when its clients get no more.",
    ),
    Row(
        key="mqtt.retain_available",
        field="is_retain_available",
        shape=Truth(),
        default=True,
        doc="Whether clients may retain messages.",
    ),
    Row(
        key="mqtt.wildcard_subscription",
        field="is_wildcard_available",
        shape=Truth(),
        default=True,
        doc="Whether clients may subscribe to filters with wildcards.",
    ),
    Row(
        key="mqtt.shared_subscription",
        field="is_shared_available",
        shape=Truth(),
        default=True,
        doc="Whether clients may subscribe to `$share/<group>/<filter>` and `$queue/<filter>`.",
    ),
    Row(
        key="mqtt.durability",
        field="durability",
        shape=Choice(("broker", "sync", "os", "off")),
        default="broker",
        doc="broker: as `storage.durability` says. sync, os: at least that; there is one store, so the strongest mode "
        "that anything asks for is everybody's. off: sessions of this zone live in memory, and its publishers' "
        "acknowledgements wait for nothing.",
    ),
    Row(
        key="mqtt.shared_subscription_strategy",
        field="share_strategy",
        shape=Choice(("random", "round_robin", "sticky", "hash_clientid", "hash_topic")),
        default="round_robin",
        doc="How a group picks the member that gets a message: any, one after the other, always the same, the same for "
        "each publisher, or the same for each topic. A group goes by the zone of the client that made it.",
    ),
)

# A connection keeps the limits with which it began; the next one gets those that hold then. The store is opened once.
_LIMITS: Final = tuple(replace(row, needs_restart=row.field == "durability") for row in _MQTT)

_ZONES: Final = tuple(replace(row, key=f"zones.<name>.{row.key}", default=None) for row in _LIMITS)

ROWS: Final = (*_NODE, *_LISTENERS, *_BROKER, *_LIMITS, *_ZONES)
"""Every setting, in the order in which they are explained."""

STANDING_LISTENERS: Final[Mapping[tuple[str, ...], str]] = {
    ("listeners", "tcp", "default", "bind"): "127.0.0.1:1883",
    ("listeners", "ws", "default", "bind"): "127.0.0.1:8083",
}
"""Listeners that exist without being written."""


@dataclass(slots=True)
class Branch:
    """What may follow a part of a key: fixed words, any name, or nothing because a setting ends here."""

    words: dict[str, "Branch"] = field(default_factory=dict)
    named: "Branch | None" = None
    row: Row | None = None

    def follow(self, part: object) -> "Branch | None":
        """The branch behind this part of a key, None where the part is not known."""
        if not isinstance(part, str):
            return None
        return self.words.get(part) or (self.named if NAME.fullmatch(part) else None)

    @property
    def allowed(self) -> str:
        """What may be written here, for an operator."""
        return NAME_ALLOWED if self.named else "one of " + ", ".join(sorted(self.words))


def walk(path: Sequence[object]) -> tuple[Branch, int]:
    """The deepest branch that the key reaches, and how many of its parts were known."""
    branch = _ROOT
    for depth, part in enumerate(path):
        following = branch.follow(part)
        if following is None:
            return branch, depth
        branch = following
    return branch, len(path)


def spellings(path: Sequence[str]) -> Iterator[str]:
    """Every known key, with its free names taken from this path where it has a part at that place."""
    for parts in _PATTERNS:
        yield ".".join(
            path[depth] if part == _ANY_NAME and depth < len(path) else part for depth, part in enumerate(parts)
        )


_ANY_NAME: Final = "<name>"


def _patterns(key: str) -> Iterator[tuple[str, ...]]:
    return product(*(_words(part) for part in key.split(".")))


def _words(part: str) -> Sequence[str]:
    return part.strip("<>").split("|") if part != _ANY_NAME else (part,)


def _grow(root: Branch, parts: Sequence[str]) -> Branch:
    branch = root
    for part in parts:
        if part == _ANY_NAME:
            branch.named = branch.named or Branch()
            branch = branch.named
        else:
            branch = branch.words.setdefault(part, Branch())
    return branch


def _tree(rows: Sequence[Row]) -> Branch:
    root = Branch()
    for row in rows:
        for parts in _patterns(row.key):
            _grow(root, parts).row = row
    return root


_ROOT: Final = _tree(ROWS)
_PATTERNS: Final = tuple(parts for row in ROWS for parts in _patterns(row.key))


def fields_of(section: str) -> dict[str, Any]:
    """Last part of the key -> field, of the settings directly in this section."""
    return {row.key.rpartition(".")[2]: row.field for row in ROWS if row.section == section}
