"""What the command prints when it starts: where it listens, who may enter, where its data is, how to try it.

Pure: facts in, lines out. A line that starts with `listening` has the columns listener and address behind it; tests
and scripts read the real port there.
"""

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from whimbrel.settings import Listener, Settings, TcpBind
from whimbrel.settings.promises import store_mode, zone_modes

# What our own pub and sub can connect to.
_SPOKEN = ("tcp", "unix")
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the process knows of itself; `command` is how to call the command line from the same directory."""

    version: str
    pid: int
    command: str = "whimbrel"


def banner(settings: Settings, listeners: Sequence[tuple[str, str, str]], facts: Facts) -> list[str]:
    """The lines; `listeners` are (kind, name, bound address) as the engine tells them."""
    directory = str(settings.node.data_dir) if settings.node.data_dir else "none, everything is in memory"
    workers = "1 worker" if settings.workers == 1 else f"{settings.workers} workers"
    return [
        f"whimbrel {facts.version}, pid {facts.pid}, node {settings.node.name}, {workers}",
        *_listening(settings, listeners),
        f"data       {directory}",
        *_durability(settings),
        *_management(settings, facts.command),
        *_first_message([one for one in listeners if _is_open(settings, one)], facts.command),
    ]


_PROMISES: Final = {
    "sync": "what is acknowledged is on disk, and survives kill -9 and the loss of power",
    "os": "what is acknowledged survives kill -9, not the loss of power",
    "off": "sessions, queues and retained messages end with this process",
}


def _durability(settings: Settings) -> list[str]:
    if settings.node.data_dir is None:
        return []
    mode = store_mode(settings)
    lines = [f"durability {mode}: {_PROMISES[mode]}"]
    weaker = [name for name, own in zone_modes(settings).items() if own == "off" and mode != "off"]
    if weaker:
        names = ", ".join(f"of zone {name}" if name else "without a zone" for name in weaker)
        lines.append(f"           off for listeners {names}: their sessions end with this process")
    return lines


def _listening(settings: Settings, listeners: Iterable[tuple[str, str, str]]) -> list[str]:
    openness = {(listener.kind, listener.name): _openness(listener) for listener in settings.listeners}
    return [f"listening  {kind}:{name}  {address}  ({openness[kind, name]})" for kind, name, address in listeners]


def _openness(listener: Listener) -> str:
    if not listener.is_anonymous_allowed:
        return "closed: no client may enter until something authenticates it"
    if isinstance(listener.bind, TcpBind) and not listener.bind.is_local:
        return "open to everybody who reaches this address, without a password"
    if listener.kind == "unix":
        return "open to the programs of this user, without a password"
    return "open to every program on this machine, without a password"


def _is_open(settings: Settings, bound: tuple[str, str, str]) -> bool:
    found = (one.is_anonymous_allowed for one in settings.listeners if (one.kind, one.name) == bound[:2])
    return next(found, False)


def _management(settings: Settings, command: str) -> list[str]:
    if settings.node.data_dir is None:
        return []
    return [f"manage     {command} ctl --data-dir {shlex.quote(str(settings.node.data_dir))} clients"]


def _first_message(listeners: Sequence[tuple[str, str, str]], command: str) -> list[str]:
    spoken = [(kind, address) for kind, _, address in listeners if kind in _SPOKEN]
    if not spoken:
        return []
    kind, address = spoken[0]
    where = f"--unix {shlex.quote(address)}" if kind == "unix" else _host_and_port(address)
    return [
        "try it from two other terminals:",
        f"  {command} sub {where} -t 'hello/#' -v",
        f"  {command} pub {where} -t hello/world -m 'it works'",
    ]


def _host_and_port(address: str) -> str:
    host, _, port = address.rpartition(":")
    return f"-h {_WILDCARDS.get(host, host).strip('[]')} -p {port}"
