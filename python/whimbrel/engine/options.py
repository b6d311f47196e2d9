"""From what the operator means (`Settings`) to what the data plane needs to know at start.

Pure: frozen values in, frozen values out. The field names are the contract with the binding (`_core.pyi`, classes
`Options`, `ListenerOptions`, `ZoneOptions`); nothing here checks ranges, the settings have.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from whimbrel.settings import Listener, Mqtt, Settings, TcpBind, Tls
from whimbrel.settings.promises import mode_of, store_mode

# The data plane gives up on a question this long after the hooks should have, so that their answer comes first.
QUESTION_SLACK_MS = 1_000

# In the data directory.
STORE_FOLDER: Final = "store"

# Below and above every priority that a topic can be given.
DEFAULT_PRIORITIES: Final = {"lowest": 0, "highest": 256}


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsOptions:
    """The files of a listener, and whether clients show certificates: "none", "optional" or "required"."""

    cert_file: str
    key_file: str
    ca_file: str | None
    verify: str
    crl_file: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerOptions:
    """One listener; `path` for kind "unix", else `host` and `port` (port 0: the kernel chooses).

    `websocket_path` is set for kinds ws and wss, `tls` for tls and wss.
    """

    kind: str
    name: str
    host: str = ""
    port: int = 0
    path: str = ""
    zone: int
    is_anonymous_allowed: bool
    connections_max: int
    max_conn_rate: int
    websocket_path: str | None = None
    tls: TlsOptions | None = None
    trusted_proxies: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneOptions:
    """The protocol limits of one zone; units are in the names, ranges in `_core.pyi`."""

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
    is_newest_dropped: bool
    is_qos0_stored: bool
    topic_priorities: Sequence[tuple[str, int]]
    default_priority: int
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
    is_durable: bool
    share_strategy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Everything one data plane is started with."""

    node_name: str
    workers: int
    listeners: tuple[ListenerOptions, ...]
    zones: tuple[ZoneOptions, ...]
    question_deadline_ms: int
    flapping_max_count: int
    flapping_window_ms: int
    flapping_ban_ms: int
    max_retained_messages: int
    max_retained_bytes: int
    storage_folder: str | None
    is_storage_synced: bool
    is_presence_published: bool
    sys_readers: str


def from_settings(settings: Settings) -> Options:
    """Convert checked settings. Zone 0 is `mqtt.*`; the named zones follow in the order of the settings."""
    numbers = {name: number for number, name in enumerate(settings.zones, start=1)}
    return Options(
        node_name=settings.node.name,
        workers=settings.workers,
        listeners=tuple(_listener(listener, numbers) for listener in settings.listeners),
        zones=tuple(_zone(settings, zone) for zone in (settings.mqtt, *settings.zones.values())),
        question_deadline_ms=settings.hooks.deadline_ms + QUESTION_SLACK_MS,
        flapping_max_count=settings.flapping.max_count if settings.flapping.is_enabled else 0,
        flapping_window_ms=settings.flapping.window_ms,
        flapping_ban_ms=settings.flapping.ban_ms,
        max_retained_messages=settings.retained.max_messages,
        max_retained_bytes=settings.retained.max_bytes,
        storage_folder=_storage_folder(settings),
        is_storage_synced=store_mode(settings) == "sync",
        is_presence_published=settings.sys.is_presence_published,
        sys_readers=settings.sys.readers,
    )


def _storage_folder(settings: Settings) -> str | None:
    """None: nothing is stored."""
    data_dir = settings.node.data_dir
    return str(data_dir / STORE_FOLDER) if data_dir is not None and store_mode(settings) != "off" else None


def _listener(listener: Listener, zones: Mapping[str, int]) -> ListenerOptions:
    bind = listener.bind
    host, port, path = (bind.host, bind.port, "") if isinstance(bind, TcpBind) else ("", 0, str(bind.path))
    return ListenerOptions(
        kind=listener.kind,
        name=listener.name,
        host=host,
        port=port,
        path=path,
        zone=0 if listener.zone is None else zones[listener.zone],
        is_anonymous_allowed=listener.is_anonymous_allowed,
        connections_max=listener.max_connections,
        max_conn_rate=listener.max_conn_rate,
        websocket_path=listener.path,
        tls=None if listener.tls is None else _tls(listener.tls),
        trusted_proxies=None if listener.trusted_proxies is None else _trusted(listener.trusted_proxies),
    )


def _trusted(proxies: Sequence[str | int]) -> tuple[str, ...]:
    return tuple(f"user:{proxy}" if isinstance(proxy, int) else proxy for proxy in proxies)


def _tls(tls: Tls) -> TlsOptions:
    return TlsOptions(
        cert_file=str(tls.cert_file),
        key_file=str(tls.key_file),
        ca_file=None if tls.ca_file is None else str(tls.ca_file),
        verify=tls.verify,
        crl_file=None if tls.crl_file is None else str(tls.crl_file),
    )


def _zone(settings: Settings, mqtt: Mqtt) -> ZoneOptions:
    return ZoneOptions(
        max_packet_size_bytes=mqtt.max_packet_size_bytes,
        max_clientid_len=mqtt.max_clientid_len,
        max_topic_levels=mqtt.max_topic_levels,
        max_qos_allowed=mqtt.max_qos_allowed,
        max_topic_alias=mqtt.max_topic_alias,
        max_topic_alias_out=mqtt.max_topic_alias_out,
        max_inflight=mqtt.max_inflight,
        receive_maximum=mqtt.receive_maximum,
        max_awaiting_rel=mqtt.max_awaiting_rel,
        await_rel_timeout_s=mqtt.await_rel_timeout_s,
        retry_interval_ms=mqtt.retry_interval_ms,
        max_mqueue_len=mqtt.max_mqueue_len,
        max_mqueue_bytes=mqtt.max_mqueue_bytes,
        is_newest_dropped=mqtt.mqueue_drop_policy == "newest",
        is_qos0_stored=mqtt.is_qos0_stored,
        topic_priorities=mqtt.mqueue_priorities,
        default_priority=DEFAULT_PRIORITIES[mqtt.mqueue_default_priority],
        max_subscriptions=mqtt.max_subscriptions,
        max_outbox_bytes=mqtt.max_outbox_bytes,
        server_keepalive_s=mqtt.server_keepalive_s,
        response_information=mqtt.response_information,
        force_shutdown_bytes=mqtt.force_shutdown_bytes,
        idle_timeout_ms=mqtt.idle_timeout_ms,
        max_publish_rate=mqtt.max_publish_rate,
        max_bytes_rate=mqtt.max_bytes_rate,
        session_expiry_s=mqtt.session_expiry_s,
        session_expiry_max_s=mqtt.session_expiry_max_s,
        max_sessions=mqtt.max_sessions,
        is_retain_available=mqtt.is_retain_available,
        is_wildcard_available=mqtt.is_wildcard_available,
        is_shared_available=mqtt.is_shared_available,
        is_durable=mode_of(settings, mqtt) != "off",
        share_strategy=mqtt.share_strategy,
    )
