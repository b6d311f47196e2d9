"""A double of the binding: one data plane in memory, for tests of everything above it.

Faithful to `_core.pyi` in names, types of events and order of calls; it has sessions, taps and counters, and no socket
but the one that wakes the loop. `test_fake_core` compares it with the stub. Tests reach behind the face with the
methods at the end (`enter`, `tell`, `asked`).
"""

import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar


@dataclass(frozen=True, kw_only=True)
class Message:
    topic: str
    payload: bytes = b""
    size_bytes: int = 100
    qos: int = 0
    retain: bool = False
    client_id: str = ""
    timestamp_ms: int = 0
    user_properties: list[tuple[str, str]] = field(default_factory=list)
    content_type: str | None = None
    response_topic: str | None = None
    correlation_data: bytes | None = None


@dataclass(frozen=True, kw_only=True)
class Authenticate:
    ticket: int
    client_id: str = "c1"
    username: str | None = None
    password: bytes | None = None
    peer: str = "127.0.0.1:50000"
    listener: str = "tcp:default"
    protocol_version: int = 5
    keep_alive_s: int = 60
    clean_start: bool = True
    is_anonymous_allowed: bool = True


@dataclass(frozen=True, kw_only=True)
class EnhancedAuthenticate:
    ticket: int
    exchange: int = 1
    step: int = 0
    is_reauthentication: bool = False
    method: str = "m"
    auth_data: bytes | None = None
    client_id: str = "c"
    username: str | None = None
    password: bytes | None = None
    peer: str = "127.0.0.1:50000"
    listener: str = "tcp:default"


@dataclass(frozen=True, kw_only=True)
class Authorize:
    ticket: int
    client_id: str = "c1"
    username: str | None = None
    peer: str = "127.0.0.1:50000"
    action: str = "publish"
    topics: list[str] = field(default_factory=lambda: ["a"])
    qos: int = 0
    retain: bool = False


@dataclass(frozen=True, kw_only=True)
class Connected:
    client_id: str
    username: str | None = None
    peer: str = "127.0.0.1:50000"
    listener: str = "tcp:default"
    protocol_version: int = 5
    keep_alive_s: int = 60
    clean_start: bool = True
    session_present: bool = False
    timestamp_ms: int = 0


@dataclass(frozen=True, kw_only=True)
class Disconnected:
    client_id: str
    username: str | None = None
    peer: str = "127.0.0.1:50000"
    reason: str = "normal"
    reason_code: int = 0
    text: str = ""
    timestamp_ms: int = 0


@dataclass(frozen=True, kw_only=True)
class TapBatch:
    tap: int
    messages: list[Message]
    dropped: int = 0


@dataclass(frozen=True, kw_only=True)
class ClientRecord:
    client_id: str
    username: str | None = None
    peer: str = "127.0.0.1:50000"
    listener: str = "tcp:default"
    protocol_version: int = 5
    is_connected: bool = True
    clean_start: bool = True
    keep_alive_s: int = 60
    session_expiry_s: int = 0
    connected_at_ms: int = 0
    disconnected_at_ms: int = 0
    subscriptions: int = 0
    inflight: int = 0
    mqueue_len: int = 0
    outbox_bytes: int = 0
    worker: int = 0


@dataclass(frozen=True, kw_only=True)
class ClientPage:
    ticket: int
    records: list[ClientRecord]
    next_cursor: int | None


@dataclass(frozen=True, kw_only=True)
class Audited:
    ticket: int
    lines: list[tuple[str, list[tuple[str, int]], list[tuple[str, int]], int]]
    on_the_way: int


@dataclass(frozen=True, kw_only=True)
class Kicked:
    ticket: int
    found: bool


@dataclass(frozen=True, kw_only=True)
class Published:
    ticket: int
    receivers: int


@dataclass(frozen=True, kw_only=True)
class Refused:
    ticket: int
    text: str


@dataclass(frozen=True, kw_only=True)
class RowsChanged:
    ticket: int
    refusal: str | None = None


@dataclass(frozen=True, kw_only=True)
class StoreTurned:
    refusal: str | None = None
    timestamp_ms: int = 0


@dataclass(frozen=True, kw_only=True)
class LogLine:
    level: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Stopped:
    pass


class StorageError(Exception):
    """A store cannot be used."""


class DataPlane:
    """One data plane. `is_mute` keeps it from replying, for tests of what happens then."""

    # Messages that the ledger misses.
    lost = 0
    # What a start finds.
    found_rows: ClassVar[dict[bytes, bytes]] = {}

    def __init__(self, options: Any) -> None:
        self.options = options
        self.interest: dict[str, bool] = {}
        self.answers: list[tuple[int, Any]] = []
        self.texts: dict[int, list[str]] = {}
        self.sessions: dict[str, ClientRecord] = {}
        self.taps: dict[int, Sequence[str]] = {}
        self.published: list[Message] = []
        self.is_mute = False
        self.watched: list[str] = []
        self.is_joined = False
        self.reloaded: tuple[tuple[Any, ...], int] | None = None
        self.interest_at_opening: dict[str, bool] | None = None
        self._events: list[Any] = []
        self.rows: dict[bytes, bytes] = dict(self.found_rows)
        self.refusal: str | None = None
        self.refusals = 0
        self._is_stopping = False
        self._far, self._near = socket.socketpair()

    def open(self) -> None:
        self.interest_at_opening = dict(self.interest)

    @property
    def wake_fd(self) -> int:
        return self._near.fileno()

    def listeners(self) -> list[tuple[str, str, str]]:
        return [(one.kind, one.name, one.path or f"{one.host}:{one.port or 40_000}") for one in self.options.listeners]

    def drain(self) -> list[Any]:
        if self._events:
            self._near.recv(1)
        events, self._events = self._events, []
        return events

    def set_interest(
        self,
        *,
        authenticate: bool,
        authorize: bool,
        connected: bool,
        disconnected: bool,
        enhanced_authenticate: bool = False,
    ) -> None:
        self.interest = {
            "authenticate": authenticate,
            "authorize": authorize,
            "connected": connected,
            "disconnected": disconnected,
            "enhanced_authenticate": enhanced_authenticate,
        }

    def reload(self, zones: Sequence[Any], question_deadline_ms: int) -> None:
        self.reloaded = (tuple(zones), question_deadline_ms)

    def answer_authenticate(
        self, ticket: int, reason_code: int, is_superuser: bool, text: str = "", is_anonymous: bool = False
    ) -> None:
        self.texts[ticket] = [text]
        self.answers.append((ticket, (reason_code, is_superuser)))

    def answer_enhanced(
        self, ticket: int, reason_code: int, auth_data: bytes | None, is_superuser: bool, text: str = ""
    ) -> None:
        self.texts[ticket] = [text]
        self.answers.append((ticket, (reason_code, auth_data, is_superuser)))

    def answer_authorize(self, ticket: int, reason_codes: Sequence[int], texts: Sequence[str] = ()) -> None:
        self.texts[ticket] = list(texts)
        self.answers.append((ticket, list(reason_codes)))

    def publish(
        self,
        ticket: int,
        topic: str,
        payload: bytes,
        *,
        qos: int,
        retain: bool,
        user_properties: Sequence[tuple[str, str]] = (),
    ) -> None:
        if "#" in topic or "+" in topic or not topic:
            raise ValueError(f"{topic!r} is not a topic")
        message = Message(topic=topic, payload=payload, qos=qos, retain=retain, user_properties=list(user_properties))
        self.published.append(message)
        taps = [number for number, filters in self.taps.items() if any(_matches(one, topic) for one in filters)]
        for number in taps:
            self.tell(TapBatch(tap=number, messages=[message]))
        self._reply(Published(ticket=ticket, receivers=len(taps)))

    def open_tap(self, filters: Sequence[str], capacity: int) -> int:
        assert capacity > 0
        number = len(self.taps) + 1
        self.taps[number] = filters
        return number

    def close_tap(self, tap: int) -> None:
        del self.taps[tap]

    def request_clients(self, ticket: int, cursor: int, limit: int) -> None:
        records = list(self.sessions.values())
        end = cursor + limit
        next_cursor = end if end < len(records) else None
        self._reply(ClientPage(ticket=ticket, records=records[cursor:end], next_cursor=next_cursor))

    def request_congested(self, ticket: int, cursor: int, bytes: int, messages: int, limit: int) -> None:
        found = [one for one in self.sessions.values() if one.outbox_bytes >= bytes or one.mqueue_len >= messages]
        end = cursor + limit
        next_cursor = end if end < len(found) else None
        self._reply(ClientPage(ticket=ticket, records=found[cursor:end], next_cursor=next_cursor))

    def backup(self, path: str) -> None:
        raise StorageError(f"{path}: there is no store to copy")

    def reload_certificates(self) -> int:
        return sum(one.tls is not None for one in self.options.listeners)

    def kick(self, ticket: int, client_id: str) -> None:
        self._reply(Kicked(ticket=ticket, found=self.sessions.pop(client_id, None) is not None))

    def take_rows(self) -> list[tuple[bytes, bytes]]:
        return sorted(self.rows.items())

    def change_rows(self, ticket: int, seen: int, changes: Sequence[tuple[bytes, bytes | None, bytes | None]]) -> None:
        assert seen == self.refusals
        if any(b"/" not in name for name, _, _ in changes):
            raise ValueError("a row is called family/key")
        if self.refusal is None and not self.is_mute:
            for name, value, before in changes:
                assert self.rows.get(name) == before, f"{name!r} was {self.rows.get(name)!r}, not {before!r}"
                self.rows.pop(name, None) if value is None else self.rows.update({name: value})
        self.refusals += self.refusal is not None
        self._reply(RowsChanged(ticket=ticket, refusal=self.refusal))

    def request_audit(self, ticket: int) -> None:
        line = ("received", [("messages.received", 3)], [("whimbrel.routed.clients", 3 - self.lost)], self.lost)
        self._reply(Audited(ticket=ticket, lines=[line], on_the_way=0))

    def is_watched(self, prefix: str) -> bool:
        return any(one.startswith(prefix) for one in self.watched)

    def counters(self) -> dict[str, int]:
        return self.metrics() | self.stats()

    def metrics(self) -> dict[str, int]:
        return {"messages.received": len(self.published)}

    def stats(self) -> dict[str, int]:
        return {"connections.count": len(self.sessions), "connections.max": len(self.sessions)}

    def stop(self, grace_ms: int) -> None:
        assert grace_ms >= 0
        if not self._is_stopping:
            self._is_stopping = True
            self._reply(Stopped())

    def join(self) -> None:
        self.is_joined = True
        self._far.close()
        self._near.close()

    # What tests do behind the face.

    def enter(self, *client_ids: str) -> None:
        """Give the broker sessions."""
        self.sessions.update({client_id: ClientRecord(client_id=client_id) for client_id in client_ids})

    def tell(self, *events: Any) -> None:
        """Send events, as one batch when the loop has not drained before."""
        if not self._events:
            self._far.send(b"!")
        self._events.extend(events)

    def _reply(self, event: Any) -> None:
        if not self.is_mute:
            self.tell(event)


def _matches(topic_filter: str, topic: str) -> bool:
    wanted, found = topic_filter.split("/"), topic.split("/")
    if wanted[-1] == "#":
        wanted, found = wanted[:-1], found[: len(wanted) - 1]
    return len(wanted) == len(found) and all(want in ("+", have) for want, have in zip(wanted, found, strict=True))
