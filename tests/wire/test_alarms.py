"""Alarms of the product as an operator and a monitor see them: a disk without room, a restart, kill -9."""

import json
import signal
from pathlib import Path
from typing import Any

from tests.raw_client import RawClient
from tests.waiting import wait_until
from tests.wire.product import Product, running
from tests.wire.test_storage import SYNC, entered, fill_up, tool, without_room


def alarms(product: Product, *words: str) -> list[dict[str, Any]]:
    asked = tool("ctl", "alarms", "--json", *words, "--data-dir", str(product.data_dir))
    assert (asked.returncode, asked.stderr) == (0, "")
    found: list[dict[str, Any]] = json.loads(asked.stdout)
    return found


def heard(monitor: RawClient) -> tuple[str, dict[str, Any]]:
    """Last level of the topic and payload of the next alarm."""
    message = monitor.publication()
    return message.topic.rpartition("/")[2], json.loads(message.payload)


def test_a_store_that_refuses_is_an_alarm_until_it_recovers_and_history_after_kill_9(tmp_path: Path) -> None:
    with running(tmp_path, SYNC) as product:
        monitor = entered(product, "monitor")
        monitor.subscribe("$SYS/brokers/+/alarms/#")
        with entered(product, "sleeper", is_durable=True) as sleeper:
            sleeper.subscribe("d/#", qos=1)
        assert alarms(product) == alarms(product, "--history") == []
        with entered(product, "filler") as filler, without_room(product):
            fill_up(product, filler)
            word, raised = heard(monitor)
            assert (word, raised["name"], raised["activated"]) == ("activate", "storage_refusing", True)
            assert (raised["deactivate_at"], "make room" in raised["message"]) == ("infinity", True)
            (present,) = alarms(product)
            assert (present["name"], present["deactivated_at_ms"]) == ("storage_refusing", None)
            assert present["activated_at_ms"] == raised["activate_at"] // 1_000
            table = tool("ctl", "alarms", "--data-dir", str(tmp_path)).stdout.splitlines()
            assert [table[0].split(), table[1].split()[1]] == [["since", "alarm", "message"], "storage_refusing"]
        word, over = heard(monitor)
        assert (word, over["activate_at"]) == ("deactivate", raised["activate_at"])
        assert over["deactivate_at"] >= raised["activate_at"]
        monitor.close()
        wait_until(lambda: alarms(product) == [], what="the end of the alarm")
        (past,) = alarms(product, "--history")
        wait_until(lambda: _count(product, "whimbrel.alarms.unsaved") == 0, what="the alarm to be stored")
        product.process.send_signal(signal.SIGKILL)
        product.ended()
    with running(tmp_path, SYNC) as product:
        assert alarms(product) == []
        assert alarms(product, "--history") == [past]
        table = tool("ctl", "alarms", "--history", "--data-dir", str(tmp_path)).stdout.splitlines()
        assert table[0].split() == ["since", "until", "alarm", "message"]
    counted = json.loads(tool("store", "stats", "--json", "--data-dir", str(tmp_path)).stdout)
    assert counted["families"] == {"alarms": 1}
    assert "rows of the control plane: alarms" in tool("store", "check", "--data-dir", str(tmp_path)).stdout


def _count(product: Product, name: str) -> int:
    asked = tool("ctl", "metrics", "--json", "--data-dir", str(product.data_dir))
    found: int = json.loads(asked.stdout)[name]
    return found


def test_an_alarm_that_holds_when_the_broker_is_killed_is_over_at_the_next_start(tmp_path: Path) -> None:
    # Every machine has more than one percent of its memory in use.
    looks = ("sysmon.interval=1h", "sysmon.system_memory_high_watermark=1", "sysmon.system_memory_low_watermark=1")
    name = "system_memory_high_watermark"
    with running(tmp_path, SYNC, *looks) as product:
        wait_until(lambda: [one["name"] for one in alarms(product)] == [name], what="the alarm")
        wait_until(lambda: _count(product, "whimbrel.alarms.unsaved") == 0, what="the alarm to be stored")
        product.process.send_signal(signal.SIGKILL)
        product.ended()
    with running(tmp_path, SYNC) as product:
        assert alarms(product) == []
        (past,) = alarms(product, "--history")
        assert (past["name"], past["deactivated_at_ms"] > past["activated_at_ms"]) == (name, True)


def test_a_broker_in_memory_has_alarms_and_forgets_them(tmp_path: Path) -> None:
    looks = ("sysmon.interval=1h", "sysmon.system_memory_high_watermark=1", "sysmon.system_memory_low_watermark=1")
    with running(tmp_path, "storage.durability=off", *looks) as product:
        wait_until(lambda: len(alarms(product)) == 1, what="the alarm")
    with running(tmp_path, "storage.durability=off") as product:
        assert alarms(product) == alarms(product, "--history") == []
