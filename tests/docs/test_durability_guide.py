"""The page about durability names every counter of the store, and none that does not exist."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/guides/durability.md").read_text(encoding="utf-8")
SOURCES = [ROOT / "crates/server/src/ledger.rs", ROOT / "crates/server/src/durable/mod.rs"]
COUNTER = re.compile(r"whimbrel\.storage\.[a-z_]+")


def test_every_counter_of_the_store_is_explained() -> None:
    counters = {name for source in SOURCES for name in COUNTER.findall(source.read_text(encoding="utf-8"))}
    assert len(counters) > 15
    assert set(COUNTER.findall(PAGE)) == counters
