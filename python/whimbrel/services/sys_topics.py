"""The periodic part of the `$SYS/brokers` tree, as EMQ X publishes it. Runs on the engine's loop.

Knows topics, texts and when they are due. Who comes and goes is told by the data plane itself. What is not retained is
only made while somebody subscribes to it, so a tree that nobody reads costs two wake-ups a minute.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Final

from whimbrel.engine.engine import Engine
from whimbrel.errors import EngineError
from whimbrel.services.metrics import Metrics
from whimbrel.settings.model import Sys

DESCRIPTION: Final = "Whimbrel"
# Our own names are for `whimbrel ctl`; the tree has those that monitors of EMQ X know.
_OWN: Final = "whimbrel."
_UNITS: Final = ((86_400, "days"), (3_600, "hours"), (60, "minutes"), (1, "seconds"))

_log = logging.getLogger("whimbrel.sys")


class SysTopics:
    """Publishes from `start` to `stop`."""

    def __init__(
        self,
        engine: Engine,
        metrics: Metrics,
        settings: Sys,
        *,
        node: str,
        version: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` (monotonic seconds) tells the uptime; it counts from now."""
        self._engine = engine
        self._metrics = metrics
        self._settings = settings
        self._root = f"$SYS/brokers/{node}"
        self._node = node
        self._version = version
        self._clock = clock
        self._started_s = clock()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Publish what is due at once, and from now on at its times."""
        self._repeat(self.tick, self._settings.interval_ms)
        self._repeat(self.beat, self._settings.heartbeat_ms)

    async def stop(self) -> None:
        """Publish nothing any more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def tick(self) -> None:
        """Publish who this broker is, retained, and its numbers, to those that listen. Raises EngineError."""
        facts = {"$SYS/brokers": self._node}
        facts |= {f"{self._root}/version": self._version, f"{self._root}/sysdescr": DESCRIPTION}
        await self._publish(facts, retain=True)
        await self._publish_numbers("stats", self._metrics.stats)
        await self._publish_numbers("metrics", self._metrics.metrics)

    async def beat(self) -> None:
        """Publish how long the broker runs and what time it has, to those that listen. Raises EngineError."""
        if not self._engine.is_watched(self._root):
            return
        uptime = uptime_text(int(self._clock() - self._started_s))
        now = datetime.now().strftime("%Y-%m-%d %H:%M:%S")  # noqa: DTZ005  EMQ X tells the local time.
        await self._publish({f"{self._root}/uptime": uptime, f"{self._root}/datetime": now})

    async def _publish_numbers(self, kind: str, read: Callable[[], Mapping[str, int]]) -> None:
        prefix = f"{self._root}/{kind}"
        if not self._engine.is_watched(prefix):
            return
        known = {name: number for name, number in read().items() if not name.startswith(_OWN)}
        await self._publish({f"{prefix}/{name.replace('.', '/')}": str(number) for name, number in known.items()})

    async def _publish(self, texts: Mapping[str, str], *, retain: bool = False) -> None:
        publish = self._engine.publish
        await asyncio.gather(*(publish(topic, text.encode(), retain=retain) for topic, text in texts.items()))

    def _repeat(self, publish: Callable[[], Awaitable[None]], interval_ms: int) -> None:
        if interval_ms > 0:
            self._tasks.add(asyncio.get_running_loop().create_task(_forever(publish, interval_ms / 1_000)))


async def _forever(publish: Callable[[], Awaitable[None]], interval_s: float) -> None:
    while True:
        try:
            await publish()
        except EngineError as error:
            # The next time may be better; where the broker has stopped, `stop` ends this.
            _log.warning("nothing was published under $SYS: %s", error)
        await asyncio.sleep(interval_s)


def uptime_text(seconds: int) -> str:
    """`1 days, 2 hours, 0 minutes, 4 seconds`, without the leading units that are zero."""
    parts: list[str] = []
    rest = seconds
    for size, unit in _UNITS:
        count, rest = divmod(rest, size)
        if count or parts or size == 1:
            parts.append(f"{count} {unit}")
    return ", ".join(parts)
