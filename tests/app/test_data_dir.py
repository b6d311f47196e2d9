"""The data directory: private, one broker at a time, clear sentences."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from whimbrel.app.data_dir import LOCK_NAME, locked
from whimbrel.errors import StartError


def test_it_is_created_private_and_holds_the_owner_s_pid(tmp_path: Path) -> None:
    with locked(tmp_path / "a" / "b") as data_dir:
        assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
        assert (data_dir / LOCK_NAME).read_text() == f"{os.getpid()}\n"


def test_a_second_broker_is_told_who_has_it(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(StartError) as refused, locked(tmp_path):
        pass
    assert str(refused.value) == (
        f"another broker (pid {os.getpid()}) runs on the data directory {tmp_path}; "
        "stop it, or choose another directory with --data-dir"
    )


def test_it_can_be_had_again_after_the_first_one(tmp_path: Path) -> None:
    for _ in range(2):
        with locked(tmp_path):
            pass


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    code = f"""
import os, pathlib, whimbrel.app.data_dir as d
d.locked(pathlib.Path({str(tmp_path)!r})).__enter__()
os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    with locked(tmp_path) as data_dir:
        assert (data_dir / LOCK_NAME).read_text() == f"{os.getpid()}\n"


def test_a_file_in_its_place_is_a_clear_sentence(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.touch()
    with pytest.raises(StartError) as refused, locked(place):
        pass
    assert str(refused.value) == (
        f"cannot use the data directory {place}: file exists; choose one that you may write with --data-dir"
    )
