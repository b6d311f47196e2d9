"""Joins settings, data plane, hooks and services to one running broker.

A list, no logic. Used by the command (`foreground`) and by embedding programs (`whimbrel.embed`), on the running loop.
"""

import errno
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from typing import Self

from whimbrel.alarms import Alarms
from whimbrel.engine.engine import Engine
from whimbrel.engine.options import from_settings
from whimbrel.errors import CertificateFailure, ListenFailure, StartError, StorageFailure
from whimbrel.hooks.registry import Registry
from whimbrel.hooks.runner import Runner
from whimbrel.services import Services
from whimbrel.services.alarm_topics import AlarmTopics
from whimbrel.services.monitors import Monitors
from whimbrel.services.sys_topics import SysTopics
from whimbrel.services.vitals import Vitals
from whimbrel.settings import Changes, Mqtt, Settings, changes
from whimbrel.tables import Tables

# What alarms have to store when the broker stops may take this long.
_SAVE_WAIT_S = 1.0
_CHOOSE = "choose another with --set listeners.{dotted}.bind="
_PORT_ADVICE: Mapping[int, str] = {
    errno.EADDRINUSE: f"stop the program that uses it, or {_CHOOSE}127.0.0.1:PORT",
    errno.EADDRNOTAVAIL: f"this machine has no such address; {_CHOOSE}ADDRESS:PORT",
    errno.EACCES: f"ports below 1024 need a privilege (CAP_NET_BIND_SERVICE); {_CHOOSE}127.0.0.1:PORT",
}
_SWITCH_OFF = ", or switch the listener off with bind=off"
_PATH_ADVICE = "choose another path with --set listeners.{dotted}.bind=/PATH"


class Assembly:
    """The parts of one running broker."""

    def __init__(self, engine: Engine, runner: Runner, settings: Settings) -> None:
        self.engine = engine
        self.settings = settings
        self.tables = Tables(engine.rows)
        self._runner = runner
        self._alarms = _alarms(self.tables, settings)
        self._alarms.watch(runner.tell_alarm)
        topics = AlarmTopics(engine, self._alarms, node=settings.node.name)
        self.services = Services.over(
            engine, runner.counters, topics.counters, self.tables.counters, alarms=self._alarms
        )
        self._monitors = Monitors(engine, self._alarms, settings.sysmon, Vitals(settings.node.data_dir))
        self._sys = SysTopics(
            engine, self.services.metrics, settings.sys, node=settings.node.name, version=version("whimbrel")
        )

    @classmethod
    def start(cls, settings: Settings, registry: Registry) -> Self:
        """Bind, start the workers, join the hooks; clients wait until `open`. Needs a running loop.

        Raises StartError.
        """
        try:
            engine = Engine.start(from_settings(settings))
        except ListenFailure as error:
            raise StartError(_advised(error)) from error
        except (CertificateFailure, StorageFailure) as error:
            raise StartError(str(error)) from error
        runner = Runner(engine, registry, deadline_ms=settings.hooks.deadline_ms)
        return cls(engine, runner, settings)

    def open(self) -> None:
        """Let clients in. Only now, because the hooks decide about the very first client, too."""
        self.engine.open()
        self._sys.start()
        self._alarms.save()
        self._monitors.start()

    def reload(self, settings: Settings) -> Changes:
        """Let `settings` hold as far as that goes without a restart; returns what changed and what waits."""
        found = changes(self.settings, settings)
        started = self.settings
        zones = {name: _reloaded(zone, settings.zones.get(name, zone)) for name, zone in started.zones.items()}
        mqtt = _reloaded(started.mqtt, settings.mqtt)
        # What needs a restart stays as it was started, so that the next reload names it again.
        kept = {name: getattr(settings, name) for name in ("hooks", "alarm", "sysmon", "log")}
        self.settings = replace(started, mqtt=mqtt, zones=zones, **kept)
        self.engine.reload(from_settings(self.settings))
        self._runner.set_deadline(settings.hooks.deadline_ms)
        self._alarms.set_bounds(size_limit=settings.alarm.size_limit, validity_ms=settings.alarm.validity_ms)
        self._monitors.set_limits(settings.sysmon)
        return found

    async def stop(self, *, grace_ms: int) -> None:
        """Say goodbye to the clients, then end the hooks; takes at most the grace and 2.5 s."""
        await self._monitors.stop()
        await self._sys.stop()
        await self._alarms.stop(wait_s=_SAVE_WAIT_S)
        try:
            await self.engine.stop(grace_ms=grace_ms)
        finally:
            await self._runner.stop()


def _reloaded(started: Mqtt, now: Mqtt) -> Mqtt:
    return replace(now, durability=started.durability)


def _alarms(tables: Tables, settings: Settings) -> Alarms:
    return Alarms(tables, size_limit=settings.alarm.size_limit, validity_ms=settings.alarm.validity_ms)


def _advised(error: ListenFailure) -> str:
    kind, _, name = error.listener.partition(":")
    if not kind:
        return str(error)
    advice = _PATH_ADVICE if kind == "unix" else _PORT_ADVICE.get(error.errno, f"{_CHOOSE}127.0.0.1:PORT")
    # Not everybody who starts a broker knows that there is such a listener.
    more = _SWITCH_OFF if kind in ("ws", "wss") else ""
    return f"{error}; {advice.format(dotted=f'{kind}.{name}')}{more}"
