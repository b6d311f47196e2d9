"""Faults that are planted between two lives of a broker, so that the harness can be seen to find them.

Knows the broker's store as lines of JSON, and how to take some away. Must not know what a round does, nor how it finds
out. None of this is in play when a broker is judged.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from whimbrel.engine.options import STORE_FOLDER
from whimbrel.engine.store import STORE_FILE, export, import_into

Row: TypeAlias = dict[str, Any]


class Plant(Protocol):
    """A fault. `sets`: settings of its broker, which win. `deeds`: how often something was done so far."""

    sets: tuple[str, ...]
    deeds: int

    def between_lives(self, data_dir: Path) -> None:
        """The broker is dead and starts next."""


class Amnesia:
    """A broker that acknowledges and stores nothing."""

    sets: tuple[str, ...] = ("storage.durability=off",)
    deeds = 0

    def between_lives(self, data_dir: Path) -> None:
        self.deeds += 1


class Rollback:
    """A disk on which the last life never was."""

    sets: tuple[str, ...] = ()
    deeds = 0

    def between_lives(self, data_dir: Path) -> None:
        store, older = data_dir / STORE_FOLDER, data_dir / "older"
        if older.exists():
            shutil.rmtree(store)
            older.rename(store)
            self.deeds += 1
        shutil.copytree(store, older)


class Alteration:
    """A store of which rows are gone or changed. `alter` returns what becomes of a row; None: it goes."""

    sets: tuple[str, ...] = ()

    def __init__(self, alter: Callable[[Row], Row | None]) -> None:
        self.deeds = 0
        self._alter = alter

    def between_lives(self, data_dir: Path) -> None:
        store, altered = data_dir / STORE_FOLDER, data_dir / "altered"
        if not (store / STORE_FILE).exists():
            return  # It died before it had one.
        lines: list[str] = []
        export(store, lines.append)
        head, *rows, _ = (json.loads(line) for line in "".join(lines).splitlines())
        changed = [self._alter(row) for row in rows]
        self.deeds += sum(one != row for one, row in zip(changed, rows, strict=True))
        kept = [one for one in changed if one is not None]
        shutil.rmtree(altered, ignore_errors=True)
        told = (json.dumps(row) + "\n" for row in (head, *kept, {"type": "end", "rows": len(kept)}))
        import_into(altered, told, name="altered")
        shutil.rmtree(store)
        altered.rename(store)


def without(*names: str) -> Alteration:
    """Rows of these types are gone, or exchanges in these states."""
    return Alteration(lambda row: None if {row["type"], row.get("state")} & {*names} else row)


def without_wills() -> Alteration:
    """Sessions have no wills."""
    return Alteration(lambda row: {**row, "will": None, "will_delay_s": None} if row["type"] == "session" else row)
