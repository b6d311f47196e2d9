"""Memory that the data plane has freed goes back to the system.

Knows how many bytes the data plane says it has freed, and the C library's allocator, which keeps most of them until
somebody asks. Asking costs a walk over its free pieces, milliseconds after a storm, so it is done where much was freed:
when no more comes, or after `LOOKS_MAX` looks while more does. A broker whose clients stay never asks. Runs on the
engine's loop. Knows nothing of what was freed.
"""

import asyncio
import ctypes
from collections.abc import Callable

LOOK_S = 2.0
# Less is not worth a walk.
WORTH_BYTES = 2 * 1024 * 1024
LOOKS_MAX = 15


class Memory:
    """Looks every `LOOK_S` seconds from `start` to `stop`. `freed` tells the bytes freed since the broker's start."""

    def __init__(self, freed: Callable[[], int], give_back: Callable[[], object] | None = None) -> None:
        """`give_back` is the C library's, unless a test brings its own."""
        self._freed = freed
        self._give_back = give_back or _give_back()
        self._last = self._settled = self._looks = 0
        self._next: asyncio.TimerHandle | None = None
        self.times = 0
        """How often memory was given back."""

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look from now on."""
        self._next = loop.call_later(LOOK_S, self._turn, loop)

    def stop(self) -> None:
        """Look no more."""
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def look(self) -> None:
        """One look: give back, or wait for the end of the storm."""
        freed = self._freed()
        is_over = freed - self._last < WORTH_BYTES // 4
        self._last = freed
        if freed - self._settled < WORTH_BYTES:
            return
        self._looks += 1
        if is_over or self._looks >= LOOKS_MAX:
            self._settled, self._looks = freed, 0
            self.times += 1
            self._give_back()

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        self.start(loop)
        self.look()


def _give_back() -> Callable[[], object]:
    # glibc has it; other C libraries give back by themselves.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return (lambda: trim(ctypes.c_size_t(0))) if trim is not None else (lambda: None)
