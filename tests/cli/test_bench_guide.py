"""The commands of docs/guides/bench.md run as they stand there, only shorter and against a broker of their own."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.wire.authority import Authority
from whimbrel.cli import main
from whimbrel.cli.bench import FAULTS
from whimbrel.testing.background import BackgroundBroker

GUIDE = (Path(__file__).resolve().parents[2] / "docs/guides/bench.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^whimbrel (bench .*)$", GUIDE, re.MULTILINE)
# The last value of an option wins.
SHORTER = {
    "flow": ["--duration", "0.1", "--warm", "0", "--clients", "2", "--subscribers", "3"],
    "publish": ["--duration", "0.1", "--warm", "0"],
    "subscribe": ["--clients", "10", "--subscriptions", "20", "--hold", "0.01", "--flow", "0.01"],
    "retained": ["--count", "200"],
    "offline": ["--count", "200"],
    "connect": ["--clients", "50", "--hold", "0.01"],
}


@pytest.fixture(scope="module")
def broker() -> Iterator[BackgroundBroker]:
    with BackgroundBroker({"mqtt.max_mqueue_len": 1_000_000}) as started:
        yield started


def test_the_guide_shows_every_kind_of_load() -> None:
    assert {command.split()[1] for command in COMMANDS} == SHORTER.keys()


@pytest.fixture(scope="module")
def web() -> Iterator[BackgroundBroker]:
    with BackgroundBroker({"listeners.tcp.default.bind": "off", "listeners.ws.default.bind": "127.0.0.1:0"}) as started:
        yield started


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_guide_works(
    broker: BackgroundBroker, secret: BackgroundBroker, web: BackgroundBroker, authority: Authority, command: str
) -> None:
    words = shlex.split(command.replace("ca.pem", str(authority.ca)))
    there = secret if "--tls" in words else web if "--ws" in words else broker
    result = CliRunner().invoke(main, [*words, *SHORTER[words[1]], "-h", there.host, "-p", str(there.port)])
    assert (result.exit_code, result.stderr) == (0, "")
    assert "Nothing was lost, duplicated, reordered or refused." in result.stdout


def test_the_guide_names_the_faults_that_make_the_exit_code() -> None:
    shown = set(re.findall(r"`(\w+)`", GUIDE))
    assert set(FAULTS) - shown == {"pings_missing", "not_closed"}
