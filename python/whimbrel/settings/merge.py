"""From raw values to checked ones: each value against its row, the stronger layer over the weaker one.

Knows the table and the order of layers; rules that need more than one value are in `rules`. Every value is checked,
also one that a stronger layer covers: what is wrong in a file is wrong.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from whimbrel.settings.problems import Problem, dotted, shown
from whimbrel.settings.shapes import Refusal, Shape, Truth, Whole
from whimbrel.settings.sources import Document, Key, Layer, Raw, bare_or_toml
from whimbrel.settings.table import Branch, Row, spellings, walk

_PROBLEMS_MAX: Final = 1000
_KEY_COMPARED_MAX: Final = 200
_INSTANCE_PARTS: Final = {"listeners": 3, "zones": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A value in the unit of its field, its row, and where it was written."""

    row: Row
    value: Any
    origin: str


@dataclass(slots=True)
class Merged:
    """What holds after all layers.

    `broken`: keys whose strongest value was refused; they are in `values` no more. `instances`: listeners and zones by
    their key (`listeners.tcp.default`), with where they are written first, also where everything in them is wrong.
    """

    values: dict[Key, Checked] = field(default_factory=dict)
    broken: set[Key] = field(default_factory=set)
    instances: dict[Key, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def value(self, *key: str) -> Any:
        """The value of a key, None where it is unset or broken."""
        checked = self.values.get(key)
        return checked.value if checked else None

    def origin(self, *key: str) -> str:
        """Where the value of a key was written; "default" where nobody wrote it."""
        checked = self.values.get(key)
        return checked.origin if checked else "default"

    def instances_of(self, section: str) -> Iterator[Key]:
        """The keys of all listeners or zones."""
        return (key for key in self.instances if key[0] == section)


def merge(layers: Iterable[Layer], environment: Mapping[str, str]) -> Merged:
    """Check all layers, the weakest first, and complete what is unset. Never raises for what an operator wrote."""
    merged = Merged()
    strays: set[tuple[str, Key]] = set()
    for layer in layers:
        merged.problems.extend(layer.problems)
        for raw in layer.raws:
            _take(merged, raw, strays)
            if len(merged.problems) >= _PROBLEMS_MAX:
                merged.problems.append(_too_many(raw))
                return merged
    _complete(merged, environment)
    return merged


def _too_many(raw: Raw) -> Problem:
    allowed = "settings that are understood up to here"
    return Problem(origin=raw.origin.of_key(raw.key), key="", found=f"{_PROBLEMS_MAX} problems", allowed=allowed)


def _take(merged: Merged, raw: Raw, strays: set[tuple[str, Key]]) -> None:
    branch, depth = walk(raw.key)
    _note_instance(merged, raw, depth)
    if depth < len(raw.key):
        wrong = raw.key[: depth + 1]
        stray = (raw.origin.of_key(wrong), wrong)
        if stray not in strays:
            strays.add(stray)
            merged.problems.append(_unknown(raw, branch, wrong))
    elif branch.row is not None:
        _take_value(merged, raw, branch.row)
    elif raw.written != {}:
        # What was meant to be in the table is not missed, too: one mistake is one problem.
        merged.broken.add((*raw.key, "bind"))
        merged.problems.append(_not_a_table(raw, branch))


def _note_instance(merged: Merged, raw: Raw, depth: int) -> None:
    parts = _INSTANCE_PARTS.get(raw.key[0], 0)
    if 0 < parts <= depth:
        key = raw.key[:parts]
        merged.instances.setdefault(key, raw.origin.of_key(key))


def _take_value(merged: Merged, raw: Raw, row: Row) -> None:
    origin = raw.origin.of_value(raw.key)
    written = raw.text if row.shape.is_text and raw.text is not None else raw.written
    try:
        merged.values[raw.key] = Checked(row=row, value=row.shape.read(written), origin=origin)
        merged.broken.discard(raw.key)
    except Refusal as refusal:
        merged.values.pop(raw.key, None)
        merged.broken.add(raw.key)
        key = dotted(raw.key)
        hint = str(refusal) or _without_quotes(row.shape, key, written)
        merged.problems.append(
            Problem(origin=origin, key=key, found=shown(written), allowed=row.shape.allowed, hint=hint)
        )


def _without_quotes(shape: Shape, key: str, written: object) -> str:
    if not isinstance(written, str) or not isinstance(shape, (Truth, Whole)):
        return ""
    text = written.strip().lower()
    try:
        shape.read(bare_or_toml(text))
    except Refusal:
        return ""
    return f"write {key} = {text}"


def _unknown(raw: Raw, branch: Branch, wrong: Key) -> Problem:
    above = dotted(wrong[:-1])
    allowed = f"{above} has a value of its own, nothing below it" if branch.row else branch.allowed
    return Problem(
        origin=raw.origin.of_key(wrong),
        key=dotted(wrong),
        found=f"unknown key {shown(wrong[-1])}",
        allowed=allowed,
        # Only in a file does a table swallow the keys below it.
        hint=(_at_the_top(raw.key) if isinstance(raw.origin, Document) else "") or _nearest(raw.key, branch, wrong),
    )


def _at_the_top(key: Key) -> str:
    """For a key that TOML took as part of the table above it."""
    for start in range(1, len(key)):
        branch, depth = walk(key[start:])
        if branch.row and start + depth == len(key):
            return f"{dotted(key[start:])} stands at the top: write it above the first [table]"
    return ""


def _nearest(key: Key, branch: Branch, wrong: Key) -> str:
    """The word that was probably meant at this place; else a known key of which parts were left out."""
    if len("".join(key)) > _KEY_COMPARED_MAX:
        return ""
    words = difflib.get_close_matches(wrong[-1], branch.words, n=1)
    keys = [".".join((*wrong[:-1], word)) for word in words] or _completed(key)
    return f"nearest known key: {keys[0]}" if keys else ""


def _completed(key: Key) -> list[str]:
    known = sorted(
        spelling
        for spelling in set(spellings(key))
        if spelling.rpartition(".")[2] == key[-1] and spelling.count(".") >= len(key)
    )
    return difflib.get_close_matches(".".join(key), known, n=1)


def _not_a_table(raw: Raw, branch: Branch) -> Problem:
    below = branch.allowed if branch.named is None else "a name"
    return Problem(
        origin=raw.origin.of_value(raw.key),
        key=dotted(raw.key),
        found=shown(raw.written),
        allowed=f"a table [{dotted(raw.key)}] with {below}",
    )


def _complete(merged: Merged, environment: Mapping[str, str]) -> None:
    """Gives each listener its defaults and each zone what it does not say itself."""
    for instance in merged.instances:
        for word, branch in _branch_of(instance).words.items():
            if instance[0] == "zones":
                _inherit(merged, (*instance, word), branch)
            elif branch.row and branch.row.default is not None:
                checked = Checked(
                    row=branch.row, value=branch.row.shape.read(branch.row.default_in(environment)), origin="default"
                )
                _set_default(merged, (*instance, word), checked)


def _inherit(merged: Merged, above: Key, branch: Branch) -> None:
    for word, leaf in branch.words.items():
        general = merged.values.get((above[-1], word))
        if leaf.row and general:
            origin = f"inherited from {above[-1]}.{word}"
            _set_default(merged, (*above, word), Checked(row=leaf.row, value=general.value, origin=origin))


def _set_default(merged: Merged, key: Key, checked: Checked) -> None:
    if key not in merged.broken:
        merged.values.setdefault(key, checked)


def _branch_of(key: Key) -> Branch:
    branch, _ = walk(key)
    return branch
