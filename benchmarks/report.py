"""Scenarios as data, and results as a table: medians, spread, ratios, and what was not clean.

Pure but for reading one file. Must not know how a broker is started or a load is made.
"""

import statistics
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

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
    """One row of scenarios.toml. `measures`: field of the load generator's report and title of the row."""

    name: str
    about: str
    load: tuple[str, ...]
    measures: Mapping[str, str]
    is_fresh: bool


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
            measures={field: titles[field] for field in table["measures"]},
            is_fresh=table.get("fresh", False),
        )
        for name, table in tables["scenarios"].items()
    ]


def table(scenarios: Sequence[Scenario], runs: Sequence[Run], *, brokers: Sequence[str]) -> str:
    """Markdown: a row for each measure, a column for each broker; ratios are of the first broker to each other one."""
    ours, *others = brokers
    heads = ["scenario", "measure", *brokers, *(f"{ours} / {other}" for other in others)]
    lines = [row(heads), row(["---", "---", *["---:"] * (len(heads) - 2)])]
    for scenario in scenarios:
        for field, title in scenario.measures.items():
            values = {broker: found(runs, broker, scenario.name, field) for broker in brokers}
            cells = [cell(values[broker]) for broker in brokers]
            ratios = [ratio(values[ours], values[other]) for other in others]
            lines.append(row([scenario.name, title, *cells, *ratios]))
    return "\n".join(lines)


def faults(runs: Sequence[Run]) -> Iterator[str]:
    """One line for each run that failed, or after which the books do not balance."""
    for run in runs:
        wrong = [f"{name} {run.measures[name]:g}" for name in FAULTS if run.measures.get(name)]
        if run.error:
            wrong.append(run.error)
        if wrong:
            yield f"{run.broker}, {run.scenario}, round {run.round}: {', '.join(wrong)}"


def found(runs: Sequence[Run], broker: str, scenario: str, field: str) -> list[float]:
    of_cell = (run for run in runs if run.broker == broker and run.scenario == scenario)
    return [run.measures[field] for run in of_cell if field in run.measures]


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
