"""The broker's end of the management line: an asyncio server on a Unix socket.

Knows lines, bounds and JSON; what a request means is in `operations`. Bounds: `CONNECTIONS_MAX` at once, one request
at a time on each, lines of `LINE_BYTES_MAX`, `REQUEST_WAIT_S` for the next request and for the peer to take an answer.
Runs on the engine's loop.
"""

import asyncio
import json
import logging
import os
import socket
import stat
from pathlib import Path

from whimbrel.control.operations import perform
from whimbrel.errors import ControlError, StartError
from whimbrel.services import Services

CONNECTIONS_MAX = 16
LINE_BYTES_MAX = 64 * 1024
REQUEST_WAIT_S = 30.0

_log = logging.getLogger("whimbrel.control")


class ControlServer:
    """Listens on `path` from `start` to `stop`. The caller holds the lock of the data directory around both."""

    def __init__(self, services: Services, path: Path) -> None:
        self._services = services
        self._path = path
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._counts = dict.fromkeys(
            ("whimbrel.control.connections.refused", "whimbrel.control.requests", "whimbrel.control.requests.failed"), 0
        )

    def counters(self) -> dict[str, int]:
        """What was asked here, as `whimbrel.control.*`."""
        return {**self._counts, "whimbrel.control.connections": len(self._connections)}

    async def start(self) -> None:
        """Create the socket, mode 0600. Raises StartError."""
        try:
            bound = _bind(self._path)
        except OSError as error:
            reason = error.strerror or str(error)
            raise StartError(f"cannot create the control socket {self._path}: {reason.lower()}") from error
        self._server = await asyncio.start_unix_server(self._accept, sock=bound, limit=LINE_BYTES_MAX)

    async def stop(self) -> None:
        """End every connection and remove the socket."""
        if self._server is None:
            return
        self._server.close()
        self._path.unlink(missing_ok=True)
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # start_unix_server runs this in a task of its own.
        self._connections.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, TimeoutError):
            pass  # The peer is gone or idle; there is nobody to tell.
        finally:
            self._connections.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) > CONNECTIONS_MAX:
            self._counts["whimbrel.control.connections.refused"] += 1
            busy = ControlError(f"{CONNECTIONS_MAX} connections are open already", code="busy")
            await _send(writer, _failure(busy))
            return
        is_going_on = True
        while is_going_on:
            answer, is_going_on = await self._next(reader)
            if answer is not None:
                await _send(writer, answer)

    async def _next(self, reader: asyncio.StreamReader) -> tuple[dict[str, object] | None, bool]:
        """The answer to the next request (None at the end of the stream), and whether another one may follow."""
        try:
            async with asyncio.timeout(REQUEST_WAIT_S):
                line = await reader.readline()
        except ValueError:  # The limit was passed, so the stream is no longer at the start of a line.
            long = ControlError(f"a request has at most {LINE_BYTES_MAX} bytes", code="bad_request")
            return _failure(long), False
        if not line.strip():
            return None, bool(line)
        return await self._answer(line), True

    async def _answer(self, line: bytes) -> dict[str, object]:
        self._counts["whimbrel.control.requests"] += 1
        try:
            return {"ok": True, "result": await perform(_parsed(line), self._services)}
        except ControlError as error:
            self._counts["whimbrel.control.requests.failed"] += 1
            return _failure(error)


def _parsed(line: bytes) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ControlError(f"the request is not JSON: {error}", code="bad_request") from error


def _failure(error: ControlError) -> dict[str, object]:
    return {"ok": False, "error": {"code": error.code, "text": str(error)}}


async def _send(writer: asyncio.StreamWriter, answer: dict[str, object]) -> None:
    writer.write(json.dumps(answer, separators=(",", ":")).encode() + b"\n")
    async with asyncio.timeout(REQUEST_WAIT_S):
        await writer.drain()


def _bind(path: Path) -> socket.socket:
    _clear(path)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        bound.bind(str(path))
    except BaseException:
        bound.close()
        raise
    finally:
        os.umask(mask)
    return bound


def _clear(path: Path) -> None:
    # A socket left over by a broker that was killed; the data directory's lock says that none is running now.
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise StartError(
            f"cannot create the control socket {path}: something that is no socket has its place; move it away, "
            "or choose another directory with --data-dir"
        )
    path.unlink()
