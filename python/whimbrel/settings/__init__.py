"""What the operator means: from defaults, file, environment and flags to one frozen `Settings`.

The way through: `sources` (raw values with origin) -> `merge` (each checked against the rows of `table`, the strongest
layer wins) -> `rules` (what needs more than one value) -> `assemble` (the frozen `model`). Every problem is collected
and raised at once as `SettingsError`; after start-up nobody parses.

A new setting is one row in `table` and one field in `model`. Knows no engine, no event loop and no network.
"""

from whimbrel.settings.assemble import Effective, explain, from_mapping, load
from whimbrel.settings.model import (
    Auth,
    Flapping,
    History,
    Hooks,
    Listener,
    Log,
    Mqtt,
    Node,
    Retained,
    Settings,
    Storage,
    Sys,
    Sysmon,
    TcpBind,
    Tls,
    UnixBind,
)
from whimbrel.settings.problems import Problem, SettingsError
from whimbrel.settings.reload import Changes, changes

__all__ = [
    "Auth",
    "Changes",
    "Effective",
    "Flapping",
    "History",
    "Hooks",
    "Listener",
    "Log",
    "Mqtt",
    "Node",
    "Problem",
    "Retained",
    "Settings",
    "SettingsError",
    "Storage",
    "Sys",
    "Sysmon",
    "TcpBind",
    "Tls",
    "UnixBind",
    "changes",
    "explain",
    "from_mapping",
    "load",
]
