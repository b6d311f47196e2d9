"""Answers the data plane's questions with the registered hooks.

Hooks are asked in order; the first answer that is not IGNORE wins; behind the last one stands the default. At most
`in_progress_max` questions are worked on at once; beyond that the client is told that the server is busy, and that is
counted. Runs on the broker's loop; makes one task for each question, because a hook may wait.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from whimbrel.errors import HookError
from whimbrel.hooks.guard import Guard
from whimbrel.hooks.points import IGNORE, Allow, Answer, Continue, Deny, Each, Reason

if TYPE_CHECKING:
    from whimbrel.engine.engine import Engine
    from whimbrel.engine.records import Authenticate, Authorize, EnhancedAuthenticate

IN_PROGRESS_MAX = 1_000

Guards: TypeAlias = Callable[[str], Sequence[Guard]]

# What PUBACK, PUBREC and SUBACK may all carry (MQTT 5.0, sections 3.4.2.1, 3.5.2.1, 3.9.3).
_AUTHORIZE_REASONS: Final = {
    Reason.UNSPECIFIED,
    Reason.IMPLEMENTATION_SPECIFIC,
    Reason.NOT_AUTHORIZED,
    Reason.QUOTA_EXCEEDED,
}
_UNAVAILABLE: Final = Deny(Reason.SERVER_UNAVAILABLE)
_NOT_AUTHORIZED: Final = Deny(Reason.NOT_AUTHORIZED)
_NO_METHOD: Final = Deny(Reason.BAD_AUTHENTICATION_METHOD)
# MQTT 5.0, section 3.15.2.1.
_CONTINUE_CODE: Final = 0x18
_AUTH_DATA_MAX: Final = 65_535
# Not a verdict, so the data plane does not remember it.
_UNDECIDED: Final = Deny(Reason.IMPLEMENTATION_SPECIFIC)

_log = logging.getLogger("whimbrel.hooks")


class Questions:
    """The questions in progress of one broker."""

    def __init__(
        self,
        engine: "Engine",
        guards: Guards,
        counts: dict[str, int],
        *,
        deadline_s: float,
        in_progress_max: int = IN_PROGRESS_MAX,
    ) -> None:
        self._engine = engine
        self._guards = guards
        self._counts = counts
        self.deadline_s = deadline_s
        self._in_progress_max = in_progress_max
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def in_progress(self) -> int:
        """How many questions wait for their hooks now."""
        return len(self._tasks)

    def authenticate(self, batch: "list[Authenticate]") -> None:
        """Start on a batch of questions; the answers go to the engine."""
        for question in batch:
            if self._admits():
                self._start(self._authenticate(question))
            else:
                self._engine.answer_authenticate(question, Reason.SERVER_BUSY)

    def enhanced_authenticate(self, batch: "list[EnhancedAuthenticate]") -> None:
        """Start on a batch of questions; the answers go to the engine."""
        for question in batch:
            if self._admits():
                self._start(self._enhanced_authenticate(question))
            else:
                self._engine.answer_enhanced(question, Reason.SERVER_BUSY)

    def authorize(self, batch: "list[Authorize]") -> None:
        """Start on a batch of questions; the answers go to the engine."""
        for question in batch:
            if self._admits():
                self._start(self._authorize(question))
            else:
                self._engine.answer_authorize(question, [Reason.QUOTA_EXCEEDED] * len(question.topics))

    def cancel(self) -> set[asyncio.Task[None]]:
        """Give up on what is in progress, and return it; the data plane answers by its own default."""
        cancelled = self._tasks.copy()
        for task in cancelled:
            task.cancel()
        return cancelled

    def _admits(self) -> bool:
        self._counts["whimbrel.hooks.questions"] += 1
        if len(self._tasks) < self._in_progress_max:
            return True
        self._counts["whimbrel.hooks.questions.refused"] += 1
        return False

    def _start(self, answering: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(answering)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a question was left unanswered", exc_info=error)

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self.deadline_s

    async def _authenticate(self, question: "Authenticate") -> None:
        deadline = self._deadline()
        answer: Answer = IGNORE
        for guard in self._guards("authenticate"):
            answer = await guard.call(question, deadline=deadline, read=_answer, failed=_UNAVAILABLE)
            if answer is not IGNORE:
                break
        is_anonymous = answer is IGNORE
        if answer is IGNORE:
            answer = Allow() if question.is_anonymous_allowed else _NOT_AUTHORIZED
        is_superuser = isinstance(answer, Allow) and answer.is_superuser
        self._engine.answer_authenticate(
            question, _code(answer), is_superuser=is_superuser, text=_text(answer), is_anonymous=is_anonymous
        )

    async def _enhanced_authenticate(self, question: "EnhancedAuthenticate") -> None:
        deadline = self._deadline()
        answer: Answer | Continue = IGNORE
        for guard in self._guards("enhanced_authenticate"):
            answer = await guard.call(question, deadline=deadline, read=_enhanced, failed=_UNAVAILABLE)
            if answer is not IGNORE:
                break
        if answer is IGNORE:
            answer = _NO_METHOD
        code = _CONTINUE_CODE if isinstance(answer, Continue) else _code(answer)
        auth_data = answer.auth_data if isinstance(answer, Allow | Continue) else None
        is_superuser = isinstance(answer, Allow) and answer.is_superuser
        text = _text(answer)
        self._engine.answer_enhanced(question, code, auth_data=auth_data, is_superuser=is_superuser, text=text)

    async def _authorize(self, question: "Authorize") -> None:
        deadline = self._deadline()
        answers: list[Answer] = [IGNORE] * len(question.topics)
        read = partial(_answers, count=len(answers))
        failed: Sequence[Answer] = [_UNDECIDED] * len(answers)
        for guard in self._guards("authorize"):
            later = await guard.call(question, deadline=deadline, read=read, failed=failed)
            answers = [new if old is IGNORE else old for old, new in zip(answers, later, strict=True)]
            if IGNORE not in answers:
                break
        codes = [_authorize_code(answer) for answer in answers]
        self._engine.answer_authorize(question, codes, texts=[_text(answer) for answer in answers])


def _answer(result: object) -> Answer:
    if result is IGNORE or isinstance(result, Allow | Deny):
        return result
    raise HookError(f"it returned {type(result).__name__}, but the answers are Allow(), Deny() and IGNORE")


def _enhanced(result: object) -> Answer | Continue:
    answer = result if isinstance(result, Continue) else _answer(result)
    auth_data = answer.auth_data if isinstance(answer, Allow | Continue) else None
    if auth_data is not None and len(auth_data) > _AUTH_DATA_MAX:
        raise HookError(f"its auth_data has {len(auth_data)} bytes, but a packet carries at most {_AUTH_DATA_MAX}")
    return answer


def _answers(result: object, count: int) -> Sequence[Answer]:
    if not isinstance(result, Each):
        return [_answer(result)] * count
    if len(result.answers) != count:
        raise HookError(f"it returned {len(result.answers)} answers for {count} topics")
    return [_answer(one) for one in result.answers]


def _code(answer: Answer) -> int:
    return int(answer.reason) if isinstance(answer, Deny) else 0


def _text(answer: Answer | Continue) -> str:
    return answer.text if isinstance(answer, Deny) else ""


def _authorize_code(answer: Answer) -> int:
    if isinstance(answer, Deny) and answer.reason not in _AUTHORIZE_REASONS:
        return int(Reason.NOT_AUTHORIZED)
    return _code(answer)
