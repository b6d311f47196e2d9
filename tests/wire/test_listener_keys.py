"""What every kind of listener has: max_connections and zone, each seen by a client that came through it."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.raw_client import WAIT_S
from tests.waiting import wait_until
from tests.wire.authority import Authority
from tests.wire.clients.adapter import Connected, Door, Opening
from tests.wire.clients.paho_adapter import PahoAdapter
from tests.wire.product import Product, running
from whimbrel.control.client import ControlClient

KINDS = ("tcp", "tls", "ws", "wss", "unix")
V4 = 4


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Product, dict[str, Door]]]:
    """A listener `small` of each kind, with room for one client and a zone that allows QoS 0."""
    authority = Authority(tmp_path_factory.mktemp("keys") / "ca")
    pair = authority.issue("server")
    sets = ["zones.low.mqtt.max_qos_allowed=0"]
    for kind in KINDS:
        keys = ["bind=k.sock" if kind == "unix" else "bind=127.0.0.1:0", "max_connections=1", "zone=low"]
        keys += [f"cert_file={pair.cert}", f"key_file={pair.key}"] if kind in ("tls", "wss") else []
        sets += [f"listeners.{kind}.small.{key}" for key in keys]
    with running(tmp_path_factory.mktemp("keys") / "data", *sets) as product:
        yield product, {kind: _door(product, kind, authority.ca) for kind in KINDS}


def _door(product: Product, kind: str, ca: Path) -> Door:
    if kind == "unix":
        return Door(transport=kind, place=str(product.data_dir / "k.sock"))
    host, port = product.address(f"{kind}:small")
    return Door(transport=kind, host=host, port=port, ca=ca if kind in ("tls", "wss") else None)


def entered(door: Door, name: str) -> Connected:
    return PahoAdapter().open(door, V4, Opening(client_id=name))


def is_turned_away(door: Door) -> bool:
    """Whether a connection is closed before it has said a word."""
    with socket.socket(socket.AF_UNIX if door.place else socket.AF_INET) as connection:
        connection.settimeout(WAIT_S)
        connection.connect(door.place or (door.host, door.port))
        try:
            return connection.recv(1) == b""
        except ConnectionResetError:
            return True


def refused(product: Product) -> int:
    with ControlClient(product.data_dir) as control:
        return int(control.request("metrics")["whimbrel.listeners.refused"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_listener_has_room_for_so_many_connections_and_then_again(
    served: tuple[Product, dict[str, Door]], kind: str, name: str
) -> None:
    product, doors = served
    before = refused(product)
    first = entered(doors[kind], name)
    assert product.clients()[name]["listener"] == f"{kind}:small"
    assert is_turned_away(doors[kind])
    wait_until(lambda: refused(product) == before + 1, what="the refusal in the counter")
    first.close()
    wait_until(lambda: name not in product.clients(), what="the end of the first")
    entered(doors[kind], f"{name}-2").close()
    wait_until(lambda: f"{name}-2" not in product.clients(), what="the end of the second")


@pytest.mark.parametrize("kind", KINDS)
def test_a_listener_has_the_limits_of_its_zone(served: tuple[Product, dict[str, Door]], kind: str, name: str) -> None:
    product, doors = served
    client = entered(doors[kind], name)
    assert client.subscribe(name, 1) == 0
    client.close()
    wait_until(lambda: name not in product.clients(), what="the end of the client")
