"""The data directory: made private, and used by one broker at a time.

The lock is an flock on `<data_dir>/lock`, which also holds the owner's process id for the message to the second one.
The kernel releases it when the process ends, however it ends, so there is no stale lock to remove.

Others must not be able to write there: they could put a link in the lock's place or exchange the control socket.
"""

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from whimbrel.errors import StartError
from whimbrel.settings.rules import LOCK_NAME

_PID_BYTES_MAX = 32


@contextmanager
def locked(data_dir: Path, *, chosen_by: str = "--data-dir") -> Iterator[Path]:
    """Create `data_dir` where needed (mode 0700) and hold its lock; `chosen_by` is how a reader names another one.

    Raises StartError; nothing is changed then.
    """
    with _refusing(data_dir, chosen_by):
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_private(data_dir, chosen_by)
        descriptor = _open_lock(data_dir / LOCK_NAME)
    try:
        with _refusing(data_dir, chosen_by):
            _take(descriptor, data_dir, chosen_by)
        yield data_dir
    finally:
        os.close(descriptor)


@contextmanager
def _refusing(data_dir: Path, chosen_by: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise StartError(
            f"cannot use the data directory {data_dir}: {reason}; choose one that you may write with {chosen_by}"
        ) from error


def _check_private(data_dir: Path, chosen_by: str) -> None:
    found = data_dir.stat()
    if found.st_uid != os.geteuid():
        raise StartError(
            f"cannot use the data directory {data_dir}: it belongs to user id {found.st_uid}, and the broker runs as "
            f"{os.geteuid()}; mend it with chown, or choose another directory with {chosen_by}"
        )
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise StartError(
            f"cannot use the data directory {data_dir}: others may write there (mode {found.st_mode & 0o7777:04o}); "
            f"mend it with chmod go-w, or choose another directory with {chosen_by}"
        )


def _open_lock(path: Path) -> int:
    # Never through a link, whose target would be cut off; and without waiting for the other end of a pipe.
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(path, flags, 0o600)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, f"{path.name} in it is not a plain file")
    return descriptor


def _take(descriptor: int, data_dir: Path, chosen_by: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        owner = os.pread(descriptor, _PID_BYTES_MAX, 0).decode(errors="replace").strip() or "unknown"
        raise StartError(
            f"another broker (pid {owner}) runs on the data directory {data_dir}; "
            f"stop it, or choose another directory with {chosen_by}"
        ) from error
    # A lock on a file that somebody has removed meanwhile keeps nobody else out.
    if not os.path.samestat(os.fstat(descriptor), (data_dir / LOCK_NAME).lstat()):
        raise OSError(errno.ESTALE, f"{LOCK_NAME} in it was replaced during the start")
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
