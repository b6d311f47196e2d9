"""A real data plane without an engine above it: the test itself drains the events and answers, or does not."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager

from tests.raw_client import RawClient
from whimbrel._core import DataPlane
from whimbrel.engine.options import from_settings
from whimbrel.settings import from_mapping


@contextmanager
def running_plane(*, question_deadline_ms: int = 10_000) -> Iterator[DataPlane]:
    """One worker, one listener on a free port, open."""
    keys = {"listeners.tcp.default.bind": "127.0.0.1:0", "workers": 1}
    options = dataclasses.replace(from_settings(from_mapping(keys)), question_deadline_ms=question_deadline_ms)
    plane = DataPlane(options)
    plane.open()
    try:
        yield plane
    finally:
        plane.stop(0)
        plane.join()


def connection(plane: DataPlane, *, level: int = 5) -> RawClient:
    """A connection that has not sent anything."""
    ((_, _, address),) = plane.listeners()
    host, _, port = address.rpartition(":")
    return RawClient((host, int(port)), level=level)
