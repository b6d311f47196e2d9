"""The PROXY protocol: the client's own address in the records, over every transport, and only from who may send it."""

import socket
import ssl
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.raw_client import WAIT_S, RawClient
from tests.wire.authority import Authority
from tests.wire.product import FREE_PORT, Product, running
from tests.wire.websocket_client import BINARY, WebSocketClient

LINE = b"PROXY TCP4 192.0.2.7 127.0.0.1 8080 1883\r\n"
PEER = "192.0.2.7:8080"
ADDRESSES = socket.inet_aton("192.0.2.7") + socket.inet_aton("127.0.0.1") + struct.pack("!HH", 8080, 1883)
BINARY_HEADER = b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + struct.pack("!H", len(ADDRESSES)) + ADDRESSES


def connect(client_id: str) -> bytes:
    body = b"\x00\x04MQTT\x04\x02\x00\x00" + struct.pack("!H", len(client_id)) + client_id.encode()
    return bytes([0x10, len(body)]) + body


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Product, Authority]]:
    authority = Authority(tmp_path_factory.mktemp("proxy") / "ours")
    pair = authority.issue("server")
    sets = [
        "listeners.tcp.default.proxy_protocol=true",
        "listeners.ws.default.bind=127.0.0.1:0",
        "listeners.ws.default.proxy_protocol=true",
        "listeners.tls.default.bind=127.0.0.1:0",
        "listeners.tls.default.proxy_protocol=true",
        f"listeners.tls.default.cert_file={pair.cert}",
        f"listeners.tls.default.key_file={pair.key}",
        "listeners.wss.default.bind=127.0.0.1:0",
        "listeners.wss.default.proxy_protocol=true",
        f"listeners.wss.default.cert_file={pair.cert}",
        f"listeners.wss.default.key_file={pair.key}",
        "listeners.unix.ours.bind=ours.sock",
        "listeners.unix.ours.proxy_protocol=true",
        "listeners.unix.others.bind=others.sock",
        "listeners.unix.others.proxy_protocol=true",
        # Nobody: this test is run by somebody else.
        "listeners.unix.others.proxy_trusted=65534",
        "mqtt.idle_timeout=1s",
    ]
    with running(tmp_path_factory.mktemp("proxy") / "data", *sets) as product:
        yield product, authority


@pytest.mark.parametrize("header", [LINE, BINARY_HEADER], ids=["line", "binary"])
@pytest.mark.parametrize("is_cut", [False, True], ids=["whole", "octet by octet"])
def test_records_name_the_client_behind_the_proxy(
    served: tuple[Product, Authority], name: str, header: bytes, is_cut: bool
) -> None:
    product, _ = served
    with RawClient((product.host, product.port)) as client:
        octets = header + connect(name)
        for start in range(0, len(octets), 1 if is_cut else len(octets)):
            client.send_octets(octets[start : start + (1 if is_cut else len(octets))])
        assert client.expect(2).body == b"\x00\x00"
        assert product.clients()[name]["peer"] == PEER


def test_it_comes_before_tls(served: tuple[Product, Authority], name: str) -> None:
    product, authority = served
    made = ssl.create_default_context(cafile=str(authority.ca))
    with socket.create_connection(product.address("tls:default"), timeout=WAIT_S) as plain:
        plain.sendall(LINE)
        with made.wrap_socket(plain, server_hostname="localhost") as connection:
            connection.sendall(connect(name))
            assert connection.recv(100) == b"\x20\x02\x00\x00"
            assert product.clients()[name]["peer"] == PEER


def test_it_comes_before_the_request_of_a_websocket(served: tuple[Product, Authority], name: str) -> None:
    product, _ = served
    with WebSocketClient(product.address("ws:default")) as client:
        client.socket.sendall(BINARY_HEADER)
        assert client.request()[0] == 101
        client.send(BINARY, connect(name))
        assert client.receive() == (BINARY, b"\x20\x02\x00\x00")
        assert product.clients()[name]["peer"] == PEER


def test_it_comes_before_both(served: tuple[Product, Authority], name: str) -> None:
    product, authority = served
    made = ssl.create_default_context(cafile=str(authority.ca))
    with WebSocketClient(product.address("wss:default")) as client:
        client.socket.sendall(LINE)
        client.secure(made)
        assert client.request()[0] == 101
        client.send(BINARY, connect(name))
        assert client.receive() == (BINARY, b"\x20\x02\x00\x00")
        assert product.clients()[name]["peer"] == PEER


@pytest.mark.parametrize("header", [LINE, BINARY_HEADER], ids=["line", "binary"])
def test_a_proxy_may_come_through_a_unix_socket(served: tuple[Product, Authority], name: str, header: bytes) -> None:
    product, _ = served
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(WAIT_S)
        connection.connect(str(product.data_dir / "ours.sock"))
        connection.sendall(header + connect(name))
        assert connection.recv(100) == b"\x20\x02\x00\x00"
        assert product.clients()[name]["peer"] == PEER


def test_a_user_who_is_no_proxy_may_not_send_one(served: tuple[Product, Authority]) -> None:
    product, _ = served
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(WAIT_S)
        connection.connect(str(product.data_dir / "others.sock"))
        assert connection.recv(100) == b""


def test_a_proxy_that_speaks_for_itself_keeps_its_address(served: tuple[Product, Authority], name: str) -> None:
    product, _ = served
    with RawClient((product.host, product.port)) as client:
        client.send_octets(b"PROXY UNKNOWN\r\n" + connect(name))
        client.expect(2)
        assert product.clients()[name]["peer"].startswith("127.0.0.1:")


@pytest.mark.parametrize("octets", [connect("nobody"), b"PROXY TCP4 nonsense\r\n", LINE[:10]])
def test_without_a_header_nobody_enters(served: tuple[Product, Authority], octets: bytes) -> None:
    product, _ = served
    with RawClient((product.host, product.port)) as client:
        client.send_octets(octets)
        assert client.packet() is None


def test_a_stranger_may_not_send_one(tmp_path: Path) -> None:
    sets = ("listeners.tcp.default.proxy_protocol=true", "listeners.tcp.default.proxy_trusted=192.0.2.0/24")
    with running(tmp_path, FREE_PORT, *sets) as product, RawClient((product.host, product.port)) as client:
        assert client.packet() is None
