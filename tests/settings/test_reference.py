"""The table, the model and the page agree: a setting is in all three or in none."""

import dataclasses
import re
from pathlib import Path

import pytest

from tests.settings.conftest import HOME
from whimbrel.settings import (
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
    Tls,
    load,
)
from whimbrel.settings.reference import page
from whimbrel.settings.table import ROWS, Computed, Row, fields_of

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "settings.md"

SECTIONS = [
    ("node", Node),
    ("auth", Auth),
    ("storage", Storage),
    ("hooks", Hooks),
    ("flapping", Flapping),
    ("retained", Retained),
    ("sys", Sys),
    ("alarm", History),
    ("sysmon", Sysmon),
    ("log", Log),
    ("mqtt", Mqtt),
    ("zones.<name>.mqtt", Mqtt),
]


@pytest.mark.parametrize(("section", "model"), SECTIONS, ids=[section for section, _ in SECTIONS])
def test_each_section_has_the_fields_of_its_class(section: str, model: type) -> None:
    assert sorted(fields_of(section).values()) == sorted(field.name for field in dataclasses.fields(model))


def test_every_row_belongs_to_a_section_that_is_built() -> None:
    sections = {section for section, _ in SECTIONS}
    rest = {row.key for row in ROWS if row.section not in sections}
    assert rest == {
        "workers",
        "listeners.<tcp|tls|ws|wss>.<name>.bind",
        "listeners.unix.<name>.bind",
        "listeners.<ws|wss>.<name>.path",
        *(f"listeners.<tls|wss>.<name>.{word}" for word in ("cert_file", "key_file", "ca_file", "verify", "crl_file")),
        "listeners.<tcp|tls|ws|wss|unix>.<name>.proxy_protocol",
        "listeners.<tcp|tls|ws|wss>.<name>.proxy_trusted",
        "listeners.unix.<name>.proxy_trusted",
        "listeners.<tcp|tls|ws|wss|unix>.<name>.zone",
        "listeners.<tcp|tls|ws|wss|unix>.<name>.max_connections",
        "listeners.<tcp|tls|ws|wss|unix>.<name>.max_conn_rate",
    }
    written = {row.field for row in ROWS if row.key.startswith("listeners.")}
    files = {field.name for field in dataclasses.fields(Tls)}
    assert files <= written
    # Whether there are proxies is in the same field as who they are.
    flat = written - files - {"proxy_protocol"}
    assert flat | {"kind", "name", "is_anonymous_allowed", "tls"} == {
        field.name for field in dataclasses.fields(Listener)
    }
    assert {row.key.split(".")[0] for row in ROWS} == {field.name for field in dataclasses.fields(Settings)}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.key)
def test_every_default_is_allowed(row: Row) -> None:
    written = row.default_in({"XDG_STATE_HOME": "/state"})
    if written is not None:
        row.shape.read(written)


def test_the_page_in_the_repository_is_current() -> None:
    remedy = "run: python -m whimbrel.settings.reference > docs/reference/settings.md"
    assert PAGE.read_text(encoding="utf-8") == page(), remedy


@pytest.mark.parametrize("row", [row for row in ROWS if not row.key.startswith("zones.")], ids=lambda row: row.key)
def test_the_page_has_every_setting(row: Row) -> None:
    line = next(line for line in page().split("\n") if line.startswith(f"| `{row.key.replace('|', chr(92) + '|')}` |"))
    assert row.doc in line
    assert not isinstance(row.default, Computed) or row.default.text in line


def test_the_examples_of_the_page_say_the_same(tmp_path: Path) -> None:
    toml, shell = re.findall(r"```(?:toml|sh)\n(.*?)```", page(), re.DOTALL)
    variable, flag = shell.splitlines()
    name, _, value = variable.split()[0].partition("=")
    file = tmp_path / "broker.toml"
    file.write_text(toml)
    by_file = load(file=file, environment=HOME, sets=())
    assert by_file.mqtt.max_packet_size_bytes == 4 * 1024 * 1024
    assert load(file=None, environment={**HOME, name: value}, sets=()) == by_file
    assert load(file=None, environment=HOME, sets=[flag.partition("--set ")[2]]) == by_file
