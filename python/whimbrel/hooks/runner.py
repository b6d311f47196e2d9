"""Joins one engine with one registry: declares the interest, passes questions and notices to the hooks.

Only wiring: how a question is answered stands in `questions`, how notices are delivered in `notices`. Runs on the
broker's loop.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from whimbrel.hooks.breaker import Breaker
from whimbrel.hooks.guard import Guard
from whimbrel.hooks.notices import WAITING_MAX, NoticeQueue
from whimbrel.hooks.points import POINTS
from whimbrel.hooks.questions import IN_PROGRESS_MAX, Questions
from whimbrel.hooks.registry import Registration, Registry

if TYPE_CHECKING:
    from whimbrel.alarms import Alarm
    from whimbrel.engine.engine import Engine
    from whimbrel.engine.records import Authenticate, Authorize, Connected, Disconnected, EnhancedAuthenticate

# Notices that are under way when the broker stops may take this long.
STOP_WAIT_S = 0.5

_COUNTS = (
    "whimbrel.hooks.failed",
    "whimbrel.hooks.notices",
    "whimbrel.hooks.notices.dropped",
    "whimbrel.hooks.questions",
    "whimbrel.hooks.questions.refused",
    "whimbrel.hooks.skipped",
)


class Runner:
    """The hooks of one running broker. Attends to `engine` from its construction on."""

    def __init__(
        self,
        engine: "Engine",
        registry: Registry,
        *,
        deadline_ms: int,
        clock: Callable[[], float] = time.monotonic,
        in_progress_max: int = IN_PROGRESS_MAX,
        notices_max: int = WAITING_MAX,
    ) -> None:
        """`deadline_ms` bounds each question and each batch; `clock` (monotonic seconds) drives the breakers.

        At most `in_progress_max` questions are worked on, and at most `notices_max` notices wait for each hook.
        """
        self._engine = engine
        self._registry = registry
        self._clock = clock
        self._deadline_s = deadline_ms / 1_000
        self._notices_max = notices_max
        self._counts = dict.fromkeys(_COUNTS, 0)
        self._guards: dict[Registration, Guard] = {}
        self._queues: dict[Registration, NoticeQueue] = {}
        self._leaving: set[asyncio.Task[None]] = set()  # Deliveries to hooks that are no longer registered.
        self._questions = Questions(
            engine, self._at, self._counts, deadline_s=self._deadline_s, in_progress_max=in_progress_max
        )
        engine.attend(self)
        registry.watch(self._refresh)
        self._refresh()

    def counters(self) -> dict[str, int]:
        """What the hooks were asked and told, as `whimbrel.hooks.*`."""
        return {**self._counts, "whimbrel.hooks.questions.in_progress": self._questions.in_progress}

    def authenticate(self, batch: "list[Authenticate]") -> None:
        """A batch of questions from the engine."""
        self._questions.authenticate(batch)

    def enhanced_authenticate(self, batch: "list[EnhancedAuthenticate]") -> None:
        """A batch of questions from the engine."""
        self._questions.enhanced_authenticate(batch)

    def authorize(self, batch: "list[Authorize]") -> None:
        """A batch of questions from the engine."""
        self._questions.authorize(batch)

    def connected(self, batch: "list[Connected]") -> None:
        """A batch of notices from the engine."""
        self._feed("connected", batch)

    def disconnected(self, batch: "list[Disconnected]") -> None:
        """A batch of notices from the engine."""
        self._feed("disconnected", batch)

    def tell_alarm(self, alarm: "Alarm") -> None:
        """An alarm was raised or is over."""
        self._feed("alarm_activated" if alarm.is_active else "alarm_deactivated", [alarm])

    def set_deadline(self, deadline_ms: int) -> None:
        """Another deadline, for questions and batches that begin from now on."""
        self._deadline_s = deadline_ms / 1_000
        self._questions.deadline_s = self._deadline_s
        for queue in self._queues.values():
            queue.deadline_s = self._deadline_s

    async def stop(self) -> None:
        """Drop the open questions, give running notices half a second, and both as long to end.

        Call it after the engine's stop.
        """
        self._registry.unwatch(self._refresh)
        questions = self._questions.cancel()
        notices = self._delivering(self._queues.values()) | self._leaving
        late = (await asyncio.wait(notices, timeout=STOP_WAIT_S))[1] if notices else set()
        for task in late:
            task.cancel()
        # What hooks do about their cancellation belongs to the broker's time; but a hook may ignore it.
        if ending := questions | late:
            await asyncio.wait(ending, timeout=STOP_WAIT_S)

    def _at(self, point: str) -> Sequence[Guard]:
        return [self._guards[registration] for registration in self._registry.at(point)]

    def _feed(self, point: str, batch: Sequence[object]) -> None:
        for registration in self._registry.at(point):
            self._queues[registration].feed(batch)

    def _refresh(self) -> None:
        current = [registration for point in POINTS for registration in self._registry.at(point)]
        # Those that stay keep their guard, and with it what their breaker has learned.
        self._guards = {one: self._guards.get(one) or self._guard(one) for one in current}
        removed = [queue for one, queue in self._queues.items() if one not in self._guards]
        self._queues = {one: self._queues.get(one) or self._queue(one) for one in current}
        for task in self._delivering(removed):
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)
        interest = self._registry.interest()
        self._engine.set_interest(
            authenticate=interest.authenticate,
            authorize=interest.authorize,
            connected=interest.connected,
            disconnected=interest.disconnected,
            enhanced_authenticate=interest.enhanced_authenticate,
        )

    @staticmethod
    def _delivering(queues: Iterable[NoticeQueue]) -> set[asyncio.Task[None]]:
        return {queue.task for queue in queues if queue.task is not None and not queue.task.done()}

    def _guard(self, registration: Registration) -> Guard:
        return Guard(registration, Breaker(self._clock), self._counts, clock=self._clock)

    def _queue(self, registration: Registration) -> NoticeQueue:
        guard = self._guards[registration]
        return NoticeQueue(guard, self._counts, deadline_s=self._deadline_s, waiting_max=self._notices_max)
