"""MQTT over TLS, plain and with WebSocket: real clients, certificates of both sides, reload, and what is refused."""

import contextlib
import shutil
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from paho.mqtt.enums import MQTTProtocolVersion

from tests.raw_client import WAIT_S
from tests.wire.authority import Authority, Pair
from tests.wire.paho_client import V4, V5, PahoClient
from tests.wire.product import FREE_PORT, Product, running
from whimbrel.control.client import ControlClient
from whimbrel.errors import ControlError

CONNECT = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01t"
CONNACK = b"\x20\x02\x00\x00"
DISCONNECT = b"\xe0\x00"


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "ours")


@pytest.fixture(scope="session")
def server(authority: Authority) -> Pair:
    return authority.issue("server")


def listener(name: str, pair: Pair, *more: str) -> list[str]:
    """The flags of one listener; `more` are its other settings."""
    kind, _, _ = name.partition(".")
    keys = ["bind=127.0.0.1:0", f"cert_file={pair.cert}", f"key_file={pair.key}", *more]
    return [f"listeners.{name}.{key}" for key in keys] if kind in ("tls", "wss") else []


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, server: Pair
) -> Iterator[tuple[Product, Authority]]:
    sets = [
        *listener("tls.default", server),
        *listener("wss.default", server),
        *listener("tls.optional", server, "verify=optional", f"ca_file={authority.ca}"),
        *listener("tls.required", server, "verify=required", f"ca_file={authority.ca}"),
        "mqtt.idle_timeout=1s",
        "mqtt.max_packet_size=8MB",
    ]
    with running(tmp_path_factory.mktemp("tls") / "data", *sets) as product:
        yield product, authority


def context(authority: Authority, pair: Pair | None = None) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=str(authority.ca))
    if pair is not None:
        made.load_cert_chain(pair.cert, pair.key)
    return made


def entered(address: tuple[str, int], made: ssl.SSLContext, connect: bytes = CONNECT) -> ssl.SSLSocket:
    """A connection that has its CONNACK."""
    plain = socket.create_connection(address, timeout=WAIT_S)
    with contextlib.ExitStack() as stack:
        stack.callback(plain.close)
        # An end without close_notify is an error.
        connection = made.wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False)
        stack.callback(connection.close)
        connection.sendall(connect)
        assert connection.recv(100) == CONNACK
        stack.pop_all()
    return connection


@pytest.mark.parametrize("tls", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(("name_of", "transport"), [("tls:default", "tcp"), ("wss:default", "websockets")])
@pytest.mark.parametrize(("version", "qos"), [(V4, 0), (V5, 1), (V5, 2)])
def test_paho_gets_its_messages_back_whatever_their_size(
    served: tuple[Product, Authority],
    name: str,
    tls: ssl.TLSVersion,
    name_of: str,
    transport: str,
    version: MQTTProtocolVersion,
    qos: int,
) -> None:
    product, authority = served
    made = context(authority)
    made.minimum_version = made.maximum_version = tls
    with PahoClient(name, version, transport="tcp" if transport == "tcp" else "websockets") as client:
        client.paho.tls_set_context(made)
        assert client.connect(*product.address(name_of))[0] == 0
        client.subscribe(f"{name}/#", qos)
        for size in (0, 1, 16_383, 16_384, 70_000, 3_000_000):
            client.publish(f"{name}/{size}", bytes(size), qos=qos)
            message = client.message()
            assert (message.topic, message.payload) == (f"{name}/{size}", bytes(size))


def test_records_may_come_octet_by_octet(served: tuple[Product, Authority]) -> None:
    product, authority = served
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    machine = context(authority).wrap_bio(incoming, outgoing, server_hostname="localhost")
    with socket.create_connection(product.address("tls:default"), timeout=WAIT_S) as connection:

        def drive(step: Callable[[], object]) -> object:
            while True:
                try:
                    return step()
                except ssl.SSLWantReadError:
                    send()
                    incoming.write(connection.recv(1))

        def send() -> None:
            for octet in outgoing.read():
                connection.sendall(bytes([octet]))

        drive(machine.do_handshake)
        drive(lambda: machine.write(CONNECT))
        send()
        assert drive(lambda: machine.read(100)) == CONNACK


def test_a_goodbye_is_answered_with_close_notify(served: tuple[Product, Authority]) -> None:
    product, authority = served
    with entered(product.address("tls:default"), context(authority)) as connection:
        connection.sendall(DISCONNECT)
        assert connection.recv(100) == b""


def test_no_certificate_a_good_one_and_a_strangers(served: tuple[Product, Authority], tmp_path: Path) -> None:
    product, authority = served
    good, strange = authority.issue("client"), Authority(tmp_path / "strangers").issue("client")
    outcomes = {}
    for name in ("default", "optional", "required"):
        for what, pair in (("none", None), ("good", good), ("strange", strange)):
            try:
                entered(product.address(f"tls:{name}"), context(authority, pair)).close()
                outcomes[name, what] = "in"
            except (ssl.SSLError, ConnectionError):
                outcomes[name, what] = "out"
    assert outcomes == {
        **dict.fromkeys([("default", "none"), ("default", "good"), ("default", "strange")], "in"),
        ("optional", "none"): "in",
        ("optional", "good"): "in",
        ("optional", "strange"): "out",
        ("required", "none"): "out",
        ("required", "good"): "in",
        ("required", "strange"): "out",
    }


def test_what_is_no_tls_and_what_goes_nowhere_ends(served: tuple[Product, Authority], name: str) -> None:
    product, authority = served
    for octets in (CONNECT, b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05", b""):
        with socket.create_connection(product.address("tls:default"), timeout=WAIT_S) as connection:
            connection.sendall(octets)
            while connection.recv(1000):
                pass
    with entered(product.address("tls:default"), context(authority)):
        pass  # It still serves others.


def test_a_revoked_certificate_is_refused_after_the_reload(tmp_path: Path, server: Pair) -> None:
    authority = Authority(tmp_path / "own")
    kept, lost = authority.issue("kept"), authority.issue("lost")
    more = ("verify=required", f"ca_file={authority.ca}", f"crl_file={authority.revoke()}")
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    with running(tmp_path / "data", *listener("tls.a", server, *more)) as product:
        address = product.address("tls:a")
        trusting.load_cert_chain(lost.cert, lost.key)
        first = entered(address, trusting)
        authority.revoke(lost)
        with ControlClient(product.data_dir) as control:
            assert control.request("reload")["certificates"] == 1
        with pytest.raises((ssl.SSLError, ConnectionError)):
            entered(address, trusting)
        first.sendall(b"\xc0\x00")
        assert first.recv(100) == b"\xd0\x00", "a connection goes on as it began"
        first.close()
        trusting.load_cert_chain(kept.cert, kept.key)
        entered(address, trusting).close()


@pytest.mark.parametrize("tls", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_reload_shows_the_new_certificate_or_keeps_the_old_one(
    tmp_path: Path, authority: Authority, tls: ssl.TLSVersion
) -> None:
    old, new = authority.issue("old"), authority.issue("new")
    shown = Pair(tmp_path / "cert.pem", tmp_path / "key.pem")

    def put(pair: Pair) -> None:
        shutil.copy(pair.cert, shown.cert)
        shutil.copy(pair.key, shown.key)

    made = context(authority)
    made.minimum_version = made.maximum_version = tls

    def name_shown(address: tuple[str, int]) -> object:
        with entered(address, made) as connection:
            certificate = connection.getpeercert()
            assert certificate is not None
            return certificate["subject"]

    put(old)
    with running(tmp_path / "data", *listener("tls.a", shown)) as product, ControlClient(product.data_dir) as control:
        address = product.address("tls:a")
        assert name_shown(address) == ((("commonName", "old"),),)
        shutil.copy(new.cert, shown.cert)
        with pytest.raises(ControlError, match="does not belong to the certificate") as refused:
            control.request("reload")
        assert refused.value.code == "bad_file"
        assert name_shown(address) == ((("commonName", "old"),),)
        put(new)
        # Another client id than those that look at the certificate.
        with entered(address, made, CONNECT[:-1] + b"o") as stays:
            control.request("reload")
            assert name_shown(address) == ((("commonName", "new"),),)
            stays.sendall(b"\xc0\x00")
            assert stays.recv(100) == b"\xd0\x00", "a connection goes on as it began"


@pytest.mark.parametrize(
    ("cert", "key", "said"),
    [
        ("/nowhere/cert.pem", "{key}", "/nowhere/cert.pem: no such file or directory"),
        ("{key}", "{key}", "{key} holds no certificate in PEM form"),
        ("{cert}", "{cert}", "{cert} holds no private key in PEM form"),
        ("{cert}", "{other}", "the key in {other} does not belong to the certificate in {cert}"),
    ],
)
def test_a_wrong_file_is_one_sentence_at_the_start(
    tmp_path: Path, authority: Authority, server: Pair, cert: str, key: str, said: str
) -> None:
    other = authority.issue("other").key
    texts = [text.format(cert=server.cert, key=server.key, other=other) for text in (cert, key, said)]
    product = Product(tmp_path, FREE_PORT, *listener("tls.a", Pair(Path(texts[0]), Path(texts[1]))))
    assert (product.ended(), product.errors()) == (1, f"error: tls:a: {texts[2]}\n")
