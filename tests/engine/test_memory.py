"""When freed memory is given back: after a storm, and now and then in one that does not end."""

import asyncio

import pytest

from whimbrel.engine.memory import LOOKS_MAX, WORTH_BYTES, Memory


class Watched:
    """A memory whose data plane frees what the test says."""

    def __init__(self) -> None:
        self.freed = 0
        self.memory = Memory(lambda: self.freed, lambda: None)

    def looks(self, *freed_between: int) -> list[int]:
        """How often it was given back after each look."""
        times = []
        for more in freed_between:
            self.freed += more
            self.memory.look()
            times.append(self.memory.times)
        return times


def test_a_little_is_never_given_back() -> None:
    assert Watched().looks(WORTH_BYTES - 1, 0, 0) == [0, 0, 0]


def test_much_is_given_back_once_when_no_more_comes() -> None:
    assert Watched().looks(WORTH_BYTES, WORTH_BYTES, 0, 0, 0) == [0, 0, 1, 1, 1]


def test_a_little_at_a_time_adds_up() -> None:
    assert Watched().looks(*[WORTH_BYTES // 5 + 1] * 12) == [0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2]


def test_a_storm_without_end_gives_back_now_and_then() -> None:
    assert Watched().looks(*[WORTH_BYTES] * (3 * LOOKS_MAX))[-1] == 3


async def test_it_looks_until_it_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("whimbrel.engine.memory.LOOK_S", 0)
    looked = asyncio.Event()

    def freed() -> int:
        looked.set()
        return 0

    memory = Memory(freed)
    memory.start(asyncio.get_running_loop())
    for _ in range(2):
        await asyncio.wait_for(looked.wait(), 10)
        looked.clear()
    memory.stop()
    for _ in range(10):
        await asyncio.sleep(0)
    assert not looked.is_set()
