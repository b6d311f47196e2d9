"""The data plane as the binding shows it: what an answer does, what happens without one, what a tap reports."""

from typing import TYPE_CHECKING

import pytest

from tests.binding.running import connection, running_plane
from tests.raw_packets import CONNACK, connect
from tests.waiting import wait_until
from whimbrel._core import Authenticate, DataPlane, RowsChanged, TapBatch

if TYPE_CHECKING:
    from whimbrel._core import Event

IMPLEMENTATION_SPECIFIC_ERROR, KEEP_ALIVE_TIMEOUT = 0x83, 0x8D
INTEREST_NONE = {"authenticate": False, "authorize": False, "connected": False, "disconnected": False}


def first_event(plane: DataPlane) -> "Event":
    """Wait until something is to be drained; the first of it."""
    events: list[Event] = []

    def drained() -> bool:
        events.extend(plane.drain())
        return bool(events)

    wait_until(drained, what="an event")
    return events[0]


@pytest.mark.parametrize(("level", "lowest"), [(4, 1), (5, 0x80)])
@pytest.mark.parametrize("code", [0x01, 0x04, 0x10, 0x18, 0x7F])
def test_a_success_code_that_is_not_zero_lets_nobody_in(level: int, lowest: int, code: int) -> None:
    with running_plane() as plane, connection(plane, level=level) as client:
        plane.set_interest(**INTEREST_NONE | {"authenticate": True})
        client.send_octets(connect("c1", level=level))
        question = first_event(plane)
        assert isinstance(question, Authenticate)
        plane.answer_authenticate(question.ticket, code, False)
        assert client.expect(CONNACK).reason >= lowest
        assert client.packet() is None


def test_a_question_that_nobody_answers_expires_and_the_keep_alive_counts_again() -> None:
    # Real time: the shortest keep-alive there is, so the silent client goes after one and a half seconds.
    with running_plane(question_deadline_ms=50) as plane, connection(plane) as client:
        plane.set_interest(**INTEREST_NONE | {"authorize": True})
        assert client.connect("c1", keep_alive_s=1) == (0, False)
        assert client.publish_confirmed("a", b"") == IMPLEMENTATION_SPECIFIC_ERROR
        assert client.farewell() == KEEP_ALIVE_TIMEOUT
        assert plane.counters()["whimbrel.questions.expired"] == 1


def test_the_batch_that_takes_waiting_messages_reports_the_drops() -> None:
    with running_plane() as plane:
        tap = plane.open_tap(["a"], 2)
        for ticket in range(5):
            plane.publish(ticket, "a", b"x", qos=0, retain=False)
        wait_until(lambda: plane.counters()["whimbrel.taps.dropped"] == 3)
        batches = [event for event in plane.drain() if isinstance(event, TapBatch)]
        assert {batch.tap for batch in batches} == {tap}
        assert sum(len(batch.messages) for batch in batches) == 2
        assert sum(batch.dropped for batch in batches) == 3


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        (b"nameless", b"1 {}", "it is family/key"),
        (b"Users/a", b"1 {}", "it is family/key"),
        (b"users/\xff", b"1 {}", "it is family/key"),
        (b"users/" + b"k" * 65_001, b"1 {}", "it is family/key"),
        (b"users/a", b"x" * (4 * 1024 * 1024), "a change has 4194321 bytes; it may have 4194304"),
    ],
)
def test_a_change_with_one_row_that_cannot_be_kept_changes_nothing(name: bytes, value: bytes, reason: str) -> None:
    with running_plane() as plane:
        with pytest.raises(ValueError, match=reason):
            plane.change_rows(1, 0, [(b"users/good", None, None), (name, value, None)])
        plane.change_rows(2, 0, [(b"users/good", b"1 {}", None)])
        answer = first_event(plane)
        assert isinstance(answer, RowsChanged)
        assert (answer.ticket, answer.refusal) == (2, None)
        assert plane.take_rows() == []
