"""The load generator, re-exported so that nothing above imports the binding, and its options with their defaults."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from whimbrel._core import LoadRun

__all__ = ["LoadOptions", "LoadRun", "Measures"]

Measures: TypeAlias = Mapping[str, str | int | float]


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """One run; units, ranges and which scenario reads what: `LoadOptions` in `_core.pyi`."""

    scenario: str
    host: str = "127.0.0.1"
    port: int = 1883
    unix: str | None = None
    tls: bool = False
    websocket: str | None = None
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    sources: Sequence[str] = ()
    protocol_version: int = 5
    username: str | None = None
    password: bytes | None = field(default=None, repr=False)
    client_prefix: str = "bench"
    broker_pid: int | None = None
    run: int = field(default_factory=lambda: secrets.randbits(32))
    patience_s: float = 5.0
    clients: int = 1
    subscribers: int = 0
    qos: int = 0
    subscriber_qos: int = 0
    lasting: bool = False
    retain: bool = False
    payload_bytes: int = 64
    window: int = 64
    rate: float = 0.0
    warm_s: float = 0.0
    duration_s: float = 10.0
    count: int | None = None
    topic: str = ""
    concurrency: int = 64
    hold_s: float = 0.0
    pings: int = 0
    subscriptions: int = 1
    batch: int = 1
    filters: Sequence[str] = ()
    flow_s: float = 0.0
