"""How runs become a table: medians, spread, ratios, faults. Nothing is measured here."""

from pathlib import Path

import benchmarks.report
from benchmarks.report import Run, Scenario, cell, faults, ratio, read_scenarios, table

PAIR = Scenario(name="pair", about="", load=("flow",), measures={"cpu": "CPU us"}, is_fresh=False)


def run(broker: str, number: int, **measures: float) -> Run:
    return Run("pair", broker, number, measures)


def test_a_row_shows_medians_spread_and_the_ratio_of_the_medians() -> None:
    ours = [run("ours", number, cpu=cpu) for number, cpu in enumerate((3.0, 1.0, 2.0))]
    theirs = [run("theirs", number, cpu=cpu) for number, cpu in enumerate((4.0, 5.0, 3.0))]
    lines = table([PAIR], [*ours, *theirs], brokers=["ours", "theirs"]).splitlines()
    assert lines[0] == "| scenario | measure | ours | theirs | ours / theirs |"
    assert lines[2] == "| pair | CPU us | 2 (1..3) | 4 (3..5) | 0.50 |"


def test_one_broker_alone_has_no_ratio() -> None:
    lines = table([PAIR], [run("ours", 0, cpu=1234.5)], brokers=["ours"]).splitlines()
    assert lines[0] == "| scenario | measure | ours |"
    assert lines[2] == "| pair | CPU us | 1,234 (1,234..1,234) |"


def test_a_large_lead_is_told_as_a_fraction_and_nothing_as_a_dash() -> None:
    assert ratio([0.5], [10.0]) == "1/20"
    assert ratio([9.0], [10.0]) == "0.90"
    assert ratio([], [10.0]) == ratio([1.0], [0.0]) == "-"
    assert cell([]) == "-"


def test_a_failed_run_leaves_the_others_standing_and_is_told() -> None:
    failed = Run("pair", "ours", 1, {}, "no CONNACK")
    runs = [run("ours", 0, cpu=1.0, lost=0), failed, run("ours", 2, cpu=2.0, lost=3)]
    assert "| 1.5 (1..2) |" in table([PAIR], runs, brokers=["ours"])
    assert list(faults(runs)) == ["ours, pair, round 1: no CONNACK", "ours, pair, round 2: lost 3"]


def test_every_scenario_of_the_file_can_be_read() -> None:
    path = Path(benchmarks.report.__file__).with_name("scenarios.toml")
    scenarios = {scenario.name: scenario for scenario in read_scenarios(path)}
    assert scenarios["idle-10k"].is_fresh
    assert not scenarios["pair-q0"].is_fresh
    assert scenarios["pair-q0"].measures["cpu_us_per_message"] == "CPU us/message"
    assert {scenario.load[0] for scenario in scenarios.values()} == {"flow", "connect"}
