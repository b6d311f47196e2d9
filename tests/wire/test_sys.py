"""The `$SYS` tree as mosquitto's tools see it, on a broker of its own that publishes it quickly."""

import json
import subprocess
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.wire.product import Product, clean_environment, command, running

WAIT_S = 15
ROOT = "$SYS/brokers/whimbrel@127.0.0.1"


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """A broker that beats and counts every 50 ms."""
    with running(tmp_path_factory.mktemp("sys"), "sys.interval=50ms", "sys.heartbeat=50ms") as product:
        yield product


def heard(product: Product, mosquitto_sub: str, topic: str, count: int) -> dict[str, str]:
    """The first `count` messages of `topic`."""
    where = ["-h", product.host, "-p", str(product.port), "-V", "5"]
    words = [mosquitto_sub, *where, "-t", topic, "-C", str(count), "-W", str(WAIT_S), "-F", "%t\t%r %p"]
    result = subprocess.run(words, capture_output=True, text=True, check=True, timeout=WAIT_S + 5)
    return dict(line.split("\t", 1) for line in result.stdout.splitlines())


def test_who_the_broker_is_is_there_before_its_reader(quick: Product, mosquitto_sub: str) -> None:
    assert heard(quick, mosquitto_sub, f"{ROOT}/version", 1) == {f"{ROOT}/version": f"1 {version('whimbrel')}"}
    assert heard(quick, mosquitto_sub, "$SYS/brokers", 1) == {"$SYS/brokers": "1 whimbrel@127.0.0.1"}


def test_every_number_is_published(quick: Product, mosquitto_sub: str) -> None:
    stats = heard(quick, mosquitto_sub, f"{ROOT}/stats/#", 44)
    assert (len(stats), stats[f"{ROOT}/stats/connections/count"]) == (22, "0 1")
    metrics = heard(quick, mosquitto_sub, f"{ROOT}/metrics/packets/#", 100)
    assert metrics[f"{ROOT}/metrics/packets/publish/sent"] == "0 0", "what is under $SYS does not count"


def test_the_heart_beats(quick: Product, mosquitto_sub: str) -> None:
    assert heard(quick, mosquitto_sub, f"{ROOT}/uptime", 1)[f"{ROOT}/uptime"].endswith(" seconds")


def test_a_client_that_comes_is_told_of(quick: Product, mosquitto_pub: str, mosquitto_sub: str) -> None:
    where = ["-h", quick.host, "-p", str(quick.port)]
    words = [mosquitto_sub, *where, "-i", "watcher", "-t", f"{ROOT}/clients/device/+", "-C", "2", "-W", str(WAIT_S)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as watcher:
        quick.wait_subscribed("watcher")
        subprocess.run([mosquitto_pub, *where, "-i", "device", "-t", "a", "-m", "x"], check=True, timeout=WAIT_S)
        came, went = map(json.loads, watcher.communicate(timeout=WAIT_S)[0].splitlines())
    assert (came["clientid"], came["proto_ver"], came["connack"]) == ("device", 4, 0)
    assert (went["clientid"], went["reason"]) == ("device", "normal")


def test_a_client_may_not_publish_there(quick: Product, mosquitto_pub: str) -> None:
    words = [mosquitto_pub, "-h", quick.host, "-p", str(quick.port), "-V", "5", "-q", "1", "-t", "$SYS/x", "-m", "x"]
    result = subprocess.run(words, capture_output=True, text=True, check=False, timeout=WAIT_S)
    assert "Not authorized" in result.stdout + result.stderr


def test_the_ledger_is_even_and_the_statistics_are_there(quick: Product, tmp_path: Path) -> None:
    words = [command(), "ctl", "--data-dir", str(quick.data_dir)]
    for operation, expected in (("ledger", "= missing"), ("stats", "sessions.max")):
        result = subprocess.run(
            [*words, operation], capture_output=True, text=True, check=True, timeout=WAIT_S, env=clean_environment()
        )
        assert expected in result.stdout
