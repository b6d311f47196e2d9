"""The registry: only points that exist, only async functions, interest from what is registered."""

from typing import Any

import pytest

from whimbrel.errors import HookError
from whimbrel.hooks.points import IGNORE, POINTS, Answer
from whimbrel.hooks.registry import Interest, Registry


async def ignoring(_question: Any) -> Answer:
    return IGNORE


def test_an_unknown_point_is_refused_with_the_known_ones() -> None:
    with pytest.raises(HookError, match="no hook point 'authentcate'; the hook points are authenticate, authorize"):
        Registry().register("authentcate", ignoring)


def test_a_function_that_is_not_async_is_refused() -> None:
    def blocking(_question: Any) -> Any:
        return IGNORE

    with pytest.raises(HookError, match=r"blocking is not an async function"):
        Registry().register("authenticate", blocking)


def test_an_object_with_an_async_call_is_a_hook() -> None:
    class Directory:
        async def __call__(self, _question: Any) -> Answer:
            return IGNORE

    registry = Registry()
    assert registry.register("authenticate", Directory()).name.endswith("Directory")


def test_every_point_has_its_decorator_which_returns_the_function() -> None:
    registry = Registry()
    for point in POINTS:
        assert getattr(registry, point)(ignoring) is ignoring
        assert [one.hook for one in registry.at(point)] == [ignoring]


def test_interest_follows_registration_and_removal_and_watchers_are_told() -> None:
    registry, seen = Registry(), []
    registry.watch(lambda: seen.append(registry.interest().authorize))
    registration = registry.register("authorize", ignoring)
    assert registry.interest() == Interest(authenticate=False, authorize=True, connected=False, disconnected=False)
    registry.remove(registration)
    assert seen == [True, False]


def test_removing_twice_is_refused() -> None:
    registry = Registry()
    registration = registry.register("authorize", ignoring)
    registry.remove(registration)
    with pytest.raises(HookError, match="is not registered"):
        registry.remove(registration)
