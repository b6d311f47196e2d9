"""The README's examples are run as they stand, so that what a newcomer copies works."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from whimbrel.settings import load

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROGRAM_UNDER_TEST = '''\
"""Stands for the reader's own program: connects and waits until the broker has taken it in."""

import paho.mqtt.client as mqtt


client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="my-program")  # one that is collected disconnects


def start(host, port):
    client.connect(host, port)
    while not client.is_connected():
        assert client.loop(timeout=5) == mqtt.MQTT_ERR_SUCCESS
'''


def examples(language: str) -> list[str]:
    """The fenced blocks of one language, in their order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_the_readme_has_the_examples_that_are_tested_here() -> None:
    assert [len(examples(language)) for language in ("python", "toml", "sh")] == [2, 1, 2]


def test_the_embedding_example_prints_the_message_as_a_program(tmp_path: Path) -> None:
    program = tmp_path / "example.py"
    program.write_text(examples("python")[0], encoding="utf-8")

    run = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, check=False, timeout=60)

    assert (run.returncode, run.stdout, run.stderr) == (0, "greenhouse/1/temperature b'21.5'\n", "")


def test_the_fixture_example_passes_in_a_project_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "my_program.py").write_text(PROGRAM_UNDER_TEST, encoding="utf-8")
    (tmp_path / "test_readme.py").write_text("import my_program\n\n\n" + examples("python")[1], encoding="utf-8")

    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert run.returncode == 0, run.stdout + run.stderr
    assert "1 passed" in run.stdout


def test_the_configuration_example_is_accepted(tmp_path: Path) -> None:
    file = tmp_path / "whimbrel.toml"
    file.write_text(examples("toml")[0], encoding="utf-8")

    settings = load(file=file, environment={}, sets=[], data_dir=tmp_path)

    assert settings.workers == 4
    assert settings.mqtt.max_packet_size_bytes == 4 * 1024 * 1024
    assert settings.zones["sensors"].max_inflight == 1


def test_every_local_link_leads_to_a_file() -> None:
    targets = re.findall(r"\]\((?!\w+:)([^)#]+)", README)

    assert [target for target in targets if not (ROOT / target).exists()] == []
    assert "LICENSE" in targets


@pytest.mark.parametrize("command", examples("sh"))
def test_every_command_is_a_target_of_the_makefile(command: str) -> None:
    target = command.removeprefix("make ").strip()

    assert re.search(rf"^{re.escape(target)}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
