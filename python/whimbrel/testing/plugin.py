"""The pytest plugin: fixture `whimbrel_broker`, a real broker on a free port for each test.

Found by pytest through the entry point `pytest11`. It loads in every test run of every project that has Whimbrel
installed, so it imports nothing of the broker until a test asks for it.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from whimbrel.testing.background import BackgroundBroker


@pytest.fixture
def whimbrel_settings() -> Mapping[str, object]:
    """Settings of `whimbrel_broker` over the defaults; override this fixture to change them."""
    return {}


@pytest.fixture
def whimbrel_broker(whimbrel_settings: Mapping[str, object]) -> "Iterator[BackgroundBroker]":
    """A running broker with `host`, `port`, `url`, and blocking `publish`, `clients`, `kick`, `counters`."""
    from whimbrel.testing.background import BackgroundBroker

    with BackgroundBroker(whimbrel_settings) as broker:
        yield broker
