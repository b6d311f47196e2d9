"""Notifying systemd: one datagram, or nothing."""

import contextlib
import socket
from pathlib import Path

import pytest

from whimbrel.app.systemd import READY, notify


@pytest.mark.parametrize("is_abstract", [False, True])
def test_the_state_arrives_as_one_datagram(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_abstract: bool) -> None:
    name = f"@whimbrel-{tmp_path.name}" if is_abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind("\0" + name[1:] if is_abstract else name)
        systemd.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        notify(READY)
        assert systemd.recv(100) == b"READY=1"


def test_without_systemd_nothing_happens_and_a_dead_socket_is_only_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify(READY)
    assert caplog.text == ""
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    notify(READY)
    assert "cannot notify systemd" in caplog.text


def test_a_receiver_that_does_not_read_is_only_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("whimbrel.app.systemd.SEND_WAIT_S", 0.01)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as crowd,
    ):
        systemd.bind(str(tmp_path / "notify"))
        crowd.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                crowd.sendto(b"x", str(tmp_path / "notify"))
        notify(READY)
    assert "cannot notify systemd" in caplog.text
