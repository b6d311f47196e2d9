"""Looks at the broker and its machine now and then, and raises and ends alarms accordingly. Runs on the engine's loop.

Knows readings, watermarks and the names that EMQ X gives these alarms; `storage_refusing` and `disk_high_watermark` are
ours. One look costs a few small files of /proc and the data plane a look at its connections; between looks it costs
nothing. The store says by itself when it refuses and when it recovers.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from whimbrel.alarms import Alarms
from whimbrel.engine.engine import Engine
from whimbrel.errors import EngineError
from whimbrel.services.vitals import Vitals
from whimbrel.settings.model import Sysmon

if TYPE_CHECKING:
    from whimbrel.engine.records import ClientRecord, StoreTurned

# Congested connections that are told of; the others are counted with them.
CONGESTED_MAX: Final = 100
STORAGE: Final = "storage_refusing"
_CONGESTION: Final = "conn_congestion/"
# Of a client identifier or user name in the name of an alarm.
_NAME_MAX: Final = 200

_log = logging.getLogger("whimbrel.monitors")


class Monitors:
    """Looks from `start` to `stop`."""

    def __init__(self, engine: Engine, alarms: Alarms, settings: Sysmon, vitals: Vitals) -> None:
        """Listen to the store from now on."""
        self._engine = engine
        self._alarms = alarms
        self._settings = settings
        self._vitals = vitals
        self._suspects: set[str] = set()  # Congested at the last look.
        self._task: asyncio.Task[None] | None = None
        engine.watch_store(self.on_store_turned)

    def start(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Look at once and from now on at every interval; `sleep` is asyncio's unless a test brings its own."""
        if self._settings.interval_ms > 0:
            self._task = asyncio.get_running_loop().create_task(self._forever(sleep))

    async def stop(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None

    def set_limits(self, settings: Sysmon) -> None:
        """Other watermarks and another interval, from now on. Blocks for nothing."""
        has_interval_changed = settings.interval_ms != self._settings.interval_ms
        self._settings = settings
        if has_interval_changed:
            if self._task is not None:
                self._task.cancel()
            self._task = None
            self.start()

    async def look(self) -> None:
        """One look at everything. Raises EngineError where the data plane does not answer."""
        self._look_at_vitals()
        self._alarms.save()
        await self._look_at_connections()

    def on_store_turned(self, event: "StoreTurned") -> None:
        """The store takes in nothing any more, or takes in again."""
        if event.refusal is not None:
            message = f"the store takes in nothing: {event.refusal}"
            self._alarms.activate(STORAGE, message, {"reason": event.refusal})
            return
        self._alarms.deactivate(STORAGE)
        self._alarms.save()

    def _look_at_vitals(self) -> None:
        limits, vitals = self._settings, self._vitals
        tasks = vitals.tasks()
        share = 100.0 * tasks / limits.max_tasks
        self._judge("cpu_high_watermark", vitals.cpu_percent(), (limits.cpu_high, limits.cpu_low), "the cores are busy")
        self._judge(
            "system_memory_high_watermark",
            vitals.system_memory_percent(),
            (limits.system_memory_high, limits.system_memory_low),
            "the machine's memory is in use",
        )
        self._judge(
            "process_memory_high_watermark",
            vitals.process_memory_percent(),
            (limits.process_memory_high, limits.process_memory_low),
            "this process has the machine's memory",
        )
        self._judge(
            "disk_high_watermark",
            vitals.disk_percent(),
            (limits.disk_high, limits.disk_low),
            "the disk of the data directory is in use",
        )
        self._judge("too_many_processes", share, (limits.tasks_high, limits.tasks_low), f"{tasks} tasks are alive")

    def _judge(self, name: str, percent: float | None, marks: tuple[int, int], what: str) -> None:
        high, low = marks
        if percent is None:
            return
        if percent > high:
            message = f"{what}: {percent:.1f} %, which is above {high} %"
            self._alarms.activate(name, message, {"usage_percent": percent, "high_watermark_percent": high})
        elif percent < low:
            self._alarms.deactivate(name)

    async def _look_at_connections(self) -> None:
        found = {_name(one): one for one in await self._congested()}
        for name, record in found.items():
            if name in self._suspects:
                self._alarms.activate(name, _message(record), _details(record))
        # Where there are more than were asked for, one that is missing may be congested all the same.
        is_whole = len(found) < CONGESTED_MAX
        for alarm in self._alarms.present() if is_whole else []:
            if alarm.name.startswith(_CONGESTION) and alarm.name not in found:
                self._alarms.deactivate(alarm.name)
        self._suspects = set(found)

    async def _congested(self) -> "list[ClientRecord]":
        limits = self._settings
        records: list[ClientRecord] = []
        cursor: int | None = 0
        while cursor is not None and len(records) < CONGESTED_MAX:
            page = await self._engine.congested_page(
                cursor=cursor,
                limit=CONGESTED_MAX - len(records),
                at_least=(limits.congestion_bytes, limits.congestion_len),
            )
            records.extend(page.records)
            cursor = page.next_cursor
        return records

    async def _forever(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        while True:
            try:
                await self.look()
            except EngineError as error:
                # The next time may be better; where the broker has stopped, `stop` ends this.
                _log.warning("the connections were not looked at: %s", error)
            await sleep(self._settings.interval_ms / 1_000)


def _name(record: "ClientRecord") -> str:
    return f"{_CONGESTION}{record.client_id[:_NAME_MAX]}/{(record.username or '')[:_NAME_MAX]}"


def _message(record: "ClientRecord") -> str:
    waiting = f"{record.outbox_bytes} bytes wait for its socket and {record.mqueue_len} messages behind its window"
    return f"the client {record.client_id[:_NAME_MAX]!r} does not take what it is sent: {waiting}"


def _details(record: "ClientRecord") -> dict[str, str | int | float | bool]:
    return {
        "client_id": record.client_id[:_NAME_MAX],
        "username": (record.username or "")[:_NAME_MAX],
        "peer": record.peer,
        "outbox_bytes": record.outbox_bytes,
        "mqueue_len": record.mqueue_len,
    }
