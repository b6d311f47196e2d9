"""Reload of a running broker, on SIGHUP and by `whimbrel ctl reload`: limits hold for connections from then on."""

import signal
import subprocess
from pathlib import Path

import pytest

from tests.raw_client import RawClient
from tests.waiting import wait_until
from tests.wire.product import Product, command, running
from whimbrel.control.client import ControlClient
from whimbrel.errors import ControlError

REFUSED = 0x80


def granted_at(product: Product) -> int:
    """The QoS that a new connection's subscription at QoS 2 is granted."""
    with RawClient((product.host, product.port)) as client:
        client.connect("asks")
        return client.subscribe("a", qos=2)


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "broker.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_what_changed_holds_and_what_cannot_is_named(tmp_path: Path) -> None:
    file = written(tmp_path, "mqtt.max_qos_allowed = 2")
    with running(tmp_path / "data", config=file) as product:
        assert granted_at(product) == 2
        written(tmp_path, 'mqtt.max_qos_allowed = 1\nretained.max_messages = 7\nmqtt.durability = "off"')
        with ControlClient(product.data_dir) as control:
            found = control.request("reload")
            again = control.request("reload")
        later = ["retained.max_messages", "mqtt.durability"]
        assert (found["now"], found["at_restart"]) == (["mqtt.max_qos_allowed"], later)
        assert (again["now"], again["at_restart"]) == ([], later)
        assert granted_at(product) == 1


def test_sighup_reloads_and_a_mistake_changes_nothing(tmp_path: Path) -> None:
    file = written(tmp_path, "mqtt.max_qos_allowed = 1")
    with running(tmp_path / "data", config=file) as product:
        written(tmp_path, "mqtt.max_qos_allowed = 3")
        with ControlClient(product.data_dir) as control, pytest.raises(ControlError, match=r"mqtt\.max_qos_allowed"):
            control.request("reload")
        assert granted_at(product) == 1
        written(tmp_path, "mqtt.max_qos_allowed = 0")
        product.process.send_signal(signal.SIGHUP)
        wait_until(lambda: granted_at(product) == 0, what="the new limit")


def test_the_command_says_what_happened(tmp_path: Path) -> None:
    file = written(tmp_path, "")
    with running(tmp_path / "data", config=file):
        words = [command(), "ctl", "--data-dir", str(tmp_path / "data"), "reload"]
        first = subprocess.run(words, capture_output=True, text=True, check=False)
        written(tmp_path, "log.level = 'warning'\nworkers = 1\nnode.name = 'x@y'")
        second = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (first.returncode, first.stdout) == (0, "read again        certificates of 0 listeners\n")
    assert "holds now         log.level\n" in second.stdout
    assert "needs a restart   node.name\n" in second.stdout
