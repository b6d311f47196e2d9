"""The wheel as `pip install .` makes it: built once, opened, installed into an empty environment, used there."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD_TIMEOUT_S = 110

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)])
    built = list(folder.iterdir())
    assert len(built) == 1
    return built[0]


def run(command: list[str]) -> str:
    """Standard output; a failure shows both streams."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=BUILD_TIMEOUT_S)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_one_wheel_serves_every_python_from_3_11(wheel: Path) -> None:
    assert "-cp311-abi3-" in wheel.name


def test_the_wheel_holds_the_binding_its_stub_the_marker_and_the_licence_and_nothing_built_twice(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()

    assert {"whimbrel/_core.abi3.so", "whimbrel/_core.pyi", "whimbrel/py.typed"} <= set(names)
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert [name for name in names if name.endswith(".so")] == ["whimbrel/_core.abi3.so"]
    assert [name for name in names if "__pycache__" in name or not name.startswith("whimbrel")] == []


def test_the_wheel_gives_the_command_and_the_package_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    run([sys.executable, "-m", "venv", str(tmp_path)])
    run([str(tmp_path / "bin" / "pip"), "install", "--quiet", str(wheel)])

    version = wheel.name.split("-")[1]
    assert version in run([str(tmp_path / "bin" / "whimbrel"), "version"])
    assert (
        run([str(tmp_path / "bin" / "python"), "-c", "import whimbrel; print(whimbrel.__version__)"]).strip() == version
    )
