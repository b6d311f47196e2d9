"""A client with good manners, in a process of its own: it says how well it was served while somebody else attacked.

Knows one closed loop: publish at QoS 1 to itself, wait for PUBACK and for the message, acknowledge, go on. It ends when
its standard input ends, and prints one line of JSON. Knows nothing of the attack. `Healthy` is its handle in a test.
"""

import json
import select
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.raw_client import PUBACK, PUBLISH, WAIT_S, RawClient
from tests.raw_packets import Publication

ROOT = Path(__file__).resolve().parents[2]
# Between two round trips: it watches, it is no load.
PAUSE_S = 0.004
READY = "served"


@dataclass
class Report:
    """Round trips, the longest of them in seconds, and what went wrong ("" for nothing)."""

    trips: int = 0
    longest_s: float = 0.0
    failure: str = ""


class Healthy:
    """The process, from its first round trip to the end of the block; `report` is there behind it."""

    def __init__(self, host: str, port: int) -> None:
        words = [sys.executable, "-m", "tests.abuse.healthy", host, str(port)]
        self._process = subprocess.Popen(
            words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self.report = Report()

    def __enter__(self) -> Self:
        assert self._process.stdout is not None
        first = self._process.stdout.readline().strip()
        assert first == READY, f"the healthy client was not served at the start: {first!r}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        told, _ = self._process.communicate(timeout=3 * WAIT_S)
        self.report = Report(**json.loads(told))


def watch(client: RawClient, topic: str) -> Report:
    """Round trips until standard input ends."""
    report = Report()
    try:
        while not select.select([sys.stdin], [], [], PAUSE_S)[0]:
            began = time.monotonic()
            report.failure = round_trip(client, topic, str(report.trips).encode())
            report.longest_s = max(report.longest_s, time.monotonic() - began)
            report.trips += 1
            if report.failure:
                break
    except (OSError, AssertionError) as error:
        report.failure = f"after {report.trips} round trips: {error!r}"
    return report


def round_trip(client: RawClient, topic: str, payload: bytes) -> str:
    """One message to itself; returns what was wrong."""
    client.publish(topic, payload, qos=1, packet_id=1)
    awaited = {PUBACK, PUBLISH}
    while awaited:
        packet = client.packet()
        if packet is None:
            return "the broker closed the connection"
        if packet.kind not in awaited:
            return f"{packet} came, which nobody waited for"
        awaited.remove(packet.kind)
        if packet.kind == PUBLISH:
            publication = Publication.read(packet, level=4)
            if publication.payload != payload:
                return f"{payload!r} was sent, {publication.payload!r} came"
            client.acknowledge(PUBACK, publication.packet_id)
    return ""


def main(host: str, port: str) -> None:
    """Enter, make one round trip, say so, watch."""
    topic = "healthy/client"
    with RawClient((host, int(port))) as client:
        client.connect("healthy", keep_alive_s=60)
        client.subscribe(topic, qos=1)
        failure = round_trip(client, topic, b"first")
        print(failure or READY, flush=True)  # noqa: T201
        print(json.dumps(asdict(watch(client, topic))), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
