"""`whimbrel pub`, `sub` and `ctl` as programs, against the running product."""

import contextlib
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from tests.wire.product import Product, command

WAIT_S = 15
CTRL_C_S = 5


def ran(*words: str, stdin: str | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([command(), *words], capture_output=True, text=True, timeout=WAIT_S, check=False, input=stdin)


def where(product: Product) -> list[str]:
    return ["-h", product.host, "-p", str(product.port)]


def subscribing(product: Product, name: str, *words: str) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [command(), "sub", *where(product), "-i", name, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    product.wait_subscribed(name)
    return process


@pytest.mark.parametrize("protocol", ["4", "5"])
@pytest.mark.parametrize("qos", ["0", "1", "2"])
def test_what_pub_sends_sub_prints(product: Product, name: str, protocol: str, qos: str) -> None:
    more = ["-V", protocol, "-q", qos]
    with subscribing(product, name, *more, "-t", f"{name}/#", "-v", "-C", "1") as subscriber:
        sent = ran("pub", *where(product), *more, "-t", f"{name}/a", "-m", "it works")
        assert (sent.returncode, sent.stderr) == (0, "")
        assert subscriber.communicate(timeout=WAIT_S) == (f"{name}/a it works\n", "")
        assert subscriber.returncode == 0


def test_lines_of_standard_input_are_messages_in_order(product: Product, name: str) -> None:
    with subscribing(product, name, "-t", name, "-q", "1", "-C", "3") as subscriber:
        ran("pub", *where(product), "-t", name, "-q", "1", "--stdin-line", stdin="a\nb\nc\n")
        assert subscriber.communicate(timeout=WAIT_S)[0] == "a\nb\nc\n"


@contextlib.contextmanager
def closing_broker(*, wait_for_publish: bool) -> Iterator[tuple[int, list[bytes]]]:
    """A broker that accepts one client and closes it: its port, and the CONNECT that came."""
    connects: list[bytes] = []

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(WAIT_S)
            connects.append(connection.recv(4096))
            connection.sendall(bytes.fromhex("2003000000"))
            if wait_for_publish:
                connection.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(WAIT_S)
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1], connects
        thread.join(WAIT_S)


def test_a_broker_that_closes_before_the_goodbye_is_an_error_even_for_qos_0() -> None:
    with closing_broker(wait_for_publish=True) as (port, _):
        result = ran("pub", "-p", str(port), "-t", "a", "-m", "x" * 100)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1


def test_lines_of_standard_input_may_pause_as_long_as_they_like() -> None:
    with closing_broker(wait_for_publish=False) as (port, connects):
        ran("pub", "-p", str(port), "-t", "a", "--stdin-line", stdin="")
    ((*_, high, low),) = [one[8:12] for one in connects]  # CONNECT: length, "MQTT", level, flags, keep-alive.
    assert (high, low) == (0, 0)


def test_sub_ends_with_27_when_its_time_is_up(product: Product, name: str) -> None:
    result = ran("sub", *where(product), "-t", name, "-W", "0.2")
    assert (result.returncode, result.stdout, result.stderr) == (27, "", "")


def test_ctrl_c_ends_sub_quietly_with_130(product: Product, name: str) -> None:
    with subscribing(product, name, "-t", name) as subscriber:
        subscriber.send_signal(signal.SIGINT)
        assert subscriber.communicate(timeout=WAIT_S) == ("", "")
        assert subscriber.returncode == 130


@pytest.mark.parametrize(
    ("words", "answers"),
    [
        (["pub", "-t", "a", "-m", "x"], []),
        (["sub", "-t", "a"], []),
        (["pub", "-t", "a", "-m", "x", "-q", "1"], [b"\x20\x03\x00\x00\x00"]),
        (["sub", "-t", "a"], [b"\x20\x03\x00\x00\x00"]),
    ],
    ids=["pub, no CONNACK", "sub, no CONNACK", "pub, no PUBACK", "sub, no SUBACK"],
)
def test_ctrl_c_is_heard_while_the_broker_says_nothing(words: list[str], answers: list[bytes]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(WAIT_S)
        typed = [command(), *words, "-p", str(listener.getsockname()[1])]
        process = subprocess.Popen(typed, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        with process, listener.accept()[0] as connection:
            for answer in answers:
                assert connection.recv(4096)
                connection.sendall(answer)
            assert connection.recv(4096)  # It waits for our word on this, and for ten seconds.
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=CTRL_C_S) == ("", "")
            assert process.returncode == 130


def test_without_a_broker_pub_says_so_in_one_line() -> None:
    result = ran("pub", "-p", "1", "-t", "a", "-m", "x")
    assert result.returncode == 1
    assert result.stderr.startswith("error: cannot connect to 127.0.0.1:1: ")
    assert result.stderr.count("\n") == 1


def test_ctl_shows_a_client_on_the_way_from_worker_to_terminal(product: Product, name: str) -> None:
    with subscribing(product, name, "-t", name) as subscriber:
        result = ran("ctl", "--data-dir", str(product.data_dir), "clients", "--json")
        listed = {one["client_id"]: one for one in json.loads(result.stdout)}
        assert (listed[name]["subscriptions"], listed[name]["protocol_version"]) == (1, 5)
        assert ran("ctl", "--data-dir", str(product.data_dir), "kick", name).stdout == f"kicked {name}\n"
        assert subscriber.wait(WAIT_S) == 1
        assert name not in product.clients()


def test_version_is_printed_and_the_module_is_the_command() -> None:
    shown = ran("version")
    as_module = subprocess.run(
        [sys.executable, "-m", "whimbrel", "version"], capture_output=True, text=True, timeout=WAIT_S, check=True
    )
    assert (shown.returncode, shown.stdout) == (0, as_module.stdout)
    assert shown.stdout.startswith("whimbrel ")
