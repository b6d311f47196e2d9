"""The line that tells how far a run is: rewritten in place, on a terminal only, so that logs stay readable.

Knows what a progress holds and how a terminal goes back. Must not know what makes the progress.
"""

import shutil
from collections.abc import Callable, Mapping
from typing import Final, TextIO

_EVERY_S: Final = 0.25
_BACK: Final = "\r\x1b[K"


class LiveLine:
    """`show` as often as you like; it writes four times a second at most, and nothing where nobody looks."""

    def __init__(self, stream: TextIO, *, clock: Callable[[], float]) -> None:
        self._stream = stream
        self._clock = clock
        self._is_watched = stream.isatty()
        self._began_s = clock()
        self._shown: tuple[float, int] | None = None

    def show(self, progress: Mapping[str, str | int | float]) -> None:
        """Write where the run stands, with the rate since the line before."""
        now_s = self._clock()
        if not self._is_watched or (self._shown and now_s - self._shown[0] < _EVERY_S):
            return
        done = max(int(progress["delivered"]), int(progress["acknowledged"])) or int(progress["sent"])
        before_s, before = self._shown or (self._began_s, 0)
        rate = max(done - before, 0) / max(now_s - before_s, 1e-3)
        self._shown = (now_s, done)
        width = shutil.get_terminal_size().columns - 1
        self._stream.write(_BACK + text(progress, elapsed_s=now_s - self._began_s, rate=rate)[:width])
        self._stream.flush()

    def clear(self) -> None:
        """Leave an empty line for what comes."""
        if self._shown:
            self._stream.write(_BACK)
            self._stream.flush()


def text(progress: Mapping[str, str | int | float], *, elapsed_s: float, rate: float) -> str:
    """One line. `rate` is each second."""
    p99_ms = float(progress["latency_p99_us"]) / 1000
    parts = [
        f"{progress['phase']} {elapsed_s:.1f} s",
        f"{progress['connected']:,} clients",
        f"{progress['sent']:,} sent",
        f"{progress['delivered']:,} delivered" if progress["delivered"] else "",
        f"{rate:,.0f}/s",
        f"p99 {p99_ms:.3g} ms" if p99_ms else "",
    ]
    return "  ".join(filter(None, parts))
