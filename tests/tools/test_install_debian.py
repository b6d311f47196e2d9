"""The installer of Debian packages; apt-get, sudo and id are scripts that write down how they were called."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

INSTALLER = Path(__file__).resolve().parents[2] / "tools" / "install_debian"
LIST = """\
# a comment
bread        true

mosquitto    false
butter       test -e "$PANTRY/butter"
"""


@dataclass
class Machine:
    """A folder that is the whole PATH: what is not in it is not installed."""

    folder: Path

    def program(self, name: str, script: str) -> None:
        path = self.folder / name
        path.write_text(f"#!/bin/bash\n{script}\n", encoding="utf-8")
        path.chmod(0o755)

    def install(self, listed: str = LIST) -> subprocess.CompletedProcess[str]:
        packages = self.folder / "list.txt"
        packages.write_text(listed, encoding="utf-8")
        names = {"PATH": self.folder, "PANTRY": self.folder, "POLICY_RC_D": self.folder / "policy"}
        return subprocess.run(
            [INSTALLER, packages],
            env={name: str(path) for name, path in names.items()},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def log(self) -> list[str]:
        return (self.folder / "log").read_text(encoding="utf-8").splitlines()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Debian, as an ordinary user without sudo."""
    machine = Machine(tmp_path)
    for name in ("bash", "env", "chmod", "rm", "mkdir"):
        program = shutil.which(name)
        assert program is not None
        os.symlink(program, tmp_path / name)
    machine.program("id", "echo 1000")
    machine.program("sudo", "exit 1")
    machine.program("systemctl", f"echo systemctl $* >> {tmp_path}/log")
    machine.program(
        "apt-get", f"echo apt-get $* >> {tmp_path}/log; {tmp_path}/policy; echo policy says $? >> {tmp_path}/log"
    )
    return machine


def test_without_the_right_to_install_it_says_exactly_what_is_missing(machine: Machine) -> None:
    run = machine.install()

    assert (run.returncode, run.stdout) == (1, "missing for the tests: mosquitto butter\n")
    assert run.stderr == (
        "no right to install them; run as root: apt-get install --no-install-recommends mosquitto butter\n"
    )


def test_root_installs_what_is_missing_and_no_service_may_start_meanwhile_or_at_boot(machine: Machine) -> None:
    machine.program("id", "echo 0")

    run = machine.install()

    assert run.returncode == 0, run.stderr
    update, allowed_in_update, install, allowed_in_install, disable = machine.log()
    assert update.startswith("apt-get update")
    assert install.startswith("apt-get install -y ")
    assert install.endswith(" mosquitto butter")
    assert (allowed_in_update, allowed_in_install) == ("policy says 101", "policy says 101")
    assert disable == "systemctl disable mosquitto.service"
    assert not (machine.folder / "policy").exists()


def test_a_policy_that_the_machine_has_is_left_alone(machine: Machine) -> None:
    machine.program("id", "echo 0")
    machine.program("policy", "exit 104")

    assert machine.install().returncode == 0
    assert "policy says 104" in machine.log()
    assert (machine.folder / "policy").exists()


def test_sudo_without_a_password_is_used(machine: Machine) -> None:
    machine.program("sudo", 'shift; "$@"')

    run = machine.install()

    assert run.returncode == 0, run.stderr
    assert machine.log()[2].endswith(" mosquitto butter")


def test_a_failing_apt_fails_the_run_and_leaves_no_policy_behind(machine: Machine) -> None:
    machine.program("id", "echo 0")
    machine.program("apt-get", "exit 100")

    assert machine.install().returncode == 100
    assert not (machine.folder / "policy").exists()


def test_nothing_is_said_and_done_where_nothing_is_missing(machine: Machine) -> None:
    (machine.folder / "butter").touch()

    run = machine.install(LIST.replace("mosquitto    false", ""))

    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
