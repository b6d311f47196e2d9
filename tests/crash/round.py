"""One round: a broker, its clients, so many kills; then everything drains and is compared.

Knows the loop, when the broker dies, and the order of the end: nobody begins anything, everybody is awake, everything
is acknowledged, everything due has come; the retained messages are what was acknowledged last; once more the broker is
killed, and retained messages, subscriptions and silence are as they were. `python -m tests.crash.round --help` says how
to run one.
"""

import argparse
import json
import selectors
import socket
import sys
import time
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random

from tests.crash.broker import Broker
from tests.crash.cast import (
    FILLER_WEIGHTS,
    GROUP_TOPICS,
    HEAVY_WEIGHTS,
    PLAIN_TOPICS,
    RETAINED_TOPICS,
    Actor,
    Discarder,
    Member,
    Publisher,
    Repertoire,
    Stage,
    Subscriber,
    Testament,
    name_of,
)
from tests.crash.model import Model, keys
from tests.crash.planted import Plant
from tests.crash.story import Fault, Story
from tests.raw_client import RawClient

TURN_S = 0.002
# Without any progress while something is due, with other rounds beside this one.
PATIENCE_S = 60.0
START_S = 30.0
# A life at the most: acknowledgements and first receipts, and time.
SERVED_MAX = 3000
LIFE_S = 1.0
# Answers to pings behind SUBACK until which retained messages of a few topics have come.
PINGS = 5


@dataclass
class Report:
    """What a round did. `fault`: "" where everything was as promised."""

    seed: int
    kills: int = 0
    acknowledged: int = 0
    received: int = 0
    seconds: float = 0.0
    starts_s: list[float] = field(default_factory=list)
    fault: str = ""


class Round:
    """The clients of one broker and its deaths."""

    def __init__(
        self,
        directory: Path,
        seed: int,
        kills: int,
        *,
        plant: Plant | None = None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.story = Story()
        self.report = Report(seed)
        self._kills = kills
        self._data_dir = directory / "data"
        self._plant = plant
        self._patience_s = patience_s
        self._dice = Random(seed)
        self._model = Model()
        self._stage = Stage(self._model, self.story, self._dice, time.monotonic)
        mode, workers = ("sync", "os")[seed // 2 % 2], 1 + seed % 2
        self._broker = Broker(
            directory,
            f"storage.durability={mode}",
            f"workers={workers}",
            "mqtt.max_mqueue_len=1000000",
            f"mqtt.max_inflight={self._dice.choice((1, 10, 32, 100))}",
            *(plant.sets if plant else ()),
        )
        self.story.note("broker", "seed", seed, mode, "workers", workers)
        self._cast = self._gather()
        self._selector = selectors.DefaultSelector()
        self._watched: dict[int, tuple[socket.socket, Actor]] = {}
        self._die_at_s = 0.0
        self._die_after = 0

    def _gather(self) -> list[Actor]:
        stage, groups = self._stage, [self._model.receiver(name, is_ordered=False) for name in ("g1", "g2")]
        # One publisher for each retained topic, but for the last, which two write.
        retained = [RETAINED_TOPICS[place::3] for place in range(3)]
        retained[0] += RETAINED_TOPICS[-1:]
        plain = [PLAIN_TOPICS, PLAIN_TOPICS[:3], (*GROUP_TOPICS, "t/a")]
        pairs = zip(plain, retained, strict=True)
        # In every mode and with every number of workers.
        weights = HEAVY_WEIGHTS if self.report.seed // 4 % 4 == 1 else FILLER_WEIGHTS
        repertoires = [Repertoire(topics, kept, self._dice.choice((1, 10, 40)), weights) for topics, kept in pairs]
        return [
            *(Publisher(stage, number, repertoire) for number, repertoire in enumerate(repertoires)),
            *(Subscriber(stage, f"sub{number}", Testament(stage, 100 + number, f"w/{number}")) for number in range(4)),
            *(Discarder(stage, f"anew{number}") for number in range(2)),
            *(Member(stage, f"member{n}", groups[n // 3], is_first=n % 3 == 0) for n in range(5)),
        ]

    def play(self) -> None:
        """The whole round. Raises Fault."""
        began_s = time.monotonic()
        try:
            self._start()
            while self.report.kills < self._kills:
                self._turn()
                if self._broker_is_due():
                    self._end()
                    self._start()
            self._drain()
            self._finish()
        finally:
            for actor in self._cast:
                actor.client.drop()
            self._selector.close()
            self._broker.close()
            self.report.acknowledged, self.report.received = self._model.acknowledged, self._model.receipts
            self.report.seconds, self.report.starts_s = time.monotonic() - began_s, self._broker.starts_s

    # --- the broker ------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        self.story.life += 1
        if self._plant and self.story.life > 1:
            self._plant.between_lives(self._data_dir)
        self._watch()  # sockets that died with the last broker: its output may get the number of one of them
        self._broker.start()
        self.story.note("broker", "started")
        # Some die before they serve anybody, most of these while the store is read.
        is_short = self._dice.random() < 0.12
        usual_s = self._broker.starts_s[-1] if self._broker.starts_s else 0.3
        self._die_at_s = time.monotonic() + (self._dice.triangular(0, 1.1 * usual_s, usual_s) if is_short else START_S)
        self._selector.register(self._broker.output, selectors.EVENT_READ)

    def _broker_is_due(self) -> bool:
        has_done = self._broker.is_ready and self._progress() >= self._die_after
        return has_done or time.monotonic() >= self._die_at_s

    def _progress(self) -> int:
        return self._model.acknowledged + self._model.receipts

    def _on_ready(self) -> None:
        self.story.note("broker", "ready")
        # So much it serves, at most so long: a slow machine has fewer turns, not less load. Half of them die young.
        few = 10 ** self._dice.uniform(0, 3)
        self._die_after = self._progress() + int(self._dice.choice((few, self._dice.uniform(0, SERVED_MAX))))
        self._die_at_s = time.monotonic() + LIFE_S

    def _end(self) -> None:
        # Some end in order, which must be no worse.
        if self._broker.is_ready and self._dice.random() < 0.1:
            self._selector.unregister(self._broker.output)
            self._broker.stop()
            self._bury("stopped")
        else:
            self._kill()

    def _kill(self) -> None:
        self._selector.unregister(self._broker.output)
        self._broker.kill()
        self.report.kills += 1
        self._bury("killed")

    def _bury(self, how: str) -> None:
        self.story.note("broker", how)
        for actor in self._cast:
            actor.client.bury()

    # --- the loop --------------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        self._watch()
        for key, _ in self._selector.select(TURN_S):
            if key.fd == self._broker.output:
                self._hear()
            else:
                self._watched[key.fd][1].client.read()
        for actor in self._cast:
            if self._broker.is_ready and actor.is_awake and actor.client.socket is None:
                actor.connect(self._broker.address)
            actor.act()
            actor.client.write()

    def _hear(self) -> None:
        was_ready = self._broker.is_ready
        self._broker.listen()
        if self._broker.is_ready and not was_ready:
            self._on_ready()

    def _watch(self) -> None:
        """The selector knows every socket that is there, and none that is gone."""
        # A new socket may have the number of an old one.
        sockets = ((actor.client.socket, actor) for actor in self._cast)
        wanted = {one.fileno(): (one, actor) for one, actor in sockets if one is not None}
        for gone in [fd for fd, (one, _) in self._watched.items() if fd not in wanted or wanted[fd][0] is not one]:
            self._forget(gone)
        for fd, pair in wanted.items():
            if fd not in self._watched:
                self._selector.register(fd, selectors.EVENT_READ)
                self._watched[fd] = pair

    def _forget(self, fd: int) -> None:
        del self._watched[fd]
        self._selector.unregister(fd)

    # --- the end ---------------------------------------------------------------------------------------------------

    def _drain(self) -> None:
        """Turn until nothing is open and nothing is due."""
        for actor in self._cast:
            actor.calm()
        self._die_at_s = float("inf")
        moved_at_s, so_far = time.monotonic(), self._progress()
        while not self._is_quiet():
            self._turn()
            if self._progress() != so_far:
                moved_at_s, so_far = time.monotonic(), self._progress()
            if time.monotonic() > moved_at_s + self._patience_s:
                raise self._stuck()

    def _is_quiet(self) -> bool:
        return self._broker.is_ready and all(actor.is_done for actor in self._cast) and not self._model.due()

    def _stuck(self) -> Fault:
        missing = [(receiver.name, message) for receiver, message in self._model.lost()]
        if missing:
            name, first = min(missing, key=lambda one: (one[0], one[1].key))
            mine = keys(message for receiver, message in missing if receiver == name)
            what = f"{len(missing)} acknowledged messages lost, {len(mine)} of them by {name}: {mine[:20]}"
            return Fault(what, name, first.key)
        open_ = [actor.name for actor in self._cast if not actor.is_done]
        return Fault(f"not everything was acknowledged within {self._patience_s:g} s: {open_}", *open_)

    def _finish(self) -> None:
        before = self._retained()
        allowed = self._model.retained()
        for topic in sorted({*before, *allowed}):
            self._check_retained(topic, before.get(topic, b""), allowed.get(topic, {b""}))
        self._kill()
        self._start()
        self._drain()
        after = self._retained()
        for topic in sorted({*before, *after}):
            self._check_retained(topic, after.get(topic, b""), {before.get(topic, b"")})
        self._probe()

    def _check_retained(self, topic: str, found: bytes, allowed: set[bytes]) -> None:
        if found not in allowed:
            names = [name_of(payload) for payload in (found, *allowed)]
            raise Fault(f"{topic} holds {names[0]} instead of {names[1:]}", topic, *names)

    def _probe(self) -> None:
        """A message to every topic comes to whom the model says, behind all that came before."""
        publishers = [actor for actor in self._cast if isinstance(actor, Publisher)]
        for topic in (*PLAIN_TOPICS, *GROUP_TOPICS, *RETAINED_TOPICS):
            for qos in (1, 2):
                publishers[0].publish(topic, qos=qos)
        self._drain()

    def _retained(self) -> dict[str, bytes]:
        with RawClient(self._broker.address) as client:
            client.connect("looker")
            client.subscribe("r/#", qos=0)
            packets = [packet for _ in range(PINGS) for packet in client.published_so_far()]
            return {packet.topic: packet.payload for packet in packets}


def run(directory: Path, seed: int, kills: int) -> Report:
    """Play a round; a fault is in the report, its story in `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    play = Round(directory, seed, kills)
    try:
        play.play()
    except Fault as fault:
        play.report.fault = f"{fault}\n{play.story.told(fault.about)}"
    except Exception:
        play.report.fault = traceback.format_exc()
        raise
    finally:
        if play.report.fault:
            play.story.write(directory / "story.txt")
    return play.report


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="One round of kills; prints its report as JSON.")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--directory", type=Path, required=True)
    words = parser.parse_args()
    report = run(words.directory, words.seed, words.kills)
    sys.stdout.write(json.dumps(asdict(report)) + "\n")
    return 1 if report.fault else 0


if __name__ == "__main__":
    sys.exit(main())
