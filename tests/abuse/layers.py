"""Attacks on what carries MQTT: WebSocket, TLS, the PROXY header; and on the management line.

Knows frames and records as bytes. What a client is told is judged here; that it ends is judged by the descriptors.
"""

import itertools
import socket
import ssl
import struct
import subprocess
from collections.abc import Sequence

from tests import raw_packets
from tests.abuse.attack import Attack, Target, connect_octets, swallow
from tests.abuse.slowness import client_hello
from tests.raw_client import WAIT_S, RawClient
from tests.wire.websocket_client import BINARY, CLOSE, CONTINUATION, PING, WebSocketClient, frame
from whimbrel.control import socket_path

RECORD = b"\x16\x03\x01"
CONTROL_LINE_MAX = 64 * 1024


def websocket_refused(target: Target) -> None:
    """Frames that no client may send: each ends with a close frame."""
    compressed = bytearray(frame(BINARY, connect_octets("x")))
    compressed[0] |= 0x40
    endless = struct.pack("!BBQ", 0x82, 0xFF, 1 << 63) + b"mask" + b"x" * 100
    unmasked = b"\x82\x02\xc0\x00"
    long_ping = frame(PING, bytes(126))
    cut_ping = frame(PING, b"x", is_final=False)
    orphan = frame(CONTINUATION, b"x")
    for spoilt in (bytes(compressed), endless, unmasked, long_ping, cut_ping, orphan, frame(3, b""), frame(1, b"text")):
        for _ in range(5 * target.scale):
            with WebSocketClient(target.product.address("ws:default")) as client:
                assert client.request()[0] == 101
                client.socket.sendall(spoilt)
                last = client.receive()
                assert last is not None, spoilt[:10]
                assert last[0] == CLOSE, (spoilt[:10], last)


def websocket_floods(target: Target) -> None:
    """Empty fragments without end, pings whose answers nobody reads, and one huge frame in small pieces."""
    begun, empty = frame(BINARY, b"", is_final=False), frame(CONTINUATION, b"", is_final=False)
    for first, flood in ((begun, empty * 2_000), (b"", frame(PING, bytes(125)) * 500)):
        with WebSocketClient(target.product.address("ws:default"), receive_octets=4096) as client:
            assert client.request()[0] == 101
            client.socket.sendall(first)
            for _ in range(20 * target.scale):
                client.socket.sendall(flood)
    huge = struct.pack("!BBQ", 0x82, 0xFF, 1 << 40) + bytes(4)
    with WebSocketClient(target.product.address("ws:default")) as client:
        assert client.request()[0] == 101
        client.socket.sendall(huge + connect_octets("huge"))
        assert client.receive() is not None
        for _ in range(50 * target.scale):
            client.socket.sendall(raw_packets.publish("huge", bytes(10_000), level=5))


def requests(target: Target) -> None:
    """HTTP that is no upgrade, and heads without end."""
    heads = [
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST /mqtt HTTP/1.1\r\n\r\n",
        b"\r\n" * 5_000,
        b"GET /mqtt HTTP/1.1\r\n" + b"a: b\r\n" * 3_000,
    ]
    for _ in range(10 * target.scale):
        for head in heads:
            with target.crowd(1, "ws:default") as (connection,):
                swallow(connection, head)


def tls(target: Target) -> None:
    """Plaintext, garbage records, records cut short, a hello again and again, and the end in the middle of one."""
    hello = client_hello()
    noise = target.dice.randbytes(2_000)
    pieces = [
        connect_octets("plain"),
        b"GET / HTTP/1.1\r\n\r\n",
        RECORD + b"\xff\xff" + noise,
        RECORD + struct.pack("!H", len(noise)) + noise,
        hello[:50],
        hello * 3,
        b"\x15\x03\x03\x00\x02\x01\x00" * 100,
    ]
    for piece, listener in itertools.product(pieces * (5 * target.scale), ("tls:default", "wss:default")):
        with target.crowd(1, listener) as (connection,):
            swallow(connection, piece)


def tls_inside(target: Target) -> None:
    """A good handshake, then records that are forged, and a renegotiation (TLS 1.2), which nobody may ask for."""
    made = ssl.create_default_context(cafile=str(target.authority.ca))
    made.maximum_version = ssl.TLSVersion.TLSv1_2
    pieces = [b"\x17\x03\x03\x00\x20" + bytes(32), RECORD + b"\x00\x04\x01\x00\x00\x00", client_hello()]
    for forged in pieces * (3 * target.scale):
        with socket.create_connection(target.product.address("tls:default"), timeout=WAIT_S) as plain:
            wrapped = made.wrap_socket(plain, server_hostname="localhost")
            wrapped.sendall(connect_octets("inside"))
            assert wrapped.recv(100)
            with socket.socket(fileno=wrapped.detach()) as bare:
                bare.settimeout(WAIT_S)
                swallow(bare, forged)


def tls_hellos(target: Target) -> None:
    """The first packet of many handshakes at once: it costs an attacker nothing and the broker a signature."""
    hello = client_hello()
    for _ in range(2):
        with target.crowd(200 * target.scale, "tls:default") as connections:
            for connection in connections:
                connection.sendall(hello)
            for connection in connections:
                assert connection.recv(1)


def renegotiation(target: Target) -> None:
    """A client of TLS 1.2 asks for a new handshake inside the old one."""
    host, port = target.product.address("tls:default")
    words = ["openssl", "s_client", "-connect", f"{host}:{port}", "-tls1_2", "-CAfile", str(target.authority.ca)]
    for _ in range(3 * target.scale):
        asked = subprocess.run(words, input=b"R\n", capture_output=True, timeout=3 * WAIT_S, check=False)
        assert b"RENEGOTIATING" in asked.stdout + asked.stderr
        assert asked.returncode != 0, asked.stderr


def proxy(target: Target) -> None:
    """PROXY headers of all wrong kinds."""
    heads = [
        b"PROXY " + b"x" * 5_000,
        b"PROXY TCP4 1 2 3 4\r\n",
        b"\r\n\r\n\0\r\nQUIT\n" + b"\xff" * 100,
        connect_octets("no proxy"),
    ]
    for _ in range(10 * target.scale):
        for head in heads:
            with target.crowd(1, "tcp:proxied") as (connection,):
                swallow(connection, head)


def control(target: Target) -> None:
    """Noise on the management line: no JSON, deep JSON, long lines, many connections, and the end in the middle."""
    path = str(socket_path(target.product.data_dir))
    lines = [
        target.dice.randbytes(1_000),
        b"[" * 60_000,
        b'{"op":"clients","limit":-1}',
        b'{"op":' + b"9" * 5_000 + b"}",
        b'{"op":"kick"}',
    ]
    for _ in range(5 * target.scale):
        for line in lines:
            with RawClient(path) as client:
                client.send_octets(line.replace(b"\n", b"") + b"\n")
                assert client.hears_within(WAIT_S)
        with RawClient(path) as client:
            client.send_octets(b"x" * CONTROL_LINE_MAX + b"x")
            assert client.hears_within(WAIT_S)
        with RawClient(path) as client:
            client.send_octets(b"{")


ATTACKS: Sequence[Attack] = (
    Attack("WebSocket frames that are refused", websocket_refused),
    Attack("WebSocket floods", websocket_floods),
    Attack("HTTP that is no upgrade", requests, moved={"whimbrel.handshakes.failed": 30}),
    Attack("TLS records that are none", tls, moved={"whimbrel.handshakes.failed": 50}),
    Attack("TLS records that are forged", tls_inside),
    Attack("TLS hellos at once", tls_hellos, slow_scale=5),
    Attack("TLS renegotiation", renegotiation, slow_scale=2),
    Attack("PROXY headers", proxy, moved={"whimbrel.handshakes.failed": 30}),
    Attack("management line", control, moved={"whimbrel.control.requests.failed": 20}),
)
