"""The installed product as a process that is killed and started again, on the same folder and port.

Knows the console script, SIGKILL, and the line `ready`. Never waits: whoever drives it watches its output.
"""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

from tests.crash.story import Fault
from tests.wire.product import NO_WEBSOCKET, clean_environment, command


class Broker:
    """`directory` gets the folder `data` and the file `broker.log`. `starts_s`: seconds from exec to `ready`, each."""

    def __init__(self, directory: Path, *sets: str) -> None:
        self._directory = directory
        # Bound but not listening: nobody else is given the port while the broker is away.
        self._place = socket.socket()
        self._place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._place.bind(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._place.getsockname()
        self._sets = (NO_WEBSOCKET, f"listeners.tcp.default.bind=127.0.0.1:{self.address[1]}", *sets)
        self._process: subprocess.Popen[bytes] | None = None
        self._said = b""
        self._began_s = 0.0
        self.is_ready = False
        self.starts_s: list[float] = []

    @property
    def output(self) -> int:
        """The descriptor of its standard output."""
        assert self._process is not None
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def start(self) -> None:
        """Start it; `listen` tells when it serves."""
        words = [command(), "start", "--data-dir", str(self._directory / "data")]
        for one in self._sets:
            words += ["--set", one]
        self._said, self.is_ready, self._began_s = b"", False, time.monotonic()
        with (self._directory / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, env=clean_environment())

    def listen(self) -> None:
        """Read what it printed, of which there is something. Raises Fault where it has ended."""
        words = os.read(self.output, 65_536)
        self._said += words
        if not words:
            raise Fault(f"the broker ended by itself; {self._directory}/broker.log may tell why")
        if not self.is_ready and b"\nready\n" in self._said:
            self.is_ready = True
            self.starts_s.append(time.monotonic() - self._began_s)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM, and wait until it is gone."""
        self._end(signal.SIGTERM)

    def close(self) -> None:
        """Leave nothing behind."""
        if self._process is not None:
            self.kill()
        self._place.close()

    def _end(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        self._process.communicate()
        self._process = None
        self.is_ready = False
