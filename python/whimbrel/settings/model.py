"""The settings as the rest of the broker sees them: frozen, checked, in one unit per field.

Knows no source, no TOML and no default; `assemble` builds these after every check has passed, and nobody changes them.
Units are in the names. The meaning and range of a field are in its row of `table`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpBind:
    """An IP address (never a host name) and a port; port 0 lets the kernel choose."""

    host: str
    port: int

    @property
    def is_local(self) -> bool:
        """True where only this machine can connect."""
        return ip_address(self.host).is_loopback

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnixBind:
    """The absolute path of a Unix socket, at most 107 bytes."""

    path: Path

    @property
    def is_local(self) -> bool:
        """Always: a Unix socket is reached through this machine's file system."""
        return True

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Absolute paths of PEM files; `verify` is none, optional or required, and then `ca_file` is there."""

    cert_file: Path
    key_file: Path
    ca_file: Path | None
    verify: str
    crl_file: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """One open door. `zone` names an entry of `Settings.zones`; None means the limits of `Settings.mqtt`.

    `tls` belongs to kinds tls and wss, `path` to ws and wss. `trusted_proxies` are networks ("10.0.0.0/8"), or on
    a Unix socket numbers of users, whose PROXY header is expected; None: there is none.
    """

    kind: str
    name: str
    bind: TcpBind | UnixBind
    zone: str | None
    max_connections: int
    max_conn_rate: int
    is_anonymous_allowed: bool
    path: str | None = None
    tls: Tls | None = None
    trusted_proxies: tuple[str | int, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """Who this broker is. `data_dir` is None where an embedding program gave no directory."""

    name: str
    data_dir: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Auth:
    """`allow_anonymous` None: on listeners that only this machine reaches."""

    allow_anonymous: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """What is promised to survive a crash."""

    durability: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """Limits of questions that are answered in Python."""

    deadline_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Flapping:
    """When a client that comes and goes is refused, and for how long."""

    is_enabled: bool
    max_count: int
    window_ms: int
    ban_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Retained:
    """Bounds of the retained messages of the whole broker."""

    max_messages: int
    max_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sys:
    """What is published under `$SYS`, and who may read it: local, all or nobody. An interval of 0 means never."""

    interval_ms: int
    heartbeat_ms: int
    is_presence_published: bool
    readers: str


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Bounds of what is remembered of alarms that are over."""

    size_limit: int
    validity_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sysmon:
    """When the broker looks at itself (0: never), and what it finds wrong; watermarks are percent, low at most high."""

    interval_ms: int
    cpu_high: int
    cpu_low: int
    system_memory_high: int
    system_memory_low: int
    process_memory_high: int
    process_memory_low: int
    disk_high: int
    disk_low: int
    tasks_high: int
    tasks_low: int
    max_tasks: int
    congestion_bytes: int
    congestion_len: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """`level` is debug, info, warning or error."""

    level: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mqtt:
    """The protocol limits of one zone."""

    max_packet_size_bytes: int
    max_clientid_len: int
    max_topic_levels: int
    max_qos_allowed: int
    max_topic_alias: int
    max_topic_alias_out: int
    max_inflight: int
    receive_maximum: int
    max_awaiting_rel: int
    await_rel_timeout_s: int
    retry_interval_ms: int
    max_mqueue_len: int
    max_mqueue_bytes: int
    mqueue_drop_policy: str
    mqueue_priorities: tuple[tuple[str, int], ...]
    mqueue_default_priority: str
    is_qos0_stored: bool
    max_subscriptions: int
    max_outbox_bytes: int
    server_keepalive_s: int
    response_information: str
    force_shutdown_bytes: int
    idle_timeout_ms: int
    max_publish_rate: int
    max_bytes_rate: int
    session_expiry_s: int
    session_expiry_max_s: int
    max_sessions: int
    is_retain_available: bool
    is_wildcard_available: bool
    is_shared_available: bool
    durability: str
    share_strategy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything the operator means. `listeners` holds only those that are not switched off."""

    node: Node
    workers: int
    listeners: tuple[Listener, ...]
    auth: Auth
    storage: Storage
    mqtt: Mqtt
    zones: Mapping[str, Mqtt]
    hooks: Hooks
    flapping: Flapping
    retained: Retained
    sys: Sys
    alarm: History
    sysmon: Sysmon
    log: Log
