"""From records to JSON values, for the management line. Tables only: a new field is one row."""

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

    from whimbrel.alarms import Alarm
    from whimbrel.engine.records import ClientPage, ClientRecord
    from whimbrel.services.ledger import Balance
    from whimbrel.settings import Changes

_CLIENT: Final[Mapping[str, Callable[["ClientRecord"], object]]] = {
    name: attrgetter(name)
    for name in (
        "client_id",
        "username",
        "peer",
        "listener",
        "protocol_version",
        "is_connected",
        "clean_start",
        "keep_alive_s",
        "session_expiry_s",
        "connected_at_ms",
        "disconnected_at_ms",
        "subscriptions",
        "inflight",
        "mqueue_len",
        "outbox_bytes",
        "worker",
    )
}


def client(record: "ClientRecord") -> dict[str, object]:
    """One client with all its fields."""
    return {name: get(record) for name, get in _CLIENT.items()}


def client_page(page: "ClientPage") -> dict[str, object]:
    """A page of clients and the cursor of the next one."""
    return {"clients": [client(record) for record in page.records], "next_cursor": page.next_cursor}


def counters(counts: Mapping[str, int]) -> dict[str, int]:
    """Counters by name."""
    return dict(counts)


def balance(found: "Balance") -> dict[str, object]:
    """The ledger: its lines with all parts, and what is between two workers."""
    lines = [
        {"name": line.name, "came": dict(line.came), "became": dict(line.became), "missing": line.missing}
        for line in found.lines
    ]
    return {"lines": lines, "on_the_way": found.on_the_way, "is_even": found.is_even}


def alarms(found: "Sequence[Alarm]") -> list[dict[str, object]]:
    """Alarms with all their fields; times are Unix milliseconds, None where one holds."""
    return [
        {
            "name": one.name,
            "message": one.message,
            "details": dict(one.details),
            "activated_at_ms": one.activated_us // 1_000,
            "deactivated_at_ms": None if one.deactivated_us is None else one.deactivated_us // 1_000,
        }
        for one in found
    ]


def nothing(_result: object) -> dict[str, object]:
    """The answer of an operation that only acts."""
    return {}


def reloaded(found: "tuple[Changes, int]") -> dict[str, object]:
    """What a reload changed, what waits for a restart, and how many listeners have their certificates anew."""
    changes, certificates = found
    return {"now": list(changes.now), "at_restart": list(changes.at_restart), "certificates": certificates}


def copied(path: "Path") -> dict[str, object]:
    """Where a copy is."""
    return {"path": str(path)}


def process(pid: int) -> dict[str, object]:
    """The answer of `ping`: who is there."""
    return {"pid": pid}
