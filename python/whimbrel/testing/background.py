"""A broker on a thread of its own with its own loop, for programs and tests that are not asyncio.

Knows `Broker` and how to cross threads. Every method may be called from any thread and blocks for at most `WAIT_S`.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from whimbrel.embed import FREE_PORT, Broker
from whimbrel.errors import WhimbrelError

if TYPE_CHECKING:
    from whimbrel.engine.records import ClientRecord
    from whimbrel.services.ledger import Balance

ResultT = TypeVar("ResultT")

WAIT_S = 10.0
# Tasks of hooks that do not end when they are cancelled are left behind after that.
CANCEL_WAIT_S = 1.0


class BackgroundBroker:
    """`with BackgroundBroker() as broker:`; arguments like those of `whimbrel.Broker`, and its errors."""

    def __init__(
        self,
        settings: Mapping[str, object] | None = None,
        *,
        bind: str | None = FREE_PORT,
        hooks: Mapping[str, Callable[[Any], Any]] | None = None,
    ) -> None:
        self._broker = Broker(settings, bind=bind, hooks=hooks)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._has_started = False

    def start(self) -> None:
        """Start the thread and the broker. Raises StartError; WhimbrelError for a second start."""
        if self._has_started:
            raise WhimbrelError("a BackgroundBroker starts once; make a new one")
        self._has_started = True
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="whimbrel", daemon=True)
        self._thread.start()
        try:
            self._call(self._broker.start())
        except BaseException:
            self._end()
            raise

    def stop(self) -> None:
        """Stop the broker and end the thread. No effect where it does not run: before the start, or again."""
        if self._loop is None:
            return
        try:
            self._call(self._broker.stop())
        finally:
            self._end()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def host(self) -> str:
        """Where it listens; the path for a Unix socket."""
        return self._broker.host

    @property
    def port(self) -> int:
        """The real port; 0 for a Unix socket."""
        return self._broker.port

    @property
    def url(self) -> str:
        """`mqtt://host:port`."""
        return self._broker.url

    def publish(
        self,
        topic: str,
        payload: bytes | bytearray | memoryview | str = b"",
        *,
        qos: int = 0,
        retain: bool = False,
        user_properties: Iterable[tuple[str, str]] = (),
    ) -> int:
        """Like `Broker.publish`."""
        properties = list(user_properties)
        return self._call(self._broker.publish(topic, payload, qos=qos, retain=retain, user_properties=properties))

    def clients(self) -> "list[ClientRecord]":
        """Every client that the broker knows."""
        return self._call(self._broker.clients())

    def kick(self, client_id: str) -> None:
        """End a client's connection and session. Raises ClientNotFound."""
        self._call(self._broker.kick(client_id))

    def counters(self) -> dict[str, int]:
        """Every counter by its name."""
        return self._call(self._numbers(self._broker.counters))

    def metrics(self) -> dict[str, int]:
        """Every metric by its name."""
        return self._call(self._numbers(self._broker.metrics))

    def stats(self) -> dict[str, int]:
        """Every statistic by its name."""
        return self._call(self._numbers(self._broker.stats))

    def ledger(self) -> "Balance":
        """What became of every message and delivery."""
        return self._call(self._broker.ledger())

    async def _numbers(self, read: Callable[[], dict[str, int]]) -> dict[str, int]:
        return read()

    def _call(self, coroutine: Coroutine[Any, Any, ResultT]) -> ResultT:
        if self._loop is None:
            coroutine.close()
            raise WhimbrelError("the broker is not running; use it inside `with BackgroundBroker(...)`")
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(WAIT_S)

    def _end(self) -> None:
        loop, self._loop = self._loop, None
        if loop is None:
            return
        try:
            asyncio.run_coroutine_threadsafe(_cancel_others(), loop).result(WAIT_S)
        finally:
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join(WAIT_S)
            loop.close()


async def _cancel_others() -> None:
    """What hooks have left behind would be told of as never finished when the loop is closed."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    if others:
        await asyncio.wait(others, timeout=CANCEL_WAIT_S)
    await asyncio.get_running_loop().shutdown_asyncgens()
