"""Use cases: what management interfaces, the command line and embedding programs can ask of a running broker.

They know records and errors; JSON, HTTP, terminals and sockets are for their callers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

from whimbrel.alarms import Alarms
from whimbrel.engine.engine import Engine
from whimbrel.services.clients import Clients
from whimbrel.services.configuration import Configuration
from whimbrel.services.ledger import Ledger
from whimbrel.services.listeners import Listeners
from whimbrel.services.messages import Messages
from whimbrel.services.metrics import Metrics
from whimbrel.services.storage import Storage
from whimbrel.tables import Tables


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The use cases of one node, as one thing to hand around."""

    alarms: Alarms
    clients: Clients
    configuration: Configuration
    ledger: Ledger
    listeners: Listeners
    messages: Messages
    metrics: Metrics
    storage: Storage

    @classmethod
    def over(cls, engine: Engine, *counters: Callable[[], Mapping[str, int]], alarms: Alarms | None = None) -> Self:
        """All use cases over `engine` and `alarms` (else some of their own); `counters` are more sources of metrics."""
        alarms = alarms or Alarms(Tables(engine.rows))
        return cls(
            alarms=alarms,
            clients=Clients(engine),
            configuration=Configuration(),
            ledger=Ledger(engine),
            listeners=Listeners(engine),
            messages=Messages(engine),
            metrics=Metrics(engine, alarms.counters, *counters),
            storage=Storage(engine),
        )
