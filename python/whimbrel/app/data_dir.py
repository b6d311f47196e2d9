"""The data directory: made private, and used by one broker at a time.

The lock is an flock on `<data_dir>/lock`, which also holds the owner's process id for the message to the second one.
The kernel releases it when the process ends, however it ends, so there is no stale lock to remove.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from whimbrel.errors import StartError

LOCK_NAME = "lock"
_PID_BYTES_MAX = 32


@contextmanager
def locked(data_dir: Path) -> Iterator[Path]:
    """Create `data_dir` where needed (mode 0700) and hold its lock. Raises StartError; nothing is changed then."""
    descriptor = _open_lock(data_dir)
    try:
        _take(descriptor, data_dir)
        yield data_dir
    finally:
        os.close(descriptor)


def _open_lock(data_dir: Path) -> int:
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(data_dir / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise StartError(
            f"cannot use the data directory {data_dir}: {reason}; choose one that you may write with --data-dir"
        ) from error


def _take(descriptor: int, data_dir: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        owner = os.pread(descriptor, _PID_BYTES_MAX, 0).decode(errors="replace").strip() or "unknown"
        raise StartError(
            f"another broker (pid {owner}) runs on the data directory {data_dir}; "
            "stop it, or choose another directory with --data-dir"
        ) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
