"""The harness finds what it is there to find: brokers that forget one thing each do not get through a round."""

from pathlib import Path

import pytest

from tests.crash.planted import Alteration, Amnesia, Plant, Rollback, without, without_wills
from tests.crash.round import Round
from tests.crash.story import Fault

# A fault that shows at once has so many lives to occur; one that shows in the end, so few.
KILLS = 40
KILLS_BEFORE_THE_END = 6
# How long to wait for what does not come.
PATIENCE_S = 2.0
LOST = "acknowledged messages lost"
# A message of QoS 2 that lost its place in a session is missed, comes again, or another one comes under its identifier,
# perhaps one that this session did not ask for. Rows name messages by their place, so a missing row moves the others.
ASTRAY = f"{LOST}|QoS 2 twice|got another message|without a subscription"


@pytest.mark.parametrize(
    ("plant", "fault"),
    [
        (Amnesia(), "is gone"),
        (Rollback(), f"is gone|given a session|in flight under|behind|{ASTRAY}"),
        (without("session", "subscription", "message", "exchange"), "is gone"),
        (without("subscription"), LOST),
        (without("message", "sent"), ASTRAY),
        (without("received"), "QoS 2 twice"),
        (without("sent"), ASTRAY),
        (without("released"), f"behind|{ASTRAY}"),
        (without("retained"), rf"r/\d holds nothing|{ASTRAY}"),
        (without_wills(), LOST),
    ],
    ids=[
        "everything",
        "a life",
        "sessions",
        "subscriptions",
        "messages",
        "received",
        "sent",
        "released",
        "retained",
        "wills",
    ],
)
def test_a_broker_that_forgets_something_is_found_out(tmp_path: Path, plant: Plant, fault: str) -> None:
    kills = KILLS_BEFORE_THE_END if fault == LOST else KILLS
    play = Round(tmp_path, seed=1, kills=kills, plant=plant, patience_s=PATIENCE_S)
    with pytest.raises(Fault, match=fault):
        play.play()
    assert plant.deeds


def test_a_store_that_was_written_anew_between_two_lives_is_as_good(tmp_path: Path) -> None:
    """What the plants do beside their faults is none."""
    plant = Alteration(lambda row: row)
    Round(tmp_path, seed=1, kills=KILLS_BEFORE_THE_END, plant=plant).play()
    assert not plant.deeds
