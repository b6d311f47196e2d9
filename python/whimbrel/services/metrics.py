"""The numbers of this node: metrics, which count events, and statistics, which count what is there.

Metrics are those of the data plane by their EMQ X 4 names, and those of the Python side. What each name means is in
`meanings`.
"""

from collections.abc import Callable, Mapping

from whimbrel.engine.engine import Engine


class Metrics:
    """Numbers, read and summed over the workers at the moment of asking."""

    def __init__(self, engine: Engine, *more: Callable[[], Mapping[str, int]]) -> None:
        """`more` are further sources of metrics; no two sources use one name."""
        self._engine = engine
        self._sources = [engine.metrics, *more]

    def include(self, source: Callable[[], Mapping[str, int]]) -> None:
        """Read `source` as well from now on."""
        self._sources.append(source)

    def metrics(self) -> dict[str, int]:
        """All metrics by name, sorted. They only grow, but for the gauges that `meanings` names."""
        merged = {name: count for source in self._sources for name, count in source().items()}
        return dict(sorted(merged.items()))

    def stats(self) -> dict[str, int]:
        """All statistics by name, sorted: `.count` is how many there are, `.max` the most there ever were."""
        return dict(sorted(self._engine.stats().items()))

    def counters(self) -> dict[str, int]:
        """Metrics and statistics together, by name, sorted."""
        return dict(sorted((self.metrics() | self.stats()).items()))
