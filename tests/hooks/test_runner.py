"""Questions and notices through a runner, an engine and the double of the binding."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.engine.fake_core import Authenticate, Authorize, Connected, DataPlane
from tests.engine.running import running_engine
from tests.hooks.test_breaker import Clock
from tests.waiting import until
from whimbrel.hooks.breaker import COOL_DOWN_S, LATE_MAX
from whimbrel.hooks.guard import LOG_EVERY_S
from whimbrel.hooks.points import IGNORE, Allow, Answer, Deny, Each, Reason
from whimbrel.hooks.registry import Registry
from whimbrel.hooks.runner import Runner

UNHURRIED_MS = 5_000
HURRIED_MS = 10


class Bench:
    """One runner under test. `settled` waits until every question that was asked is answered."""

    def __init__(self, runner: Runner, registry: Registry, plane: DataPlane, clock: Clock) -> None:
        self.runner = runner
        self.registry = registry
        self.plane = plane
        self.clock = clock
        self._asked = 0

    def ask(self, *questions: Any) -> None:
        self._asked += len(questions)
        self.plane.tell(*questions)

    async def settled(self) -> list[tuple[int, Any]]:
        await until(lambda: len(self.plane.answers) >= self._asked)
        return sorted(self.plane.answers)

    async def answer(self, question: Any) -> Any:
        self.ask(question)
        return dict(await self.settled())[question.ticket]


@asynccontextmanager
async def bench(deadline_ms: int = UNHURRIED_MS, **bounds: int) -> AsyncIterator[Bench]:
    async with running_engine() as (engine, plane):
        registry, clock = Registry(), Clock()
        runner = Runner(engine, registry, deadline_ms=deadline_ms, clock=clock, **bounds)
        try:
            yield Bench(runner, registry, plane, clock)
        finally:
            await runner.stop()


def answering(answer: Any) -> Any:
    async def hook(_question: Any) -> Any:
        return answer

    return hook


async def failing(_question: Any) -> Answer:
    raise LookupError("no such table")


async def never(_question: Any) -> Answer:
    await asyncio.get_running_loop().create_future()
    return IGNORE


async def test_registering_declares_the_interest_before_and_after_the_start() -> None:
    async with bench() as one:
        assert one.plane.interest["authenticate"] is False
        one.registry.authenticate(answering(IGNORE))
        assert one.plane.interest == {
            "authenticate": True,
            "authorize": False,
            "connected": False,
            "disconnected": False,
            "enhanced_authenticate": False,
        }


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([Allow()], (0, False)),
        ([Allow(is_superuser=True)], (0, True)),
        ([Deny(Reason.BAD_CREDENTIALS)], (0x86, False)),
        ([IGNORE, Deny(), Allow()], (0x87, False)),
        ([IGNORE, Allow(), Deny()], (0, False)),
    ],
)
async def test_the_first_answer_that_is_not_ignore_wins(answers: list[Answer], expected: tuple[int, bool]) -> None:
    async with bench() as one:
        for answer in answers:
            one.registry.authenticate(answering(answer))
        assert await one.answer(Authenticate(ticket=1)) == expected


@pytest.mark.parametrize(("is_allowed", "code"), [(True, 0), (False, 0x87)])
async def test_when_every_hook_ignores_it_the_listener_s_default_counts(is_allowed: bool, code: int) -> None:
    async with bench() as one:
        one.registry.authenticate(answering(IGNORE))
        assert await one.answer(Authenticate(ticket=1, is_anonymous_allowed=is_allowed)) == (code, False)


@pytest.mark.parametrize("hook", [failing, answering(None), answering(True)], ids=["raises", "None", "True"])
async def test_a_hook_that_raises_or_answers_nonsense_refuses_the_client(hook: Any) -> None:
    async with bench() as one:
        one.registry.authenticate(hook)
        assert await one.answer(Authenticate(ticket=1)) == (0x88, False)
        assert one.runner.counters()["whimbrel.hooks.failed"] == 1


async def test_a_hook_that_is_late_refuses_the_client_and_is_cancelled() -> None:
    async with bench(HURRIED_MS) as one:
        one.registry.authenticate(never)
        assert await one.answer(Authenticate(ticket=1)) == (0x88, False)
        await until(lambda: not one.runner.counters()["whimbrel.hooks.questions.in_progress"])


async def test_a_hook_that_answers_in_spite_of_its_cancellation_is_late_all_the_same() -> None:
    async def stubborn(question: Any) -> Answer:
        try:
            return await never(question)
        except asyncio.CancelledError:
            return Allow(is_superuser=True)

    async with bench(HURRIED_MS) as one:
        one.registry.authenticate(stubborn)
        for ticket in range(LATE_MAX + 1):
            assert await one.answer(Authenticate(ticket=ticket)) == (0x88, False)
        counters = one.runner.counters()
        assert (counters["whimbrel.hooks.failed"], counters["whimbrel.hooks.skipped"]) == (LATE_MAX, 1)


async def test_authorize_allows_by_default_and_denies_when_its_hook_fails() -> None:
    async with bench() as one:
        registration = one.registry.register("authorize", answering(IGNORE))
        assert await one.answer(Authorize(ticket=1)) == [0]
        one.registry.remove(registration)
        one.registry.authorize(failing)
        assert await one.answer(Authorize(ticket=2, topics=["a", "b"])) == [0x83, 0x83]


async def test_authorize_answers_topics_one_by_one_and_later_hooks_fill_the_gaps() -> None:
    async with bench() as one:
        one.registry.authorize(answering(Each([IGNORE, Deny(), IGNORE])))
        one.registry.authorize(answering(Each([Deny(Reason.QUOTA_EXCEEDED), Allow(), IGNORE])))
        assert await one.answer(Authorize(ticket=1, topics=["a", "b", "c"])) == [0x97, 0x87, 0]


async def test_the_words_of_a_denial_go_with_its_code() -> None:
    async with bench() as one:
        one.registry.authorize(answering(Each([Deny(text="no"), Allow(), Deny()])))
        one.registry.authenticate(answering(Deny(Reason.BANNED, "until Monday")))
        await one.answer(Authorize(ticket=1, topics=["a", "b", "c"]))
        await one.answer(Authenticate(ticket=2))
        assert one.plane.texts == {1: ["no", "", ""], 2: ["until Monday"]}


@pytest.mark.parametrize("text", ["x" * 1_025, "ü" * 513, "a\0b"])
def test_words_that_no_packet_should_carry_are_refused(text: str) -> None:
    assert Deny(text="ü" * 512).text
    with pytest.raises(ValueError, match="text: at most 1024 bytes"):
        Deny(text=text)


async def test_a_reason_that_an_acknowledgement_cannot_carry_becomes_not_authorized() -> None:
    async with bench() as one:
        one.registry.authorize(answering(Deny(Reason.BANNED)))
        assert await one.answer(Authorize(ticket=1)) == [0x87]


async def test_the_wrong_number_of_answers_counts_as_a_failure() -> None:
    async with bench() as one:
        one.registry.authorize(answering(Each([Allow()])))
        assert await one.answer(Authorize(ticket=1, topics=["a", "b"])) == [0x83, 0x83]
        assert one.runner.counters()["whimbrel.hooks.failed"] == 1


def test_a_success_code_is_no_reason_to_deny() -> None:
    with pytest.raises(ValueError, match="0 is not a valid Reason"):
        Deny(0)  # type: ignore[arg-type]


async def test_questions_beyond_the_bound_are_told_that_the_server_is_busy() -> None:
    async with bench(HURRIED_MS, in_progress_max=1) as one:
        one.registry.authenticate(never)
        one.registry.authorize(never)
        one.ask(Authenticate(ticket=1), Authenticate(ticket=2), Authorize(ticket=3, topics=["a", "b"]))
        assert dict(await one.settled()) == {1: (0x88, False), 2: (0x89, False), 3: [0x97, 0x97]}
        assert one.runner.counters()["whimbrel.hooks.questions.refused"] == 2


async def test_a_hook_that_keeps_being_late_is_not_called_until_its_cool_down_is_over() -> None:
    calls = []

    async def hook(question: Any) -> Answer:
        calls.append(question.ticket)
        return await never(question) if len(calls) <= LATE_MAX else Allow()

    async with bench(HURRIED_MS) as one:
        one.registry.authenticate(hook)
        for ticket in range(LATE_MAX + 1):
            assert await one.answer(Authenticate(ticket=ticket)) == (0x88, False)
        assert (len(calls), one.runner.counters()["whimbrel.hooks.skipped"]) == (LATE_MAX, 1)
        one.clock.now += COOL_DOWN_S
        one.runner.set_deadline(UNHURRIED_MS)
        assert await one.answer(Authenticate(ticket=99)) == (0, False)


async def test_exceptions_that_a_client_can_provoke_lock_nobody_else_out() -> None:
    async def hook(question: Any) -> Answer:
        if question.client_id == "bad":
            raise KeyError(question.client_id)
        return Allow()

    async with bench() as one:
        one.registry.authenticate(hook)
        for ticket in range(2 * LATE_MAX):
            assert await one.answer(Authenticate(ticket=ticket, client_id="bad")) == (0x88, False)
        assert await one.answer(Authenticate(ticket=99, client_id="good")) == (0, False)
        counters = one.runner.counters()
        assert (counters["whimbrel.hooks.failed"], counters["whimbrel.hooks.skipped"]) == (2 * LATE_MAX, 0)


async def test_a_timeout_of_the_hook_s_own_is_an_exception_like_any_other() -> None:
    async def impatient(_question: Any) -> Answer:
        raise TimeoutError("the database did not answer")

    async with bench() as one:
        one.registry.authenticate(impatient)
        for ticket in range(LATE_MAX + 1):
            await one.answer(Authenticate(ticket=ticket))
        assert one.runner.counters()["whimbrel.hooks.skipped"] == 0


async def test_a_hook_whose_own_work_was_cancelled_is_answered_and_counted() -> None:
    async def cancelled(_question: Any) -> Answer:
        work = asyncio.ensure_future(never(_question))
        work.cancel()
        return await work

    async with bench() as one:
        one.registry.authenticate(cancelled)
        assert await one.answer(Authenticate(ticket=1)) == (0x88, False)
        assert one.runner.counters()["whimbrel.hooks.failed"] == 1


def hook_lines(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    return [(r.levelno, r.getMessage()) for r in caplog.records if r.name == "whimbrel.hooks"]


async def test_a_failing_hook_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    async with bench() as one:
        one.registry.register("authenticate", failing, name="accounts")
        for ticket in range(5):
            await one.answer(Authenticate(ticket=ticket))
        one.clock.now += LOG_EVERY_S
        await one.answer(Authenticate(ticket=99))
    line = "authenticate hook accounts failed: LookupError: no such table"
    assert hook_lines(caplog) == [
        (logging.WARNING, line),
        (logging.WARNING, f"{line} (4 more since the last such line)"),
    ]


async def test_a_late_hook_is_logged_once_for_each_change_of_state(caplog: pytest.LogCaptureFixture) -> None:
    async with bench(HURRIED_MS) as one:
        one.registry.register("authenticate", never, name="accounts")
        for ticket in range(2 * LATE_MAX):
            await one.answer(Authenticate(ticket=ticket))
    assert hook_lines(caplog) == [
        (logging.WARNING, "authenticate hook accounts missed its deadline"),
        (logging.ERROR, "authenticate hook accounts keeps missing its deadline and is not called for a while"),
    ]


async def test_one_hook_s_lateness_does_not_touch_another_point() -> None:
    async with bench(HURRIED_MS) as one:
        one.registry.authenticate(never)
        one.registry.authorize(answering(Allow()))
        for ticket in range(LATE_MAX):
            await one.answer(Authenticate(ticket=ticket))
        assert await one.answer(Authorize(ticket=99)) == [0]


class Taker:
    """A notice hook that keeps its batches and may be held up."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, batch: Sequence[Any]) -> None:
        await self.gate.wait()
        self.batches.append([notice.client_id for notice in batch])

    async def took(self, count: int) -> None:
        await until(lambda: sum(map(len, self.batches)) >= count)


async def test_notices_come_in_batches_and_in_order() -> None:
    async with bench() as one:
        taker = Taker()
        one.registry.connected(taker)
        one.plane.tell(*(Connected(client_id=str(number)) for number in range(100)))
        await taker.took(100)
        assert taker.batches == [[str(number) for number in range(100)]]


async def test_a_slow_notice_hook_gets_what_came_meanwhile_in_one_batch_and_holds_up_nobody() -> None:
    async with bench() as one:
        slow, quick = Taker(), Taker()
        slow.gate.clear()
        one.registry.connected(slow)
        one.registry.connected(quick)
        for client_id in "abc":
            one.plane.tell(Connected(client_id=client_id))
            await quick.took("abc".index(client_id) + 1)
        assert slow.batches == []
        slow.gate.set()
        await slow.took(3)
        assert slow.batches == [["a"], ["b", "c"]]


async def test_notices_beyond_the_bound_are_dropped_and_counted() -> None:
    async with bench(notices_max=3) as one:
        taker = Taker()
        one.registry.connected(taker)
        one.plane.tell(*(Connected(client_id=str(number)) for number in range(5)))
        await taker.took(3)
        counters = one.runner.counters()
        assert (counters["whimbrel.hooks.notices"], counters["whimbrel.hooks.notices.dropped"]) == (5, 2)


async def test_a_failing_notice_hook_loses_its_batch_which_is_counted() -> None:
    async def broken(_batch: Sequence[Any]) -> None:
        raise OSError("disk full")

    async with bench() as one:
        quick = Taker()
        one.registry.connected(broken)
        one.registry.connected(quick)
        one.plane.tell(Connected(client_id="a"))
        await quick.took(1)
        counters = one.runner.counters()
        assert (counters["whimbrel.hooks.failed"], counters["whimbrel.hooks.notices.dropped"]) == (1, 1)


async def test_stop_gives_up_on_open_questions() -> None:
    async with bench() as one:
        one.registry.authenticate(never)
        one.ask(Authenticate(ticket=1))
        await until(lambda: one.runner.counters()["whimbrel.hooks.questions.in_progress"])
        await one.runner.stop()
        one.registry.watch(one.runner._refresh)  # so that the bench may stop it again
        await until(lambda: not one.runner.counters()["whimbrel.hooks.questions.in_progress"])
        assert one.plane.answers == []
