"""The page about limits: every limit is there with its default, and every counter that it names exists."""

import re
from pathlib import Path

from whimbrel.settings.table import ROWS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/guides/limits.md").read_text(encoding="utf-8")
LEDGER = (ROOT / "crates/server/src/ledger.rs").read_text(encoding="utf-8")
ENGINE = (ROOT / "python/whimbrel/engine/engine.py").read_text(encoding="utf-8")
# No limits: what is said, how a member is picked, what is stored.
OTHERS = {"mqtt.durability", "mqtt.response_information", "mqtt.shared_subscription_strategy"}


def limits() -> dict[str, object]:
    """Key as the page has it -> default, of every setting that limits something."""
    keys = {row.key.replace("<tcp|tls|ws|wss|unix>", "<kind>"): row.default for row in ROWS}
    words = ("mqtt.", "retained.", "flapping.", "listeners.<kind>.<name>.max_", "hooks.")
    return {key: default for key, default in keys.items() if key.startswith(words) and key not in OTHERS}


def row_of(key: str) -> str:
    """The line of a table that tells of this setting."""
    return next((line for line in PAGE.splitlines() if line.startswith("|") and f"`{key}`" in line), "")


def test_every_limit_has_a_row() -> None:
    assert len(limits()) > 35
    assert [key for key in limits() if not row_of(key)] == []


def test_its_default_is_the_one_in_force() -> None:
    words = {True: "true", False: "false"}
    defaults = {
        key: words.get(default, str(default)) if isinstance(default, bool) else str(default)
        for key, default in limits().items()
    }
    plain = {
        key: default for key, default in defaults.items() if key.startswith(("mqtt.max_", "retained.", "flapping."))
    }
    assert {key: default for key, default in plain.items() if default not in row_of(key)} == {}


def test_every_counter_it_names_exists() -> None:
    last_cells = [line.rstrip(" |").rpartition("|")[2] for line in PAGE.splitlines() if line.startswith("|")]
    named = re.findall(r"`([a-z0-9_.]+)`", " ".join(last_cells)) + re.findall(r"`(whimbrel\.[a-z_.]+)`", PAGE)
    assert len(named) > 30
    assert [name for name in named if f'"{name}"' not in LEDGER + ENGINE] == []
