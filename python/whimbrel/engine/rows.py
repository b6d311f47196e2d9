"""The rows of the control plane as the data plane keeps them: bytes under a family and a key.

Knows how changes are handed over, several at once, and answered when they are durable. What a start found is in memory
until whoever owns a family takes it; from then on the owner holds the rows. Without a store a change is answered at
once, so nobody above needs to know. Must not know what rows mean. Belongs to the engine's loop.

Bounds: `PENDING_MAX` changes under way, further ones wait in their order; a change has at most 4 MiB.
"""

import asyncio
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from whimbrel.errors import EngineError, StorageRefused, WhimbrelError

if TYPE_CHECKING:
    from whimbrel._core import DataPlane, RowsChanged

PENDING_MAX: Final = 64
# A disk that fails says so at once; one that takes longer than this is in trouble.
COMMIT_WAIT_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Change:
    """One row's next value, None where it goes, and `before`: the durable one that it takes the place of, or None."""

    family: str
    key: str
    value: bytes | None
    before: bytes | None


@dataclass(slots=True)
class _Pending:
    answer: "asyncio.Future[WhimbrelError | None]"
    apply: Callable[[], None]
    names: tuple[bytes, ...]


class Rows:
    """The way to the rows of one data plane."""

    def __init__(self, plane: "DataPlane", loop: asyncio.AbstractEventLoop) -> None:
        """Take what the start found."""
        self._plane = plane
        self._loop = loop
        self._tickets = itertools.count(1)
        self._slots = asyncio.Semaphore(PENDING_MAX)
        self._pending: dict[int, _Pending] = {}
        # What a row will be when all that is under way holds, and the last change that says so.
        self._coming: dict[bytes, tuple[int, bytes | None]] = {}
        self._counts = dict.fromkeys(("whimbrel.rows.changes", "whimbrel.rows.changes.refused"), 0)
        self._has_ended = False
        self._refusals = 0
        self._found: dict[str, dict[str, bytes]] = {}
        self.nameless: list[bytes] = []
        """Names that no row may have, found at the start; they stay where they are."""
        for name, value in plane.take_rows():
            self._sort(name, value)

    def families(self) -> list[str]:
        """What the start found and nobody has taken, by name."""
        return sorted(self._found)

    def take(self, family: str) -> dict[str, bytes]:
        """Value by key, as the start found them, in the order of the keys. Once: they are the caller's from then on."""
        return self._found.pop(family, {})

    def counters(self) -> dict[str, int]:
        """What was changed, as `whimbrel.rows.*`."""
        return {**self._counts, "whimbrel.rows.changes.waiting": len(self._pending)}

    async def change(self, changes: Sequence[Change], apply: Callable[[], None]) -> None:
        """Let all of `changes` hold, or none; returns when they are durable.

        `apply` is called in the moment in which they are, before any later change is, and also where the caller was
        cancelled meanwhile. Raises StorageRefused where the store takes nothing; ValueError for a name or a size that
        is not allowed; EngineError where the data plane has stopped or has not answered after 30 s, and then they may
        hold later.
        """
        await self._slots.acquire()
        try:
            pending = self._post(changes, apply)
        except BaseException:
            self._slots.release()
            raise
        try:
            async with asyncio.timeout(COMMIT_WAIT_S):
                trouble = await asyncio.shield(pending.answer)
        except TimeoutError:
            raise EngineError(f"the store has not answered within {COMMIT_WAIT_S:g} s; it may still do it") from None
        if trouble is not None:
            raise trouble

    def on_changed(self, event: "RowsChanged") -> None:
        """An answer of the data plane."""
        pending = self._pending.pop(event.ticket, None)
        if pending is None:
            return
        self._slots.release()
        self._forget(event.ticket, pending)
        is_durable = event.refusal is None
        self._refusals += not is_durable
        self._counts["whimbrel.rows.changes" if is_durable else "whimbrel.rows.changes.refused"] += 1
        try:
            if is_durable:
                pending.apply()
        finally:
            if not pending.answer.done():
                pending.answer.set_result(None if event.refusal is None else StorageRefused(event.refusal))

    def end(self) -> None:
        """The data plane has stopped: nobody will answer any more."""
        self._has_ended = True
        for pending in self._pending.values():
            if not pending.answer.done():
                pending.answer.set_result(EngineError("the broker stopped before the store had answered"))

    def _sort(self, name: bytes, value: bytes) -> None:
        try:
            family, separator, key = name.decode().partition("/")
        except UnicodeDecodeError:
            separator = ""
        if separator:
            self._found.setdefault(family, {})[key] = value
        else:
            self.nameless.append(name)

    def _post(self, changes: Sequence[Change], apply: Callable[[], None]) -> _Pending:
        if self._has_ended:
            raise EngineError("the broker has stopped")
        ticket = next(self._tickets)
        coming: dict[bytes, tuple[int, bytes | None]] = {}
        rows: list[tuple[bytes, bytes | None, bytes | None]] = []
        for change in changes:
            name = f"{change.family}/{change.key}".encode()
            _, before = coming.get(name) or self._coming.get(name) or (0, change.before)
            rows.append((name, change.value, before))
            coming[name] = (ticket, change.value)
        self._plane.change_rows(ticket, self._refusals, rows)
        self._coming.update(coming)
        pending = _Pending(self._loop.create_future(), apply, tuple(coming))
        self._pending[ticket] = pending
        return pending

    def _forget(self, ticket: int, pending: _Pending) -> None:
        for name in pending.names:
            if self._coming.get(name, (0, None))[0] == ticket:
                del self._coming[name]
