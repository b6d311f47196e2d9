"""One embedded broker whose Python side does one thing, and what that thing cost. `binding_cost` starts it.

Runs as a process of its own: `python -m benchmarks.binding_probe KIND`. Prints the broker's port, serves until a line
comes on stdin, then prints how often the thing was done and what CPU time it took. Must not know who makes the load.
"""

import asyncio
import json
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import whimbrel
from benchmarks.opponents import WHIMBREL_SETTINGS
from whimbrel.engine.engine import Engine
from whimbrel.engine.options import from_settings
from whimbrel.settings import from_mapping

ROWS_WAITING_MAX = 10_000
PUBLISHES = 50_000
PUBLISHERS = 64
TOPIC = "probe/of/the/binding"
PAYLOAD = b"." * 64


@dataclass
class Tally:
    """How often, from when to when (monotonic seconds), and what CPU time it took; start and stop of a broker not."""

    count: int = 0
    first_s: float = 0.0
    last_s: float = 0.0
    loop_cpu_s: float = 0.0
    process_cpu_s: float = 0.0

    def add(self, count: int) -> None:
        self.last_s = time.monotonic()
        self.first_s = self.first_s or self.last_s
        self.count += count

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Measures on the loop's own thread."""
        loop_s, process_s = time.thread_time(), time.process_time()
        yield
        self.loop_cpu_s = time.thread_time() - loop_s
        self.process_cpu_s = time.process_time() - process_s


Serve = Callable[[Tally, asyncio.Event], Awaitable[None]]


def main() -> None:
    asyncio.run(probe(KINDS[sys.argv[1]]))


async def probe(serve: Serve) -> None:
    """Serve one kind until a line comes on stdin, then say what it cost."""
    tally, over = Tally(), asyncio.Event()
    watch_stdin(over, asyncio.get_running_loop())
    await serve(tally, over)
    say({**asdict(tally), "seconds": tally.last_s - tally.first_s})


def watch_stdin(over: asyncio.Event, loop: asyncio.AbstractEventLoop) -> None:
    """Set `over` when a line comes on stdin; a thread waits for it, so that the loop stays free."""

    def wait() -> None:
        sys.stdin.readline()
        loop.call_soon_threadsafe(over.set)

    threading.Thread(target=wait, daemon=True).start()


def say(words: dict[str, Any]) -> None:
    print(json.dumps(words), flush=True)


@asynccontextmanager
async def broker(tally: Tally, **hooks: Callable[[Any], Any]) -> AsyncIterator[whimbrel.Broker]:
    """An embedded broker as generous as the benchmark's, that has said where it listens."""
    settings = dict(setting.split("=") for setting in WHIMBREL_SETTINGS)
    numbers = {key: int(value) if value.isdigit() else value for key, value in settings.items()}
    async with whimbrel.Broker(numbers, hooks=hooks) as running:
        say({"port": running.port})
        with tally.measuring():
            yield running


async def nothing(tally: Tally, over: asyncio.Event) -> None:
    """The yardstick: nobody asks for anything."""
    async with broker(tally):
        await over.wait()


async def questions(tally: Tally, over: asyncio.Event, point: str) -> None:
    """A hook that knows its answer at once."""

    async def allow(_question: Any) -> whimbrel.Allow:
        tally.add(1)
        return whimbrel.Allow()

    async with broker(tally, **{point: allow}):
        await over.wait()


async def authenticate(tally: Tally, over: asyncio.Event) -> None:
    await questions(tally, over, "authenticate")


async def authorize(tally: Tally, over: asyncio.Event) -> None:
    await questions(tally, over, "authorize")


class AtOnce:
    """Answers in the engine's own call: no hook, no task, no deadline. What is left is the crossing."""

    def __init__(self, engine: Engine, tally: Tally) -> None:
        self._engine = engine
        self._tally = tally

    def authenticate(self, batch: list[Any]) -> None:
        """Not asked for."""

    def authorize(self, batch: list[Any]) -> None:
        self._tally.add(len(batch))
        for question in batch:
            self._engine.answer_authorize(question, [0])

    def connected(self, batch: list[Any]) -> None:
        """Not asked for."""

    def disconnected(self, batch: list[Any]) -> None:
        """Not asked for."""


async def crossing(tally: Tally, over: asyncio.Event) -> None:
    """There and back without the hooks' runner."""
    engine = Engine.start(from_settings(from_mapping({"workers": 1, "listeners.tcp.default.bind": "127.0.0.1:0"})))
    engine.attend(AtOnce(engine, tally))
    engine.set_interest(authenticate=False, authorize=True, connected=False, disconnected=False)
    engine.open()
    say({"port": int(engine.listeners()[0][2].rpartition(":")[2])})
    with tally.measuring():
        await over.wait()
    await engine.stop()


async def notices(tally: Tally, over: asyncio.Event) -> None:
    """A hook that reads one field of each notice."""

    async def note(batch: Sequence[Any]) -> None:
        tally.add(sum(1 for notice in batch if notice.client_id))

    async with broker(tally, connected=note):
        await over.wait()


async def rows_one_by_one(tally: Tally, over: asyncio.Event) -> None:
    """`async for`, reading topic and payload of each row."""

    async def read(tap: Any) -> None:
        async for message in tap:
            if message.topic and message.payload:
                tally.add(1)

    await tapped(read, tally, over)


async def rows_in_batches(tally: Tally, over: asyncio.Event) -> None:
    """`batch()`, reading topic and payload of each row."""

    async def read(tap: Any) -> None:
        while batch := await tap.batch():
            tally.add(sum(1 for message in batch if message.topic and message.payload))

    await tapped(read, tally, over)


async def tapped(read: Callable[[Any], Awaitable[None]], tally: Tally, over: asyncio.Event) -> None:
    async with broker(tally) as running, running.subscribe("#", capacity=ROWS_WAITING_MAX) as tap:
        reading = asyncio.ensure_future(read(tap))
        await over.wait()
        tap.close()
        await reading


async def publish_one_by_one(tally: Tally, over: asyncio.Event) -> None:
    """Each waits for the one before. Nobody subscribes."""
    await publishing(tally, over, tasks=1)


async def publish_in_tasks(tally: Tally, over: asyncio.Event) -> None:
    """From many tasks at once. Nobody subscribes."""
    await publishing(tally, over, tasks=PUBLISHERS)


async def publishing(tally: Tally, over: asyncio.Event, *, tasks: int) -> None:
    async def publish(running: whimbrel.Broker) -> None:
        for _ in range(PUBLISHES // tasks):
            await running.publish(TOPIC, PAYLOAD)
            tally.add(1)

    async with broker(tally) as running:
        await over.wait()
        await asyncio.gather(*(publish(running) for _ in range(tasks)))


KINDS: dict[str, Serve] = {
    "nothing": nothing,
    "authenticate": authenticate,
    "authorize": authorize,
    "crossing": crossing,
    "notices": notices,
    "rows-one-by-one": rows_one_by_one,
    "rows-in-batches": rows_in_batches,
    "publish-one-by-one": publish_one_by_one,
    "publish-in-tasks": publish_in_tasks,
}

if __name__ == "__main__":
    main()
