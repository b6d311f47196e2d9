"""Attacks by clients that are slow, silent, or never read.

Knows clocks only through the broker's: `mqtt.idle_timeout` is 1 s, keep-alives are 1 s.
"""

import selectors
import socket
import ssl
import time
from collections.abc import Sequence
from contextlib import ExitStack

from tests import raw_packets
from tests.abuse.attack import Attack, Target, connect_octets, publish_all
from tests.abuse.vitals import Vitals
from tests.raw_client import WAIT_S, RawClient
from tests.raw_packets import Property

IDLE = ("mqtt.idle_timeout=1s",)
KEEP_ALIVE_TIMEOUT = 0x8D
EACH = 10
# Ends come at 1 s, or 1.5 keep-alives of 1 s; the rest is for a busy machine.
ENDS_WITHIN_S = 6.0
DRIP_S = 0.05
WEBSOCKET_HEAD = b"GET /mqtt HTTP/1.1\r\nHost: broker\r\nUpgrade: websocket\r\nX-Long: " + b"x" * 4_000
PAYLOAD = bytes(10_000)
# An outbox of 1 MiB, 1,000 messages in the queue, and what the allocator makes of it.
DEAF_KIB_MAX = 40 * 1024


def client_hello() -> bytes:
    """What a TLS client begins with."""
    outgoing = ssl.MemoryBIO()
    machine = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    try:
        machine.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def slow_loris(target: Target) -> None:
    """A byte now and then, on every layer; each connection must end although something comes all the time."""
    begun = raw_packets.publish("slow/loris", bytes(5_000), level=4)
    kinds = [
        ("tcp:default", b"", connect_octets("x" * 4_000)),
        ("tcp:default", connect_octets("loris-{}", level=4, keep_alive_s=1), begun),
        ("tls:default", b"", client_hello()),
        ("ws:default", b"", WEBSOCKET_HEAD),
        ("wss:default", b"", client_hello()),
        ("tcp:proxied", b"", b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2" + b" " * 100),
    ]
    with ExitStack() as stack, selectors.DefaultSelector() as watched:
        drips: dict[socket.socket, bytes] = {}
        for listener, entry, slow in kinds:
            for number, connection in enumerate(stack.enter_context(target.crowd(EACH * target.scale, listener))):
                connection.sendall(entry.replace(b"loris-{}", f"loris{number:03}".encode()))
                watched.register(connection, selectors.EVENT_READ)
                drips[connection] = slow
        drip(watched, drips)


def drip(watched: selectors.DefaultSelector, drips: dict[socket.socket, bytes]) -> None:
    """One byte on each connection, again and again, until the broker has closed them all."""
    deadline = time.monotonic() + ENDS_WITHIN_S
    at = 0
    while drips:
        assert time.monotonic() < deadline, f"{len(drips)} slow connections are still open"
        for connection, slow in drips.items():
            try:
                connection.send(slow[at : at + 1])
            except ConnectionError:
                pass  # Its end is about to be read.
        at += 1
        for key, _ in watched.select(DRIP_S):
            open_one = key.fileobj
            assert isinstance(open_one, socket.socket)
            if is_over(open_one):
                watched.unregister(open_one)
                del drips[open_one]


def is_over(connection: socket.socket) -> bool:
    """Whether the broker has closed it."""
    try:
        return not connection.recv(1 << 16)
    except ConnectionError:
        return True


def half_open(target: Target) -> None:
    """Clients that enter and are never heard of again, half of them with messages addressed to them."""
    with ExitStack() as stack:
        gone = [
            stack.enter_context(target.entered(f"gone-{number}", level=4 + number % 2, keep_alive_s=1))
            for number in range(EACH * target.scale)
        ]
        for client in gone[::2]:
            client.subscribe("half/open", qos=1)
        with target.entered("lively") as publisher:
            publish_all(publisher, [("half/open", PAYLOAD)] * 20)
        for client in gone:
            packets = client.until_closed()
            last = packets[-1].reason if client.level == 5 else KEEP_ALIVE_TIMEOUT
            assert last == KEEP_ALIVE_TIMEOUT, packets[-1:]


def deaf(target: Target, qos: int) -> None:
    """A client subscribes and reads nothing any more: it costs an outbox and a queue, no more."""
    before = Vitals.of(target.product).rss_kib
    with RawClient(target.product.address("tcp:default"), level=5, receive_buffer_bytes=4096) as listener:
        listener.connect(f"deaf-{qos}", properties={Property.RECEIVE_MAXIMUM: 65_535})
        listener.subscribe("deaf", qos=qos)
        with target.entered("talker") as talker:
            publish_all(talker, [("deaf", PAYLOAD)] * (1_000 * target.scale), qos=qos)
            publish_all(talker, [("deaf", PAYLOAD)] * 1_000, qos=qos)
        grown = Vitals.of(target.product).rss_kib - before
        assert grown < DEAF_KIB_MAX, f"a client that does not read costs {grown} KiB"


def unfinished(target: Target) -> None:
    """Large packets that are announced, begun and never finished cost what was sent of them, not what was announced."""
    count = 50 * target.scale
    before = Vitals.of(target.product).rss_kib
    with target.crowd(count) as connections:
        for number, connection in enumerate(connections):
            connection.sendall(connect_octets(f"unfinished-{number}"))
            connection.settimeout(WAIT_S)
            connection.recv(100)
            connection.sendall(raw_packets.publish("t", bytes(1_000_000), level=5)[:10_000])
        with target.entered("witness") as witness:
            witness.sent_so_far()
        grown = Vitals.of(target.product).rss_kib - before
        assert grown < count * 64 + 4096, f"{count} packets of which 10 KB came cost {grown} KiB"


ATTACKS: Sequence[Attack] = (
    Attack("slow-loris on every layer", slow_loris, IDLE, moved={"whimbrel.handshakes.failed": 4 * EACH}, slow_scale=5),
    Attack("half-open connections", half_open, IDLE, moved={"client.disconnected": EACH}),
    Attack("packets that never end", unfinished),
    Attack("never reads, QoS 0", lambda target: deaf(target, 0), moved={"delivery.dropped.qos0_msg": 100}),
    Attack("never reads, QoS 1", lambda target: deaf(target, 1), moved={"delivery.dropped.queue_full": 100}),
    Attack("never reads, QoS 2", lambda target: deaf(target, 2), moved={"delivery.dropped.queue_full": 100}),
)
