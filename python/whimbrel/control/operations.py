"""What may be asked on the management line: a table of operations, and the one function that performs a request.

Pure apart from the services it calls: no socket, no bytes. A new operation is one row here and, where it shows
something new, one view.
"""

import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from whimbrel.alarms import Alarm
from whimbrel.control import views
from whimbrel.errors import CertificateFailure, ClientNotFound, ControlError, EngineError, StorageFailure
from whimbrel.services import Services
from whimbrel.services.ledger import Balance
from whimbrel.settings import Changes, SettingsError


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """One argument of an operation: its JSON type and, where it may be left out, its default."""

    kind: type
    default: object = None

    @property
    def is_required(self) -> bool:
        """Whether the request must name it."""
        return self.default is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One thing that may be asked: what it does, what it needs, how the result looks."""

    run: Callable[..., Awaitable[Any]]
    view: Callable[[Any], object]
    inputs: Mapping[str, Input] = field(default_factory=dict)


async def _ping(_services: Services) -> int:
    return os.getpid()


async def _clients(services: Services, *, cursor: int, limit: int) -> Any:
    return await services.clients.page(cursor=cursor, limit=limit)


async def _metrics(services: Services) -> dict[str, int]:
    return services.metrics.metrics()


async def _stats(services: Services) -> dict[str, int]:
    return services.metrics.stats()


async def _ledger(services: Services) -> Balance:
    return await services.ledger.balance()


async def _backup(services: Services, *, path: str) -> Path:
    return await services.storage.backup(Path(path))


async def _alarms(services: Services, *, history: bool) -> list[Alarm]:
    return services.alarms.history() if history else services.alarms.present()


async def _kick(services: Services, *, client_id: str) -> None:
    await services.clients.kick(client_id)


async def _reload(services: Services) -> tuple[Changes, int]:
    return services.configuration.reload(), await services.listeners.reload_certificates()


OPERATIONS: Final[Mapping[str, Operation]] = {
    "ping": Operation(run=_ping, view=views.process),
    "clients": Operation(
        run=_clients,
        view=views.client_page,
        inputs={"cursor": Input(kind=int, default=0), "limit": Input(kind=int, default=1_000)},
    ),
    "metrics": Operation(run=_metrics, view=views.counters),
    "stats": Operation(run=_stats, view=views.counters),
    "alarms": Operation(run=_alarms, view=views.alarms, inputs={"history": Input(kind=bool, default=False)}),
    "ledger": Operation(run=_ledger, view=views.balance),
    "kick": Operation(run=_kick, view=views.nothing, inputs={"client_id": Input(kind=str)}),
    "reload": Operation(run=_reload, view=views.reloaded),
    "backup": Operation(run=_backup, view=views.copied, inputs={"path": Input(kind=str)}),
}

_CODES: Final[Mapping[type[Exception], str]] = {
    CertificateFailure: "bad_file",
    ClientNotFound: "not_found",
    EngineError: "unavailable",
    SettingsError: "invalid_settings",
    StorageFailure: "storage",
    ValueError: "bad_request",
}


async def perform(request: object, services: Services) -> object:
    """Perform a parsed request and return its JSON value. Raises ControlError for everything that can be wrong."""
    if not isinstance(request, dict):
        raise ControlError("a request is a JSON object with a field op", code="bad_request")
    operation, arguments = _matched(request)
    try:
        return operation.view(await operation.run(services, **arguments))
    except tuple(_CODES) as error:
        raise ControlError(str(error), code=_code(error)) from error


def _code(error: Exception) -> str:
    return next(code for kind, code in _CODES.items() if isinstance(error, kind))


def _matched(request: dict[str, Any]) -> tuple[Operation, dict[str, object]]:
    name = request.get("op")
    operation = OPERATIONS.get(name) if isinstance(name, str) else None
    if operation is None:
        known = ", ".join(OPERATIONS)
        raise ControlError(f"there is no operation {name!r}; the operations are {known}", code="unknown_operation")
    unknown = request.keys() - operation.inputs.keys() - {"op"}
    if unknown:
        allowed = ", ".join(operation.inputs) or "no arguments"
        raise ControlError(f"{name} does not take {sorted(unknown)[0]!r}; it takes {allowed}", code="bad_request")
    return operation, {key: _argument(request, key, wanted) for key, wanted in operation.inputs.items()}


def _argument(request: dict[str, Any], key: str, wanted: Input) -> object:
    if key not in request and not wanted.is_required:
        return wanted.default
    value = request.get(key)
    # type(), because a JSON true is an int to isinstance.
    if type(value) is not wanted.kind:
        raise ControlError(f"{key} is {value!r}, it must be of type {wanted.kind.__name__}", code="bad_request")
    return value
