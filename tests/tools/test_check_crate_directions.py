"""The judgement on crate dependencies, from written metadata; no cargo runs."""

from typing import Any

import pytest

from tools.check_crate_directions import violations


def crate(name: str, *dependencies: dict[str, Any]) -> dict[str, Any]:
    return {"manifest_path": f"/somewhere/crates/{name}/Cargo.toml", "dependencies": list(dependencies)}


def inner(name: str, kind: str | None = None) -> dict[str, Any]:
    return {"name": f"whimbrel-{name}", "path": f"/somewhere/crates/{name}", "kind": kind}


def foreign(name: str, kind: str | None = None) -> dict[str, Any]:
    return {"name": name, "kind": kind}


def judged(*packages: dict[str, Any]) -> list[str]:
    return list(violations({"packages": list(packages)}))


def test_the_planned_directions_are_allowed() -> None:
    found = judged(
        crate("protocol", foreign("bytes"), foreign("proptest", "dev")),
        crate("router", inner("protocol"), foreign("hashbrown")),
        crate("storage", inner("protocol")),
        crate("server", inner("protocol"), inner("router"), inner("storage"), foreign("rustix")),
        crate("bench", inner("protocol"), foreign("rustix")),
        crate("python", inner("server"), inner("bench"), foreign("pyo3")),
    )

    assert found == []


@pytest.mark.parametrize("kind", [None, "build", "dev"])
def test_an_edge_against_the_direction_is_refused_whatever_its_kind(kind: str | None) -> None:
    found = judged(crate("router", inner("server", kind)))

    assert found == ["router -> server: not allowed; router may name protocol"]


def test_siblings_do_not_see_each_other() -> None:
    assert judged(crate("storage", inner("router"))) == ["storage -> router: not allowed; storage may name protocol"]


def test_the_load_generator_measures_foreign_brokers_with_the_same_eyes() -> None:
    assert judged(crate("bench", inner("server"))) == ["bench -> server: not allowed; bench may name protocol"]


def test_nobody_depends_on_the_binding() -> None:
    assert len(judged(crate("server", inner("python")), crate("sim", inner("python")))) == 2


@pytest.mark.parametrize("kind", [None, "build"])
def test_the_protocol_uses_bytes_and_nothing_else(kind: str | None) -> None:
    found = judged(crate("protocol", foreign("tokio", kind)))

    assert found == ["protocol -> tokio (foreign): not allowed; protocol may use bytes"]


def test_a_crate_without_a_place_is_refused() -> None:
    found = judged(crate("helpers", inner("protocol")))

    assert len(found) == 1
    assert found[0].startswith("helpers: a crate without a place; add it")
