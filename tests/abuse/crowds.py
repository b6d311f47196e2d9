"""Attacks by sheer number: thousands of connections that enter, stay, and vanish at once.

Knows how to be many: processes of their own, each with a source address of its own, so that ports suffice. Run as a
program, it is one of them: HOST PORT SOURCE COUNT; it says when all are in, and ends with its standard input.
"""

import os
import resource
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack

from tests.abuse.attack import Attack, Target, connect_octets
from tests.abuse.healthy import ROOT
from tests.abuse.vitals import Vitals
from tests.raw_client import WAIT_S

ALL_IN = "all in"
PROCESSES = 3
EACH = 500
CONNACK_BYTES = 100
# What the broker needs beside its clients.
SPARE_DESCRIPTORS = 500


def crowd(target: Target) -> None:
    """All enter, all stay, all vanish at once (their processes are killed)."""
    each = EACH * target.scale
    needed = each * PROCESSES + SPARE_DESCRIPTORS
    hard = resource.prlimit(target.product.process.pid, resource.RLIMIT_NOFILE)[1]
    assert hard >= needed, f"the hard limit of open files is {hard}, {needed} are needed"
    resource.prlimit(target.product.process.pid, resource.RLIMIT_NOFILE, (hard, hard))
    with ExitStack() as stack:
        crews = [stack.enter_context(crew(target, number, each)) for number in range(PROCESSES)]
        for one in crews:
            assert one.stdout is not None
            told = one.stdout.readline().strip()
            assert told == ALL_IN, f"a crew of {each} said {told!r}"
        present = Vitals.of(target.product).counts["connections.count"]
        assert present >= each * PROCESSES
        for one in crews:
            one.kill()


def crew(target: Target, number: int, count: int) -> "subprocess.Popen[str]":
    """One process with `count` clients."""
    host, port = target.product.address("tcp:default")
    words = [sys.executable, "-m", "tests.abuse.crowds", host, str(port), f"127.0.0.{number + 2}", str(count)]
    return subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def main(host: str, port: str, source: str, count: str) -> None:
    """Enter with all, then wait."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    connections = []
    for number in range(int(count)):
        connection = socket.create_connection((host, int(port)), WAIT_S, (source, 0))
        connection.sendall(connect_octets(f"crowd-{source}-{number}"))
        connections.append(connection)
    for connection in connections:
        assert connection.recv(CONNACK_BYTES)[:1] == b"\x20"
    print(ALL_IN, flush=True)  # noqa: T201
    os.read(0, 1)


if __name__ == "__main__":
    main(*sys.argv[1:])


ATTACKS: Sequence[Attack] = (Attack("thousands of connections", crowd, moved={"client.connected": PROCESSES * EACH}),)
