"""Hands notices to one hook in batches.

One bounded queue and at most one running call for each hook, so a slow hook delays and loses only its own notices;
what it loses is counted. Runs on the broker's loop; makes one task per burst, not per notice.
"""

import asyncio
from collections import deque
from collections.abc import Sequence

from whimbrel.hooks.guard import Guard

WAITING_MAX = 10_000
BATCH_MAX = 1_000


class NoticeQueue:
    """The notices that wait for one hook, oldest first; when `waiting_max` wait, the newest are dropped."""

    def __init__(
        self, guard: Guard, counts: dict[str, int], *, deadline_s: float, waiting_max: int = WAITING_MAX
    ) -> None:
        self._guard = guard
        self._counts = counts
        self.deadline_s = deadline_s
        self._waiting_max = waiting_max
        self._waiting: deque[object] = deque()
        self.task: asyncio.Task[None] | None = None

    def feed(self, batch: Sequence[object]) -> None:
        """Queue a batch and see to it that it is delivered."""
        room = self._waiting_max - len(self._waiting)
        self._counts["whimbrel.hooks.notices"] += len(batch)
        self._counts["whimbrel.hooks.notices.dropped"] += max(0, len(batch) - room)
        self._waiting.extend(batch[:room])
        if self.task is None or self.task.done():
            self.task = asyncio.get_running_loop().create_task(self._deliver())

    async def _deliver(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(BATCH_MAX, len(self._waiting)))]
            deadline = loop.time() + self.deadline_s
            is_taken = await self._guard.call(batch, deadline=deadline, read=_taken, failed=False)
            if not is_taken:
                self._counts["whimbrel.hooks.notices.dropped"] += len(batch)


def _taken(_result: object) -> bool:
    return True
