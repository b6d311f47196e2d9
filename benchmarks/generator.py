"""The load: one run of `whimbrel bench` against a broker's process, as numbers.

Knows the command's options that all runs share and its exit codes. MQTT 3.1.1 and short silences, like every figure
that was published before. Must not know a scenario or a table.
"""

import json
import subprocess
from collections.abc import Sequence

from benchmarks import opponents

# Exit codes with a report: all is well; something was lost, repeated or refused.
REPORTED = (0, 1)
SHARED = ("--protocol", "4", "--patience", "2", "--json")


class NoRun(Exception):
    """The load could not be made; the text says why."""


def measured(load: Sequence[str], *, port: int, pid: int, timeout_s: float) -> dict[str, float]:
    """The numbers of the report. Raises NoRun."""
    program = opponents.WHIMBREL.path or opponents.WHIMBREL.executable
    command = [program, "bench", *load, *SHARED, "--port", str(port), "--broker-pid", str(pid)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        raise NoRun(f"no result within {timeout_s:g} s") from None
    if done.returncode not in REPORTED or not done.stdout:
        raise NoRun(done.stderr.strip() or "no result")
    report: dict[str, float | str] = json.loads(done.stdout)
    return {name: value for name, value in report.items() if not isinstance(value, str)}
