"""What a process holds: memory, descriptors, threads, and the broker's own gauges.

Knows /proc and the management line. Does not know what is done to the process.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from tests.wire.product import Product
from whimbrel.control.client import ControlClient

GAUGES = ("connections.count", "sessions.count", "subscriptions.count", "topics.count", "retained.count")


@dataclass(frozen=True)
class Vitals:
    """One look. `rss_kib`: resident memory. `counts`: every metric and statistic of the broker."""

    rss_kib: int
    descriptors: int
    threads: int
    counts: Mapping[str, int]

    @classmethod
    def of(cls, product: Product) -> Self:
        """Look at a running broker."""
        with ControlClient(product.data_dir) as control:
            counts = control.request("metrics") | control.request("stats")
            # While the line is open, so that every look sees this descriptor.
            descriptors = len(os.listdir(f"/proc/{product.process.pid}/fd"))
        status = _status(product.process.pid)
        return cls(rss_kib=status["VmRSS"], descriptors=descriptors, threads=status["Threads"], counts=counts)

    @property
    def gauges(self) -> dict[str, int]:
        """What must be as it was, exactly."""
        return {name: self.counts[name] for name in GAUGES}

    def moved(self, before: Self) -> dict[str, int]:
        """Counters that are higher than they were, and by how much."""
        rises = {name: count - before.counts.get(name, 0) for name, count in self.counts.items()}
        return {name: rise for name, rise in rises.items() if rise > 0}


def _status(pid: int) -> dict[str, int]:
    with open(f"/proc/{pid}/status") as lines:
        fields = (line.split(":", 1) for line in lines)
        return {name: int(value.split()[0]) for name, value in fields if name in ("VmRSS", "Threads")}
