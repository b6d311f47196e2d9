"""MQTT 3.1 as paho-mqtt and a raw client see it; other clients are in `test_clients.py`."""

import struct

import pytest

from tests.raw_client import CONNACK, RawClient
from tests.wire.paho_client import V3, V5, PahoClient
from tests.wire.product import Product

IDENTIFIER_REJECTED = 2


def entered(product: Product, client_id: str) -> PahoClient:
    client = PahoClient(client_id, V3)
    assert client.connect(product.host, product.port) == (0, False)
    return client


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_message_arrives_whole_at_each_quality_of_service(product: Product, name: str, qos: int) -> None:
    with entered(product, f"{name}-p") as publisher, entered(product, f"{name}-s") as subscriber:
        assert subscriber.subscribe(f"{name}/+", qos) == qos
        publisher.publish(f"{name}/a", b"old", qos=qos)
        message = subscriber.message()
        assert (message.topic, message.payload, message.qos) == (f"{name}/a", b"old", qos)


def test_messages_cross_from_3_1_to_5_0_and_back(product: Product, name: str) -> None:
    with entered(product, f"{name}-3") as old, PahoClient(f"{name}-5", V5) as new:
        assert new.connect(product.host, product.port)[0] == 0
        for subscriber, publisher in ((old, new), (new, old)):
            subscriber.subscribe(name, 1)
            publisher.publish(name, b"across", qos=1)
            assert subscriber.message().payload == b"across"
            subscriber.unsubscribe(name)


def test_a_session_is_kept_though_connack_cannot_say_so(product: Product, name: str) -> None:
    with PahoClient(name, V3, clean=False) as client:
        assert client.connect(product.host, product.port) == (0, False)
        client.subscribe(name, 1)
    with entered(product, f"{name}-p") as publisher:
        publisher.publish(name, b"meanwhile", qos=1)
    with PahoClient(name, V3, clean=False) as client:
        assert client.connect(product.host, product.port) == (0, False)
        assert client.message().payload == b"meanwhile"


def test_the_list_of_clients_says_3(product: Product, name: str) -> None:
    with entered(product, name):
        assert product.clients()[name]["protocol_version"] == 3


def test_an_empty_client_identifier_is_rejected(product: Product) -> None:
    with RawClient((product.host, product.port)) as client:
        client.send(0x10, b"\x00\x06MQIsdp\x03" + struct.pack("!BH", 2, 60) + b"\x00\x00")
        assert client.expect(CONNACK).body == bytes([0, IDENTIFIER_REJECTED])
        assert client.packet() is None
