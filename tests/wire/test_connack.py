"""What CONNACK tells an MQTT 5 client of the operator's settings."""

import struct

import pytest

from tests.raw_client import CONNACK, RawClient
from tests.wire.product import running

SERVER_KEEP_ALIVE = b"\x13\x00\x1e"
RESPONSE_INFORMATION = b"\x1a\x00\x06reply/"
REQUEST_RESPONSE_INFORMATION = b"\x19\x01"


def test_keep_alive_and_response_information_come_from_the_settings(tmp_path_factory: pytest.TempPathFactory) -> None:
    sets = ["mqtt.server_keepalive=30", "mqtt.response_information=reply/"]
    data_dir = tmp_path_factory.mktemp("connack")
    with running(data_dir, *sets) as product, RawClient((product.host, product.port), level=5) as client:
        head = b"\x00\x04MQTT\x05" + struct.pack("!BH", 2, 60)
        client.send(0x10, head + b"\x02" + REQUEST_RESPONSE_INFORMATION + b"\x00\x01c")
        body = client.expect(CONNACK).body
        assert body[:2] == b"\x00\x00"
        assert SERVER_KEEP_ALIVE in body
        assert RESPONSE_INFORMATION in body
        assert product.clients()["c"]["keep_alive_s"] == 30
