"""The rows of a family in memory, and their changes in the store.

Knows that memory says what is durable and nothing else: a change shows when it is committed, and one that the store
refuses never does. A row that cannot be read at the start stays in the store as it is, is named in the log and in
`Table.damaged`, and hinders nobody; it goes when its key is written or deleted. Belongs to the engine's loop.

Bounds, said by each family: bytes of a row, number of rows.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Generic, TypeVar, cast

from whimbrel.engine.rows import Change, Rows
from whimbrel.tables.codec import Codec, RowError, Upgrade

RowT = TypeVar("RowT")

ROW_BYTES_MAX: Final = 64 * 1024
ROWS_MAX: Final = 100_000
# Of damaged rows so many are named in the log.
_NAMED_MAX: Final = 8

_log = logging.getLogger("whimbrel.tables")


@dataclass(frozen=True, slots=True, kw_only=True)
class Family(Generic[RowT]):
    """What a family of rows is: its name ([a-z0-9_], at most 64), the dataclass and version of its rows, its bounds.

    `upgrades` leads from each earlier version that is still read to the next one. `row_bytes_max` is at most 4 MiB.
    """

    name: str
    row: type[RowT]
    version: int = 1
    upgrades: Mapping[int, Upgrade] = field(default_factory=dict)
    row_bytes_max: int = ROW_BYTES_MAX
    rows_max: int = ROWS_MAX


@dataclass(frozen=True, slots=True)
class Damaged:
    """A row that cannot be read: its bytes and why."""

    value: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Step:
    """One part of an atomic change; made by `Table.putting` and `Table.deleting`."""

    table: "Table[Any]"
    key: str
    row: Any | None
    value: bytes | None


class Table(Generic[RowT]):
    """The rows of one family, by key. Made by `Tables.open`."""

    def __init__(self, family: Family[RowT], rows: Rows) -> None:
        """Take the family's rows as the start found them."""
        self.family = family
        self._codec = Codec(family.row, version=family.version, upgrades=family.upgrades)
        self._store = rows
        self._rows: dict[str, RowT] = {}
        self._damaged: dict[str, Damaged] = {}
        self._coming = 0  # New rows that are not durable yet.
        for key, value in rows.take(family.name).items():
            self._load(key, value)
        self._report()

    @property
    def damaged(self) -> Mapping[str, Damaged]:
        """Rows that could not be read, by key; they are still in the store."""
        return MappingProxyType(self._damaged)

    def get(self, key: str) -> RowT | None:
        """The row of this key."""
        return self._rows.get(key)

    def items(self) -> Iterator[tuple[str, RowT]]:
        """All rows with their keys: those of the start by key, then the others as they came. Change none meanwhile."""
        return iter(self._rows.items())

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, key: str) -> bool:
        return key in self._rows

    async def put(self, key: str, row: RowT) -> None:
        """Set a row; durable when this returns. Raises like `Tables.change`."""
        await _change(self._store, [self.putting(key, row)])

    async def delete(self, key: str) -> bool:
        """Remove a row, durable when this returns; whether there was one. Raises like `Tables.change`."""
        if key not in self._rows and key not in self._damaged:
            return False
        await _change(self._store, [self.deleting(key)])
        return True

    def putting(self, key: str, row: RowT) -> Step:
        """The part of an atomic change that sets a row. Raises ValueError for a row that is too large."""
        value = self._codec.encode(row)
        if len(value) > self.family.row_bytes_max:
            allowed = self.family.row_bytes_max
            raise ValueError(f"a row of {self.family.name} has at most {allowed} bytes; {key!r:.80} has {len(value)}")
        return Step(self, key, row, value)

    def deleting(self, key: str) -> Step:
        """The part of an atomic change that removes a row; it need not be there."""
        return Step(self, key, None, None)

    def _load(self, key: str, value: bytes) -> None:
        try:
            self._rows[key] = self._codec.decode(value)
        except RowError as error:
            self._damaged[key] = Damaged(value, str(error))

    def _report(self) -> None:
        if not self._damaged:
            return
        named = "; ".join(f"{key!r:.80}: {one.reason}" for key, one in list(self._damaged.items())[:_NAMED_MAX])
        _log.error(
            "%d rows of %s cannot be read and are left where they are: %s", len(self._damaged), self.family.name, named
        )

    def _stored(self, key: str) -> bytes | None:
        """What the store has under this key."""
        damaged = self._damaged.get(key)
        row = self._rows.get(key)
        return damaged.value if damaged is not None else None if row is None else self._codec.encode(row)

    def _apply(self, step: Step) -> None:
        self._damaged.pop(step.key, None)
        if step.row is None:
            self._rows.pop(step.key, None)
        else:
            self._rows[step.key] = step.row


class Tables:
    """All families of one broker."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._open: dict[str, Table[Any]] = {}
        if rows.nameless:
            _log.error("%d rows have names that no row can have and are left where they are", len(rows.nameless))

    def open(self, family: Family[RowT]) -> Table[RowT]:
        """The table of a family, the same one each time. Raises ValueError for another family of its name."""
        table = self._open.get(family.name)
        if table is None:
            table = self._open[family.name] = Table(family, self._rows)
        if table.family.row is not family.row:
            raise ValueError(f"there is another family called {family.name}, with rows of {table.family.row.__name__}")
        return cast(Table[RowT], table)

    def damaged(self) -> dict[str, int]:
        """How many rows of each family cannot be read, where there are some."""
        return {name: len(table.damaged) for name, table in sorted(self._open.items()) if table.damaged}

    def counters(self) -> dict[str, int]:
        """What is wrong with the rows, as `whimbrel.rows.*`."""
        return {"whimbrel.rows.damaged": sum(self.damaged().values()) + len(self._rows.nameless)}

    async def change(self, *steps: Step) -> None:
        """Let all steps hold, or none; durable when this returns, and seen in memory from the same moment.

        At most 4 MiB together. Raises StorageRefused where the store takes nothing (nothing was changed); ValueError
        where a family has its rows, or a key or a size is not allowed; EngineError where the data plane has stopped or
        has not answered after 30 s, and then they may hold later.
        """
        await _change(self._rows, steps)


async def _change(rows: Rows, steps: Sequence[Step]) -> None:
    news = [step.table for step in steps if step.row is not None and step.key not in step.table]
    for table in set(news):
        _check_room(table, news.count(table))
    changes = [Change(step.table.family.name, step.key, step.value, step.table._stored(step.key)) for step in steps]
    for table in news:
        table._coming += 1
    try:
        await rows.change(changes, lambda: _apply(steps))
    finally:
        for table in news:
            table._coming -= 1


def _check_room(table: Table[Any], count: int) -> None:
    family = table.family
    if len(table) + table._coming + count > family.rows_max:
        raise ValueError(f"{family.name} has {len(table)} rows; it may have {family.rows_max}: delete some first")


def _apply(steps: Sequence[Step]) -> None:
    for step in steps:
        step.table._apply(step)
