"""The three ways to settings: `load` for the command, `from_mapping` for embedding programs, `explain` for a reader.

Puts the parts of this package in order and builds the frozen model. Decides nothing itself: what is allowed is in
`table` and `rules`. Reads a file and the environment it is given; any thread may call it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from whimbrel.settings import sources
from whimbrel.settings.merge import Checked, Merged, merge
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
from whimbrel.settings.problems import SettingsError, dotted, printable
from whimbrel.settings.rules import broken_rules, data_dir_is_known, open_listeners, socket_path, store_has_a_place
from whimbrel.settings.sources import Key, Layer
from whimbrel.settings.table import ROWS, STANDING_LISTENERS, TLS_KINDS, fields_of

_DATA_DIR: Final = ("node", "data_dir")
_NOT_EMBEDDED: Final = (_DATA_DIR, *STANDING_LISTENERS)


class Effective(NamedTuple):
    """One setting that holds: its dotted key, its value as TOML text, and where it comes from."""

    key: str
    value: str
    origin: str


def load(
    *, file: Path | None, environment: Mapping[str, str], sets: Sequence[str], data_dir: Path | None = None
) -> Settings:
    """The settings of a broker: defaults < file < environment < sets < data_dir.

    `environment` is read for variables `WHIMBREL__SECTION__KEY`, and for XDG_STATE_HOME and HOME where no data
    directory is written. `sets` are "section.key=value". Raises `SettingsError` with every problem.
    """
    layers = _layers(file=file, environment=environment, sets=sets, data_dir=data_dir)
    return _build(_checked(layers, environment, needs_data_dir=True))


def explain(
    *, file: Path | None, environment: Mapping[str, str], sets: Sequence[str], data_dir: Path | None = None
) -> list[Effective]:
    """Every setting that has a value, in the order of the reference; unset ones are left out.

    `key = value` of all rows together is a TOML document that loads to the same settings. Arguments and errors are
    those of `load`.
    """
    layers = _layers(file=file, environment=environment, sets=sets, data_dir=data_dir)
    merged = _checked(layers, environment, needs_data_dir=True)
    return [
        Effective(dotted(key), checked.row.shape.write(checked.value), printable(checked.origin))
        for key, checked in sorted(merged.values.items(), key=_order(merged))
    ]


def from_mapping(overrides: Mapping[str, object]) -> Settings:
    """The settings of an embedded broker: the defaults without listeners and data directory, and what is given.

    Keys are nested or dotted; values are str, int, float, bool or Path; None means unset. Nothing is read from the
    environment. Raises `SettingsError` with every problem.
    """
    weakest = sources.defaults({})
    weakest.raws = [raw for raw in weakest.raws if raw.key not in _NOT_EMBEDDED]
    layers = [weakest, sources.from_mapping_layer(overrides)]
    return _build(_checked(layers, {}, needs_data_dir=False))


def _layers(
    *, file: Path | None, environment: Mapping[str, str], sets: Sequence[str], data_dir: Path | None
) -> list[Layer]:
    return [
        sources.defaults(environment),
        sources.from_file(file) if file is not None else Layer(),
        sources.from_environment(environment),
        sources.from_sets(sets),
        sources.from_data_dir(data_dir) if data_dir is not None else Layer(),
    ]


def _checked(layers: Sequence[Layer], environment: Mapping[str, str], *, needs_data_dir: bool) -> Merged:
    merged = merge(layers, environment)
    problems = [*merged.problems, *broken_rules(merged)]
    problems.extend(data_dir_is_known(merged) if needs_data_dir else store_has_a_place(merged))
    if problems:
        raise SettingsError(problems)
    return merged


def _build(merged: Merged) -> Settings:
    return Settings(
        node=Node(**_section(merged, "node")),
        workers=merged.value("workers"),
        listeners=tuple(_listener(merged, key, bind) for key, bind in open_listeners(merged)),
        auth=Auth(**_section(merged, "auth")),
        storage=Storage(**_section(merged, "storage")),
        mqtt=Mqtt(**_section(merged, "mqtt")),
        zones=MappingProxyType({key[1]: _zone(merged, key) for key in merged.instances_of("zones")}),
        hooks=Hooks(**_section(merged, "hooks")),
        flapping=Flapping(**_section(merged, "flapping")),
        retained=Retained(**_section(merged, "retained")),
        sys=Sys(**_section(merged, "sys")),
        alarm=History(**_section(merged, "alarm")),
        sysmon=Sysmon(**_section(merged, "sysmon")),
        log=Log(**_section(merged, "log")),
    )


def _section(merged: Merged, section: str, *above: str) -> dict[str, Any]:
    """The fields of a section; `above` is its key where that differs from its name in the table."""
    key = above or (section,)
    return {name: merged.value(*key, word) for word, name in fields_of(section).items()}


def _zone(merged: Merged, key: Key) -> Mqtt:
    return Mqtt(**_section(merged, "mqtt", *key, "mqtt"))


def _listener(merged: Merged, key: Key, bind: TcpBind | UnixBind) -> Listener:
    allow_anonymous = merged.value("auth", "allow_anonymous")
    return Listener(
        kind=key[1],
        name=key[2],
        bind=_resolved(merged, bind),
        zone=merged.value(*key, "zone"),
        max_connections=merged.value(*key, "max_connections"),
        max_conn_rate=merged.value(*key, "max_conn_rate"),
        is_anonymous_allowed=bind.is_local if allow_anonymous is None else allow_anonymous,
        path=merged.value(*key, "path"),
        tls=_tls(merged, key) if key[1] in TLS_KINDS else None,
        trusted_proxies=merged.value(*key, "proxy_trusted") if merged.value(*key, "proxy_protocol") else None,
    )


def _tls(merged: Merged, key: Key) -> Tls:
    return Tls(**{field.name: merged.value(*key, field.name) for field in fields(Tls)})


def _resolved(merged: Merged, bind: TcpBind | UnixBind) -> TcpBind | UnixBind:
    if isinstance(bind, TcpBind):
        return bind
    return UnixBind(path=socket_path(bind.path, merged.value(*_DATA_DIR)) or bind.path)


_ROW_ORDER: Final = {row: index for index, row in enumerate(ROWS)}
_SECTION_ORDER: Final = {row.key.split(".")[0]: index for index, row in reversed(list(enumerate(ROWS)))}


def _order(merged: Merged) -> Callable[[tuple[Key, Checked]], tuple[int, ...]]:
    """Sections as in the table; in them one listener or zone after the other, as they were written."""
    instances = {key: index for index, key in enumerate(merged.instances)}

    def place(entry: tuple[Key, Checked]) -> tuple[int, ...]:
        key, checked = entry
        instance = next((instances[key[:parts]] for parts in (2, 3) if key[:parts] in instances), 0)
        return _SECTION_ORDER[key[0]], instance, _ROW_ORDER[checked.row]

    return place
