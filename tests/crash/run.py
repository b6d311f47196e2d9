"""Many rounds, several side by side: `python -m tests.crash.run --kills 1000`, or one of them with `--seed`.

Knows how kills are dealt out to rounds and what is said of them. Each round is a process of its own with a folder of
its own; that of a fault stays, with the broker's data, its log and the whole story. Does not know what a round does.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# Each death costs a start, most of which is the interpreter's: so many rounds share a core.
ROUNDS_PER_CORE = 2
KILLS_PER_ROUND = 25
WITHIN_S = 600.0


@dataclass(frozen=True)
class Outcome:
    """What became of a round. `told`: its report. `fault`: "" where it went well."""

    seed: int
    directory: Path
    told: dict[str, Any]
    fault: str

    def __str__(self) -> str:
        starts = self.told.get("starts_s") or [0.0]
        figures = ", ".join(f"{self.told.get(name, 0)} {name}" for name in ("kills", "acknowledged", "received"))
        times = f"{self.told.get('seconds', 0.0):.1f} s, start {median(starts):.2f} s"
        return f"seed {self.seed}: {figures}, {times}: {'FAULT' if self.fault else 'kept every promise'}"


def play(directory: Path, seed: int, kills: int) -> Outcome:
    """One round in a process of its own."""
    folder = directory / f"seed-{seed}"
    words = [sys.executable, "-m", "tests.crash.round", f"--seed={seed}", f"--kills={kills}", f"--directory={folder}"]
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=WITHIN_S, check=False)
    try:
        told = json.loads(ended.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        return Outcome(seed, folder, {}, ended.stderr or f"the round ended with {ended.returncode} and no report")
    if not told["fault"]:
        shutil.rmtree(folder)
    return Outcome(seed, folder, told, told["fault"])


def play_all(directory: Path, seeds: Sequence[int], kills: int) -> Iterator[Outcome]:
    """Rounds with these seeds that kill so often together, in the order of the seeds."""
    shares = [kills * (place + 1) // len(seeds) - kills * place // len(seeds) for place in range(len(seeds))]
    with ThreadPoolExecutor(ROUNDS_PER_CORE * (os.cpu_count() or 1)) as pool:
        yield from pool.map(lambda pair: play(directory, *pair), zip(seeds, shares, strict=True))


def seeds_for(kills: int, first: int) -> range:
    """As many rounds as it takes."""
    return range(first, first + -(-kills // KILLS_PER_ROUND))


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="Kill brokers under load and see whether they keep their promises.")
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, help="play this round alone")
    parser.add_argument("--first", type=int, default=0, help="seed of the first round")
    words = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="whimbrel-crash-"))
    seeds = seeds_for(words.kills, words.first) if words.seed is None else [words.seed]
    faults = 0
    for outcome in play_all(directory, seeds, words.kills):
        sys.stdout.write(f"{outcome}\n")
        if outcome.fault:
            faults += 1
            sys.stdout.write(f"{outcome.fault}\ndata, log and the whole story: {outcome.directory}\n")
        sys.stdout.flush()
    if not faults:
        directory.rmdir()
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
