"""The soak, a minute of it: `make soak MINUTES=60` is the whole."""

from pathlib import Path

import pytest

from tests.soak.run import soak


@pytest.mark.slow
def test_a_minute_of_churn_stays_within_its_budgets(tmp_path: Path) -> None:
    told: list[str] = []
    faults = soak(tmp_path / "data", 1.0, told.append)
    assert not faults, "\n".join([*faults, *told])
