"""The data directory: private, one broker at a time, clear sentences."""

import errno
import fcntl
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from whimbrel.app.data_dir import locked
from whimbrel.errors import StartError
from whimbrel.settings.rules import LOCK_NAME


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


def refusal(data_dir: Path) -> str:
    with pytest.raises(StartError) as refused, locked(data_dir):
        pass
    return str(refused.value)


def test_a_lock_that_is_a_link_is_refused_and_its_target_untouched(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("mine")
    data_dir = tmp_path / "data"
    data_dir.mkdir(0o700)
    (data_dir / LOCK_NAME).symlink_to(target)
    assert "symbolic links" in refusal(data_dir)
    assert target.read_text() == "mine"


def test_a_lock_that_is_a_pipe_is_a_clear_sentence(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / LOCK_NAME)
    assert f"{tmp_path}: {LOCK_NAME} in it is not a plain file; " in refusal(tmp_path)


def test_a_full_disk_is_a_clear_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    assert f"cannot use the data directory {tmp_path}: no space left on device; " in refusal(tmp_path)


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
def test_a_directory_that_others_may_write_is_refused(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    try:
        assert f"others may write there (mode {mode:04o}); mend it with chmod go-w" in refusal(tmp_path)
        assert not (tmp_path / LOCK_NAME).exists()
    finally:
        tmp_path.chmod(0o700)


def test_a_directory_that_others_may_only_read_is_good(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with locked(tmp_path):
        pass


def test_a_directory_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = tmp_path.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    assert f"it belongs to user id {owner}, and the broker runs as {owner + 1}" in refusal(tmp_path)


def test_a_lock_that_is_removed_before_it_is_taken_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take = fcntl.flock

    def replaced(descriptor: int, operation: int) -> None:
        (tmp_path / LOCK_NAME).unlink()
        (tmp_path / LOCK_NAME).touch()
        take(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", replaced)
    assert f"{LOCK_NAME} in it was replaced during the start" in refusal(tmp_path)
