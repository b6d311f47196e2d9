"""What an attack is: a row of a table, and the broker that it is run against.

Knows how an attack is described and what every attack needs to reach the broker. The judge is `test_abuse`.
"""

import random
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

from tests import raw_packets
from tests.raw_client import PUBACK, WAIT_S, RawClient
from tests.raw_packets import PUBCOMP, PUBREC, PUBREL
from tests.wire.authority import Authority
from tests.wire.product import Product

SEED = 20260
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Target:
    """The broker under attack. `scale`: 1 in the short form, more in the long one. `dice`: the same in every run."""

    product: Product
    scale: int
    authority: Authority
    dice: random.Random

    def client(
        self, *, level: int = 5, listener: str = "tcp:default", receive_buffer_bytes: int | None = None
    ) -> RawClient:
        """A client that has not sent anything."""
        return RawClient(self.product.address(listener), level=level, receive_buffer_bytes=receive_buffer_bytes)

    @contextmanager
    def entered(self, client_id: str, *, level: int = 5, keep_alive_s: int = 0) -> Iterator[RawClient]:
        """A client that has its CONNACK."""
        with self.client(level=level) as client:
            code, _ = client.connect(client_id, keep_alive_s=keep_alive_s)
            assert code == 0, f"CONNACK says {code:#x}"
            yield client

    @contextmanager
    def crowd(self, count: int, listener: str = "tcp:default") -> Iterator[list[socket.socket]]:
        """So many bare connections."""
        address = self.product.address(listener)
        with ExitStack() as stack:
            yield [stack.enter_context(socket.create_connection(address, timeout=WAIT_S)) for _ in range(count)]


@dataclass(frozen=True)
class Attack:
    """One row.

    `run` attacks, judges what an attacker is told, and has let go when it returns. `limits` are the settings in force
    beside the standing ones. `moved`: counters that the attack moves, and by how much at least. `rss_kib`: how much
    larger the process may be than before. `gap_s`: how long a round trip of the healthy client may take; generous,
    because the machine may have other work, and twice that in the long form. `slow_scale`: the scale of that; 0: there
    is none.
    """

    name: str
    run: Callable[[Target], None]
    limits: Sequence[str] = ()
    moved: Mapping[str, int] = field(default_factory=dict)
    rss_kib: int = 2048
    gap_s: float = 2.0
    slow_scale: int = 10


def ended(connection: socket.socket) -> bytes:
    """What the broker sends until it closes; a reset is a close, too."""
    received = bytearray()
    try:
        while octets := connection.recv(1 << 16):
            received += octets
    except ConnectionError:
        pass
    return bytes(received)


def swallow(connection: socket.socket, octets: bytes) -> bytes:
    """Send, say that nothing more comes, and hear the broker out."""
    try:
        connection.sendall(octets)
        connection.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # It has ended the connection already.
    return ended(connection)


def connect_octets(client_id: str, *, level: int = 5, keep_alive_s: int = 0) -> bytes:
    """CONNECT of a plain client."""
    return raw_packets.connect(client_id, level=level, keep_alive_s=keep_alive_s)


def publish_all(
    client: RawClient, messages: Iterable[tuple[str, bytes]], *, qos: int = 1, retain: bool = False
) -> None:
    """Publish (topic, payload) in batches that a receive maximum of 1,024 allows, each acknowledged before the next."""
    for batch in _batches(messages):
        packets = [
            raw_packets.publish(topic, payload, level=client.level, qos=qos, packet_id=number, retain=retain)
            for number, (topic, payload) in enumerate(batch, start=1)
        ]
        client.send_octets(b"".join(packets))
        _settle(client, qos, len(batch))


def subscribe_many(client: RawClient, filters: Iterable[str], *, qos: int = 0, size: int = 10_000) -> list[int]:
    """SUBSCRIBE in packets of `size` filters; returns all codes."""
    return [code for batch in _batches(filters, size) for code in client.subscribe_all([(one, qos) for one in batch])]


def _settle(client: RawClient, qos: int, sent: int) -> None:
    for number in range(1, sent + 1 if qos == 2 else 1):
        client.expect(PUBREC)
        client.acknowledge(PUBREL, number)
    for _ in range(sent if qos else 0):
        client.expect(PUBACK if qos == 1 else PUBCOMP)


def _batches(items: Iterable[_Item], size: int = 200) -> Iterator[list[_Item]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
