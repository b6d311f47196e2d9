"""The broker as mosquitto_pub and mosquitto_sub see it."""

import subprocess

import pytest

from tests.wire.product import Product

WAIT_S = 10
VERSIONS = pytest.mark.parametrize("version", ["31", "311", "5"])


@VERSIONS
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_published_line_is_printed_by_the_subscriber(
    product: Product, mosquitto_pub: str, mosquitto_sub: str, name: str, version: str, qos: int
) -> None:
    where = ["-h", product.host, "-p", str(product.port), "-V", version, "-q", str(qos)]
    words = [mosquitto_sub, *where, "-i", name, "-t", f"{name}/#", "-v", "-C", "1", "-W", str(WAIT_S)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as subscriber:
        product.wait_subscribed(name)
        publish = [mosquitto_pub, *where, "-t", f"{name}/a", "-m", "it works"]
        subprocess.run(publish, check=True, timeout=WAIT_S)
        assert subscriber.communicate(timeout=WAIT_S)[0] == f"{name}/a it works\n"


@VERSIONS
def test_a_retained_message_is_there_before_its_subscriber(
    product: Product, mosquitto_pub: str, mosquitto_sub: str, name: str, version: str
) -> None:
    where = ["-h", product.host, "-p", str(product.port), "-V", version]
    subprocess.run([mosquitto_pub, *where, "-t", name, "-m", "kept", "-r", "-q", "1"], check=True, timeout=WAIT_S)
    words = [mosquitto_sub, *where, "-t", name, "-C", "1", "-W", str(WAIT_S), "-F", "%r %p"]
    result = subprocess.run(words, capture_output=True, text=True, check=True, timeout=WAIT_S + 5)
    assert result.stdout == "1 kept\n"
