"""`make bench`: every scenario on every installed broker, interleaved, as a JSON file and a page of results.

Knows the order of things: rounds go A B | B A | A B, so that a drift of the machine hits all alike. Must not know how a
broker is started (`opponents`), how a table looks (`report`, `page`) or how load is made (`generator`). Only a run of
all scenarios becomes part of benchmarks/results.
"""

import argparse
import contextlib
import functools
import resource
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import generator, machine, opponents, page, report
from benchmarks.opponents import Opponent, Running
from benchmarks.page import Result
from benchmarks.report import Run, Scenario

HERE = Path(__file__).parent
RUN_S_MAX = 180.0
# The largest crowd, on either side, and what the processes need themselves.
DESCRIPTORS_MIN = 10_300


def main() -> int:
    """Exit code 1 where a run failed or was not clean."""
    options = parse_options()
    raise_descriptor_limit()
    brokers = [opponent for opponent in opponents.OPPONENTS if is_present(opponent)]
    scenarios = chosen(page.scenarios(), options.only)
    facts = {**machine.facts(), **{broker.name: broker.version() for broker in brokers}}
    runs = [run for scenario in scenarios for run in rounds(scenario, brokers, options=options)]
    result = Result(facts=facts, settings=described(brokers), method=method(options), runs=runs)
    if options.out:
        page.save(options.out, result)
    elif not options.only:
        page.save(page.RESULTS / "brokers.json", result)
        page.write()
    print(page.shown(scenarios, result))
    return 1 if any(report.faults(runs)) else 0


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--only", default="", metavar="NAME,...", help="these scenarios of scenarios.toml")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--warm", type=float, default=0.5, metavar="SECONDS", help="of a flow, before it is measured")
    parser.add_argument("--measure", type=float, default=1.5, metavar="SECONDS", help="of a flow")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="raw figures; nothing in benchmarks/results is touched"
    )
    return parser.parse_args()


def raise_descriptor_limit() -> None:
    """To the hard limit; brokers and load generator inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if 0 <= hard < DESCRIPTORS_MIN:
        print(f"at most {hard} descriptors a process; idle-10k needs {DESCRIPTORS_MIN} and will fail", file=sys.stderr)


def is_present(opponent: Opponent) -> bool:
    if opponent.path is None:
        print(f"{opponent.name} is not installed; it is left out", file=sys.stderr)
    return opponent.path is not None


def chosen(scenarios: Sequence[Scenario], names: str) -> list[Scenario]:
    """All of them where `names` is empty. Ends the program for an unknown name."""
    wanted = [name for name in names.split(",") if name]
    if unknown := set(wanted) - {scenario.name for scenario in scenarios}:
        allowed = ", ".join(scenario.name for scenario in scenarios)
        raise SystemExit(f"--only: found {', '.join(sorted(unknown))}, allowed is {allowed}")
    return [scenario for scenario in scenarios if not wanted or scenario.name in wanted]


def rounds(scenario: Scenario, brokers: Sequence[Opponent], *, options: argparse.Namespace) -> Iterator[Run]:
    """All runs of one scenario, each told on stderr; one broker process for all of them, unless it has to be fresh."""
    asked = [broker for broker in brokers if broker.name in scenario.brokers]
    start = functools.partial(opponents.running, is_tls=scenario.is_tls)
    with contextlib.ExitStack() as stack:
        kept: dict[str, Running] = {}
        if not scenario.is_fresh:
            kept = {broker.name: stack.enter_context(start(broker)) for broker in asked}
        for number, broker in interleaved(asked, options.rounds):
            target = contextlib.nullcontext(kept[broker.name]) if kept else start(broker)
            with target as running:
                run = measured(scenario, broker.name, target=running, number=number, options=options)
            print(f"{scenario.name}, round {number}, {broker.name}: {headline(scenario, run)}", file=sys.stderr)
            yield run


def interleaved(brokers: Sequence[Opponent], count: int) -> Iterator[tuple[int, Opponent]]:
    """Round and broker: A B, B A, A B and so on."""
    for number in range(count):
        for broker in brokers[:: -1 if number % 2 else 1]:
            yield number, broker


def measured(scenario: Scenario, broker: str, *, target: Running, number: int, options: argparse.Namespace) -> Run:
    load = list(scenario.load)
    if scenario.is_tls:
        load += ["--tls", "--insecure"]
    if load[0] == "flow":
        load += ["--warm", str(options.warm), "--duration", str(options.measure)]
    try:
        measures = generator.measured(load, port=target.port, pid=target.pid, timeout_s=RUN_S_MAX)
    except generator.NoRun as error:
        return Run(scenario.name, broker, number, {}, str(error))
    return Run(scenario.name, broker, number, measures)


def headline(scenario: Scenario, run: Run) -> str:
    name, title = next(iter(scenario.measures.items()))
    return run.error or f"{report.number(run.measures.get(name, float('nan')))} {title}"


def described(brokers: Sequence[Opponent]) -> dict[str, str]:
    return {broker.name: broker.settings for broker in brokers}


def method(options: argparse.Namespace) -> dict[str, float]:
    return {"rounds": options.rounds, "warm_s": options.warm, "measure_s": options.measure}


if __name__ == "__main__":
    sys.exit(main())
