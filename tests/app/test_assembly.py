"""The order of a start: hooks decide about the very first client."""

from unittest.mock import patch

from tests.engine.fake_core import DataPlane
from whimbrel.app.assembly import Assembly
from whimbrel.engine import engine
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
    await assembly.stop(grace_ms=0)

    opened_with = planes[0].interest_at_opening
    assert opened_with is not None
    assert opened_with["authenticate"]
