"""The brokers under load: how each is started with one worker and generous queues, and what it calls itself.

Knows command lines and configuration files; nothing of scenarios. A broker runs on a free port of loopback, with its
files in a temporary folder, and ends with its context. All are given the same freedom: nothing is dropped or held back.
And the same promise, which is none, because mosquitto acknowledges what is in its memory; `whimbrel-sync` is ours as it
is without settings: what it acknowledges is on disk.
"""

import contextlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

START_S_MAX = 20.0
STOP_S_MAX = 20.0
# After the port accepts: the process has done what it does once, so that it is in nobody's measure.
SETTLE_S = 0.3
# Where Debian keeps mosquitto is not on everybody's path.
SEARCHED = (str(Path(sys.executable).parent), "/usr/sbin", "/usr/local/sbin")

MOSQUITTO_SETTINGS = """\
allow_anonymous true
persistence false
max_inflight_messages 0
max_queued_messages 0
log_type none
sys_interval 0
set_tcp_nodelay true
user root
"""
WHIMBREL_SETTINGS = (
    "listeners.ws.default.bind=off",
    "mqtt.max_mqueue_len=10000000",
    "mqtt.max_mqueue_size=0",
    "mqtt.max_inflight=65535",
    "mqtt.receive_maximum=65535",
    "mqtt.max_outbox_size=256MB",
)


# RSA, because that is what most brokers show; RSA signs slowly and is verified quickly.
NEW_CERTIFICATE = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=bench")


@dataclass(frozen=True)
class Place:
    """Where a broker is to run: a port of loopback, a folder for its files, and a certificate where it speaks TLS."""

    port: int
    folder: Path
    certificate: tuple[Path, Path] | None = None


@dataclass(frozen=True)
class Opponent:
    """One broker. `command` may write files into the folder of its place."""

    name: str
    executable: str
    version_argument: str
    settings: str
    command: Callable[[Place], list[str]]

    @property
    def path(self) -> str | None:
        """Where the executable is, or None where it is not installed."""
        return next(filter(None, map(self._look_in, (None, *SEARCHED))), None)

    def version(self) -> str:
        """The first line that the broker says of itself."""
        arguments = [self.path or self.executable, self.version_argument]
        return subprocess.run(arguments, capture_output=True, text=True, check=False).stdout.partition("\n")[0]

    def _look_in(self, folder: str | None) -> str | None:
        return shutil.which(self.executable, path=folder)


@dataclass(frozen=True)
class Running:
    """A broker that accepts connections."""

    port: int
    pid: int


@contextlib.contextmanager
def running(opponent: Opponent, *, is_tls: bool = False) -> Iterator[Running]:
    """Start the broker, wait until it accepts, end it afterwards. Raises RuntimeError where it does not come up."""
    with tempfile.TemporaryDirectory(prefix="whimbrel-bench-") as folder:
        port = free_port()
        certificate = certified(Path(folder)) if is_tls else None
        place = Place(port, Path(folder), certificate)
        command = [opponent.path or opponent.executable, *opponent.command(place)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            await_port(opponent.name, port, process)
            yield Running(port, process.pid)
        finally:
            end(process)


def certified(folder: Path) -> tuple[Path, Path]:
    """A certificate and its key, of a kind that all brokers get."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    files = ("-keyout", str(key), "-out", str(cert))
    subprocess.run(["openssl", *NEW_CERTIFICATE, *files], check=True, capture_output=True)
    return cert, key


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def await_port(name: str, port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_S_MAX
    while not accepts(port):
        if process.poll() is not None:
            raise RuntimeError(f"{name} ended with status {process.returncode} before it accepted on port {port}")
        if time.monotonic() > deadline:
            raise RuntimeError(f"{name} did not accept on port {port} within {START_S_MAX:g} s")
        time.sleep(0.05)
    time.sleep(SETTLE_S)


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_S_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def whimbrel_command(place: Place, *, choices: Sequence[str]) -> list[str]:
    settings = [*choices, *WHIMBREL_SETTINGS]
    if place.certificate is None:
        settings.append(f"listeners.tcp.default.bind=127.0.0.1:{place.port}")
    else:
        cert, key = place.certificate
        settings.append("listeners.tcp.default.bind=off")
        settings.append(f"listeners.tls.default.bind=127.0.0.1:{place.port}")
        settings += [f"listeners.tls.default.cert_file={cert}", f"listeners.tls.default.key_file={key}"]
    return ["start", "--data-dir", str(place.folder / "data"), *(word for each in settings for word in ("--set", each))]


def mosquitto_command(place: Place) -> list[str]:
    configuration = place.folder / "mosquitto.conf"
    lines = [f"listener {place.port} 127.0.0.1"]
    if place.certificate is not None:
        cert, key = place.certificate
        lines += [f"certfile {cert}", f"keyfile {key}"]
    configuration.write_text("\n".join([*lines, MOSQUITTO_SETTINGS]))
    return ["-c", str(configuration)]


def whimbrel(name: str, *, workers: int = 1, durability: str = "off") -> Opponent:
    """Our broker with so many workers; `durability` is "sync", "os" or "off"."""
    choices = (f"workers={workers}", f"storage.durability={durability}")
    return Opponent(
        name=name,
        executable="whimbrel",
        version_argument="version",
        settings=", ".join((*choices, *WHIMBREL_SETTINGS)),
        command=partial(whimbrel_command, choices=choices),
    )


WHIMBREL = whimbrel("whimbrel")
MOSQUITTO = Opponent(
    name="mosquitto",
    executable="mosquitto",
    version_argument="-h",
    settings=", ".join(MOSQUITTO_SETTINGS.splitlines()),
    command=mosquitto_command,
)
OPPONENTS = (
    WHIMBREL,
    whimbrel("whimbrel-2w", workers=2),
    whimbrel("whimbrel-sync", durability="sync"),
    MOSQUITTO,
)
