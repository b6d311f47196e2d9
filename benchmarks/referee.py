"""`make bench-referee`: the scenarios with limits under a load generator that is not ours, as figures like our own.

Knows how that generator's script is called and what its fields are named. The generator is no part of this repository:
the argument is a folder with `mqload.c` and `compare.py`. Must not know a table.
"""

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import machine, opponents, page, report
from benchmarks.opponents import MOSQUITTO, WHIMBREL, Opponent, Place
from benchmarks.page import Result
from benchmarks.report import Run, Scenario

# Theirs and ours.
FIELDS = {
    "cpu_us_per_msg": "cpu_us_per_message",
    "delivered_per_s": "delivered_per_s",
    "p50_us": "latency_p50_us",
    "p99_us": "latency_p99_us",
    "p999_us": "latency_p999_us",
    "cpu_us_per_connect": "cpu_us_per_connect",
    "connects_per_s": "connects_per_s",
    "rss_bytes_per_conn": "rss_bytes_per_client",
    "cpu_us_per_ping": "cpu_us_per_ping",
    "idle_cpu_ms_per_s": "idle_cpu_ms_per_s",
    "cpu_us_per_subscribe": "cpu_us_per_subscribe",
    "rss_bytes_per_sub": "rss_bytes_per_subscription",
    "stored_per_s": "stored_per_s",
    "cpu_us_per_store": "cpu_us_per_stored",
    "rss_bytes_per_retained": "rss_bytes_per_stored",
    "cpu_us_per_retained": "cpu_us_per_delivered",
    "received_per_s": "delivered_per_s",
    "queued_per_s": "queued_per_s",
    "cpu_us_per_queued": "cpu_us_per_queued",
    "rss_bytes_per_queued": "rss_bytes_per_queued",
    "drained_per_s": "drained_per_s",
    "cpu_us_per_drained": "cpu_us_per_drained",
    "lost": "lost",
    "duplicated": "duplicated",
    "out_of_order": "out_of_order",
    "foreign": "foreign",
    "unacked": "unacknowledged",
    "subs_refused": "refused",
    "closed_by_broker": "closed_by_broker",
    "pings_missing": "pings_missing",
}
# Of a message past subscriptions, which is another measure than that of a message.
PAST = {**FIELDS, "cpu_us_per_msg": "past_cpu_us_per_message"}


def main() -> int:
    """Exit code 1 where a run failed or was not clean."""
    options = parse_options()
    scenarios = [scenario for scenario in page.scenarios() if is_asked(scenario, options.only)]
    ours = WHIMBREL if options.durability == "off" else opponents.whimbrel(WHIMBREL.name, durability=options.durability)
    brokers = [broker for broker in (ours, MOSQUITTO) if broker.path]
    facts = {**machine.facts(), **{broker.name: broker.version() for broker in brokers}}
    with tempfile.TemporaryDirectory(prefix="whimbrel-referee-") as folder:
        names = ",".join(scenario.name for scenario in scenarios)
        raw = measured(options, Path(folder), names=names, brokers=brokers)
    settings = {broker.name: broker.settings for broker in brokers}
    method = {"rounds": options.rounds, "warm_s": options.warm, "measure_s": options.measure}
    result = Result(facts, settings, method, [converted(each) for each in raw])
    if options.out:
        page.save(options.out, result)
    elif not options.only and options.durability == "off":
        page.save(page.RESULTS / "referee.json", result)
        page.write()
    print(page.shown(scenarios, result))
    return 1 if any(report.faults(result.runs)) else 0


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.referee", description=__doc__)
    parser.add_argument("folder", type=Path, help="with mqload.c and compare.py")
    parser.add_argument("--only", default="", metavar="NAME,...", help="these scenarios of scenarios.toml")
    parser.add_argument(
        "--durability",
        choices=("off", "os", "sync"),
        default="off",
        help="what our acknowledgements promise; mosquitto's promise nothing",
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--warm", type=float, default=0.5, metavar="SECONDS")
    parser.add_argument("--measure", type=float, default=1.5, metavar="SECONDS")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="raw figures; nothing in benchmarks/results is touched"
    )
    return parser.parse_args()


def is_asked(scenario: Scenario, names: str) -> bool:
    """The script knows those with limits that our broker runs without promises."""
    is_known = bool(scenario.limits) and scenario.brokers[0] == WHIMBREL.name
    return is_known and (not names or scenario.name in names.split(","))


def measured(
    options: argparse.Namespace, folder: Path, *, names: str, brokers: Sequence[Opponent]
) -> list[Mapping[str, str | float]]:
    """Every run of the script, with its own names. Raises CalledProcessError where the script fails."""
    load, out = folder / "mqload", folder / "results.json"
    source = options.folder / "mqload.c"
    subprocess.run(["gcc", "-O2", "-pthread", "-o", str(load), str(source)], check=True)
    words = ["--mqload", str(load), "--ref", MOSQUITTO.name, "--set", names, "--out", str(out)]
    words += ["--rounds", str(options.rounds), "--warm", str(options.warm), "--dur", str(options.measure)]
    for broker in brokers:
        place = Place(opponents.free_port(), folder)
        command = shlex.join([broker.path or broker.executable, *broker.command(place)])
        words += ["--broker", f"{broker.name}=@{place.port}:{command}"]
    subprocess.run([sys.executable, str(options.folder / "compare.py"), *words], check=True, stdout=sys.stderr)
    results: list[Mapping[str, str | float]] = json.loads(out.read_text())["results"]
    return results


def converted(raw: Mapping[str, str | float]) -> Run:
    """One run under our names; what we have no name for is left out."""
    names = PAST if raw.get("cmd") == "subs" else FIELDS
    measures = {names[name]: float(value) for name, value in raw.items() if name in names}
    return Run(str(raw["scenario"]), str(raw["broker"]), int(raw["round"]), measures, str(raw.get("error", "")))


if __name__ == "__main__":
    sys.exit(main())
