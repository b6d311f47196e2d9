"""A tap: an internal subscriber whose messages reach Python in batches.

Knows one bounded queue and one reader on the engine's loop. It must not know the data plane: the engine feeds it, and
it closes itself through the function it was given. At most `capacity` messages and `BYTES_MAX` bytes wait here and as
many in the data plane; beyond that the newest are dropped and counted, on both sides.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from whimbrel._core import Message, TapBatch

# A message larger than that waits alone.
BYTES_MAX: Final = 64 * 1024 * 1024


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
        self._bytes = 0
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
        taken = messages if len(messages) <= room else messages[:room]
        size_bytes = sum(message.size_bytes for message in taken)
        if self._bytes + size_bytes > BYTES_MAX:
            taken = self._fitting(taken)
            size_bytes = sum(message.size_bytes for message in taken)
        self.dropped += batch.dropped + len(messages) - len(taken)
        self._bytes += size_bytes
        self._rows.extend(taken)
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
        self._bytes = 0
        self.end()

    async def batch(self, rows_max: int | None = None) -> "list[Message]":
        """Wait for messages and take all that wait, or at most `rows_max`; an empty list means the tap has ended."""
        while not self._rows and self._is_open:
            await self._wait()
        count = len(self._rows) if rows_max is None else min(rows_max, len(self._rows))
        taken = [self._rows.popleft() for _ in range(count)]
        self._bytes = self._bytes - sum(message.size_bytes for message in taken) if self._rows else 0
        return taken

    def __aiter__(self) -> "Tap":
        return self

    async def __anext__(self) -> "Message":
        while not self._rows:
            if not self._is_open:
                raise StopAsyncIteration
            await self._wait()
        message = self._rows.popleft()
        self._bytes -= message.size_bytes
        return message

    async def __aenter__(self) -> "Tap":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _fitting(self, messages: "Sequence[Message]") -> "list[Message]":
        fitting: list[Message] = []
        left = BYTES_MAX - self._bytes
        for message in messages:
            # One that is too large for the bound waits alone, as in the data plane.
            if message.size_bytes <= left or not (self._bytes or fitting):
                fitting.append(message)
                left -= message.size_bytes
        return fitting

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
