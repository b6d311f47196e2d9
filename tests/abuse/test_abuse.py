"""Every attack of the tables, against the installed product: a healthy client is served throughout, and afterwards the
process is as it was.

Each attack is run once to fill what is kept on purpose (spare buffers, Python's own), then before the eyes of the
judge. With one worker attackers and the healthy client share its thread; with two, in the long form, the workers may
hold each other up. Memory is judged twice: against what it was before the attack, and against what it was when nobody
had attacked yet.
"""

import random
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.abuse import crowds, floods, layers, names, octets, slowness
from tests.abuse.attack import SEED, Attack, Target
from tests.abuse.healthy import Healthy, Report
from tests.abuse.vitals import Vitals
from tests.waiting import wait_until
from tests.wire.authority import Authority
from tests.wire.product import Product, running

ATTACKS = (*octets.ATTACKS, *slowness.ATTACKS, *floods.ATTACKS, *names.ATTACKS, *layers.ATTACKS, *crowds.ATTACKS)
SETTLE_S = 20.0
# Long enough for round trips of the healthy client; a shorter attack is repeated.
WATCHED_S = 0.3
# Freed memory goes back some seconds after the last of a storm.
GIVEN_BACK_WITHIN_S = 30.0
# What a broker tells of itself under $SYS, a moment after it is ready.
RETAINED_AT_START = 3
# What all attacks together may leave in a process of 28 MiB: buffers, tables of a usual size, scattered pages.
LEFT_KIB_MAX = 12 * 1024


class Stage:
    """Running products by their settings, and what they need."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._ending = ExitStack()
        self._products: dict[tuple[str, ...], tuple[Product, Vitals]] = {}
        self.authority = Authority(directory / "authority")
        self._pair = self.authority.issue("server")

    def product(self, *limits: str) -> tuple[Product, Vitals]:
        """A broker with these limits, and its vitals at the start; attacks with the same limits share it."""
        if limits not in self._products:
            directory = self._directory / str(len(self._products))
            product = self._ending.enter_context(running(directory, *self._standing(), *limits))
            wait_until(lambda: Vitals.of(product).gauges["retained.count"] == RETAINED_AT_START)
            self._products[limits] = product, Vitals.of(product)
        return self._products[limits]

    def _standing(self) -> list[str]:
        certificate = [f"cert_file={self._pair.cert}", f"key_file={self._pair.key}"]
        return [
            "listeners.ws.default.bind=127.0.0.1:0",
            *(
                f"listeners.{kind}.default.{one}"
                for kind in ("tls", "wss")
                for one in ("bind=127.0.0.1:0", *certificate)
            ),
            "listeners.tcp.proxied.bind=127.0.0.1:0",
            "listeners.tcp.proxied.proxy_protocol=true",
        ]

    def close(self) -> None:
        """End all of them."""
        self._ending.close()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    made = Stage(tmp_path_factory.mktemp("abuse"))
    yield made
    made.close()


def settled(product: Product, before: Vitals) -> Vitals:
    """The vitals once gauges, descriptors and threads are as before; fails with both where they stay different."""
    seen = [before]

    def is_settled() -> bool:
        seen[0] = Vitals.of(product)
        return key(seen[0]) == key(before)

    try:
        wait_until(is_settled, within_s=SETTLE_S)
    except AssertionError as late:
        raise AssertionError(f"before: {key(before)}, {SETTLE_S:g} s behind the attack: {key(seen[0])}") from late
    return seen[0]


def key(vitals: Vitals) -> tuple[dict[str, int], int, int]:
    """What must return exactly."""
    return vitals.gauges, vitals.descriptors, vitals.threads


def judge(stage: Stage, attack: Attack, scale: int, *, workers: int) -> None:
    """Attack, and compare."""
    product, fresh = stage.product(f"workers={workers}", *attack.limits)
    target = Target(product, scale, stage.authority, random.Random(SEED))
    attack.run(target)
    before = settled(product, fresh)
    with Healthy(product.host, product.port) as healthy:
        watched(attack, target)
    after = settled(product, fresh)
    judge_service(healthy.report, attack.gap_s if scale == 1 else 2 * attack.gap_s)
    judge_counters(after.moved(before), attack)
    rss_kib_max = min(before.rss_kib + attack.rss_kib, fresh.rss_kib + LEFT_KIB_MAX)
    wait_until(
        lambda: Vitals.of(product).rss_kib <= rss_kib_max,
        within_s=GIVEN_BACK_WITHIN_S,
        what=f"resident memory of {rss_kib_max} KiB (at the start {fresh.rss_kib}, before the attack {before.rss_kib}, "
        f"behind it {after.rss_kib})",
    )


def watched(attack: Attack, target: Target) -> None:
    """The attack, for some time."""
    until = time.monotonic() + WATCHED_S
    attack.run(target)
    while time.monotonic() < until:
        attack.run(target)


def judge_service(report: Report, gap_s: float) -> None:
    """The healthy client was served all the time."""
    assert report.failure == ""
    assert report.trips > 0
    assert report.longest_s < gap_s, f"a round trip of the healthy client took {report.longest_s:.2f} s"


def judge_counters(moved: Mapping[str, int], attack: Attack) -> None:
    """The operator sees it."""
    missing = {name: (least, moved.get(name, 0)) for name, least in attack.moved.items() if moved.get(name, 0) < least}
    assert not missing, f"counters that should have moved (at least, did): {missing}"


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_a_healthy_client_is_served_and_all_is_given_back(stage: Stage, attack: Attack) -> None:
    judge(stage, attack, 1, workers=1)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2], ids=["one", "two"])
@pytest.mark.parametrize("attack", [one for one in ATTACKS if one.slow_scale], ids=lambda attack: attack.name)
def test_so_it_is_when_the_attack_is_long(stage: Stage, attack: Attack, workers: int) -> None:
    judge(stage, attack, attack.slow_scale, workers=workers)
