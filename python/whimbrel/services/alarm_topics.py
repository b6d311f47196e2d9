"""Alarms under `$SYS/brokers/<node>/alarms/activate` and `.../deactivate`, JSON as EMQ X 4 has it.

Knows topics and fields. Not retained, QoS 0, and only while somebody subscribes to them: an alarm that is active is
asked for (`whimbrel ctl alarms`), and the tree tells what happens. Bound: `WAITING_MAX` under way, further ones are
counted and not sent. Runs on the engine's loop.
"""

import asyncio
import json
import logging
from typing import Final

from whimbrel.alarms import Alarm, Alarms
from whimbrel.engine.engine import Engine
from whimbrel.errors import EngineError

WAITING_MAX: Final = 1_000

_log = logging.getLogger("whimbrel.alarms")


class AlarmTopics:
    """Publishes from its construction on, until the engine stops."""

    def __init__(self, engine: Engine, alarms: Alarms, *, node: str) -> None:
        self._engine = engine
        self._root = f"$SYS/brokers/{node}/alarms"
        self._waiting: set[asyncio.Task[None]] = set()
        self._dropped = 0
        alarms.watch(self.publish)

    def counters(self) -> dict[str, int]:
        """What could not be sent."""
        return {"whimbrel.alarms.topics.dropped": self._dropped}

    def publish(self, alarm: Alarm) -> None:
        """Send one in the background."""
        if not self._engine.is_watched(self._root):
            return
        if len(self._waiting) >= WAITING_MAX:
            self._dropped += 1
            return
        task = asyncio.get_running_loop().create_task(self._publish(alarm))
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def _publish(self, alarm: Alarm) -> None:
        word = "activate" if alarm.is_active else "deactivate"
        try:
            await self._engine.publish(f"{self._root}/{word}", payload(alarm))
        except EngineError as error:
            self._dropped += 1
            _log.warning("the alarm %s was not published: %s", alarm.name, error)


def payload(alarm: Alarm) -> bytes:
    """Times in microseconds; an alarm that is active ends at "infinity"."""
    fields = {
        "name": alarm.name,
        "message": alarm.message,
        "details": dict(alarm.details),
        "activate_at": alarm.activated_us,
        "deactivate_at": "infinity" if alarm.deactivated_us is None else alarm.deactivated_us,
        "activated": alarm.is_active,
    }
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
