"""A WebSocket of sixty lines for what real clients hide: any frame, any cut, any request. Every wait is bounded."""

import os
import socket
import ssl
import struct
from types import TracebackType
from typing import Self

from tests.raw_client import WAIT_S

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
HEADERS = {
    "Host": "broker",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Protocol": "mqtt",
}


class WebSocketClient:
    """One connection to (host, port); `receive_octets`: how much the kernel holds for a reader that falls behind."""

    def __init__(self, address: tuple[str, int], *, receive_octets: int = 0) -> None:
        self.socket: socket.socket = socket.socket()
        self.socket.settimeout(WAIT_S)
        if receive_octets:  # Before the connection, which cannot take back the room that it has promised.
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_octets)
        self.socket.connect(address)
        self._stream = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()
        self.socket.close()

    def secure(self, context: ssl.SSLContext) -> None:
        """Go on in TLS."""
        self._stream.close()
        self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
        self._stream = self.socket.makefile("rb")

    def request(self, path: str = "/mqtt", **changes: str) -> tuple[int, dict[str, str]]:
        """Ask for the upgrade; header fields with `_` for `-` replace the right ones. Returns status and fields."""
        headers = HEADERS | {key.replace("_", "-"): value for key, value in changes.items()}
        lines = [f"GET {path} HTTP/1.1", *(f"{key}: {value}" for key, value in headers.items() if value), "", ""]
        self.socket.sendall("\r\n".join(lines).encode())
        return self.answer()

    def answer(self) -> tuple[int, dict[str, str]]:
        """Status and header fields, with small letters, of the answer."""
        status = int(self._stream.readline().split()[1])
        fields = {}
        while line := self._stream.readline().decode().strip():
            key, _, value = line.partition(": ")
            fields[key.lower()] = value
        return status, fields

    def rest(self) -> bytes:
        """Everything up to the end of the connection."""
        return self._stream.read()

    def send(self, opcode: int, payload: bytes, *, is_final: bool = True) -> None:
        """Send one frame with a mask."""
        self.socket.sendall(frame(opcode, payload, is_final=is_final))

    def receive(self) -> tuple[int, bytes] | None:
        """The next frame's opcode and payload; None where the broker closed the connection."""
        head = self._stream.read(2)
        if len(head) < 2:
            return None
        assert not head[1] & 0x80, "a server does not mask"
        length = head[1]
        if length == 126:
            (length,) = struct.unpack("!H", self._stream.read(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", self._stream.read(8))
        return head[0] & 0x0F, self._stream.read(length)


def frame(opcode: int, payload: bytes, *, is_final: bool = True) -> bytes:
    """A frame as a client sends it."""
    first = opcode | (0x80 if is_final else 0)
    if len(payload) < 126:
        head = struct.pack("!BB", first, 0x80 | len(payload))
    elif len(payload) < 2**16:
        head = struct.pack("!BBH", first, 0x80 | 126, len(payload))
    else:
        head = struct.pack("!BBQ", first, 0x80 | 127, len(payload))
    mask = os.urandom(4)
    return head + mask + bytes(octet ^ mask[at % 4] for at, octet in enumerate(payload))
