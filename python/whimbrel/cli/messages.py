"""`whimbrel pub` and `whimbrel sub`: a message by hand, with the options that mosquitto_pub and _sub made usual."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO, TypeVar

import click

from whimbrel.errors import WhimbrelError
from whimbrel.settings.problems import printable

if TYPE_CHECKING:
    from whimbrel.engine.client import Client
    from whimbrel.engine.records import Message

ResultT = TypeVar("ResultT")

# mosquitto_sub ends with this code when -W runs out; scripts know it.
TIMED_OUT: Final = 27
# Ctrl-C is noticed between two waits, so a wait is short.
_WAIT_MS: Final = 200
_REFUSED: Final = 0x80
_KEEP_ALIVE_S: Final = 60

_CONNECTION: Final = (
    click.option("-h", "--host", default="127.0.0.1", show_default=True, help="Host of the broker."),
    click.option("-p", "--port", default=1883, show_default=True, type=click.IntRange(1, 65_535), help="Its port."),
    click.option("--unix", type=click.Path(), metavar="PATH", help="Its Unix socket, instead of host and port."),
    click.option("-i", "--id", "client_id", default="", metavar="ID", help="Client id.  [default: broker's choice]"),
    click.option("-u", "--username", help="User name."),
    click.option("-P", "--password", help="Password; visible to others on this machine while the command runs."),
    click.option(
        "--password-file",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Password, on the first line of FILE.",
    ),
    click.option(
        "-V", "--protocol", type=click.Choice(["3", "4", "5"]), default="5", show_default=True, help="MQTT version."
    ),
    click.option("-q", "--qos", type=click.IntRange(0, 2), default=0, show_default=True, help="Quality of service."),
)


class _Refused(WhimbrelError):
    """The broker did not take what was asked for."""


def _connection(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_CONNECTION):
        command = option(command)
    return command


@click.command()
@_connection
@click.option("-t", "--topic", required=True, help="Topic.")
@click.option("-m", "--message", help="The payload, as text.")
@click.option("--stdin-line", "is_by_line", is_flag=True, help="One message for each line of standard input.")
@click.option("--file", "file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Payload from FILE.")
@click.option("-r", "--retain", is_flag=True, help="Keep it as the topic's retained message.")
def pub(
    *, topic: str, message: str | None, is_by_line: bool, file: Path | None, retain: bool, qos: int, **connection: Any
) -> None:
    """Publish a message (-m, --file) or one for each line of standard input (--stdin-line)."""
    if [message is not None, is_by_line, file is not None].count(True) != 1:
        raise click.UsageError("give exactly one of -m, --stdin-line and --file")
    # Nobody pings while standard input says nothing, and that may be long.
    client = _connected(**connection, keep_alive_s=0 if is_by_line else _KEEP_ALIVE_S)
    for payload in _payloads(message, file):
        _asked(client.publish, topic, payload, qos=qos, retain=retain)
    _asked(client.disconnect)


@click.command()
@_connection
@click.option(
    "-t", "--topic", "filters", required=True, multiple=True, help="Topic filter; may be given several times."
)
@click.option("-C", "--count", type=click.IntRange(1), help="End after so many messages.")
@click.option("-W", "--timeout", "wait_s", type=click.FloatRange(0, min_open=True), help="End after so many seconds.")
@click.option("-v", "--verbose", "is_verbose", is_flag=True, help="Print the topic in front of each payload.")
def sub(
    *, filters: tuple[str, ...], count: int | None, wait_s: float | None, is_verbose: bool, qos: int, **connection: Any
) -> None:
    """Subscribe and print each message on a line of its own."""
    deadline = None if wait_s is None else time.monotonic() + wait_s
    client = _connected(**connection)
    _subscribe(client, filters, qos)
    for number, received in enumerate(_received(client, deadline), start=1):
        _print(received, is_verbose=is_verbose)
        if number == count:
            _leave(client)
            return
    _leave(client)
    sys.exit(TIMED_OUT)


def _connected(
    *,
    host: str,
    port: int,
    unix: str | None,
    client_id: str,
    username: str | None,
    password: str | None,
    password_file: Path | None,
    protocol: str,
    keep_alive_s: int = _KEEP_ALIVE_S,
) -> "Client":
    from whimbrel.engine.client import Client

    octets = _password(password, password_file)
    address = f"unix:{unix}" if unix else f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        return Client(
            address,
            client_id=client_id,
            username=username,
            password=octets,
            protocol_version=int(protocol),
            keep_alive_s=keep_alive_s,
        )
    except (OSError, ValueError) as error:
        raise _Refused(f"cannot connect to {address}: {error}") from error


def _password(typed: str | None, file: Path | None) -> bytes | None:
    if typed is not None and file is not None:
        raise click.UsageError("give only one of -P and --password-file")
    if file is not None:
        with file.open("rb") as lines:
            return lines.readline().rstrip(b"\r\n")
    return None if typed is None else os.fsencode(typed)


def _asked(call: Callable[..., ResultT], *arguments: Any, **options: Any) -> ResultT:
    try:
        return call(*arguments, **options)
    except (OSError, ValueError) as error:
        raise _Refused(str(error)) from error


def _payloads(message: str | None, file: Path | None) -> Iterator[bytes]:
    if message is not None:
        yield os.fsencode(message)  # The octets that were typed, whether they are text or not.
    elif file is not None:
        yield file.read_bytes()
    else:
        for line in _open_stream(sys.stdin, "input").buffer:
            yield line.rstrip(b"\r\n")


def _subscribe(client: "Client", filters: tuple[str, ...], qos: int) -> None:
    codes = _asked(client.subscribe, filters, qos=qos)
    for topic_filter, code in zip(filters, codes, strict=True):
        if code >= _REFUSED:
            raise _Refused(f"the broker refused the subscription to {topic_filter} (reason code 0x{code:02x})")


def _received(client: "Client", deadline: float | None) -> "Iterator[Message]":
    while deadline is None or time.monotonic() < deadline:
        left_ms = _WAIT_MS if deadline is None else min(_WAIT_MS, 1 + int((deadline - time.monotonic()) * 1_000))
        received = _asked(client.receive, max(left_ms, 1))
        if received is not None:
            yield received


def _leave(client: "Client") -> None:
    # What was asked for has been printed; a broker that is gone by now has taken nothing back.
    with contextlib.suppress(OSError):
        client.disconnect()


def _print(message: "Message", *, is_verbose: bool) -> None:
    output = _open_stream(sys.stdout, "output")
    if is_verbose:
        output.buffer.write(printable(message.topic).encode() + b" ")
    output.buffer.write(_shown(message.payload, is_terminal=output.isatty()) + b"\n")
    output.buffer.flush()


def _shown(payload: bytes, *, is_terminal: bool) -> bytes:
    # A stranger's payload must not drive a terminal; a file or another program gets the octets as they are.
    return printable(payload.decode(errors="backslashreplace")).encode() if is_terminal else payload


def _open_stream(stream: TextIO | None, name: str) -> TextIO:
    if stream is None:
        raise _Refused(f"standard {name} is closed")
    return stream
