"""The reference page of the numbers: it has every number that a running broker shows, and it is fresh."""

from pathlib import Path

import whimbrel
from whimbrel.control.server import ControlServer
from whimbrel.engine.records import METRICS, STATS
from whimbrel.services.reference import PYTHON_SIDE, page

ROOT = Path(__file__).parents[2]


async def test_every_number_of_a_running_broker_has_a_meaning(tmp_path: Path) -> None:
    async with whimbrel.Broker() as broker:
        control = ControlServer(broker._running.services, tmp_path / "control.sock")
        shown = broker.metrics() | control.counters()
        assert sorted(shown) == sorted([*(name for name, _ in METRICS), *PYTHON_SIDE])
        counts = {name for name in broker.stats() if name.endswith(".count")}
        assert counts == {name for name, _ in STATS}


def test_the_page_in_the_repository_is_current() -> None:
    found = (ROOT / "docs/reference/metrics.md").read_text(encoding="utf-8")
    assert found == page(), "run: make docs"
