"""Calls one registered hook under a deadline, behind its breaker.

Knows one hook, how to count and log its failures, and nothing of questions or notices. Whatever the hook does, `call`
returns: its reading of the hook's result, or the value that stands for failure. Runs on the broker's loop.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, TypeVar

from whimbrel.hooks.breaker import Breaker, State
from whimbrel.hooks.registry import Registration

ResultT = TypeVar("ResultT")

_log = logging.getLogger("whimbrel.hooks")


class Guard:
    """One hook that can hurt nobody but itself. `counts` is shared by all guards of a runner."""

    def __init__(self, registration: Registration, breaker: Breaker, counts: dict[str, int]) -> None:
        self.registration = registration
        self._breaker = breaker
        self._counts = counts

    async def call(
        self, argument: object, *, deadline: float, read: Callable[[Any], ResultT], failed: ResultT
    ) -> ResultT:
        """Call the hook with `argument` and return `read(result)`, or `failed` where the hook or the reading fails.

        `deadline` is in the loop's time. An open breaker answers `failed` at once.
        """
        if not self._breaker.admits():
            self._counts["whimbrel.hooks.skipped"] += 1
            return failed
        try:
            async with asyncio.timeout_at(deadline):
                result = read(await self.registration.hook(argument))
        except Exception as error:  # noqa: BLE001  A hook is foreign code; whatever it raises is counted and answered.
            self._note_failure(error)
            return failed
        if self._breaker.succeeded():
            _log.info("%s hook %s works again", self.registration.point, self.registration.name)
        return result

    def _note_failure(self, error: Exception) -> None:
        self._counts["whimbrel.hooks.failed"] += 1
        # Once for each change of state: a failing hook under load must not fill the log.
        if not self._breaker.failed():
            return
        what = "missed its deadline" if isinstance(error, TimeoutError) else f"failed: {type(error).__name__}: {error}"
        point, name = self.registration.point, self.registration.name
        if self._breaker.state is State.OPEN:
            _log.error("%s hook %s %s; it keeps failing and is not called for a while", point, name, what)
        else:
            _log.warning("%s hook %s %s", point, name, what, exc_info=error)
