"""A broker in the foreground: from `Settings` to the exit of the command.

Order of start: data directory and its lock, data plane with hooks, management line, clients, banner, `ready`. Order of
stop: management line, clients (drained within `GRACE_MS`), hooks, lock. SIGINT and SIGTERM stop it; a second one ends
the process at once. SIGHUP reads the settings again. Owns the process's loop and signals, so it belongs to the
command only.
"""

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from pathlib import Path

from whimbrel import logs
from whimbrel.app.assembly import Assembly
from whimbrel.app.banner import Facts, banner
from whimbrel.app.data_dir import locked
from whimbrel.app.systemd import READY, STOPPING, notify
from whimbrel.control import socket_path
from whimbrel.control.server import ControlServer
from whimbrel.errors import CertificateFailure, EngineError
from whimbrel.hooks.registry import Registry
from whimbrel.settings import Changes, Settings, SettingsError

GRACE_MS = 3_000

_log = logging.getLogger("whimbrel.app")


def run(
    settings: Settings,
    *,
    version: str,
    say: Callable[[str], None],
    command: str = "whimbrel",
    read_again: Callable[[], Settings] | None = None,
) -> None:
    """Run a broker until it is told to stop; `say` gets the lines for the terminal, `ready` last.

    `command` is how a reader of those lines can call the command line; `read_again` gives the settings of the same
    sources as they are now, for SIGHUP and `whimbrel ctl reload`.

    Raises StartError where it cannot start, EngineError where the data plane ends by itself or does not end in time.
    """
    data_dir = settings.node.data_dir
    lock: AbstractContextManager[Path | None] = nullcontext() if data_dir is None else locked(data_dir)
    with lock:
        facts = Facts(version=version, pid=os.getpid(), command=command)
        asyncio.run(_serve(settings, facts, say, read_again))


async def _serve(
    settings: Settings, facts: Facts, say: Callable[[str], None], read_again: Callable[[], Settings] | None
) -> None:
    stop = _stop_signal()
    assembly = Assembly.start(settings, Registry())
    try:
        if read_again is not None:
            _follow(assembly, read_again)
        async with _controlled(assembly, settings.node.data_dir):
            assembly.open()
            for line in banner(settings, assembly.engine.listeners(), facts):
                say(line)
            say("ready")
            notify(READY)
            await _until(stop, assembly)
            notify(STOPPING)
    finally:
        await assembly.stop(grace_ms=GRACE_MS)


def _follow(assembly: Assembly, read_again: Callable[[], Settings]) -> None:
    """Reload on SIGHUP and on request. Settings with a mistake change nothing, and the log says which."""
    configuration = assembly.services.configuration

    def reload() -> Changes:
        settings = read_again()
        found = assembly.reload(settings)
        logs.configure(settings.log.level)
        _log.info("reload: now %s; at the next start %s", _listed(found.now), _listed(found.at_restart))
        return found

    async def hang_up() -> None:
        try:
            configuration.reload()
            await assembly.services.listeners.reload_certificates()
        except SettingsError as error:
            _log.error("reload: nothing has changed, because the settings have mistakes:\n%s", error)
        except CertificateFailure as error:
            _log.error("reload: the certificates stay as they are: %s", error)

    configuration.follow(reload)
    running: set[asyncio.Task[None]] = set()  # The loop itself holds tasks weakly.
    loop = asyncio.get_running_loop()

    def on_hang_up() -> None:
        task = loop.create_task(hang_up())
        running.add(task)
        task.add_done_callback(running.discard)

    loop.add_signal_handler(signal.SIGHUP, on_hang_up)


def _listed(keys: Sequence[str]) -> str:
    return ", ".join(keys) or "nothing"


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
