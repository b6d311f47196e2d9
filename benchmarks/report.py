"""Scenarios as data, and results as a table: medians, spread, ratios, and what was not clean.

Pure but for reading one file. Must not know how a broker is started or a load is made.
"""

import statistics
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

# Whose figures limits are multiples of.
REFERENCE = "mosquitto"
# What a correct broker leaves at zero.
FAULTS = (
    "lost",
    "duplicated",
    "out_of_order",
    "foreign",
    "refused",
    "unacknowledged",
    "closed_by_broker",
    "pings_missing",
    "unanswered",
    "not_closed",
)


@dataclass(frozen=True)
class Scenario:
    """One row of scenarios.toml. `measures`: field of the load generator's report and title of the row; `limits`: of a
    field, what must be reached and what is aimed at."""

    name: str
    about: str
    load: tuple[str, ...]
    measures: Mapping[str, str]
    is_fresh: bool
    is_tls: bool = False
    brokers: tuple[str, ...] = ("whimbrel", "mosquitto")
    limits: Mapping[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """One run of one scenario on one broker. `error` is empty where there are measures."""

    scenario: str
    broker: str
    round: int
    measures: Mapping[str, float]
    error: str = ""


def read_scenarios(path: Path) -> list[Scenario]:
    """Every scenario of a file, in its order. Raises KeyError where one names a measure that has no title."""
    tables = tomllib.loads(path.read_text())
    titles: dict[str, str] = tables["measures"]
    return [
        Scenario(
            name=name,
            about=table["about"],
            load=tuple(table["load"].split()),
            measures={name: titles[name] for name in table["measures"]},
            is_fresh=table.get("fresh", False),
            is_tls=table.get("tls", False),
            brokers=tuple(table.get("brokers", Scenario.brokers)),
            limits={name: (must, goal) for name, (must, goal) in table.get("limits", {}).items()},
        )
        for name, table in tables["scenarios"].items()
    ]


def tables(scenarios: Sequence[Scenario], runs: Sequence[Run], *, present: Sequence[str]) -> str:
    """One table for each set of brokers that scenarios ask for, as far as they are present."""
    groups: dict[tuple[str, ...], list[Scenario]] = {}
    for scenario in scenarios:
        groups.setdefault(tuple(name for name in scenario.brokers if name in present), []).append(scenario)
    return "\n\n".join(table(group, runs, brokers=brokers) for brokers, group in groups.items())


def table(scenarios: Sequence[Scenario], runs: Sequence[Run], *, brokers: Sequence[str]) -> str:
    """Markdown: a row for each measure, a column for each broker; ratios are of the first broker to each other one.

    What was not measured at all has no row; limits have columns where there are any.
    """
    ours, *others = brokers
    is_limited = any(scenario.limits for scenario in scenarios)
    heads = ["scenario", "measure", *brokers, *(f"{ours} / {other}" for other in others)]
    heads += ["must", "goal", "reached"] if is_limited else []
    lines = [row(heads), row(["---", "---", *["---:"] * (len(heads) - 2)])]
    for scenario in scenarios:
        for name, title in scenario.measures.items():
            values = {broker: found(runs, broker, scenario.name, name) for broker in brokers}
            if not any(values.values()):
                continue
            cells = [cell(values[broker]) for broker in brokers]
            cells += [ratio(values[ours], values[other]) for other in others]
            if is_limited:
                must, goal = scenario.limits.get(name, ("", ""))
                cells += [must, goal, reached((must, goal), values[ours], values.get(REFERENCE, ()))]
            lines.append(row([scenario.name, title, *cells]))
    return "\n".join(lines)


def reached(limits: tuple[str, str], ours: Sequence[float], reference: Sequence[float]) -> str:
    """Which of the two limits the median keeps; empty where there is none, or nothing to compare with."""
    kept = [is_kept(limit, ours, reference) for limit in limits if limit]
    if not kept or None in kept:
        return ""
    must, goal = kept
    return "goal" if goal else "must" if must else "**no**"


def is_kept(limit: str, ours: Sequence[float], reference: Sequence[float]) -> bool | None:
    """None where it cannot be said. A limit without a unit is a multiple of the reference."""
    value, _, unit = limit.partition(" ")
    if not ours or (not unit and not reference):
        return None
    most = float(Fraction(value)) * (1 if unit else statistics.median(reference))
    return statistics.median(ours) <= most


def faults(runs: Sequence[Run]) -> Iterator[str]:
    """One line for each run that failed, or after which the books do not balance."""
    for run in runs:
        wrong = [f"{name} {run.measures[name]:g}" for name in FAULTS if run.measures.get(name)]
        if run.error:
            wrong.append(run.error)
        if wrong:
            yield f"{run.broker}, {run.scenario}, round {run.round}: {', '.join(wrong)}"


def found(runs: Sequence[Run], broker: str, scenario: str, name: str) -> list[float]:
    of_cell = (run for run in runs if run.broker == broker and run.scenario == scenario)
    return [run.measures[name] for run in of_cell if name in run.measures]


def cell(values: Sequence[float]) -> str:
    """`median (min..max)`; a dash where nothing was measured."""
    if not values:
        return "-"
    return f"{number(statistics.median(values))} ({number(min(values))}..{number(max(values))})"


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Of the medians; as a fraction 1/N where that reads better."""
    if not ours or not theirs or not statistics.median(theirs):
        return "-"
    quotient = statistics.median(ours) / statistics.median(theirs)
    return f"1/{1 / quotient:.0f}" if 0 < quotient < 0.2 else f"{quotient:.2f}"


def number(value: float) -> str:
    """Three digits are all that such a measurement has."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
