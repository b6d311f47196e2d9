"""The reference page of the numbers: `python -m whimbrel.services.reference > FILE`.

Knows Markdown, the sentences that the data plane has for its numbers, and those for the numbers of the Python side. A
test fails where a number has no sentence, or the page in the repository is not what this prints.
"""

import sys
from collections.abc import Iterable, Mapping
from typing import Final

from whimbrel.engine.records import METRICS, STATS

PYTHON_SIDE: Final[Mapping[str, str]] = {
    "whimbrel.alarms.activated": "An alarm was raised.",
    "whimbrel.alarms.active": "Gauge: alarms that hold.",
    "whimbrel.alarms.deactivated": "An alarm ended.",
    "whimbrel.alarms.refused": "An alarm was not raised, because 1,000 are active.",
    "whimbrel.alarms.topics.dropped": "An alarm that somebody subscribes to could not be published.",
    "whimbrel.alarms.unsaved": "Gauge: changes of alarms that are not stored yet.",
    "whimbrel.control.connections": "Gauge: open connections of `whimbrel ctl`.",
    "whimbrel.control.connections.refused": "A connection of `whimbrel ctl` was one too many.",
    "whimbrel.control.requests": "`whimbrel ctl` asked for something.",
    "whimbrel.control.requests.failed": "`whimbrel ctl` asked for something that cannot be had.",
    "whimbrel.engine.batches": "The event loop was woken by the data plane.",
    "whimbrel.engine.events": "An event of the data plane was taken: question, notice, reply, batch of a subscription.",
    "whimbrel.engine.requests": "The data plane was asked for something: a publish, a page of clients, a kick.",
    "whimbrel.engine.requests.late": "The data plane did not reply in time.",
    "whimbrel.engine.requests.waiting": "Gauge: requests whose reply is awaited.",
    "whimbrel.engine.taps": "Gauge: open subscriptions of this program.",
    "whimbrel.rows.changes": "A change of rows of the control plane is durable.",
    "whimbrel.rows.changes.refused": "A change of rows was refused whole, because the store takes nothing.",
    "whimbrel.rows.damaged": "Gauge: rows of the control plane that cannot be read; they are left where they are.",
    "whimbrel.rows.changes.waiting": "Gauge: changes of rows that are not durable yet.",
    "whimbrel.memory.given_back": "The allocator gave free pages back to the system.",
    "whimbrel.hooks.failed": "A hook raised, returned something else than an answer, or missed the deadline.",
    "whimbrel.hooks.notices": "A hook was to be told that a client came or went.",
    "whimbrel.hooks.notices.dropped": "It was not: its queue was full, or it failed.",
    "whimbrel.hooks.questions": "The data plane asked the hooks about something.",
    "whimbrel.hooks.questions.in_progress": "Gauge: questions that wait for their hooks.",
    "whimbrel.hooks.questions.refused": "It was refused without a hook, because too many are in progress.",
    "whimbrel.hooks.skipped": "A hook was not called, because it failed too often just before.",
}
"""The metrics that the Python side counts, and what moves each."""

_HEAD: Final = """\
# Metrics and statistics

<!-- Made by `python -m whimbrel.services.reference`, from `crates/server/src/meanings.rs` beside the counters. -->

**Metrics** count events since the start: `whimbrel ctl metrics`, `Broker.metrics()`. They only grow, but for those
that are called a gauge here. Each worker counts for itself and shows its numbers at the end of a turn, so a number is
at most a turn old. **Statistics** count what is there: `whimbrel ctl stats`, `Broker.stats()`. They are exact, and so
are their peaks: no peak between two looks is missed, and none is below a number that somebody has seen.

The names are those of EMQ X 4, with some of its versions 3 and 4.3; names that begin with `whimbrel.` are ours. What
belongs to features that do not exist yet has no name yet: `messages.delayed`, `messages.forward` (there is one node),
`rules.*`, `actions.*`, `resources.*`.

Those that add up in the [conservation ledger](../guides/operating.md#nothing-is-lost-without-a-reason) are here, too.
"""


def page() -> str:
    """The whole page, with a newline at the end."""
    peaks = "The highest value since the start has the same name with `.max` in place of `.count`."
    parts = [
        _HEAD,
        _section("Metrics", "It moves when", METRICS),
        _section("Metrics of the Python side", "It moves when", PYTHON_SIDE.items()),
        _section("Statistics", "It counts", STATS),
        peaks,
        "",
    ]
    return "\n".join(parts)


def _section(title: str, what: str, rows: Iterable[tuple[str, str]]) -> str:
    lines = [f"| `{name}` | {meaning} |" for name, meaning in rows]
    return "\n".join([f"## {title}", "", f"| Name | {what} |", "|---|---|", *lines, ""])


if __name__ == "__main__":
    sys.stdout.write(page())
