"""How long a broker that was killed takes until it serves again, and how much memory its start needs.

Fills the store of `whimbrel start` over MQTT with sessions, messages that wait for them and retained messages; kills
the broker with SIGKILL; starts it again, several times, each ended by SIGKILL too. A start is measured from exec to the
CONNACK that finds one of the sessions, with the first message that waited for it. The peak of its memory is compared
with what the broker held before the first kill, when all of it had just arrived. Exit code 1 where a start is too slow
or needs too much; the limits are options.
"""

import argparse
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import machine, opponents
from benchmarks.run import raise_descriptor_limit

WAIT_S = 60.0
CROWD = 250  # Sessions that are made at once.
WINDOW = 2000  # Messages that wait for their acknowledgement at once.
PAYLOAD = b"x" * 64
CONNACK_NEW, CONNACK_FOUND = b"\x20\x02\x00\x00", b"\x20\x02\x01\x00"
PUBLISH_TYPE, PUBACK_BYTES = 3, 4


@dataclass(frozen=True)
class Load:
    """What the store is filled with."""

    sessions: int
    queued: int
    retained: int


@dataclass(frozen=True)
class Start:
    """One start; `peak_mb`: the most memory that the process had until it served."""

    seconds: float
    cpu_s: float
    peak_mb: float


def main() -> int:
    options = parse_options()
    raise_descriptor_limit()
    facts = {**machine.facts(), "whimbrel": opponents.WHIMBREL.version()}
    load = Load(options.sessions, options.queued, options.retained)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        broker = Broker(Path(folder), options.durability)
        try:
            pid = broker.start()
            fill(broker.address, load)
            held_mb = memory_mb(pid, "VmRSS")
            broker.kill()
            starts = [measured(broker, load, number) for number in range(options.starts)]
        finally:
            broker.kill()
            broker.place.close()
    slowest = max(one.seconds for one in starts)
    excess_mb = round(max(one.peak_mb for one in starts) - held_mb, 1)
    is_within = slowest <= options.within and excess_mb <= options.excess_mb
    report = {
        "facts": facts,
        "load": asdict(load),
        "starts": [asdict(one) for one in starts],
        "median_s": statistics.median(one.seconds for one in starts),
        "slowest_s": slowest,
        "held_mb": held_mb,
        "excess_mb": excess_mb,
        "is_within": is_within,
    }
    print(json.dumps(report, indent=1))
    return 0 if is_within else 1


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.start_up", description=__doc__)
    parser.add_argument("--sessions", type=int, default=100_000)
    parser.add_argument("--queued", type=int, default=1_000_000)
    parser.add_argument("--retained", type=int, default=1_000_000)
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--durability", choices=("sync", "os"), default="sync")
    parser.add_argument("--within", type=float, default=10.0, help="seconds that a start may take")
    parser.add_argument("--excess-mb", type=float, default=64.0, help="MB beyond what the killed broker held")
    parser.add_argument("--folder", type=Path, help="where the store lies; a temporary folder is made in it")
    return parser.parse_args()


class Broker:
    """`whimbrel start`, again and again on the same folder and port."""

    def __init__(self, folder: Path, durability: str) -> None:
        self._folder = folder
        self._durability = durability
        # Bound but not listening: nobody else is given the port while the broker is away.
        self.place = socket.socket()
        self.place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.place.bind(("127.0.0.1", 0))
        self.address: tuple[str, int] = self.place.getsockname()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> int:
        """Its process number; it may not listen yet."""
        executable = opponents.WHIMBREL.path
        if executable is None:
            raise SystemExit("whimbrel is not installed in this environment; run `make`")
        sets = (
            "listeners.ws.default.bind=off",
            f"listeners.tcp.default.bind=127.0.0.1:{self.address[1]}",
            f"storage.durability={self._durability}",
        )
        words = [executable, "start", "--data-dir", str(self._folder)]
        words += [word for one in sets for word in ("--set", one)]
        with (self._folder / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(words, stdout=log, stderr=log)
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None


def measured(broker: Broker, load: Load, number: int) -> Start:
    """One start, ended by SIGKILL."""
    session = (number * 7919) % load.sessions
    began = time.monotonic()
    pid = broker.start()
    with connected(broker.address) as client:
        client.sendall(connect(f"sleeper-{session}"))
        found = read(client, len(CONNACK_FOUND))
        if found != CONNACK_FOUND:
            raise SystemExit(f"session {session} was not found again: {found.hex(' ')}")
        if load.queued >= load.sessions and read(client, 1)[0] >> 4 != PUBLISH_TYPE:
            raise SystemExit(f"session {session} has lost its messages")
        seconds = time.monotonic() - began
        start = Start(round(seconds, 2), cpu_seconds(pid), memory_mb(pid, "VmHWM"))
    print(f"start {number}: {start}", file=sys.stderr)
    broker.kill()
    return start


def memory_mb(pid: int, name: str) -> float:
    found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return round(int(found[1]) / 1024, 1)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def connected(address: tuple[str, int]) -> socket.socket:
    """As soon as somebody listens."""
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            return socket.create_connection(address, WAIT_S)
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise SystemExit(f"nobody listens after {WAIT_S} s") from None
            time.sleep(0.005)


def read(client: socket.socket, length: int) -> bytes:
    got = b""
    while len(got) < length:
        more = client.recv(length - len(got))
        if not more:
            raise SystemExit(f"the broker hung up after {got.hex(' ')}")
        got += more
    return got


def fill(address: tuple[str, int], load: Load) -> None:
    """All acknowledged when this returns."""
    connected(address).close()
    for first in range(0, load.sessions, CROWD):
        fall_asleep(address, range(first, min(first + CROWD, load.sessions)))
    say(f"{load.sessions} sessions sleep")
    with connected(address) as client:
        client.sendall(connect("publisher"))
        read(client, len(CONNACK_NEW))
        publish_all(client, ((f"to/{number % load.sessions}", False) for number in range(load.queued)))
        say(f"{load.queued} messages wait for them")
        publish_all(client, ((f"state/{number}", True) for number in range(load.retained)))
        say(f"{load.retained} messages are retained")


def say(text: str) -> None:
    print(text, file=sys.stderr)


def fall_asleep(address: tuple[str, int], numbers: range) -> None:
    """Sessions that subscribe and go."""
    clients = []
    for number in numbers:
        client = socket.create_connection(address, WAIT_S)
        client.sendall(connect(f"sleeper-{number}") + subscribe(f"to/{number}"))
        clients.append(client)
    for client in clients:
        read(client, len(CONNACK_NEW) + 5)
        client.close()


def publish_all(client: socket.socket, messages: Iterator[tuple[str, bool]]) -> None:
    window = bytearray()
    count = 0
    for topic, is_retained in messages:
        count += 1
        window += publish(topic, count, is_retained=is_retained)
        if count == WINDOW:
            client.sendall(window)
            read(client, PUBACK_BYTES * count)
            window.clear()
            count = 0
    client.sendall(window)
    read(client, PUBACK_BYTES * count)


def text(value: str) -> bytes:
    return len(value).to_bytes(2, "big") + value.encode()


def packet(first: int, body: bytes) -> bytes:
    """Shorter than 16,384 bytes."""
    length = bytes([len(body)]) if len(body) < 128 else bytes([len(body) % 128 | 128, len(body) // 128])
    return bytes([first]) + length + body


def connect(client_id: str) -> bytes:
    """MQTT 3.1.1 with a session that lasts, no keep-alive."""
    return packet(0x10, text("MQTT") + b"\x04\x00\x00\x00" + text(client_id))


def subscribe(topic_filter: str) -> bytes:
    return packet(0x82, b"\x00\x01" + text(topic_filter) + b"\x01")


def publish(topic: str, packet_id: int, *, is_retained: bool) -> bytes:
    return packet(0x32 | is_retained, text(topic) + packet_id.to_bytes(2, "big") + PAYLOAD)


if __name__ == "__main__":
    sys.exit(main())
