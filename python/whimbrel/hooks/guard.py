"""Calls one registered hook under a deadline, behind its breaker.

Knows one hook, how to count and log its failures, and nothing of questions or notices. Whatever the hook does, `call`
returns: its reading of the hook's result, or the value that stands for failure. Runs on the broker's loop.

Only missed deadlines count for the breaker. An exception costs nobody a wait, and a client may be able to provoke it:
were it counted, a few bad CONNECTs would lock everybody out.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final, TypeVar

from whimbrel.hooks.breaker import Breaker, State
from whimbrel.hooks.registry import Registration

ResultT = TypeVar("ResultT")

# A client that can make a hook raise must not be able to fill the log.
LOG_EVERY_S: Final = 60.0

_log = logging.getLogger("whimbrel.hooks")


class Guard:
    """One hook that can hurt nobody but itself. `counts` is shared by all guards of a runner."""

    def __init__(
        self, registration: Registration, breaker: Breaker, counts: dict[str, int], *, clock: Callable[[], float]
    ) -> None:
        """`clock` gives monotonic seconds."""
        self.registration = registration
        self._breaker = breaker
        self._counts = counts
        self._clock = clock
        self._log_from = float("-inf")
        self._unlogged = 0

    async def call(
        self, argument: object, *, deadline: float, read: Callable[[Any], ResultT], failed: ResultT
    ) -> ResultT:
        """Call the hook with `argument` and return `read(result)`, or `failed` where the hook or the reading fails.

        `deadline` is in the loop's time. An open breaker answers `failed` at once.
        """
        if not self._breaker.admits():
            self._counts["whimbrel.hooks.skipped"] += 1
            return failed
        scope = asyncio.timeout_at(deadline)
        try:
            async with scope:
                result = read(await self.registration.hook(argument))
        except asyncio.CancelledError as error:
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise  # We are told to stop; else the hook let the cancellation of its own work through.
            self._note_exception(error)
            return failed
        except Exception as error:  # noqa: BLE001  A hook is foreign code; whatever it raises is counted and answered.
            if scope.expired():
                self._note_lateness()
            else:
                self._note_exception(error)
            return failed
        if scope.expired():  # It did not let its cancellation through.
            self._note_lateness()
            return failed
        self._note_in_time()
        return result

    def _note_in_time(self) -> None:
        if self._breaker.succeeded():
            _log.info("%s hook %s is in time again", self.registration.point, self.registration.name)

    def _note_lateness(self) -> None:
        self._counts["whimbrel.hooks.failed"] += 1
        # Once for each change of state: a late hook under load must not fill the log.
        if not self._breaker.late():
            return
        point, name = self.registration.point, self.registration.name
        if self._breaker.state is State.OPEN:
            _log.error("%s hook %s keeps missing its deadline and is not called for a while", point, name)
        else:
            _log.warning("%s hook %s missed its deadline", point, name)

    def _note_exception(self, error: BaseException) -> None:
        self._counts["whimbrel.hooks.failed"] += 1
        self._note_in_time()
        if self._clock() < self._log_from:
            self._unlogged += 1
            return
        more = f" ({self._unlogged} more since the last such line)" if self._unlogged else ""
        self._log_from, self._unlogged = self._clock() + LOG_EVERY_S, 0
        point, name, kind = self.registration.point, self.registration.name, type(error).__name__
        _log.warning("%s hook %s failed: %s: %s%s", point, name, kind, error, more, exc_info=error)
