"""Waiting for a condition with a bound, instead of sleeping: for a loop (`until`) and for threads (`wait_until`)."""

import asyncio
import time
from collections.abc import Callable

WITHIN_S = 10.0


async def until(condition: Callable[[], object], *, within_s: float = WITHIN_S) -> None:
    """Let the loop turn until `condition` holds. Raises TimeoutError."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110  the condition is about foreign state, so there is no event to wait for
            await asyncio.sleep(0)


def wait_until(condition: Callable[[], object], *, within_s: float = WITHIN_S, what: str = "the condition") -> None:
    """Ask for `condition` every few milliseconds until it holds. Fails the test with `what` after `within_s`."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {within_s:g} s")
        time.sleep(0.005)
