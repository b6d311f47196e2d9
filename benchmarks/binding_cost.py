"""What it costs to cross between Rust and Python: questions, notices, rows of a tap, publishes.

Starts `binding_probe` (a broker in a process of its own) and `whimbrel bench`, several rounds of each, interleaved.
Prints a Markdown table and writes results/binding_cost.json. The figure to trust is the CPU time of the thread of
Python's loop for each: rates depend on how many cores the broker, its load and the loop share.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import generator, machine, opponents
from benchmarks.report import cell, row
from benchmarks.run import HERE, raise_descriptor_limit

CONNECTS = ("connect", "--clients", "5000")
SUBSCRIBES = ("subscribe", "--clients", "500", "--subscriptions", "40", "--topic", "crowd/+/news")
MESSAGES = ("flow", "--pattern", "pair", "--clients", "50", "--warm", "0.2", "--duration", "2")
RUN_S_MAX = 120.0


@dataclass(frozen=True)
class Crossing:
    """One row. `rate`, `broker_cpu`: fields of the load generator's report; empty where the probe's own count."""

    title: str
    kind: str
    load: Sequence[str] = ()
    rate: str = ""
    broker_cpu: str = ""


CROSSINGS = (
    Crossing("CONNECT, nobody asks", "nothing", CONNECTS, "connects_per_s", "cpu_us_per_connect"),
    Crossing("CONNECT, authenticate hook answers", "authenticate", CONNECTS, "connects_per_s", "cpu_us_per_connect"),
    Crossing("CONNECT, connected notice", "notices", CONNECTS, "connects_per_s", "cpu_us_per_connect"),
    Crossing("SUBSCRIBE, nobody asks", "nothing", SUBSCRIBES, "subscribes_per_s", "cpu_us_per_subscribe"),
    Crossing("SUBSCRIBE, answered in the engine", "crossing", SUBSCRIBES, "subscribes_per_s", "cpu_us_per_subscribe"),
    Crossing("SUBSCRIBE, authorize hook answers", "authorize", SUBSCRIBES, "subscribes_per_s", "cpu_us_per_subscribe"),
    Crossing("row of a tap, `async for`", "rows-one-by-one", MESSAGES),
    Crossing("row of a tap, `batch()`", "rows-in-batches", MESSAGES),
    Crossing("publish from Python, one by one", "publish-one-by-one"),
    Crossing("publish from Python, 64 tasks", "publish-in-tasks"),
)
COLUMNS = {"per_s": "each second", "loop_cpu_us": "loop's CPU us each", "process_cpu_us": "broker's CPU us each"}


def main() -> int:
    options = parse_options()
    raise_descriptor_limit()
    facts = {**machine.facts(), "whimbrel": opponents.WHIMBREL.version(), "python": sys.version.split()[0]}
    results: dict[str, list[Mapping[str, float]]] = {crossing.title: [] for crossing in CROSSINGS}
    for number in range(options.rounds):
        for crossing in CROSSINGS[:: -1 if number % 2 else 1]:
            results[crossing.title].append(measured(crossing))
            print(f"round {number}, {crossing.title}: {results[crossing.title][-1]}", file=sys.stderr)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"facts": facts, "runs": results}, indent=1) + "\n")
    print("\n".join(f"{name}: {value}" for name, value in facts.items()))
    print(f"\nmedian (min..max) of {options.rounds} rounds\n\n{table(results)}")
    return 0


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.binding_cost", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=HERE / "results/binding_cost.json")
    return parser.parse_args()


def measured(crossing: Crossing) -> dict[str, float]:
    """One run with a fresh broker. Ends the program where the load cannot be made."""
    command = [sys.executable, "-m", "benchmarks.binding_probe", crossing.kind]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=HERE.parent) as probe:
        assert probe.stdin is not None
        assert probe.stdout is not None
        port = json.loads(probe.stdout.readline())["port"]
        report = loaded(crossing, port=port, pid=probe.pid)
        probe.stdin.write("\n")
        probe.stdin.flush()
        result = json.loads(probe.stdout.readline())
    return figures(crossing, report, result)


def loaded(crossing: Crossing, *, port: int, pid: int) -> dict[str, float]:
    if not crossing.load:
        return {}
    try:
        return generator.measured(crossing.load, port=port, pid=pid, timeout_s=RUN_S_MAX)
    except generator.NoRun as error:
        raise SystemExit(f"{crossing.title}: {error}") from None


def figures(crossing: Crossing, report: Mapping[str, float], result: Mapping[str, float]) -> dict[str, float]:
    """The columns; what nothing was counted for is left out."""
    found = {"per_s": report[crossing.rate]} if crossing.rate else {"per_s": result["count"] / result["seconds"]}
    if result["count"]:
        found["loop_cpu_us"] = result["loop_cpu_s"] * 1e6 / result["count"]
    if crossing.broker_cpu:
        found["process_cpu_us"] = report[crossing.broker_cpu]
    elif not crossing.load:
        found["process_cpu_us"] = result["process_cpu_s"] * 1e6 / result["count"]
    return found


def table(results: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Markdown, with the rate that the loop's thread alone would allow in the last column."""
    lines = [row(["crossing", *COLUMNS.values(), "the loop alone allows, each second"]), row(["---", *["---:"] * 4])]
    for title, runs in results.items():
        columns = {field: [run[field] for run in runs if field in run] for field in COLUMNS}
        loop_us = columns["loop_cpu_us"]
        allowed = f"{1e6 / statistics.median(loop_us):,.0f}" if loop_us else "-"
        lines.append(row([title, *(cell(values) for values in columns.values()), allowed]))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
