"""The conservation ledger of this node: nothing that came in is lost without a reason. Runs on the engine's loop."""

from collections.abc import Mapping
from dataclasses import dataclass

from whimbrel.engine.engine import Engine


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One identity: the parts of what came, of what became of it, and what is missing (0, or there is a defect)."""

    name: str
    came: Mapping[str, int]
    became: Mapping[str, int]
    missing: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """All identities. `on_the_way` are deliveries between two workers, counted at slightly different moments."""

    lines: tuple[Line, ...]
    on_the_way: int

    @property
    def is_even(self) -> bool:
        """Whether nothing is missing anywhere."""
        return not any(line.missing for line in self.lines)


class Ledger:
    """Asks the workers, each of which looks at its counters and its sessions at one moment."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def balance(self) -> Balance:
        """The ledger now. Costs the data plane a look at every session. Raises EngineError."""
        found = await self._engine.audit()
        lines = (
            Line(name=name, came=dict(came), became=dict(became), missing=missing)
            for name, came, became, missing in found.lines
        )
        return Balance(lines=tuple(lines), on_the_way=found.on_the_way)
