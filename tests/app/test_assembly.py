"""The order of a start: hooks decide about the very first client."""

import errno
from unittest.mock import patch

import pytest

from tests.engine.fake_core import DataPlane
from whimbrel.app.assembly import Assembly
from whimbrel.engine import engine
from whimbrel.errors import StartError
from whimbrel.hooks.points import Allow
from whimbrel.hooks.registry import Registry
from whimbrel.settings import from_mapping


async def allow(_question: object) -> Allow:
    return Allow()


async def test_clients_are_let_in_only_when_the_hooks_interest_is_declared() -> None:
    registry = Registry()
    registry.register("authenticate", allow)
    planes: list[DataPlane] = []

    def open_plane(options: object) -> DataPlane:
        planes.append(DataPlane(options))
        return planes[0]

    with patch.object(engine, "_open_plane", open_plane):
        assembly = Assembly.start(from_mapping({}), registry)
    was_open = planes[0].interest_at_opening is not None
    assembly.open()
    await assembly.stop(grace_ms=0)

    opened_with = planes[0].interest_at_opening
    assert opened_with is not None
    assert opened_with["authenticate"]
    assert not was_open


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.EADDRINUSE, "stop the program that uses it, or choose another with "),
        (errno.EADDRNOTAVAIL, "this machine has no such address; choose another with "),
        (errno.EACCES, "ports below 1024 need a privilege (CAP_NET_BIND_SERVICE); choose another with "),
    ],
)
async def test_the_advice_fits_the_reason(number: int, advice: str) -> None:
    def refused(_options: object) -> DataPlane:
        raise OSError(number, "No", "127.0.0.1:80", 0, "tcp:default")

    settings = from_mapping({"listeners.tcp.default.bind": "127.0.0.1:80"})
    with patch.object(engine, "_open_plane", refused), pytest.raises(StartError) as failure:
        Assembly.start(settings, Registry())
    assert f"(tcp:default): no; {advice}--set listeners.tcp.default.bind=" in str(failure.value)
