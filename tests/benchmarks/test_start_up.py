"""The measurement of a start after a crash, with a store that is small enough for every run of the tests."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.wire.product import clean_environment

ROOT = Path(__file__).parents[2]


def measured(folder: Path, *options: str) -> tuple[int, dict[str, Any]]:
    """Exit code and report of a run with a small store."""
    words = [sys.executable, "-m", "benchmarks.start_up", "--folder", str(folder), *options]
    ended = subprocess.run(words, cwd=ROOT, env=clean_environment(), capture_output=True, text=True, check=False)
    assert ended.stdout, ended.stderr
    return ended.returncode, json.loads(ended.stdout)


def test_a_broker_that_was_killed_serves_its_sessions_in_time_and_within_the_memory_that_it_had(tmp_path: Path) -> None:
    code, report = measured(tmp_path, "--sessions=2000", "--queued=20000", "--retained=20000", "--starts=2")
    assert (code, report["is_within"], len(report["starts"])) == (0, True, 2)
    assert 0 < report["slowest_s"] < 10
    assert report["held_mb"] + report["excess_mb"] == max(start["peak_mb"] for start in report["starts"])


def test_a_start_beyond_a_limit_is_a_failure(tmp_path: Path) -> None:
    load = ("--sessions=10", "--queued=10", "--retained=10", "--starts=1")
    assert measured(tmp_path, *load, "--within=0.001")[0] == 1
    assert measured(tmp_path, *load, "--excess-mb=-1000")[0] == 1
