"""A tap: an internal subscriber whose messages reach Python in batches.

Knows one bounded queue and one reader on the engine's loop. It must not know the data plane: the engine feeds it, and
it closes itself through the function it was given. At most `capacity` messages wait here and as many in the data plane;
beyond that the newest are dropped and counted, on both sides.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from whimbrel._core import Message, TapBatch


class Tap:
    """An open tap: `async for message in tap`, or `await tap.batch()` for whoever wants rows at once.

    One reader at a time, on the engine's loop. Iteration ends when the tap is closed or the engine has stopped; what
    was waiting at the engine's stop is still delivered. Leaving `async with` closes the tap.
    """

    def __init__(self, number: int, capacity: int, close: Callable[["Tap"], None]) -> None:
        """Made by `Engine.open_tap`; `close` tells the data plane and is called at most once."""
        self.number = number
        self.capacity = capacity
        self.dropped = 0
        self._rows: deque[Message] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._close = close
        self._is_open = True

    @property
    def is_open(self) -> bool:
        """Whether more messages may come."""
        return self._is_open

    def feed(self, batch: "TapBatch") -> None:
        """Take a batch from the data plane (the engine calls this, on its loop)."""
        messages: Sequence[Message] = batch.messages
        room = self.capacity - len(self._rows)
        self.dropped += batch.dropped + max(0, len(messages) - room)
        self._rows.extend(messages if len(messages) <= room else messages[:room])
        self._wake()

    def end(self) -> None:
        """The data plane will send nothing more (the engine calls this)."""
        self._is_open = False
        self._wake()

    def close(self) -> None:
        """Unsubscribe; what still waits is thrown away and a waiting reader ends. A second call changes nothing."""
        if self._is_open:
            self._close(self)
        self._rows.clear()
        self.end()

    async def batch(self, rows_max: int | None = None) -> "list[Message]":
        """Wait for messages and take all that wait, or at most `rows_max`; an empty list means the tap has ended."""
        while not self._rows and self._is_open:
            await self._wait()
        count = len(self._rows) if rows_max is None else min(rows_max, len(self._rows))
        return [self._rows.popleft() for _ in range(count)]

    def __aiter__(self) -> "Tap":
        return self

    async def __anext__(self) -> "Message":
        while not self._rows:
            if not self._is_open:
                raise StopAsyncIteration
            await self._wait()
        return self._rows.popleft()

    async def __aenter__(self) -> "Tap":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def _wait(self) -> None:
        if self._reader is not None:
            raise RuntimeError("this subscription is already being read by another task; open one for each reader")
        self._reader = asyncio.get_running_loop().create_future()
        try:
            await self._reader
        finally:
            self._reader = None

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)
