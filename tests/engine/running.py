"""An engine over the double of the binding, running on the current loop for the length of a block."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from tests.engine.fake_core import DataPlane
from whimbrel.engine.engine import Engine
from whimbrel.engine.options import from_settings
from whimbrel.settings import from_mapping


@asynccontextmanager
async def running_engine(**settings: object) -> AsyncIterator[tuple[Engine, DataPlane]]:
    """The engine and the double behind it; stops the engine at the end unless the test did."""
    keys = {"listeners.tcp.default.bind": "127.0.0.1:0", "workers": 1, **settings}
    engine = Engine.start(from_settings(from_mapping(keys)), open_plane=cast(Any, DataPlane))
    plane = cast(DataPlane, engine._plane)
    try:
        yield engine, plane
    finally:
        if not engine.stopped.done():
            plane.is_mute = False
            await engine.stop(grace_ms=0)
        plane._far.close()
        plane._near.close()
