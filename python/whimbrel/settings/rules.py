"""What must hold between several settings. Each rule is one function from all checked values to problems.

Knows checked values only. A value that was refused before is not judged again, so that one mistake is one problem.
"""

import os
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Final, TypeAlias

from whimbrel.settings.merge import Merged
from whimbrel.settings.model import TcpBind, UnixBind
from whimbrel.settings.problems import Problem, dotted, quoted
from whimbrel.settings.shapes import OFF
from whimbrel.settings.sources import Key
from whimbrel.settings.table import KINDS, TLS_KINDS, WATERMARKS

SOCKET_PATH_BYTES_MAX: Final = 107
"""sun_path of unix(7) has 108 bytes, one of them for the end."""

CONTROL_SOCKET_NAME: Final = "control.sock"
LOCK_NAME: Final = "lock"
"""What the broker itself keeps in its data directory; listeners stay away from them."""

_ZONES_NAMED_MAX: Final = 10

Rule: TypeAlias = Callable[[Merged], Iterator[Problem]]


def broken_rules(merged: Merged) -> Iterator[Problem]:
    """All problems of all rules."""
    for rule in RULES:
        yield from rule(merged)


def data_dir_is_known(merged: Merged) -> Iterator[Problem]:
    """A broker that runs as a command needs a directory; a user without a home has no default."""
    key = ("node", "data_dir")
    if key in merged.values or key in merged.broken:
        return
    yield Problem(
        origin="default",
        key=dotted(key),
        found="no home directory",
        allowed="a directory of the broker's own",
        hint="start with --data-dir DIRECTORY",
    )


def store_has_a_place(merged: Merged) -> Iterator[Problem]:
    """A promise that somebody wrote needs a disk; where nobody did, an embedded broker is in memory."""
    data_dir = ("node", "data_dir")
    if data_dir in merged.values or data_dir in merged.broken:
        return
    zones = ((*zone, "mqtt", "durability") for zone in merged.instances_of("zones"))
    for key in (("storage", "durability"), ("mqtt", "durability"), *zones):
        is_written = merged.origin(*key) != "default" and not merged.origin(*key).startswith("inherited")
        if is_written and merged.value(*key) in ("sync", "os"):
            yield Problem(
                origin=merged.origin(*key),
                key=dotted(key),
                found=f"{quoted(merged.value(*key))}, and no directory to keep anything in",
                allowed='"off", or a data directory',
                hint='node.data_dir = "/var/lib/whimbrel"',
            )


def socket_path(path: Path, data_dir: Path | None) -> Path | None:
    """Where a socket is: absolute, or in the data directory; None where it is relative and there is none."""
    if path.is_absolute():
        return path
    return data_dir / path if data_dir else None


def open_listeners(merged: Merged) -> Iterator[tuple[Key, TcpBind | UnixBind]]:
    """The listeners that are not switched off, with their binds: kind by kind, as they are written."""
    for listener in sorted(merged.instances_of("listeners"), key=lambda listener: KINDS.index(listener[1])):
        bind = merged.value(*listener, "bind")
        if bind not in (None, OFF):
            yield listener, bind


def _bind_is_written(merged: Merged) -> Iterator[Problem]:
    for listener, origin in merged.instances.items():
        bind = (*listener, "bind")
        if listener[0] != "listeners" or bind in merged.values or bind in merged.broken:
            continue
        example = f"{listener[2]}.sock" if listener[1] == "unix" else "127.0.0.1:1884"
        yield Problem(
            origin=origin,
            key=dotted(listener),
            found="a listener without bind",
            allowed="a listener that says where it accepts",
            hint=f"{dotted(bind)} = {quoted(example)}",
        )


def _stranger_is_meant(merged: Merged) -> Iterator[Problem]:
    anonymous = ("auth", "allow_anonymous")
    if anonymous in merged.values or anonymous in merged.broken:
        return
    for listener, bind in open_listeners(merged):
        if not bind.is_local:
            yield Problem(
                origin=merged.origin(*listener, "bind"),
                key=dotted((*listener, "bind")),
                found=f"{quoted(str(bind))}, which other machines reach, and nothing that says who may enter",
                allowed="a loopback address such as 127.0.0.1 or [::1] while auth.allow_anonymous is unset",
                hint="if everyone may enter, write auth.allow_anonymous = true above the first [table], "
                "or start with --set auth.allow_anonymous=true",
            )


def _zone_exists(merged: Merged) -> Iterator[Problem]:
    names = {zone[1]: None for zone in merged.instances_of("zones")}
    some = [quoted(known) for known in islice(names, _ZONES_NAMED_MAX)]
    for listener, _ in open_listeners(merged):
        name = merged.value(*listener, "zone")
        if name is None or name in names:
            continue
        yield Problem(
            origin=merged.origin(*listener, "zone"),
            key=dotted((*listener, "zone")),
            found=f"{quoted(name)}, a zone that is not written",
            allowed=" or ".join(some) or "no zone, as none is written",
            hint=f"[zones.{name}.mqtt] makes it",
        )


def _bind_is_free(merged: Merged) -> Iterator[Problem]:
    taken: dict[tuple[object, ...], dict[str, Key]] = {}
    for listener, bind in open_listeners(merged):
        place, host = _place(merged, bind)
        hosts = taken.setdefault(place, {})
        other = _overlap(hosts, host)
        hosts.setdefault(host, listener)
        if other is None or place[-1] == 0:
            continue
        yield Problem(
            origin=merged.origin(*listener, "bind"),
            key=dotted((*listener, "bind")),
            found=f"{quoted(str(bind))}, which overlaps with {dotted(other)} ({merged.value(*other, 'bind')})",
            allowed="an address and port, or a path, for each listener",
            hint=f'{dotted(other)}.bind = "off" if only one of them is meant',
        )


_EVERY_HOST: Final = ("0.0.0.0", "::")


def _place(merged: Merged, bind: TcpBind | UnixBind) -> tuple[tuple[object, ...], str]:
    """What two listeners may share as long as their hosts differ, and the host."""
    if isinstance(bind, TcpBind):
        return ("ipv6" if ":" in bind.host else "ipv4", bind.port), bind.host
    path = socket_path(bind.path, merged.value("node", "data_dir")) or bind.path
    return ("unix", os.path.normpath(path)), ""


def _overlap(hosts: dict[str, Key], host: str) -> Key | None:
    if host in _EVERY_HOST:
        return next(iter(hosts.values()), None)
    return next((hosts[known] for known in (host, *_EVERY_HOST) if known in hosts), None)


def _socket_path_fits(merged: Merged) -> Iterator[Problem]:
    for listener, bind in open_listeners(merged):
        problem = _socket_problem(merged, listener, bind) if isinstance(bind, UnixBind) else None
        if problem:
            yield problem


def _socket_problem(merged: Merged, listener: Key, bind: UnixBind) -> Problem | None:
    path = socket_path(bind.path, merged.value("node", "data_dir"))
    found, allowed, hint = quoted(str(path)), f"a path of at most {SOCKET_PATH_BYTES_MAX} bytes", ""
    if path is None and ("node", "data_dir") in merged.broken:
        return None
    if path is None:
        found, allowed = quoted(str(bind)), "an absolute path, as there is no data directory"
    elif len(os.fsencode(path)) <= SOCKET_PATH_BYTES_MAX:
        return None
    else:
        found = f"{found} ({len(os.fsencode(path))} bytes)"
        hint = "an absolute path does not start at node.data_dir: /run/whimbrel.sock"
    bind_key = (*listener, "bind")
    return Problem(origin=merged.origin(*bind_key), key=dotted(bind_key), found=found, allowed=allowed, hint=hint)


def _socket_is_not_ours(merged: Merged) -> Iterator[Problem]:
    data_dir = merged.value("node", "data_dir")
    ours = {os.path.normpath(data_dir / name) for name in (CONTROL_SOCKET_NAME, LOCK_NAME)} if data_dir else set()
    for listener, bind in open_listeners(merged):
        path = socket_path(bind.path, data_dir) if isinstance(bind, UnixBind) else None
        if path is None or os.path.normpath(path) not in ours:
            continue
        yield Problem(
            origin=merged.origin(*listener, "bind"),
            key=dotted((*listener, "bind")),
            found=f"{quoted(str(bind))}, which the broker itself uses in its data directory",
            allowed="a path of the listener's own",
            hint=f"{dotted((*listener, 'bind'))} = {quoted(f'{listener[2]}-mqtt.sock')}",
        )


def _data_dir_is_short(merged: Merged) -> Iterator[Problem]:
    data_dir = merged.value("node", "data_dir")
    if data_dir is None:
        return
    len_max = SOCKET_PATH_BYTES_MAX - len(f"/{CONTROL_SOCKET_NAME}")
    length = len(os.fsencode(data_dir))
    if length > len_max:
        yield Problem(
            origin=merged.origin("node", "data_dir"),
            key=dotted(("node", "data_dir")),
            found=f"{quoted(str(data_dir))} ({length} bytes)",
            allowed=f"a path of at most {len_max} bytes, as {CONTROL_SOCKET_NAME} is in it",
            hint='node.data_dir = "/var/lib/whimbrel"',
        )


def _certificate_is_written(merged: Merged) -> Iterator[Problem]:
    for listener, _ in open_listeners(merged):
        for word in ("cert_file", "key_file") if listener[1] in TLS_KINDS else ():
            key = (*listener, word)
            if key not in merged.values and key not in merged.broken:
                yield Problem(
                    origin=merged.instances[listener],
                    key=dotted(listener),
                    found=f"a listener of kind {listener[1]} without {word}",
                    allowed="a certificate and its private key, each in a PEM file",
                    hint=f'{dotted(key)} = "/etc/whimbrel/{word.replace("_file", ".pem")}"',
                )


def _authority_is_written(merged: Merged) -> Iterator[Problem]:
    for listener, _ in open_listeners(merged):
        verify, ca_file, crl_file = ((*listener, word) for word in ("verify", "ca_file", "crl_file"))
        is_asked = merged.value(*verify) in ("optional", "required")
        if is_asked and ca_file not in merged.values and ca_file not in merged.broken:
            yield Problem(
                origin=merged.origin(*verify),
                key=dotted(verify),
                found=f"{quoted(merged.value(*verify))} without ca_file",
                allowed="the authorities whose certificates are good, in a PEM file",
                hint=f'{dotted(ca_file)} = "/etc/whimbrel/ca.pem"',
            )
        # A revocation list that nobody looks at would only feel safe.
        if crl_file in merged.values and not is_asked and verify not in merged.broken:
            yield Problem(
                origin=merged.origin(*crl_file),
                key=dotted(crl_file),
                found="a revocation list, and no certificates of clients are asked for",
                allowed="a revocation list where verify is optional or required",
                hint=f'{dotted(verify)} = "required"',
            )


def _watermarks_are_in_order(merged: Merged) -> Iterator[Problem]:
    for name in WATERMARKS:
        low, high = (("sysmon", f"{name}_{word}_watermark") for word in ("low", "high"))
        if low in merged.values and high in merged.values and merged.value(*low) > merged.value(*high):
            yield Problem(
                origin=merged.origin(*low),
                key=dotted(low),
                found=f"{merged.value(*low)}, above {dotted(high)}",
                allowed=f"a whole number from 1 to {merged.value(*high)}",
                hint=f"{dotted(low)} = {merged.value(*high)}",
            )


RULES: Final[tuple[Rule, ...]] = (
    _bind_is_written,
    _certificate_is_written,
    _authority_is_written,
    _stranger_is_meant,
    _zone_exists,
    _bind_is_free,
    _socket_path_fits,
    _socket_is_not_ours,
    _data_dir_is_short,
    _watermarks_are_in_order,
)
