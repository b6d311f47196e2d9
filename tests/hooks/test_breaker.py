"""The breaker, in virtual time."""

from whimbrel.hooks.breaker import Breaker, State


class Clock:
    """Monotonic seconds that only a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def opened(clock: Clock) -> Breaker:
    breaker = Breaker(clock, late_max=3, cool_down_s=10)
    for _ in range(3):
        breaker.late()
    return breaker


def test_missed_deadlines_in_a_row_open_it_and_each_state_is_reported_once() -> None:
    breaker = Breaker(Clock(), late_max=3)
    assert [breaker.late() for _ in range(4)] == [True, False, True, False]
    assert breaker.state is State.OPEN


def test_being_in_time_between_them_starts_the_count_again() -> None:
    breaker = Breaker(Clock(), late_max=2)
    breaker.late()
    assert breaker.succeeded()
    breaker.late()
    assert breaker.state is State.LATE
    assert breaker.admits()


def test_open_it_admits_nobody_until_the_cool_down_is_over() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += 9.9
    assert not breaker.admits()
    clock.now += 0.2
    assert breaker.admits()


def test_after_the_cool_down_one_trial_goes_first() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += 11
    assert [breaker.admits(), breaker.admits()] == [True, False]


def test_a_trial_that_works_closes_it() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += 11
    breaker.admits()
    assert breaker.succeeded()
    assert breaker.admits()


def test_a_trial_that_is_late_starts_the_cool_down_again_without_a_new_report() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += 11
    breaker.admits()
    assert not breaker.late()
    clock.now += 9
    assert not breaker.admits()
