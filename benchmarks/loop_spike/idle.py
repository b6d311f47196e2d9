"""Many idle clients: what one costs in memory, at rest and for a ping, for several brokers in turn.

Knows mqload's `connect` scenario and nothing of the brokers but a command with `{port}` in it. `run.sh` drives it. The
clients of a run are shared out over several processes of the broker, because one process may be held to fewer
descriptors than there are clients; each process has its own mqload.
"""

import argparse
import contextlib
import json
import shlex
import socket
import statistics
import subprocess
import time
from collections.abc import Iterator

MEASURES = {
    "rss_bytes_per_conn": "B/conn",
    "idle_cpu_ms_per_s": "idle cpu ms/s, 1 process",
    "cpu_us_per_ping": "cpu us/ping",
    "cpu_us_per_connect": "cpu us/conn",
}
FAULTS = ("errors", "closed_by_broker", "pings_missing", "error")
START_S_MAX = 10.0


def main() -> None:
    options = parse_options()
    figures: dict[str, dict[str, list[float]]] = {}
    for number in range(options.rounds):
        for broker in options.broker[:: -1 if number % 2 else 1]:
            name, command = broker.split("=", 1)
            for measure, value in measured(options, command).items():
                figures.setdefault(name, {}).setdefault(measure, []).append(value)
    print_table(figures)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--broker", action="append", required=True, metavar="NAME=COMMAND", help="with {port} in it")
    parser.add_argument("--mqload", required=True)
    parser.add_argument("--ports", type=int, nargs="+", required=True, help="one process of the broker for each")
    parser.add_argument("--clients", type=int, required=True, help="in all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--hold", type=float, default=5, help="seconds at rest")
    return parser.parse_args()


def measured(options: argparse.Namespace, command: str) -> dict[str, float]:
    """One run with fresh processes; the mean of the processes for each measure."""
    with contextlib.ExitStack() as stack:
        brokers = [stack.enter_context(running(command, port)) for port in options.ports]
        loads = [load(options, port, broker.pid) for port, broker in zip(options.ports, brokers, strict=True)]
        results = [json.loads(each.communicate()[0].splitlines()[-1]) for each in loads]
    for result in results:
        if faults := {fault: result[fault] for fault in FAULTS if result.get(fault)}:
            raise SystemExit(f"{command}: {faults}; every client must connect, stay and be answered")
    return {measure: statistics.mean(result[measure] for result in results) for measure in MEASURES}


@contextlib.contextmanager
def running(command: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    broker = subprocess.Popen(shlex.split(command.format(port=port)))
    try:
        await_port(port)
        yield broker
    finally:
        broker.terminate()
        broker.wait()


def await_port(port: int) -> None:
    end = time.monotonic() + START_S_MAX
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit(f"nothing accepts on port {port} after {START_S_MAX} s")


def load(options: argparse.Namespace, port: int, pid: int) -> subprocess.Popen[str]:
    share = options.clients // len(options.ports)
    arguments = f"connect --n {share} --conc 64 --srcs 8 --hold {options.hold} --ping --port {port} --broker-pid {pid}"
    return subprocess.Popen([options.mqload, *arguments.split()], stdout=subprocess.PIPE, text=True)


def print_table(figures: dict[str, dict[str, list[float]]]) -> None:
    for name, measures in figures.items():
        for measure, title in MEASURES.items():
            values = measures[measure]
            print(f"{name:<12}{title:<26}{statistics.median(values):>10.3g}  ({min(values):.3g}..{max(values):.3g})")


if __name__ == "__main__":
    main()
