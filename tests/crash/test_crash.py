"""The broker is killed under load and keeps every promise: 200 times in every run, in four parts for slow machines."""

from pathlib import Path

import pytest

from tests.crash.run import play_all


def _kill(directory: Path, kills: int, seeds: range) -> None:
    outcomes = list(play_all(directory, seeds, kills))
    faults = [f"{outcome}\n{outcome.fault}\n{outcome.directory}" for outcome in outcomes if outcome.fault]
    assert not faults, "\n".join(faults)
    assert sum(outcome.told["kills"] for outcome in outcomes) >= kills
    assert all(outcome.told["acknowledged"] and outcome.told["received"] for outcome in outcomes)


@pytest.mark.parametrize("first", [100, 104, 108, 112])
def test_fifty_kills_in_every_mode_break_no_promise(tmp_path: Path, first: int) -> None:
    _kill(tmp_path, kills=50, seeds=range(first, first + 4))
