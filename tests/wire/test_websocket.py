"""MQTT over WebSocket: real clients, frames that no real client sends, and how each breach ends."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from paho.mqtt.enums import MQTTProtocolVersion

from tests.wire.paho_client import V4, V5, PahoClient
from tests.wire.product import Product, running
from tests.wire.websocket_client import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, WebSocketClient, frame

CONNECT = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01w"
CONNACK = b"\x20\x02\x00\x00"
SUBACK = b"\x90\x03\x00\x01\x01"
PINGREQ, PINGRESP = b"\xc0\x00", b"\xd0\x00"
DISCONNECT = b"\xe0\x00"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    sets = ("listeners.ws.default.bind=127.0.0.1:0", "mqtt.idle_timeout=1s", "mqtt.max_packet_size=8MB")
    with running(tmp_path_factory.mktemp("ws") / "data", *sets) as started:
        yield started


def address(product: Product) -> tuple[str, int]:
    return product.address("ws:default")


def opened(product: Product) -> WebSocketClient:
    client = WebSocketClient(address(product))
    assert client.request()[0] == 101
    return client


def close_code(client: WebSocketClient) -> int:
    """The code of the CLOSE that must come, behind which the connection must end."""
    received = client.receive()
    assert received is not None
    assert received[0] == CLOSE
    assert client.receive() is None
    return int.from_bytes(received[1])


def test_the_banner_names_the_listener(served: Product) -> None:
    assert any(line.startswith("listening  ws:default  127.0.0.1:") for line in served.lines)


@pytest.mark.parametrize("version", [V4, V5])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_paho_gets_its_messages_back_whatever_their_size(
    served: Product, name: str, version: MQTTProtocolVersion, qos: int
) -> None:
    with PahoClient(name, version, transport="websockets") as client:
        assert client.connect(*address(served))[0] == 0
        client.subscribe(f"{name}/#", qos)
        for size in (0, 1, 125, 126, 65_535, 65_536, 3_000_000):
            client.publish(f"{name}/{size}", bytes(size), qos=qos)
            message = client.message()
            assert (message.topic, message.payload) == (f"{name}/{size}", bytes(size))


def test_clients_of_both_kinds_meet(served: Product, name: str) -> None:
    with PahoClient(f"{name}-tcp", V5) as plain, PahoClient(f"{name}-ws", V4, transport="websockets") as framed:
        plain.connect(served.host, served.port)
        framed.connect(*address(served))
        plain.subscribe(name, 1)
        framed.publish(name, b"over", qos=1)
        assert plain.message().payload == b"over"
        assert served.clients()[f"{name}-ws"]["listener"] == "ws:default"


def test_packets_may_straddle_frames_and_share_them(served: Product) -> None:
    with opened(served) as client:
        for opcode, octet in zip(itertools.chain([BINARY], itertools.repeat(CONTINUATION)), CONNECT, strict=False):
            client.send(opcode, bytes([octet]), is_final=False)
            client.send(PING, b"")
        client.send(CONTINUATION, PINGREQ + PINGREQ[:1])
        client.send(BINARY, PINGREQ[1:])
        data, pongs = b"", 0
        while len(data) < len(CONNACK + PINGRESP * 2) or not pongs:
            received = client.receive()
            assert received in ((PONG, b""), (BINARY, received and received[1]))
            data += received[1]
            pongs += received[0] == PONG
        assert data == CONNACK + PINGRESP * 2


def test_request_and_frames_may_come_octet_by_octet(served: Product) -> None:
    with WebSocketClient(address(served)) as client:
        request = (
            "GET /mqtt HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        for octet in request.encode() + frame(BINARY, CONNECT):
            client.socket.sendall(bytes([octet]))
        status, fields = client.answer()
        assert (status, fields["sec-websocket-protocol"]) == (101, "mqtt")
        assert fields["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        assert client.receive() == (BINARY, CONNACK)


def test_a_ping_is_answered_with_its_payload(served: Product) -> None:
    with opened(served) as client:
        client.send(PING, b"are you there")
        assert client.receive() == (PONG, b"are you there")


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(TEXT, b"hello"), 1003),
        (b"\x82\x02" + PINGREQ, 1002),
        (frame(TEXT, b"hel", is_final=False), 1003),
        (frame(BINARY, b"\x10", is_final=False) + frame(BINARY, b"x"), 1002),
        (b"\xc2" + frame(BINARY, PINGREQ)[1:], 1002),
        (frame(3, b""), 1002),
        (frame(PING, b"", is_final=False), 1002),
        (frame(CLOSE, b"\x03"), 1002),
        (frame(CONTINUATION, b"x"), 1002),
        (frame(PING, b"x" * 126), 1002),
        (frame(CLOSE, b"\x03\xe9bye"), 1001),
        (frame(CLOSE, b""), 1000),
    ],
    ids=[
        "text",
        "not masked",
        "text in pieces",
        "data in data",
        "reserved bit",
        "unknown opcode",
        "ping in pieces",
        "half a code",
        "continuation",
        "long ping",
        "close",
        "empty close",
    ],
)
def test_each_end_has_its_code(served: Product, sent: bytes, code: int) -> None:
    with opened(served) as client:
        client.socket.sendall(sent)
        assert close_code(client) == code


def test_a_connection_that_mqtt_ends_is_closed_in_both_languages(served: Product) -> None:
    with opened(served) as client:
        client.send(BINARY, CONNECT + DISCONNECT)
        assert client.receive() == (BINARY, CONNACK)
        assert close_code(client) == 1000


def test_packets_before_a_close_in_the_same_piece_are_handled(served: Product, name: str) -> None:
    with PahoClient(name, V5) as watcher:
        watcher.connect(served.host, served.port)
        watcher.subscribe("last/words")
        with opened(served) as client:
            client.socket.sendall(frame(BINARY, CONNECT + b"\x30\x0f\x00\x0alast/wordsyes") + frame(CLOSE, b"\x03\xe8"))
            assert watcher.message().payload == b"yes"


@pytest.mark.parametrize(
    ("path", "changes", "status"),
    [
        ("/", {}, 404),
        ("/mqtt/", {}, 404),
        ("/mqtt", {"Sec_WebSocket_Protocol": "chat"}, 400),
        ("/mqtt", {"Sec_WebSocket_Protocol": ""}, 400),
        ("/mqtt", {"Sec_WebSocket_Version": "8"}, 426),
        ("/mqtt", {"Upgrade": ""}, 426),
        ("/mqtt", {"X": "y" * 9000}, 431),
    ],
)
def test_a_wrong_request_gets_a_clear_answer_and_the_end(
    served: Product, path: str, changes: dict[str, str], status: int
) -> None:
    with WebSocketClient(address(served)) as client:
        assert client.request(path, **changes)[0] == status


def test_a_handshake_that_goes_nowhere_ends_with_the_idle_timeout(served: Product) -> None:
    with WebSocketClient(address(served)) as client:
        client.socket.sendall(b"GET /mqtt HTTP/1.1\r\n")
        assert client.receive() is None
    with opened(served) as client:
        client.send(BINARY, CONNECT[:5])
        client.send(PING, b"")
        assert client.receive() == (PONG, b"")
        assert close_code(client) == 1000


def test_failed_handshakes_are_counted_and_logged(tmp_path: Path) -> None:
    with running(tmp_path, "listeners.ws.default.bind=127.0.0.1:0") as product:
        with WebSocketClient(address(product)) as client:
            client.socket.sendall(CONNECT)
            assert client.answer()[0] == 400
            assert b"this is no HTTP request" in client.rest()
        product.stop()
        assert "ws:default: handshake with 127.0.0.1:" in product.errors()
        assert "this is no HTTP request" in product.errors()


def test_the_path_is_a_setting(tmp_path: Path) -> None:
    sets = ("listeners.ws.default.bind=127.0.0.1:0", "listeners.ws.default.path=/other")
    with running(tmp_path, *sets) as product, WebSocketClient(address(product)) as client:
        assert client.request("/other")[0] == 101


def test_a_reader_that_falls_behind_gets_everything_in_order(served: Product, name: str) -> None:
    reader = WebSocketClient(address(served), receive_octets=8192)
    with PahoClient(f"{name}-pub", V5) as publisher, reader as client:
        assert client.request()[0] == 101
        topic = len(name).to_bytes(2) + name.encode()
        client.send(BINARY, CONNECT + bytes([0x82, len(topic) + 3]) + b"\x00\x01" + topic + b"\x01")
        received = b""
        while received != CONNACK + SUBACK:
            received += data_of(client)
        publisher.connect(served.host, served.port)
        for number in range(30):
            publisher.publish(name, number.to_bytes(2) + bytes(200_000), qos=1)
            client.send(PING, b"x" * 125)
        stream, payloads = b"", []
        for _ in range(30):
            head = 1 + 3 + len(topic) + 2
            while len(stream) < head + 200_002:
                stream += data_of(client)
            payloads.append(int.from_bytes(stream[head : head + 2]))
            client.send(BINARY, b"\x40\x02" + stream[head - 2 : head])
            stream = stream[head + 200_002 :]
        assert payloads == list(range(30))


def test_pings_of_a_client_that_never_reads_do_not_pile_up(served: Product, name: str) -> None:
    with WebSocketClient(address(served), receive_octets=8192) as silent:
        assert silent.request()[0] == 101
        silent.send(BINARY, CONNECT)
        before = resident_kb(served)
        burst = frame(PING, b"x" * 125) * 1000
        for _ in range(200):
            silent.socket.sendall(burst)  # Never blocks for long: the broker goes on reading.
        with PahoClient(name, V5, transport="websockets") as client:
            assert client.connect(*address(served))[0] == 0
        assert resident_kb(served) - before < 8 * 1024, "26 MB of answers were asked for"


def data_of(client: WebSocketClient) -> bytes:
    """The next frame's data, nothing for other frames."""
    received = client.receive()
    assert received is not None
    return received[1] if received[0] == BINARY else b""


def resident_kb(product: Product) -> int:
    """Memory of the broker's process, in KiB."""
    status = Path(f"/proc/{product.process.pid}/status").read_text(encoding="utf-8")
    return int(status.partition("VmRSS:")[2].split()[0])
