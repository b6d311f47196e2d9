"""The settings of this node while it runs: read the sources again and let hold what can. Runs on the engine's loop."""

from collections.abc import Callable

from whimbrel.errors import EngineError
from whimbrel.settings import Changes


class Configuration:
    """Knows how to reload once `follow` has told it; until then there are no sources to read again."""

    def __init__(self) -> None:
        self._reload: Callable[[], Changes] | None = None

    def follow(self, reload: Callable[[], Changes]) -> None:
        """From now on `reload` reads the sources and carries out what can be carried out."""
        self._reload = reload

    def reload(self) -> Changes:
        """What changed and what waits for a restart. Raises SettingsError (then nothing has changed), EngineError."""
        if self._reload is None:
            raise EngineError("this broker was not started from a file, so there is nothing to read again")
        return self._reload()
