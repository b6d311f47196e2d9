"""What the wire tests share: one running product for all of them, names that no two tests share, foreign tools."""

import itertools
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.wire.product import Product, running

NODE_MODULES = Path(__file__).with_name("node_modules")
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """One broker for every test that does not care which."""
    with running(tmp_path_factory.mktemp("product") / "data") as started:
        yield started


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A topic level and client id that belongs to this test alone."""
    return f"{re.sub(r'[^a-z0-9]+', '-', request.node.name.lower())[:40]}-{next(_numbers)}"


def tool(word: str) -> str:
    """The path of a program that the tests need; a clear failure where it is missing."""
    found = shutil.which(word) or shutil.which(word, path="/usr/sbin:/usr/local/bin")
    if found is None:
        pytest.fail(f"{word} is missing; `make test` installs what the tests need, or says which package to install")
    return found


@pytest.fixture(scope="session")
def mosquitto_pub() -> str:
    return tool("mosquitto_pub")


@pytest.fixture(scope="session")
def mosquitto_sub() -> str:
    return tool("mosquitto_sub")


@pytest.fixture(scope="session")
def node() -> str:
    """Node.js with MQTT.js beside the tests."""
    if not (NODE_MODULES / "mqtt").is_dir():
        pytest.fail(f"{NODE_MODULES}/mqtt is missing; run `npm ci --prefix tests/wire`")
    return tool("node")
