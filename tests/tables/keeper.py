"""A program that keeps rows, says so, and waits to be killed: `python -m tests.tables.keeper DIRECTORY MODE`.

Prints `kept N` behind each awaited change and nothing before it.
"""

import asyncio
import sys
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from whimbrel import Broker
from whimbrel.tables import Family, Tables

KEEP = 10
"""Of the newest rows."""


@dataclass(frozen=True)
class Note:
    """A row."""

    number: int
    text: str


NOTES = Family(name="notes", row=Note)
MARKS = Family(name="marks", row=Note)


def tables_of(broker: Broker) -> Tables:
    """The tables of a running broker."""
    assert broker._assembly is not None
    return broker._assembly.tables


async def _keep(directory: Path, mode: str) -> None:
    settings = {"node.data_dir": str(directory), "storage.durability": mode, "listeners.ws.default.bind": "off"}
    async with Broker(settings) as broker:
        tables = tables_of(broker)
        notes, marks = tables.open(NOTES), tables.open(MARKS)
        for number in count(1):
            note = Note(number, "x" * (number % 700))
            steps = [notes.putting(f"{number}", note), marks.putting("newest", note)]
            await tables.change(*steps, notes.deleting(f"{number - KEEP}"))
            sys.stdout.write(f"kept {number}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_keep(Path(sys.argv[1]), sys.argv[2]))
