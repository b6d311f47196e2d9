"""What is promised to package managers, and that the pinned tools, the lock files and the product agree with it."""

import importlib.metadata
import json
import re
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def distribution_name(requirement: str) -> str:
    """The normalised name in front of a version: "Import_Linter>=2" is "import-linter"."""
    name = re.split(r"[<>=!~\[ ;]", requirement, maxsplit=1)[0]
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_only_runtime_dependency_is_click() -> None:
    assert [distribution_name(requirement) for requirement in pyproject()["project"]["dependencies"]] == ["click"]


def test_the_product_is_installed_with_its_command_and_its_pytest_plugin() -> None:
    product = importlib.metadata.distribution("whimbrel")

    entry_points = {(point.group, point.name): point.value for point in product.entry_points}
    assert entry_points == {
        ("console_scripts", "whimbrel"): "whimbrel.cli:main",
        ("pytest11", "whimbrel"): "whimbrel.testing.plugin",
    }


def test_package_and_binding_have_the_workspaces_version() -> None:
    import whimbrel

    workspace = tomllib.loads((ROOT / "Cargo.toml").read_text(encoding="utf-8"))
    version = workspace["workspace"]["package"]["version"]
    assert (importlib.metadata.version("whimbrel"), whimbrel.__version__) == (version, version)


def test_the_package_is_typed_and_its_binding_has_a_stub() -> None:
    package = ROOT / "python" / "whimbrel"

    assert (package / "py.typed").read_bytes() == b""
    assert (package / "_core.pyi").is_file()


def test_every_development_tool_is_pinned_to_one_version() -> None:
    lines = (ROOT / "requirements" / "dev.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert [pin for pin in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9a-z.]*", pin)] == []

    groups = pyproject()["dependency-groups"]
    wanted = {distribution_name(tool) for group in groups.values() for tool in group if isinstance(tool, str)}
    assert wanted <= {distribution_name(pin) for pin in pins}


def test_the_javascript_lock_file_has_checksums_and_no_download_addresses() -> None:
    lock = json.loads((ROOT / "tests" / "wire" / "package-lock.json").read_text(encoding="utf-8"))
    packages = {name: package for name, package in lock["packages"].items() if name}

    assert [name for name, package in packages.items() if "resolved" in package] == []
    assert [name for name, package in packages.items() if "integrity" not in package] == []


def test_continuous_integration_runs_the_documented_command() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    commands = re.findall(r"\bmake [a-z-]+", script)

    assert commands == ["make test"]
    assert "make test" in (ROOT / "README.md").read_text(encoding="utf-8")
