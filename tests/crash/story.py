"""What happened in a round, so that a fault can be told as a story: who sent, got and promised what, and when.

Knows entries and which of them belong to a message or a client. Does not judge. Bounded: the oldest entries go first.
"""

import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

ENTRIES_MAX = 400_000
TOLD_MAX = 60


class Fault(Exception):
    """The broker broke a promise. `about`: what the story is searched for, such as a message or a client."""

    def __init__(self, what: str, *about: object) -> None:
        super().__init__(what)
        self.about = about


@dataclass(frozen=True, slots=True)
class Entry:
    """`life`: how often the broker had been started. `what`: a word and what it is about."""

    at_s: float
    life: int
    who: str
    what: tuple[object, ...]

    def __str__(self) -> str:
        return f"{self.at_s:9.4f} s  life {self.life:<4} {self.who:8} {' '.join(map(str, self.what))}"


class Story:
    """The entries of one round, oldest first."""

    def __init__(self) -> None:
        self.life = 0
        self._began_s = time.monotonic()
        self._entries: deque[Entry] = deque(maxlen=ENTRIES_MAX)

    def note(self, who: str, *what: object) -> None:
        """Somebody (a client, or the broker) did this now."""
        self._entries.append(Entry(time.monotonic() - self._began_s, self.life, who, what))

    def about(self, subjects: tuple[object, ...]) -> list[Entry]:
        """Entries that name all these subjects, as actor or in their words, and every start and end of the broker."""
        return [one for one in self._entries if one.who == "broker" or _names_all(one, subjects)]

    def told(self, subjects: tuple[object, ...]) -> str:
        """What belongs to the subjects, each for itself; of a long part the end."""
        parts = (self._part(subject) for subject in subjects)
        return "\n".join(parts)

    def write(self, path: Path) -> None:
        """Everything, one entry a line."""
        with path.open("w") as lines:
            lines.writelines(f"{entry}\n" for entry in self._entries)

    def _part(self, subject: object) -> str:
        entries = self.about((subject,))
        return "\n".join((f"-- {subject}:", *(str(entry) for entry in entries[-TOLD_MAX:])))


def _names_all(entry: Entry, subjects: tuple[object, ...]) -> bool:
    return all(entry.who == subject or subject in entry.what for subject in subjects)
