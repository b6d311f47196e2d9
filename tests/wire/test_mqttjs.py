"""The broker as MQTT.js sees it."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.wire.product import Product

ECHO = Path(__file__).with_name("mqttjs_echo.mjs")


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_client_gets_its_own_messages_back(product: Product, node: str, name: str, version: int, qos: int) -> None:
    words = [node, str(ECHO), f"mqtt://127.0.0.1:{product.port}", name, str(version), str(qos), "20"]
    result = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["granted"] == [qos]
    assert told["received"] == [
        {"topic": f"{name}/{number}", "payload": f"message {number}", "qos": qos} for number in range(20)
    ]
