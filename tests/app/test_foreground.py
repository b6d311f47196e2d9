"""The life of a broker in the foreground, over the double of the binding: order, signals, ends."""

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.engine.fake_core import DataPlane, Stopped
from whimbrel.app import foreground
from whimbrel.control.client import ControlClient
from whimbrel.errors import ControlError, EngineError, StartError
from whimbrel.settings import Settings, from_mapping

OPEN_PLANE = "whimbrel.engine.engine._open_plane"


def settings(data_dir: Path | None) -> Settings:
    keys: dict[str, object] = {"listeners.tcp.default.bind": "127.0.0.1:1883"}
    return from_mapping(keys | ({"node.data_dir": data_dir} if data_dir else {}))


@pytest.fixture
def planes(monkeypatch: pytest.MonkeyPatch) -> list[DataPlane]:
    """The doubles that were started instead of data planes."""
    started: list[DataPlane] = []

    def open_plane(options: Any) -> DataPlane:
        started.append(DataPlane(options))
        return started[-1]

    monkeypatch.setattr(OPEN_PLANE, open_plane)
    return started


def at_ready(act: Callable[[], None]) -> tuple[list[str], Callable[[str], None]]:
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        if line == "ready":
            act()

    return lines, say


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_order_and_leaves_only_the_lock_file(
    tmp_path: Path, planes: list[DataPlane], number: signal.Signals
) -> None:
    there: list[str] = []

    def look_and_stop() -> None:
        there.extend(path.name for path in tmp_path.iterdir())
        os.kill(os.getpid(), number)

    lines, say = at_ready(look_and_stop)
    foreground.run(settings(tmp_path), version="1.2.3", say=say)
    assert (lines[-1], sorted(there)) == ("ready", ["control.sock", "lock"])
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]
    assert planes[0].is_joined


def test_without_a_data_directory_there_is_no_management_line(planes: list[DataPlane]) -> None:
    lines, say = at_ready(lambda: os.kill(os.getpid(), signal.SIGTERM))
    foreground.run(settings(None), version="1.2.3", say=say)
    assert "data       none, everything is in memory" in lines
    assert planes[0].is_joined


def test_a_data_plane_that_ends_by_itself_is_an_error(tmp_path: Path, planes: list[DataPlane]) -> None:
    _, say = at_ready(lambda: planes[0].tell(Stopped()))
    with pytest.raises(EngineError, match="ended by itself"):
        foreground.run(settings(tmp_path), version="1.2.3", say=say)


def test_a_taken_port_is_one_sentence_and_frees_the_data_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def taken(_options: object) -> Any:
        raise OSError(errno.EADDRINUSE, "Address already in use", "127.0.0.1:1883")

    monkeypatch.setattr(OPEN_PLANE, taken)
    for _ in range(2):
        with pytest.raises(StartError) as refused:
            foreground.run(settings(tmp_path), version="1.2.3", say=print)
        assert str(refused.value) == (
            "cannot listen on 127.0.0.1:1883 (tcp:default): address already in use; stop the program that uses it, "
            "or choose another with --set listeners.tcp.default.bind=127.0.0.1:PORT"
        )
    with pytest.raises(ControlError):
        ControlClient(tmp_path)
