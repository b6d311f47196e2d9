"""Takes a late hook out of service for a while, so that it costs its clients no more deadlines.

Pure: time is an argument through `clock`, nothing is logged or awaited here. States of one hook:

    healthy --late--> late --`late_max` times in a row--> open --cool-down over--> one trial --> healthy | open
"""

import enum
from collections.abc import Callable

LATE_MAX = 5
COOL_DOWN_S = 10.0


class State(enum.Enum):
    """What is known about a hook."""

    HEALTHY = "healthy"
    LATE = "late"
    OPEN = "open"


class Breaker:
    """Counts how often in a row one hook was late. `clock` gives monotonic seconds."""

    def __init__(
        self, clock: Callable[[], float], *, late_max: int = LATE_MAX, cool_down_s: float = COOL_DOWN_S
    ) -> None:
        self.state = State.HEALTHY
        self._clock = clock
        self._late_max = late_max
        self._cool_down_s = cool_down_s
        self._late_count = 0
        self._trial_at = 0.0

    def admits(self) -> bool:
        """Whether the hook may be called now. After the cool-down one caller is let through, the others wait for it."""
        if self.state is not State.OPEN:
            return True
        if self._clock() < self._trial_at:
            return False
        self._trial_at = self._clock() + self._cool_down_s
        return True

    def succeeded(self) -> bool:
        """The hook was in time; returns whether that changed the state."""
        self._late_count = 0
        return self._enter(State.HEALTHY)

    def late(self) -> bool:
        """The hook missed its deadline; returns whether that changed the state."""
        self._late_count += 1
        if self._late_count < self._late_max:
            return self._enter(State.LATE)
        self._trial_at = self._clock() + self._cool_down_s
        return self._enter(State.OPEN)

    def _enter(self, state: State) -> bool:
        is_changed = state is not self.state
        self.state = state
        return is_changed
