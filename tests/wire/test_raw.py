"""What real clients hide: silence, sudden death, nonsense on the wire."""

import time

import pytest

from tests.raw_client import DISCONNECT, PINGRESP, RawClient
from tests.waiting import wait_until
from tests.wire.product import Product, running

KEEP_ALIVE_TIMEOUT = 0x8D
SESSION_TAKEN_OVER = 0x8E


def entered(product: Product, client_id: str, *, level: int = 4, keep_alive_s: int = 0) -> RawClient:
    client = RawClient((product.host, product.port), level=level)
    assert client.connect(client_id, keep_alive_s=keep_alive_s)[0] == 0
    return client


@pytest.mark.parametrize("level", [4, 5])
def test_a_silent_client_is_dropped_after_one_and_a_half_keep_alives(product: Product, name: str, level: int) -> None:
    with entered(product, name, level=level, keep_alive_s=1) as client:
        began = time.monotonic()
        if level == 5:
            assert client.expect(DISCONNECT).body[0] == KEEP_ALIVE_TIMEOUT
        assert client.packet() is None
        assert 1.4 <= time.monotonic() - began <= 4.0


def test_pings_keep_a_connection_alive(product: Product, name: str) -> None:
    with entered(product, name, keep_alive_s=1) as client:
        began = time.monotonic()
        while time.monotonic() - began < 2.5:
            client.send(0xC0, b"")
            client.expect(PINGRESP)
            assert not client.hears_within(0.5)
        assert product.clients()[name]["is_connected"]


@pytest.mark.parametrize("level", [4, 5])
def test_a_client_whose_id_is_taken_over_is_told_where_its_version_can_say_it(
    product: Product, name: str, level: int
) -> None:
    with entered(product, name, level=level) as first, entered(product, name, level=level) as second:
        if level == 5:
            assert first.expect(DISCONNECT).body[0] == SESSION_TAKEN_OVER
        assert first.packet() is None
        second.send(0xC0, b"")
        second.expect(PINGRESP)


def test_a_client_that_crashed_is_gone_from_the_list(product: Product, name: str) -> None:
    client = entered(product, name)
    assert name in product.clients()
    client.close()
    wait_until(lambda: name not in product.clients(), what="the end of a clean session")


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="http"),
        pytest.param(b"\x00" * 16, id="reserved-type"),
        pytest.param(b"\x30\x05\x00\x01aXX", id="publish-before-connect"),
        pytest.param(b"\x10\xff\xff\xff\xff\x7f", id="length-of-five-octets"),
        pytest.param(b"\x10\xff\xff\xff\x7f", id="length-of-256-MB"),
    ],
)
def test_nonsense_ends_its_own_connection_and_nothing_else(product: Product, name: str, octets: bytes) -> None:
    with entered(product, name) as bystander, RawClient((product.host, product.port)) as rude:
        rude.send_octets(octets)
        while rude.packet() is not None:
            pass
        bystander.send(0xC0, b"")
        bystander.expect(PINGRESP)


def test_a_publish_to_a_wildcard_ends_the_connection(product: Product, name: str) -> None:
    with entered(product, name) as client:
        client.publish("a/#", b"")
        assert client.packet() is None


def test_a_connection_that_never_says_connect_is_closed(tmp_path_factory: pytest.TempPathFactory) -> None:
    data_dir = tmp_path_factory.mktemp("idle")
    with running(data_dir, "mqtt.idle_timeout=200ms") as product, RawClient((product.host, product.port)) as mute:
        assert mute.packet() is None
