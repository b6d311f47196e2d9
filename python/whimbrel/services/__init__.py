"""Use cases: what management interfaces, the command line and embedding programs can ask of a running broker.

They know records and errors; JSON, HTTP, terminals and sockets are for their callers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

from whimbrel.engine.engine import Engine
from whimbrel.services.clients import Clients
from whimbrel.services.configuration import Configuration
from whimbrel.services.ledger import Ledger
from whimbrel.services.listeners import Listeners
from whimbrel.services.messages import Messages
from whimbrel.services.metrics import Metrics
from whimbrel.services.storage import Storage


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The use cases of one node, as one thing to hand around."""

    clients: Clients
    configuration: Configuration
    ledger: Ledger
    listeners: Listeners
    messages: Messages
    metrics: Metrics
    storage: Storage

    @classmethod
    def over(cls, engine: Engine, *counters: Callable[[], Mapping[str, int]]) -> Self:
        """All use cases over `engine`; `counters` are further sources for the metrics."""
        return cls(
            clients=Clients(engine),
            configuration=Configuration(),
            ledger=Ledger(engine),
            listeners=Listeners(engine),
            messages=Messages(engine),
            metrics=Metrics(engine, *counters),
            storage=Storage(engine),
        )
