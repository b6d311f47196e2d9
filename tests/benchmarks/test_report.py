"""How runs become a table: medians, spread, ratios, faults. Nothing is measured here."""

import re
from pathlib import Path

import pytest

import benchmarks.report
from benchmarks import page
from benchmarks.opponents import OPPONENTS
from benchmarks.page import Result
from benchmarks.referee import converted
from benchmarks.report import Run, Scenario, cell, faults, ratio, read_scenarios, table, tables

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
    commands = {scenario.load[0] for scenario in scenarios.values()}
    assert commands == {"flow", "connect", "subscribe", "retained", "offline"}
    assert scenarios["pair-q1-tls"].is_tls
    assert scenarios["subs-100k"].limits["rss_bytes_per_subscription"] == ("860 B", "400 B")
    for scenario in scenarios.values():
        assert scenario.limits.keys() <= scenario.measures.keys()


LIMITED = Scenario(
    name="pair",
    about="one to one",
    load=("flow",),
    measures={"cpu": "CPU us", "rss": "RSS"},
    is_fresh=False,
    limits={"cpu": ("1/15", "1/32"), "rss": ("860 B", "400 B")},
)


def test_limits_are_multiples_of_the_reference_or_have_a_unit() -> None:
    runs = [run("whimbrel", 0, cpu=1.0, rss=500.0), run("mosquitto", 0, cpu=20.0, rss=1.0)]
    lines = table([LIMITED], runs, brokers=["whimbrel", "mosquitto"]).splitlines()
    assert lines[2].endswith("| 1/20 | 1/15 | 1/32 | must |")
    assert lines[3].endswith("| 860 B | 400 B | must |")
    slow = [run("whimbrel", 0, cpu=2.0, rss=399.0), run("mosquitto", 0, cpu=20.0)]
    lines = table([LIMITED], slow, brokers=["whimbrel", "mosquitto"]).splitlines()
    assert lines[2].endswith("| 1/15 | 1/32 | **no** |")
    assert lines[3].endswith("| 860 B | 400 B | goal |")


def test_without_the_reference_only_limits_with_a_unit_are_judged() -> None:
    lines = table([LIMITED], [run("whimbrel", 0, cpu=1.0, rss=900.0)], brokers=["whimbrel"]).splitlines()
    assert lines[2].endswith("| 1/15 | 1/32 |  |")
    assert lines[3].endswith("| 860 B | 400 B | **no** |")


def test_scenarios_for_other_brokers_have_a_table_of_their_own() -> None:
    more = Scenario("pair-2w", "", ("flow",), {"cpu": "CPU us"}, is_fresh=False, brokers=("whimbrel", "whimbrel-2w"))
    runs = [
        run("whimbrel", 0, cpu=1.0),
        Run("pair-2w", "whimbrel", 0, {"cpu": 4.0}),
        Run("pair-2w", "whimbrel-2w", 0, {"cpu": 2.0}),
    ]
    shown = tables([PAIR, more], runs, present=["whimbrel", "whimbrel-2w"])
    assert "| pair-2w | CPU us | 4 (4..4) | 2 (2..2) | 2.00 |" in shown.partition("\n\n")[2]
    assert "pair-2w" not in shown.partition("\n\n")[0]


def test_the_page_is_made_from_the_figures(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("before\n<!-- begin brokers -->\nold\n<!-- end brokers -->\nafter\n")
    failed = Run("pair-q0", "mosquitto", 0, {}, "no CONNACK")
    measured = [Run("pair-q0", "whimbrel", 0, {"cpu_us_per_message": 0.25}), failed]
    result = Result({"date": "today"}, {"whimbrel": "workers=1"}, {"rounds": 1}, measured)
    page.save(tmp_path / "brokers.json", result)
    assert page.read(tmp_path / "brokers.json") == result
    page.write(tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert "old" not in text
    assert text.startswith("before\n<!-- begin brokers -->")
    assert text.endswith("<!-- end brokers -->\nafter\n")
    assert "| pair-q0 | CPU us/message | 0.25 (0.25..0.25) | - | - | 1/15 | 1/32 |  |" in text
    assert "- mosquitto, pair-q0, round 0: no CONNACK" in text


def test_a_page_without_a_place_is_told() -> None:
    with pytest.raises(ValueError, match="no place for brokers"):
        page.replaced("nothing here", "brokers", "text")


def test_the_page_in_the_repository_has_a_place_for_every_section() -> None:
    text = (page.RESULTS / "README.md").read_text()
    assert [name for name in page.SECTIONS if page.replaced(text, name, "x").count(f"<!-- begin {name} -->") != 1] == []


def test_the_referee_figures_come_under_our_names() -> None:
    raw: dict[str, str | float] = {
        "cmd": "subs",
        "scenario": "subs-100k",
        "broker": "whimbrel",
        "round": 1,
        "cpu_us_per_msg": 0.2,
        "rss_bytes_per_sub": 300,
        "n": 5,
    }
    assert converted(raw) == Run(
        "subs-100k", "whimbrel", 1, {"past_cpu_us_per_message": 0.2, "rss_bytes_per_subscription": 300}
    )
    flow = {**raw, "cmd": "flow", "scenario": "pair-q0", "unacked": 2}
    assert list(faults([converted(flow)])) == ["whimbrel, pair-q0, round 1: unacknowledged 2"]


def test_every_row_says_what_its_broker_promises_and_only_one_stores() -> None:
    settings = {opponent.name: opponent.settings for opponent in OPPONENTS}
    promises = {name: re.search(r"storage\.durability=(\w+)", text) for name, text in settings.items()}
    assert {name: found and found[1] for name, found in promises.items()} == {
        "whimbrel": "off",
        "whimbrel-2w": "off",
        "whimbrel-sync": "sync",
        "mosquitto": None,
    }
    assert "persistence false" in settings["mosquitto"]
    for scenario in page.scenarios():
        assert set(scenario.brokers) <= settings.keys()
        assert (scenario.brokers[0] == "whimbrel-sync") == scenario.name.endswith("-sync")
