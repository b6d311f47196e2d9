"""Starting and stopping as an operator does: one clear sentence where it fails, nothing damaged, and a quick end."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.raw_client import DISCONNECT, RawClient
from tests.wire.product import FREE_PORT, Product, clean_environment, running

SERVER_SHUTTING_DOWN = 0x8B


def refused(data_dir: Path, *sets: str) -> tuple[int, str]:
    product = Product(data_dir, *sets)
    return product.ended(), product.errors()


def test_the_banner_says_where_and_ready_comes_last(tmp_path: Path) -> None:
    with running(tmp_path) as product:
        shown = "\n".join(product.lines)
        assert product.lines[-1] == "ready"
        assert f"data       {tmp_path}" in shown
        assert f"whimbrel pub -h 127.0.0.1 -p {product.port} -t hello/world -m 'it works'" in shown
        with socket.create_connection((product.host, product.port), timeout=5):
            pass


def test_a_taken_port_is_one_sentence_and_exit_code_1(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code, errors = refused(tmp_path, f"listeners.tcp.default.bind=127.0.0.1:{port}")
    assert (code, errors) == (
        1,
        f"error: cannot listen on 127.0.0.1:{port} (tcp:default): address already in use; stop the program that "
        "uses it, or choose another with --set listeners.tcp.default.bind=127.0.0.1:PORT\n",
    )


def test_a_second_broker_on_a_data_directory_is_refused_and_the_first_one_lives(tmp_path: Path) -> None:
    with running(tmp_path) as first:
        code, errors = refused(tmp_path, FREE_PORT)
        assert (code, errors) == (
            1,
            f"error: another broker (pid {first.process.pid}) runs on the data directory {tmp_path}; stop it, or "
            "choose another directory with --data-dir\n",
        )
        assert first.clients() == {}


@pytest.fixture
def unwritable(tmp_path: Path) -> Iterator[Path]:
    """A directory in which nothing can be made. Root may write to every disk, so there the kernel's own /sys is it."""
    if os.geteuid() == 0:
        yield Path("/sys")
        return
    tmp_path.chmod(0o555)
    yield tmp_path
    tmp_path.chmod(0o700)


def test_an_unwritable_data_directory_is_one_sentence_and_exit_code_1(unwritable: Path) -> None:
    data_dir = unwritable / "whimbrel"
    code, errors = refused(data_dir, FREE_PORT)
    assert code == 1
    assert errors.startswith(f"error: cannot use the data directory {data_dir}: ")
    assert errors.endswith("; choose one that you may write with --data-dir\n")


def test_settings_that_are_wrong_are_exit_code_2_and_leave_nothing_behind(tmp_path: Path) -> None:
    code, errors = refused(tmp_path / "data", "mqtt.max_qos_alowed=1", "workers=many")
    assert code == 2
    assert "mqtt.max_qos_allowed" in errors
    assert "--set workers" in errors
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_stops_in_under_five_seconds(tmp_path: Path, number: signal.Signals) -> None:
    with running(tmp_path) as product, RawClient((product.host, product.port), level=5) as client:
        client.connect("c1")
        began = time.monotonic()
        assert product.stop(number) == 0
        assert time.monotonic() - began < 5
        assert client.expect(DISCONNECT).body[0] == SERVER_SHUTTING_DOWN
        assert client.packet() is None


def test_after_a_kill_the_next_start_works(tmp_path: Path) -> None:
    with running(tmp_path) as product:
        assert product.stop(signal.SIGKILL) == -signal.SIGKILL
    with running(tmp_path) as again:
        assert again.clients() == {}


def test_the_second_start_takes_less_than_two_seconds(tmp_path: Path) -> None:
    with running(tmp_path):
        pass
    began = time.monotonic()
    with running(tmp_path):
        assert time.monotonic() - began < 2


def test_systemd_is_told_when_it_is_ready_and_when_it_stops(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(5)
        environment = clean_environment() | {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        with running(tmp_path / "data", env=environment) as product:
            assert systemd.recv(100) == b"READY=1"
            product.stop()
            assert systemd.recv(100) == b"STOPPING=1"


def test_a_unix_listener_can_stand_beside_tcp(tmp_path: Path) -> None:
    path = tmp_path / "mqtt.sock"
    with running(tmp_path / "data", f"listeners.unix.local.bind={path}") as product:
        assert product.addresses["unix:local"] == str(path)
        with RawClient(str(path)) as client:
            assert client.connect("c1") == (0, False)
