"""The pytest plugin: a broker for a synchronous test, without any asyncio plugin."""

import subprocess
import sys
from pathlib import Path

SUITE = """
import pytest
from tests.raw_client import RawClient
from tests.waiting import wait_until


@pytest.fixture
def whimbrel_settings():
    return {"mqtt.max_qos_allowed": 1}


def test_clients_meet_the_broker(whimbrel_broker):
    with RawClient((whimbrel_broker.host, whimbrel_broker.port), level=5) as client:
        assert client.connect("c1") == (0, False)
        assert client.subscribe("a", qos=2) == 1
        assert whimbrel_broker.publish("a", "hi") == 1
        assert client.message() == ("a", b"hi")
        assert [one.client_id for one in whimbrel_broker.clients()] == ["c1"]
        wait_until(lambda: whimbrel_broker.counters()["connections.count"] == 1)
        whimbrel_broker.kick("c1")
        assert whimbrel_broker.clients() == []


def test_each_test_has_its_own_broker(whimbrel_broker):
    assert whimbrel_broker.counters()["messages.received"] == 0
    assert whimbrel_broker.url == f"mqtt://127.0.0.1:{whimbrel_broker.port}"
"""

ROOT = Path(__file__).parents[2]


def test_the_fixture_works_where_no_asyncio_plugin_is(tmp_path: Path) -> None:
    (tmp_path / "test_suite.py").write_text(SUITE)
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:asyncio", "-p", "no:cacheprovider", "-c", "/dev/null"]
    words += ["--rootdir", str(tmp_path), "-o", f"pythonpath={ROOT}", str(tmp_path)]
    result = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert "2 passed" in result.stdout, result.stdout + result.stderr


def test_unused_it_loads_nothing_of_the_broker() -> None:
    code = "import sys, whimbrel.testing.plugin; print(*(name for name in sys.modules if name.startswith('whimbrel')))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert set(result.stdout.split()) == {"whimbrel", "whimbrel.testing", "whimbrel.testing.plugin"}
