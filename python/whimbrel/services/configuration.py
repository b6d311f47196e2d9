"""The settings of this node while it runs: read the sources again and let hold what can. Runs on the engine's loop."""

from collections.abc import Callable

from whimbrel.settings import Changes


class Configuration:
    """Knows how to reload once `follow` has told it; until then there are no sources to read again."""

    def __init__(self) -> None:
        self._reload: Callable[[], Changes] | None = None

    def follow(self, reload: Callable[[], Changes]) -> None:
        """From now on `reload` reads the sources and carries out what can be carried out."""
        self._reload = reload

    def reload(self) -> Changes:
        """What changed and what waits for a restart; nothing, where there are no sources.

        Raises SettingsError, and then nothing has changed.
        """
        return Changes(now=(), at_restart=()) if self._reload is None else self._reload()
