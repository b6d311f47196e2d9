"""The page of results: what stands between its markers is made from the raw figures, nobody writes it by hand.

Knows the folder of results, its JSON files and where in the page each belongs. Must not measure.
`python -m benchmarks.page` makes the page again.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import report
from benchmarks.report import Run, Scenario

HERE = Path(__file__).parent
RESULTS = HERE / "results"
# Each has a file of this name and a place in the page.
SECTIONS = ("brokers", "referee")


@dataclass(frozen=True)
class Result:
    """What one session of measuring brought. `facts`: machine, date, versions. `settings`: of each broker."""

    facts: Mapping[str, str]
    settings: Mapping[str, str]
    method: Mapping[str, float]
    runs: Sequence[Run]


def main() -> None:
    write()


def scenarios() -> list[Scenario]:
    """Those of scenarios.toml."""
    return report.read_scenarios(HERE / "scenarios.toml")


def save(path: Path, result: Result) -> None:
    """Write the raw figures."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(result), indent=1) + "\n")


def read(path: Path) -> Result:
    """What `save` has written."""
    raw = json.loads(path.read_text())
    return Result(raw["facts"], raw["settings"], raw["method"], [Run(**run) for run in raw["runs"]])


def write(folder: Path = RESULTS) -> None:
    """Put every result of the folder into its page."""
    path = folder / "README.md"
    text = path.read_text()
    for name in SECTIONS:
        if (folder / f"{name}.json").exists():
            text = replaced(text, name, shown(scenarios(), read(folder / f"{name}.json")))
    path.write_text(text)


def replaced(text: str, name: str, section: str) -> str:
    """The text with this between the markers of that name. Raises ValueError where there are none."""
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    head, found, rest = text.partition(begin)
    _, ended, tail = rest.partition(end)
    if not found or not ended:
        raise ValueError(f"the page has no place for {name}: {begin} ... {end}")
    return f"{head}{begin}\n\n{section}\n\n{end}{tail}"


def shown(known: Sequence[Scenario], result: Result) -> str:
    """Facts, tables, faults, and what each scenario is, in Markdown."""
    measured = {run.scenario for run in result.runs}
    present = list(dict.fromkeys(run.broker for run in result.runs))
    listed = [scenario for scenario in known if scenario.name in measured]
    lines = ["| | |", "| --- | --- |"]
    lines += [report.row([name, value]) for name, value in result.facts.items()]
    lines += [report.row([f"settings of {name}", f"`{value}`"]) for name, value in result.settings.items()]
    method = ", ".join(f"{name} {value:g}" for name, value in result.method.items())
    faults = [f"- {line}" for line in report.faults(result.runs)]
    clean = [f"Of {len(result.runs)} runs none lost, duplicated, reordered or refused anything."]
    return "\n".join(
        [
            *lines,
            "",
            f"Median (min..max); {method}. Limits without a unit are multiples of {report.REFERENCE}'s figure.",
            "",
            report.tables(listed, result.runs, present=present),
            "",
            *(["Not clean:", "", *faults] if faults else clean),
            "",
            *(f"- `{scenario.name}`: {scenario.about}." for scenario in listed),
        ]
    )


if __name__ == "__main__":
    main()
