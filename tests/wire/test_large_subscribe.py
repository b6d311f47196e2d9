"""One huge SUBSCRIBE costs the process little memory and other clients little time."""

import re
import time
from pathlib import Path

from tests.raw_client import RawClient
from tests.raw_packets import PINGREQ, PINGRESP, SUBACK, Property, publish, subscribe
from tests.wire.product import Product, running

FILTERS = 100_000
RETAINED = 1_000
GROWTH_MAX_KB = 100_000
ROUND_TRIP_MAX_S = 2.0


def resident_kb(product: Product) -> int:
    """Memory of the process that lies in RAM."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{product.process.pid}/status").read_text())
    assert found is not None
    return int(found[1])


def round_trip_s(client: RawClient) -> float:
    began = time.monotonic()
    client.send_octets(PINGREQ)
    client.expect(PINGRESP)
    return time.monotonic() - began


def test_a_hundred_thousand_filters_that_match_all_retained_messages_stall_nobody(tmp_path: Path) -> None:
    with (
        running(tmp_path / "data", "workers=1") as product,
        RawClient((product.host, product.port), level=5) as greedy,
        RawClient((product.host, product.port), level=5) as other,
    ):
        other.connect("other")
        other.send_octets(b"".join(publish(f"r/{n}", b"x", level=5, retain=True) for n in range(RETAINED)))
        other.sent_so_far()
        greedy.connect("greedy", properties={Property.RECEIVE_MAXIMUM: 1})
        before_kb = resident_kb(product)
        greedy.send_octets(subscribe([("#", 1)] * FILTERS, level=5))
        waits_s = [round_trip_s(other)]
        assert len(greedy.expect(SUBACK).body) >= FILTERS
        waits_s += [round_trip_s(other) for _ in range(20)]
        assert max(waits_s) < ROUND_TRIP_MAX_S
        assert resident_kb(product) - before_kb < GROWTH_MAX_KB
