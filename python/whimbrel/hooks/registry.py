"""Who registered for which hook point, in the order of registration.

Knows names and functions, calls none of them. Interest (what must leave the data plane at all) follows from what is
registered; whoever runs the hooks watches for changes. Belongs to one thread, that of the broker's loop.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from whimbrel.errors import HookError
from whimbrel.hooks.points import (
    POINTS,
    AlarmActivatedHook,
    AlarmDeactivatedHook,
    AuthenticateHook,
    AuthorizeHook,
    ConnectedHook,
    DisconnectedHook,
    EnhancedAuthenticateHook,
)

AuthenticateT = TypeVar("AuthenticateT", bound=AuthenticateHook)
EnhancedAuthenticateT = TypeVar("EnhancedAuthenticateT", bound=EnhancedAuthenticateHook)
AuthorizeT = TypeVar("AuthorizeT", bound=AuthorizeHook)
ConnectedT = TypeVar("ConnectedT", bound=ConnectedHook)
DisconnectedT = TypeVar("DisconnectedT", bound=DisconnectedHook)
AlarmActivatedT = TypeVar("AlarmActivatedT", bound=AlarmActivatedHook)
AlarmDeactivatedT = TypeVar("AlarmDeactivatedT", bound=AlarmDeactivatedHook)


@dataclass(frozen=True, slots=True, eq=False)
class Registration:
    """One hook at one point; `name` is what logs and counters call it."""

    point: str
    name: str
    hook: Callable[[Any], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interest:
    """Which points of the data plane have at least one hook."""

    authenticate: bool
    authorize: bool
    connected: bool
    disconnected: bool
    enhanced_authenticate: bool = False


class Registry:
    """The hooks of one broker. Its methods named after the points are decorators:

    @broker.hook.authenticate
    async def only_known(question): ...
    """

    def __init__(self) -> None:
        self._by_point: dict[str, list[Registration]] = {point: [] for point in POINTS}
        self._watchers: list[Callable[[], None]] = []

    def register(self, point: str, hook: Callable[[Any], Any], *, name: str | None = None) -> Registration:
        """Add `hook`, an async function, behind the others of `point`.

        Raises HookError for a point that does not exist and for a hook that is not async.
        """
        if point not in self._by_point:
            raise HookError(f"there is no hook point {point!r}; the hook points are {', '.join(POINTS)}")
        if not _is_async(hook):
            raise HookError(f"the {point} hook {_name(hook)} is not an async function; define it with `async def`")
        registration = Registration(point, name or _name(hook), hook)
        self._by_point[point].append(registration)
        self._changed()
        return registration

    def remove(self, registration: Registration) -> None:
        """Take a hook out again; questions that it is working on are still answered by it. Raises HookError."""
        if registration not in self._by_point[registration.point]:
            raise HookError(f"the {registration.point} hook {registration.name} is not registered")
        self._by_point[registration.point].remove(registration)
        self._changed()

    def authenticate(self, hook: AuthenticateT) -> AuthenticateT:
        """Register for `authenticate`; usable as a decorator."""
        self.register("authenticate", hook)
        return hook

    def enhanced_authenticate(self, hook: EnhancedAuthenticateT) -> EnhancedAuthenticateT:
        """Register for `enhanced_authenticate`; usable as a decorator."""
        self.register("enhanced_authenticate", hook)
        return hook

    def authorize(self, hook: AuthorizeT) -> AuthorizeT:
        """Register for `authorize`; usable as a decorator."""
        self.register("authorize", hook)
        return hook

    def connected(self, hook: ConnectedT) -> ConnectedT:
        """Register for `connected`; usable as a decorator."""
        self.register("connected", hook)
        return hook

    def disconnected(self, hook: DisconnectedT) -> DisconnectedT:
        """Register for `disconnected`; usable as a decorator."""
        self.register("disconnected", hook)
        return hook

    def alarm_activated(self, hook: AlarmActivatedT) -> AlarmActivatedT:
        """Register for `alarm_activated`; usable as a decorator."""
        self.register("alarm_activated", hook)
        return hook

    def alarm_deactivated(self, hook: AlarmDeactivatedT) -> AlarmDeactivatedT:
        """Register for `alarm_deactivated`; usable as a decorator."""
        self.register("alarm_deactivated", hook)
        return hook

    def at(self, point: str) -> tuple[Registration, ...]:
        """The hooks of `point` in order."""
        return tuple(self._by_point[point])

    def interest(self) -> Interest:
        """Which points of the data plane have hooks now."""
        return Interest(**{one.name: bool(self._by_point[one.name]) for one in fields(Interest)})

    def watch(self, changed: Callable[[], None]) -> None:
        """Call `changed` after every later registration and removal."""
        self._watchers.append(changed)

    def unwatch(self, changed: Callable[[], None]) -> None:
        """End `watch`."""
        self._watchers.remove(changed)

    def _changed(self) -> None:
        for changed in self._watchers:
            changed()


def _is_async(hook: object) -> bool:
    return inspect.iscoroutinefunction(hook) or inspect.iscoroutinefunction(getattr(hook, "__call__", None))  # noqa: B004


def _name(hook: object) -> str:
    module = getattr(hook, "__module__", "?")
    return f"{module}.{getattr(hook, '__qualname__', type(hook).__qualname__)}"
