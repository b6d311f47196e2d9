"""What is looked at while a soak goes on, and the budgets that it must keep.

Knows samples and their judgement, not where they come from. The budgets derive from what is live: messages that
somebody waits for and that have not expired, retained messages, sessions.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

MIB: Final = 1 << 20
# Each live byte may take so many on disk: the engine's pages, and what died and was not given back yet.
DISK_FACTOR: Final = 3
# What an empty store may hold: an idle one shrinks its file from 32 MiB of room on; the journal has 16 MiB, and room
# to grow in.
DISK_SLACK: Final = 64 * MIB
# Of the process, beyond where it began: journal, caches and buffers, none of which grows with time; and what is live.
RSS_SLACK: Final = 128 * MIB
RSS_FACTOR: Final = 2
# Medians of the second quarter and of the last: the first one fills caches.
TREND_SLACK: Final = 8 * MIB
TREND_SHARE: Final = 0.05
TREND_SAMPLES_MIN: Final = 40
_HEADS: Final = ("min", "sessions", "messages", "live MiB", "store MiB", "files MiB", "budget", "RSS MiB", "commit ms")
_ROW: Final = "{:>6.1f}{:>10,}{:>12,}{:>10.1f}{:>11.1f}{:>11.1f}{:>8.0f}{:>9.1f}{:>11.1f}"


@dataclass(frozen=True)
class Sample:
    """One look. Bytes and counts of then; `at_s` from the beginning; `commit_max_us` since the start of the broker."""

    at_s: float
    sessions: int
    messages: int
    live_bytes: int
    store_bytes: int
    file_bytes: int
    rss_bytes: int
    commit_max_us: int


class Ledger:
    """All samples of a soak, oldest first."""

    def __init__(self) -> None:
        self.samples: list[Sample] = []

    def add(self, sample: Sample) -> None:
        """One more."""
        self.samples.append(sample)

    def disk_budget(self, at_s: float) -> int:
        """What the files may hold then; bytes. A busy store keeps the room of what it held before."""
        so_far = (one.live_bytes for one in self.samples if one.at_s <= at_s)
        return DISK_SLACK + DISK_FACTOR * max(so_far, default=0)

    def faults(self) -> Iterator[str]:
        """Every budget that was not kept, where it was missed the most."""
        yield from self._worst(
            "the files", [(one.file_bytes - self.disk_budget(one.at_s), one) for one in self.samples]
        )
        last = self.samples[-1]
        yield from self._worst(
            "the files of an idle store", [(last.file_bytes - DISK_SLACK - DISK_FACTOR * last.live_bytes, last)]
        )
        yield from self._worst("the process", [(one.rss_bytes - self._rss_budget(), one) for one in self.samples])
        yield from self._trend()

    def _rss_budget(self) -> int:
        return self.samples[0].rss_bytes + RSS_SLACK + RSS_FACTOR * max(one.live_bytes for one in self.samples)

    def _worst(self, what: str, overs: Sequence[tuple[int, Sample]]) -> Iterator[str]:
        over, sample = max(overs, key=lambda pair: pair[0])
        if over > 0:
            yield f"{what} took {over / MIB:.1f} MiB more than the budget after {sample.at_s / 60:.1f} min: {sample}"

    def _trend(self) -> Iterator[str]:
        if len(self.samples) < TREND_SAMPLES_MIN:
            return
        quarter = len(self.samples) // 4
        before, after = (median(one.rss_bytes for one in part) for part in self._parts(quarter))
        allowed = before + max(TREND_SLACK, TREND_SHARE * before)
        if after > allowed:
            yield (
                f"the process grows: {before / MIB:.1f} MiB in the second quarter, {after / MIB:.1f} MiB in the last, "
                f"{allowed / MIB:.1f} MiB allowed"
            )

    def _parts(self, quarter: int) -> tuple[list[Sample], list[Sample]]:
        return self.samples[quarter : 2 * quarter], self.samples[-quarter:]


def heads() -> str:
    """The line above the rows."""
    widths = (6, 10, 12, 10, 11, 11, 8, 9, 11)
    return "".join(f"{head:>{width}}" for head, width in zip(_HEADS, widths, strict=True))


def row(sample: Sample, budget: int) -> str:
    """A sample for people."""
    return _ROW.format(
        sample.at_s / 60,
        sample.sessions,
        sample.messages,
        sample.live_bytes / MIB,
        sample.store_bytes / MIB,
        sample.file_bytes / MIB,
        budget / MIB,
        sample.rss_bytes / MIB,
        sample.commit_max_us / 1000,
    )
