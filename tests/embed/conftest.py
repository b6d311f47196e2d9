"""What the embed tests share: a running broker, and a clear word where the package was not built."""

from collections.abc import AsyncIterator

import pytest

try:
    import whimbrel.engine.records
except ImportError as error:
    raise pytest.UsageError(
        f"the binding is not built ({error}); run `make test`, or `maturin develop` first"
    ) from None


@pytest.fixture
async def broker() -> AsyncIterator[whimbrel.Broker]:
    """A broker on a free port."""
    async with whimbrel.Broker() as running:
        yield running
