"""A broker in the foreground: from `Settings` to the exit of the command.

Order of start: data directory and its lock, data plane with hooks, management line, banner, `ready`. Order of stop:
management line, clients (drained within `GRACE_MS`), hooks, lock. SIGINT and SIGTERM stop it; a second one ends the
process at once. Owns the process's loop and signals, so it belongs to the command only.
"""

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from pathlib import Path

from whimbrel.app.assembly import Assembly
from whimbrel.app.banner import Facts, banner
from whimbrel.app.data_dir import locked
from whimbrel.app.systemd import READY, STOPPING, notify
from whimbrel.control import socket_path
from whimbrel.control.server import ControlServer
from whimbrel.errors import EngineError
from whimbrel.hooks.registry import Registry
from whimbrel.settings import Settings

GRACE_MS = 3_000

_log = logging.getLogger("whimbrel.app")


def run(settings: Settings, *, version: str, say: Callable[[str], None], command: str = "whimbrel") -> None:
    """Run a broker until it is told to stop; `say` gets the lines for the terminal, `ready` last.

    `command` is how a reader of those lines can call the command line.

    Raises StartError where it cannot start, EngineError where the data plane ends by itself or does not end in time.
    """
    data_dir = settings.node.data_dir
    lock: AbstractContextManager[Path | None] = nullcontext() if data_dir is None else locked(data_dir)
    with lock:
        facts = Facts(version=version, pid=os.getpid(), command=command)
        asyncio.run(_serve(settings, facts, say))


async def _serve(settings: Settings, facts: Facts, say: Callable[[str], None]) -> None:
    stop = _stop_signal()
    assembly = Assembly.start(settings, Registry())
    try:
        async with _controlled(assembly, settings.node.data_dir):
            for line in banner(settings, assembly.engine.listeners(), facts):
                say(line)
            say("ready")
            notify(READY)
            await _until(stop, assembly)
            notify(STOPPING)
    finally:
        await assembly.stop(grace_ms=GRACE_MS)


@asynccontextmanager
async def _controlled(assembly: Assembly, data_dir: Path | None) -> AsyncIterator[None]:
    if data_dir is None:
        yield
        return
    server = ControlServer(assembly.services, socket_path(data_dir))
    assembly.services.metrics.include(server.counters)
    await server.start()
    try:
        yield
    finally:
        await server.stop()


async def _until(stop: asyncio.Event, assembly: Assembly) -> None:
    told = asyncio.ensure_future(stop.wait())
    await asyncio.wait((told, assembly.engine.stopped), return_when=asyncio.FIRST_COMPLETED)
    told.cancel()
    if not stop.is_set():
        raise EngineError("the data plane ended by itself; its last log lines say why")


def _stop_signal() -> asyncio.Event:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()

    def stopping(number: signal.Signals) -> None:
        _log.info("%s: stopping", number.name)
        stop.set()
        # Whoever signals twice does not want to wait for the grace.
        for handled in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(handled)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping, number)
    return stop
