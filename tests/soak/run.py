"""A soak: so many minutes of churn against one durable broker, and budgets for its disk and memory.

`python -m tests.soak.run --minutes 60`. Knows when samples are taken, who lives meanwhile, and what must be left when
everybody has gone: nothing. Does not know what anybody does.
"""

import argparse
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

from tests.abuse.vitals import Vitals
from tests.soak.district import District
from tests.soak.samples import DISK_SLACK, Ledger, Sample, heads, row
from tests.waiting import wait_until
from tests.wire.product import Product, running
from whimbrel.engine.options import STORE_FOLDER

DISTRICTS: Final = 2
SAMPLES: Final = 400
ROWS: Final = 60
TIDES: Final = 8
SAMPLE_S_MIN: Final = 0.5
# In which an idle broker gives back what nobody needs.
GIVING_BACK_S: Final = 120.0
_SETS: Final = ("storage.durability=sync", "workers=2")


class Soak:
    """One soak. `tell` is given lines for people."""

    def __init__(self, product: Product, seconds: float, tell: Callable[[str], object]) -> None:
        self.ledger = Ledger()
        self._product = product
        self._seconds = seconds
        self._tell = tell
        tide_s = max(5.0, seconds / 2 / TIDES)
        address = (product.host, product.port)
        self._districts = [District(address, number, tide_s) for number in range(DISTRICTS)]
        self._began_s = time.monotonic()

    def run(self) -> list[str]:
        """All of it; what was not as it must be. Raises what a district raises."""
        self._tell(heads())
        ends = threading.Event()
        with ThreadPoolExecutor(DISTRICTS) as pool:
            lives = [pool.submit(one.live_until, ends) for one in self._districts]
            try:
                self._look_on(lives)
            finally:
                ends.set()
            for life in lives:
                life.result()
            list(pool.map(District.leave_nothing, self._districts))
        wait_until(self._has_given_back, within_s=GIVING_BACK_S, what="a small file when nobody needs anything")
        self._sample()
        self._tell_last()
        return list(self.ledger.faults())

    def _look_on(self, lives: list[Future[None]]) -> None:
        interval_s = max(SAMPLE_S_MIN, self._seconds / SAMPLES)
        per_row = max(1, round(self._seconds / interval_s / ROWS))
        stop = threading.Event()
        for life in lives:
            life.add_done_callback(lambda _: stop.set())
        while self._at_s() < self._seconds and not stop.wait(interval_s):
            self._sample()
            if len(self.ledger.samples) % per_row == 0:
                self._tell_last()

    def _sample(self) -> None:
        vitals = Vitals.of(self._product)
        self.ledger.add(
            Sample(
                at_s=self._at_s(),
                sessions=vitals.counts["sessions.count"],
                messages=sum(one.messages for one in self._districts),
                live_bytes=sum(one.live_bytes for one in self._districts),
                store_bytes=vitals.counts["whimbrel.storage.bytes"],
                file_bytes=self._file_bytes(),
                rss_bytes=vitals.rss_kib * 1024,
                commit_max_us=vitals.counts["whimbrel.storage.commit_max_us"],
            )
        )

    def _tell_last(self) -> None:
        last = self.ledger.samples[-1]
        self._tell(row(last, self.ledger.disk_budget(last.at_s)))

    def _file_bytes(self) -> int:
        folder = self._product.data_dir / STORE_FOLDER
        return sum(one.stat().st_size for one in folder.iterdir())

    def _has_given_back(self) -> bool:
        counts = Vitals.of(self._product).counts
        return counts["whimbrel.storage.live"] == 0 and self._file_bytes() <= DISK_SLACK

    def _at_s(self) -> float:
        return time.monotonic() - self._began_s


def soak(data_dir: Path, minutes: float, tell: Callable[[str], object]) -> list[str]:
    """Start a broker and soak it; what was not as it must be. Raises where it broke a promise."""
    with running(data_dir, *_SETS) as product:
        return Soak(product, minutes * 60, tell).run()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="Churn against one durable broker, with budgets for disk and memory.")
    parser.add_argument("--minutes", type=float, default=60.0)
    words = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="whimbrel-soak-"))
    faults = soak(directory / "data", words.minutes, _say)
    for fault in faults:
        _say(f"FAULT: {fault}")
    if faults:
        _say(f"its data: {directory}")
    else:
        shutil.rmtree(directory)
        _say("every budget was kept")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
