"""The matrix of real clients: every library over every transport and in every version that it has, against one broker.

The cells are in `clients/cells.py`, what each goes through in `clients/scenarios.py`, one file beside them for each
library.
"""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.wire.authority import Authority
from tests.wire.clients.adapter import Adapter, Door
from tests.wire.clients.aiomqtt_adapter import AiomqttAdapter
from tests.wire.clients.cells import CELLS, Cell
from tests.wire.clients.driven import DrivenAdapter
from tests.wire.clients.mosquitto_adapter import MosquittoAdapter
from tests.wire.clients.page import page
from tests.wire.clients.paho_adapter import PahoAdapter
from tests.wire.clients.scenarios import SCENARIOS, UNABLE, Stage, scenarios_of
from tests.wire.product import Product, running

HERE = Path(__file__).parent
# Where the Makefile puts what requirements.txt beside this file says.
PYTHON_CLIENTS = Path(sys.prefix) / "clients"
ROUNDS = [(cell, scenario) for cell in CELLS for scenario in scenarios_of(cell)]


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Door]]:
    """One broker with a listener for each transport."""
    authority = Authority(tmp_path_factory.mktemp("matrix") / "ca")
    server, client = authority.issue("server"), authority.issue("client")
    tls = ["bind=127.0.0.1:0", f"cert_file={server.cert}", f"key_file={server.key}"]
    listeners = {
        "ws.default": ["bind=127.0.0.1:0"],
        "unix.default": ["bind=m.sock"],
        "tls.default": tls,
        "wss.default": tls,
        "tls.known": [*tls, f"ca_file={authority.ca}", "verify=required"],
    }
    sets = [f"listeners.{name}.{pair}" for name, pairs in listeners.items() for pair in pairs]
    with running(tmp_path_factory.mktemp("matrix") / "data", *sets) as product:
        yield {
            "tcp": _door(product, "tcp", "tcp:default"),
            "tls": _door(product, "tls", "tls:default", ca=authority.ca),
            "tls+cert": _door(product, "tls+cert", "tls:known", ca=authority.ca, pair=client),
            "ws": _door(product, "ws", "ws:default"),
            "wss": _door(product, "wss", "wss:default", ca=authority.ca),
            "unix": Door(transport="unix", place=str(product.data_dir / "m.sock")),
        }


def _door(product: Product, transport: str, listener: str, **more: object) -> Door:
    host, port = product.address(listener)
    return Door(transport=transport, host=host, port=port, **more)  # type: ignore[arg-type]


def _gmqtt() -> Adapter:
    if not (PYTHON_CLIENTS / "gmqtt").is_dir():
        pytest.fail(f"{PYTHON_CLIENTS}/gmqtt is missing; `make test` installs it")
    words = [sys.executable, str(HERE / "clients/gmqtt_driver.py")]
    return DrivenAdapter(words, {**os.environ, "PYTHONPATH": str(PYTHON_CLIENTS)}, PYTHON_CLIENTS)


@pytest.fixture(scope="module")
def adapters(node: str) -> Iterator[dict[str, Adapter]]:
    """Every library, by its name in the table."""
    made: dict[str, Adapter] = {
        "paho-mqtt": PahoAdapter(),
        "aiomqtt": AiomqttAdapter(),
        "gmqtt": _gmqtt(),
        "MQTT.js": DrivenAdapter([node, str(HERE / "clients/mqttjs_driver.mjs")], dict(os.environ), HERE),
        "mosquitto_pub, mosquitto_sub": MosquittoAdapter(),
    }
    yield made
    for adapter in made.values():
        adapter.end()


@pytest.mark.parametrize(
    ("cell", "scenario"), ROUNDS, ids=[f"{cell.title}-{scenario.__name__}" for cell, scenario in ROUNDS]
)
def test_every_client_over_every_transport_in_every_version(
    doors: dict[str, Door], adapters: dict[str, Adapter], cell: Cell, scenario: Callable[[Stage], None], name: str
) -> None:
    with Stage(adapters, cell, doors[cell.transport], name) as stage:
        scenario(stage)


def test_the_page_says_what_is_tested() -> None:
    written = (HERE.parents[1] / "docs/reference/clients.md").read_text(encoding="utf-8")
    assert written == page(), "run `make docs`"


def test_what_a_library_is_unable_to_do_names_a_library_and_a_scenario() -> None:
    libraries, names = {cell.library for cell in CELLS}, {scenario.__name__ for scenario in SCENARIOS}
    assert all(library in libraries and scenario in names for library, scenario in UNABLE)
