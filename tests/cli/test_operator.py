"""`check`, `config` and the way errors leave the command: text and exit code."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from whimbrel.cli import main
from whimbrel.cli.operator import invocation

MISTAKES = """
workers = "many"

[mqtt]
max_qos_alowed = 1
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    return tmp_path


def typed(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


def test_check_reports_every_problem_at_once_and_exits_with_2(home: Path) -> None:
    file = home / "broker.toml"
    file.write_text(MISTAKES)
    result = typed("check", "--config", str(file), "--set", "node.nam=x")
    assert result.exit_code == 2
    assert [part in result.stderr for part in ("workers", "max_qos_allowed", "node.name")] == [True] * 3
    assert result.stdout == ""


def test_check_of_good_settings_says_so(home: Path) -> None:
    result = typed("check", "--data-dir", str(home))
    assert (result.exit_code, result.stdout) == (0, f"the settings are good: 2 listeners, data in {home}\n")


def test_config_shows_each_value_with_its_origin(home: Path) -> None:
    result = typed("config", "--set", "workers=3", "--data-dir", str(home))
    assert result.exit_code == 0
    (workers,) = [line for line in result.stdout.splitlines() if line.startswith("workers ")]
    assert (workers.split("#")[0].strip(), workers.split("#")[1].strip()) == ("workers = 3", "--set workers")


def test_config_is_a_document_that_loads_to_the_same_settings(home: Path) -> None:
    file = home / "shown.toml"
    file.write_text(typed("config", "--set", "workers=3").stdout)
    again = typed("config", "--config", str(file)).stdout
    assert [line.split("#")[0].strip() for line in again.splitlines()] == [
        line.split("#")[0].strip() for line in file.read_text().splitlines()
    ]


def test_start_with_a_mistake_exits_with_2_before_anything_starts(home: Path) -> None:
    result = typed("start", "--set", "workers=many", "--data-dir", str(home / "data"))
    assert (result.exit_code, (home / "data").exists()) == (2, False)


def test_an_unknown_option_exits_with_2() -> None:
    assert typed("start", "--nonsense").exit_code == 2


def test_the_banner_names_the_command_as_a_neighbour_can_type_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed, elsewhere = tmp_path / "bin" / "whimbrel", tmp_path / "a venv" / "whimbrel"
    for file in (installed, elsewhere):
        file.parent.mkdir()
        file.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(installed.parent))

    assert invocation(str(installed)) == "whimbrel"
    assert invocation(str(elsewhere)) == f"'{elsewhere}'"
    assert invocation("/somewhere/whimbrel/__main__.py").endswith(" -m whimbrel")


@pytest.mark.parametrize("words", [("start",), ("check",), ("config",)])
def test_an_empty_data_dir_is_a_mistake(home: Path, words: tuple[str, ...]) -> None:
    result = typed(*words, "--data-dir", "")
    assert result.exit_code == 2
    assert "an empty text names no directory" in result.stderr
