"""A queue that is longer than memory should be: what it costs the process, and that nothing of it is lost or moved.

Knows one sleeping client and one publisher. How a queue is kept is the data plane's; here it is a process that is
killed.
"""

import random
import re
import threading
from pathlib import Path

import pytest

from tests import raw_packets
from tests.raw_client import PUBACK, RawClient
from tests.wire.product import FREE_PORT, Product

COUNT = 300_000
# While the client comes and goes.
COUNT_LIVE = 20_000
STEP = 1_000
# About the payload alone would be 30 MB, the messages with their bookkeeping in memory more than 60.
PAYLOAD_BYTES = 100
GROWTH_MAX_KIB = 40 * 1024
SETTINGS = ("mqtt.max_mqueue_len=1000000", "mqtt.max_mqueue_size=0", "mqtt.max_inflight=1000", "storage.durability=os")
SLEEPER = "sleeper"


def started(data_dir: Path, *sets: str) -> Product:
    product = Product(data_dir, FREE_PORT, *SETTINGS, *sets)
    product.wait_ready()
    return product


def rss_kib(product: Product) -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{product.process.pid}/status").read_text())
    assert found is not None
    return int(found[1])


def entered(product: Product, client_id: str, *, clean: bool) -> tuple[RawClient, bool]:
    client = RawClient((product.host, product.port))
    reason, was_present = client.connect(client_id, clean=clean)
    assert reason == 0
    return client, was_present


def publish(product: Product, numbers: range) -> None:
    """All of them are acknowledged when it returns."""
    client, _ = entered(product, "publisher", clean=True)
    with client:
        for start in range(numbers.start, numbers.stop, STEP):
            step = range(start, start + STEP)
            payloads = (number.to_bytes(8, "big").ljust(PAYLOAD_BYTES, b".") for number in step)
            packets = [
                raw_packets.publish("t", payload, level=4, qos=1, packet_id=at)
                for at, payload in enumerate(payloads, 1)
            ]
            client.send_octets(b"".join(packets))
            for _ in step:
                client.expect(PUBACK)


def drain(client: RawClient, count: int) -> list[int]:
    """Takes and acknowledges so many messages."""
    numbers: list[int] = []
    while len(numbers) < count:
        acknowledgements = bytearray()
        for _ in range(min(STEP, count - len(numbers))):
            publication = client.publication()
            numbers.append(int.from_bytes(publication.payload[:8], "big"))
            acknowledgements += raw_packets.acknowledgement(PUBACK, publication.packet_id)
        client.send_octets(bytes(acknowledgements))
    return numbers


def taken(client: RawClient, chance: random.Random, beyond: int, count: int) -> list[int]:
    """Takes up to `count` messages behind number `beyond`, or to the last; acknowledges most, checks their order.

    What comes again was not acknowledged on the connection before, and says so.
    """
    numbers: list[int] = []
    for _ in range(count):
        if beyond == COUNT_LIVE - 1:
            break
        publication = client.publication()
        number = int.from_bytes(publication.payload[:8], "big")
        if number > beyond:
            assert number == beyond + 1, "a message is missing or was overtaken"
            beyond = number
            numbers.append(number)
        else:
            assert publication.dup
        if chance.random() < 0.999:
            client.send_octets(raw_packets.acknowledgement(PUBACK, publication.packet_id))
    return numbers


@pytest.mark.parametrize("seed", [1, 2])
def test_a_client_that_comes_and_goes_meanwhile_gets_everything_in_order(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    product = started(tmp_path / "data", f"workers={seed}")
    try:
        client, _ = entered(product, SLEEPER, clean=False)
        with client:
            client.subscribe("t", qos=1)
        publisher = threading.Thread(target=publish, args=(product, range(COUNT_LIVE)))
        publisher.start()
        numbers: list[int] = []
        while len(numbers) < COUNT_LIVE:
            client, _ = entered(product, SLEEPER, clean=False)
            with client:
                numbers += taken(client, chance, len(numbers) - 1, chance.choice([5, 500, 3_000]))
        publisher.join()
        assert numbers == list(range(COUNT_LIVE))
    finally:
        assert product.stop() == 0


def test_a_long_queue_costs_little_memory_and_outlives_the_process(tmp_path: Path) -> None:
    product = started(tmp_path / "data")
    try:
        client, _ = entered(product, SLEEPER, clean=False)
        with client:
            assert client.subscribe("t", qos=1) == 1
        publish(product, range(STEP))
        before = rss_kib(product)
        publish(product, range(STEP, COUNT))
        assert product.clients()[SLEEPER]["mqueue_len"] == COUNT
        assert rss_kib(product) - before < GROWTH_MAX_KIB
    finally:
        product.process.kill()
        product.ended()
    product = started(tmp_path / "data")
    try:
        assert rss_kib(product) - before < GROWTH_MAX_KIB
        client, was_present = entered(product, SLEEPER, clean=False)
        with client:
            assert was_present
            assert drain(client, COUNT) == list(range(COUNT))
            assert client.published_so_far() == []
        assert product.clients()[SLEEPER]["mqueue_len"] == 0
    finally:
        assert product.stop() == 0
