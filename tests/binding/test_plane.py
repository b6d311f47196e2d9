"""The data plane as the binding shows it: what an answer does, what happens without one, what a tap reports."""

from typing import TYPE_CHECKING

import pytest

from tests.binding.running import connection, running_plane
from tests.raw_packets import CONNACK, connect
from tests.waiting import wait_until
from whimbrel._core import Authenticate, DataPlane, TapBatch

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
