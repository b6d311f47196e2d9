"""The double of the binding says what the stub says, so tests that pass on it mean something."""

import ast
import dataclasses
import inspect
from pathlib import Path

import pytest

import whimbrel
from tests.engine import fake_core

STUB = Path(whimbrel.__file__).with_name("_core.pyi")
CLASSES = {
    node.name: node for node in ast.parse(STUB.read_text(encoding="utf-8")).body if isinstance(node, ast.ClassDef)
}
RECORDS = sorted(name for name, kind in vars(fake_core).items() if dataclasses.is_dataclass(kind))


def _members(node: ast.ClassDef) -> set[str]:
    return {member.name for member in node.body if isinstance(member, ast.FunctionDef)} - {"__new__"}


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_of_the_double_has_exactly_the_fields_of_the_stub(name: str) -> None:
    assert {field.name for field in dataclasses.fields(getattr(fake_core, name))} == _members(CLASSES[name])


def test_the_double_has_every_event_of_the_stub() -> None:
    final = {name for name, node in CLASSES.items() if any(isinstance(d, ast.Name) for d in node.decorator_list)}
    assert final - {"Client", "DataPlane", "LoadRun", "StoreImport"} == set(RECORDS)


@pytest.mark.parametrize("name", sorted(_members(CLASSES["DataPlane"]) - {"wake_fd"}))
def test_a_method_of_the_double_takes_the_arguments_of_the_stub(name: str) -> None:
    stub = next(m for m in CLASSES["DataPlane"].body if isinstance(m, ast.FunctionDef) and m.name == name)
    double = inspect.signature(getattr(fake_core.DataPlane, name))
    assert list(double.parameters) == [one.arg for one in (*stub.args.args, *stub.args.kwonlyargs)]
