"""Questions of an enhanced authentication through a runner, an engine and the double of the binding."""

from typing import Any

import pytest

from tests.engine.fake_core import EnhancedAuthenticate
from tests.hooks.test_runner import answering, bench, failing
from whimbrel.hooks.points import IGNORE, Allow, Continue, Deny, Reason

QUESTION = EnhancedAuthenticate(ticket=7)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([Continue(b"nonce")], (0x18, b"nonce", False)),
        ([Continue()], (0x18, None, False)),
        ([Allow()], (0, None, False)),
        ([Allow(is_superuser=True, auth_data=b"proof")], (0, b"proof", True)),
        ([Deny()], (0x87, None, False)),
        ([Deny(Reason.BAD_AUTHENTICATION_METHOD)], (0x8C, None, False)),
        ([IGNORE, Continue(b"second")], (0x18, b"second", False)),
        ([IGNORE], (0x8C, None, False)),
        ([Continue(b"x" * 65_535)], (0x18, b"x" * 65_535, False)),
        ([Continue(b"x" * 65_536)], (0x88, None, False)),
        ([None], (0x88, None, False)),
    ],
    ids=lambda value: repr(value)[:40],
)
async def test_the_first_opinion_counts_and_no_opinion_is_an_unknown_method(answers: list[Any], expected: Any) -> None:
    async with bench() as one:
        for answer in answers:
            one.registry.enhanced_authenticate(answering(answer))
        assert one.plane.interest["enhanced_authenticate"] is True
        assert await one.answer(QUESTION) == expected


async def test_a_hook_that_fails_refuses_with_server_unavailable() -> None:
    async with bench() as one:
        one.registry.enhanced_authenticate(failing)
        assert await one.answer(QUESTION) == (0x88, None, False)


async def test_beyond_the_bound_the_client_is_told_that_the_server_is_busy() -> None:
    async with bench(in_progress_max=0) as one:
        one.registry.enhanced_authenticate(answering(Allow()))
        assert await one.answer(QUESTION) == (0x89, None, False)
