"""The installed product as a process: started as an operator starts it, read like an operator reads it.

Knows the console script beside this interpreter, its banner, its signals and its management line; nothing of the
package's inside but that line's client.
"""

import contextlib
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.waiting import WITHIN_S, wait_until
from whimbrel.control.client import ControlClient

FREE_PORT = "listeners.tcp.default.bind=127.0.0.1:0"
# Several products run side by side, and the standing WebSocket listener has a fixed port.
NO_WEBSOCKET = "listeners.ws.default.bind=off"
# How busy or full this machine is must not change what a test finds.
NO_LOOKS = "sysmon.interval=0"
_LISTENING = re.compile(r"listening +(\S+) +(\S+)")


def command() -> str:
    """The console script of this environment; a clear failure where the product is not installed."""
    script = Path(sys.executable).with_name("whimbrel")
    if not script.exists():
        raise AssertionError(f"{script} is missing: the product is not installed; run `make test` or `pip install .`")
    return str(script)


def clean_environment() -> dict[str, str]:
    """The environment without settings of the person who runs the tests."""
    return {key: value for key, value in os.environ.items() if not key.startswith("WHIMBREL__")}


class Product:
    """One `whimbrel start`. Lines of its standard output are in `lines`, its standard error in `errors()`."""

    def __init__(self, data_dir: Path, *sets: str, config: Path | None = None, **popen: Any) -> None:
        self.data_dir = data_dir
        self.lines: list[str] = []
        words = [command(), "start", "--data-dir", str(data_dir)]
        if config is not None:
            words += ["--config", str(config)]
        for one in (NO_WEBSOCKET, NO_LOOKS, *sets):
            words += ["--set", one]
        popen.setdefault("env", clean_environment())
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **popen)
        self._errors: list[str] = []
        self._heard: queue.Queue[str | None] = queue.Queue()
        self._readers = [threading.Thread(target=self._read_lines), threading.Thread(target=self._read_errors)]
        for reader in self._readers:
            reader.start()

    def wait_ready(self) -> None:
        """Wait for the line `ready`; fails with what was printed where it does not come."""
        while "ready" not in self.lines:
            line = self._heard.get(timeout=WITHIN_S)
            if line is None:
                raise AssertionError(f"the broker ended with {self.process.wait()}: {self.errors()}")
            self.lines.append(line)

    @property
    def addresses(self) -> dict[str, str]:
        """Bound address by listener, from the banner."""
        return {found[1]: found[2] for line in self.lines if (found := _LISTENING.match(line))}

    def address(self, listener: str) -> tuple[str, int]:
        """Host and port of a listener such as "ws:default"."""
        host, _, port = self.addresses[listener].rpartition(":")
        return host, int(port)

    @property
    def host(self) -> str:
        """Host of tcp:default."""
        return self.addresses["tcp:default"].rpartition(":")[0]

    @property
    def port(self) -> int:
        """Port of tcp:default."""
        return int(self.addresses["tcp:default"].rpartition(":")[2])

    def clients(self) -> dict[str, dict[str, Any]]:
        """Every client by its id, over the management line."""
        with ControlClient(self.data_dir) as control:
            return {one["client_id"]: one for one in control.clients()}

    def wait_subscribed(self, client_id: str, count: int = 1) -> None:
        """Wait until the broker knows `count` subscriptions of this client."""
        wait_until(
            lambda: self.clients().get(client_id, {}).get("subscriptions") == count,
            what=f"subscription of {client_id}",
        )

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait; returns the exit code, and kills what has not ended after ten seconds."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.ended()

    def ended(self) -> int:
        """Wait for the end; returns the exit code."""
        try:
            code = self.process.wait(WITHIN_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        for reader in self._readers:
            reader.join(WITHIN_S)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        return code

    def errors(self) -> str:
        """What it wrote to standard error; complete after its end."""
        return "".join(self._errors)

    def _read_lines(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._heard.put(line.rstrip("\n"))
        self._heard.put(None)

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        self._errors.extend(self.process.stderr)


@contextlib.contextmanager
def running(data_dir: Path, *sets: str, config: Path | None = None, **popen: Any) -> Iterator[Product]:
    """The product on a free port, ready; ended with SIGTERM."""
    product = Product(data_dir, FREE_PORT, *sets, config=config, **popen)
    try:
        product.wait_ready()
        yield product
    finally:
        product.stop()
