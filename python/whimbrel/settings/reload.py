"""What changes between two sets of settings, and which of it can hold without a restart.

Pure: two frozen `Settings` in, the names of keys out. What `needs_restart` is said by each key's row in `table`; how a
change is carried out is `app.assembly`'s affair.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from whimbrel.settings.model import Mqtt, Settings
from whimbrel.settings.table import ROWS, Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """Dotted keys whose values differ: those that hold at once, and those that wait for the next start."""

    now: tuple[str, ...]
    at_restart: tuple[str, ...]


def changes(old: Settings, new: Settings) -> Changes:
    """Compare two sets of settings; keys in the order of the reference, listeners and zones by name."""
    before, after = dict(_values(old)), dict(_values(new))
    differing = [key for key in (before | after) if before.get(key) != after.get(key)]
    # A zone that came or went concerns listeners, and those do not move while the broker runs.
    known = {f"zones.{name}" for name in old.zones.keys() & new.zones.keys()}
    now = [key for key in differing if _holds_at_once(key, known)]
    return Changes(now=tuple(now), at_restart=tuple(key for key in differing if key not in now))


_AT_ONCE = frozenset(row.key for row in ROWS if not row.needs_restart)


def _holds_at_once(key: str, known_zones: set[str]) -> bool:
    if not key.startswith("zones."):
        return key in _AT_ONCE
    zone, name = ".".join(key.split(".")[:2]), key.split(".", 2)[2]
    return zone in known_zones and f"zones.<name>.{name}" in _AT_ONCE


def _values(settings: Settings) -> Iterator[tuple[str, object]]:
    for row in ROWS:
        if "<" not in row.key:
            holder = getattr(settings, row.section) if row.section else settings
            yield row.key, getattr(holder, row.field)
    for listener in settings.listeners:
        yield f"listeners.{listener.kind}.{listener.name}", listener
    for name, zone in settings.zones.items():
        yield from _zone_values(name, zone, {row.key: row for row in ROWS if row.key.startswith("mqtt.")})


def _zone_values(name: str, zone: Mqtt, rows: Mapping[str, Row]) -> Iterator[tuple[str, object]]:
    for key, row in rows.items():
        yield f"zones.{name}.{key}", getattr(zone, row.field)
