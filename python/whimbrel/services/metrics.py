"""The counters of this node: those of the data plane by their EMQ X 4 names, and those of the Python side."""

from collections.abc import Callable, Mapping

from whimbrel.engine.engine import Engine


class Metrics:
    """Counters, read and summed over the workers at the moment of asking."""

    def __init__(self, engine: Engine, *more: Callable[[], Mapping[str, int]]) -> None:
        """`more` are further sources; no two sources use one name."""
        self._sources = [engine.counters, *more]

    def include(self, source: Callable[[], Mapping[str, int]]) -> None:
        """Read `source` as well from now on."""
        self._sources.append(source)

    def counters(self) -> dict[str, int]:
        """All counters by name, sorted."""
        merged = {name: count for source in self._sources for name, count in source().items()}
        return dict(sorted(merged.items()))
