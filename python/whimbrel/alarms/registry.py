"""The alarms of one broker: those that are active, and a history that survives a restart.

Knows that an alarm is active once, however often it is raised, and that its history is bounded by number and age. What
the store does not take at the moment is kept and written when it does: an alarm about the store must not need it.
Alarms that were active when the broker ended are ended at the next start, because nobody watched them since. Belongs to
the engine's loop.

Bounds: `ACTIVE_MAX` active alarms; further ones are logged once, counted and not raised. Names of `NAME_BYTES_MAX`.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

from whimbrel.errors import EngineError, StorageRefused
from whimbrel.tables import Family, Step, Tables

ACTIVE_MAX: Final = 1_000
NAME_BYTES_MAX: Final = 1_024
# More steps than these go in several changes.
_STEPS_MAX: Final = 200

Detail: TypeAlias = str | int | float | bool
"""What a detail of an alarm can be."""

_log = logging.getLogger("whimbrel.alarms")


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """Something that is wrong, or was. Times are Unix microseconds; `deactivated_us` is None while it is active."""

    name: str
    message: str
    details: Mapping[str, Detail] = field(default_factory=dict)
    activated_us: int
    deactivated_us: int | None = None

    @property
    def is_active(self) -> bool:
        """Whether it still holds."""
        return self.deactivated_us is None


FAMILY: Final = Family(name="alarms", row=Alarm, rows_max=200_000)


class Alarms:
    """Who raises an alarm calls `activate`, and `deactivate` when it is over; both as often as they like."""

    def __init__(
        self,
        tables: Tables,
        *,
        size_limit: int = 1_000,
        validity_ms: int = 24 * 3_600_000,
        clock_us: Callable[[], int] = lambda: time.time_ns() // 1_000,
    ) -> None:
        """Take the history that the store has; `clock_us` tells Unix microseconds."""
        self._tables = tables
        self._table = tables.open(FAMILY)
        self._clock_us = clock_us
        self._size_limit, self._validity_us = size_limit, validity_ms * 1_000
        self._active: dict[str, str] = {}  # Name -> key.
        self._known: dict[str, Alarm] = {}  # By key, oldest first; what the table will be.
        self._unsaved: dict[str, Alarm | None] = {}  # None: to be removed.
        self._watchers: list[Callable[[Alarm], None]] = []
        self._saving: asyncio.Task[None] | None = None
        self._is_full = False
        names = ("whimbrel.alarms.activated", "whimbrel.alarms.deactivated", "whimbrel.alarms.refused")
        self._counts = dict.fromkeys(names, 0)
        self._next = 1
        self._take_up()

    def activate(self, name: str, message: str, details: Mapping[str, Detail] | None = None) -> bool:
        """Raise an alarm; whether it was not active.

        Raises ValueError for a name that is empty or longer than 1 KiB, and for what no row can hold: more than 64 KiB,
        numbers that are none, half characters.
        """
        if not 0 < len(name.encode()) <= NAME_BYTES_MAX:
            raise ValueError(f"the name of an alarm has 1 to {NAME_BYTES_MAX} bytes, not {len(name.encode())}")
        if name in self._active or not self._has_room(name):
            return False
        alarm = Alarm(name=name, message=message, details=dict(details or {}), activated_us=self._clock_us())
        key = f"{self._next:015d}"
        self._table.putting(key, alarm)  # Now, and not when nobody can be told any more.
        self._next += 1
        self._active[name] = key
        self._counts["whimbrel.alarms.activated"] += 1
        _log.warning("alarm %s: %s", name, message)
        self._set(key, alarm)
        self._tell(alarm)
        return True

    def deactivate(self, name: str) -> bool:
        """End an alarm; whether it was active."""
        key = self._active.pop(name, None)
        if key is None:
            return False
        # A clock that was set back must not let an alarm end before it began.
        active = self._known[key]
        alarm = replace(active, deactivated_us=max(self._clock_us(), active.activated_us))
        self._is_full = False
        self._counts["whimbrel.alarms.deactivated"] += 1
        _log.info("alarm %s is over", name)
        self._set(key, alarm)
        self._tell(alarm)
        return True

    def is_active(self, name: str) -> bool:
        """Whether the alarm of this name holds."""
        return name in self._active

    def present(self) -> list[Alarm]:
        """Those that hold, the oldest first."""
        return [self._known[key] for key in self._active.values()]

    def history(self) -> list[Alarm]:
        """Those that are over, in the order in which they began; bounded by the size limit and the validity."""
        self._trim()
        return [alarm for alarm in self._known.values() if not alarm.is_active]

    def watch(self, changed: Callable[[Alarm], None]) -> None:
        """Call `changed` for every alarm that is raised or ends from now on. It must return at once."""
        self._watchers.append(changed)

    def set_bounds(self, *, size_limit: int, validity_ms: int) -> None:
        """Other bounds of the history, from now on."""
        self._size_limit, self._validity_us = size_limit, validity_ms * 1_000
        self._trim()
        self.save()

    def counters(self) -> dict[str, int]:
        """What happened, as `whimbrel.alarms.*`."""
        gauges = {"whimbrel.alarms.active": len(self._active), "whimbrel.alarms.unsaved": len(self._unsaved)}
        return {**self._counts, **gauges}

    def save(self) -> None:
        """Write what is not written yet, if the store takes it; called by itself, and again when the store recovers."""
        if self._unsaved and (self._saving is None or self._saving.done()):
            self._saving = asyncio.get_running_loop().create_task(self._save())

    async def stop(self, *, wait_s: float) -> None:
        """Wait until all is written that can be, at most so long. Call it before the engine's stop."""
        if self._saving is not None:
            await asyncio.wait({self._saving}, timeout=wait_s)

    def _take_up(self) -> None:
        for key, alarm in self._table.items():
            self._known[key] = alarm
            self._next = max(self._next, int(key) + 1 if key.isdecimal() else 0)
        now_us = self._clock_us()
        for key, alarm in list(self._known.items()):
            if alarm.is_active:
                self._known[key] = self._unsaved[key] = replace(alarm, deactivated_us=max(now_us, alarm.activated_us))
        self._trim()

    def _has_room(self, name: str) -> bool:
        if len(self._active) < ACTIVE_MAX:
            return True
        self._counts["whimbrel.alarms.refused"] += 1
        if not self._is_full:
            self._is_full = True
            _log.error("%d alarms are active, so %s and what comes after it is not raised", ACTIVE_MAX, name)
        return False

    def _set(self, key: str, alarm: Alarm) -> None:
        self._known[key] = self._unsaved[key] = alarm
        self._trim()
        self.save()

    def _trim(self) -> None:
        ended = [key for key, alarm in self._known.items() if not alarm.is_active]
        too_many = max(0, len(ended) - self._size_limit)
        oldest_us = self._clock_us() - self._validity_us
        for number, key in enumerate(ended):
            if number < too_many or (self._known[key].deactivated_us or 0) < oldest_us:
                del self._known[key]
                self._unsaved[key] = None

    def _tell(self, alarm: Alarm) -> None:
        for changed in self._watchers:
            changed(alarm)

    async def _save(self) -> None:
        while self._unsaved:
            portion = dict(list(self._unsaved.items())[:_STEPS_MAX])
            try:
                await self._tables.change(*(self._step(key, alarm) for key, alarm in portion.items()))
            except (StorageRefused, EngineError) as error:
                _log.warning("%d changes of alarms are not stored yet: %s", len(self._unsaved), error)
                return
            for key, alarm in portion.items():
                # It may have changed again meanwhile.
                if self._unsaved.get(key) is alarm:
                    self._unsaved.pop(key, None)

    def _step(self, key: str, alarm: Alarm | None) -> Step:
        return self._table.deleting(key) if alarm is None else self._table.putting(key, alarm)
