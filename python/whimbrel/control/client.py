"""The other end of the management line: a small blocking client for the command line.

Knows the socket and the shape of an answer. One request at a time; every wait is bounded by `wait_s`.
"""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from whimbrel.control import socket_path
from whimbrel.errors import ControlError

# A page of 10,000 clients with ids of the usual length is 5 MB; ids may be long.
ANSWER_BYTES_MAX = 256 * 1024 * 1024
PAGE_SIZE = 1_000


class ControlClient:
    """A connection to the broker that runs on `data_dir`."""

    def __init__(self, data_dir: Path, *, wait_s: float = 10.0) -> None:
        """Connect. Raises ControlError with code `no_broker` where none runs there, `denied` where we may not ask."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(wait_s)
        try:
            self._socket.connect(str(socket_path(data_dir)))
        except OSError as error:
            self._socket.close()
            raise _unreachable(error, data_dir) from error
        self._lines = self._socket.makefile("rb")

    def request(self, operation: str, **arguments: object) -> Any:
        """Ask and wait; returns the result's JSON value. Raises ControlError."""
        asked = json.dumps({"op": operation, **arguments}).encode() + b"\n"
        try:
            self._socket.sendall(asked)
            line = self._lines.readline(ANSWER_BYTES_MAX)
        except OSError as error:
            raise ControlError(f"the broker did not answer: {error}", code="no_answer") from error
        if not line.endswith(b"\n"):
            raise ControlError("the broker closed the line before it had answered", code="no_answer")
        answer = json.loads(line)
        if not answer["ok"]:
            raise ControlError(answer["error"]["text"], code=answer["error"]["code"])
        return answer["result"]

    def clients(self) -> Iterator[dict[str, Any]]:
        """Every client, page by page."""
        cursor: int | None = 0
        while cursor is not None:
            page = self.request("clients", cursor=cursor, limit=PAGE_SIZE)
            yield from page["clients"]
            cursor = page["next_cursor"]

    def close(self) -> None:
        """End the connection."""
        self._lines.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _unreachable(error: OSError, data_dir: Path) -> ControlError:
    if isinstance(error, PermissionError):
        return ControlError(f"you may not manage the broker on {data_dir}: permission denied", code="denied")
    if isinstance(error, FileNotFoundError | ConnectionRefusedError):
        sentence = f"no broker runs on the data directory {data_dir}; start one, or name its directory with --data-dir"
        return ControlError(sentence, code="no_broker")
    return ControlError(f"cannot reach the broker on {data_dir}: {error}", code="no_broker")
