"""The judge of a soak: it finds what is there to find, and only that."""

import pytest

from tests.soak.samples import DISK_FACTOR, DISK_SLACK, MIB, RSS_SLACK, Ledger, Sample, heads, row

STEP_S = 10.0


def sample(at_s: float, *, live: int = 0, files: int = 0, rss: int = 100) -> Sample:
    """With these MiB."""
    return Sample(
        at_s=at_s,
        sessions=1,
        messages=1,
        live_bytes=live * MIB,
        store_bytes=0,
        file_bytes=files * MIB,
        rss_bytes=rss * MIB,
        commit_max_us=0,
    )


def faults(*samples: Sample) -> list[str]:
    ledger = Ledger()
    for one in samples:
        ledger.add(one)
    return list(ledger.faults())


def test_files_may_take_a_multiple_of_the_most_that_was_live_until_the_store_rests() -> None:
    empty = DISK_SLACK // MIB
    full = empty + DISK_FACTOR * 50
    rest = sample(2 * STEP_S, files=empty)
    assert not faults(sample(0, live=50, files=full), sample(STEP_S, files=full), rest)
    before = sample(0, live=50, files=full)
    (fault,) = faults(before, sample(6 * STEP_S, files=full + 1), sample(7 * STEP_S, files=empty))
    assert fault.startswith("the files took 1.0 MiB more than the budget after 1.0 min")
    (fault,) = faults(before, sample(STEP_S, files=full))
    assert fault.startswith("the files of an idle store took 150.0 MiB more than the budget")


def test_a_process_may_hold_what_it_began_with_and_no_more_than_its_caches() -> None:
    allowed = 100 + RSS_SLACK // MIB
    assert not faults(sample(0), sample(STEP_S, rss=allowed))
    (fault,) = faults(sample(0), sample(STEP_S, rss=allowed + 1))
    assert "the process took 1.0 MiB more" in fault


@pytest.mark.parametrize(("rise", "grows"), [(0.0, False), (0.15, False), (1.0, True)])
def test_a_process_that_grows_all_the_time_is_noticed_and_one_that_warms_up_is_not(rise: float, *, grows: bool) -> None:
    warm = [sample(STEP_S * place, rss=50 + 5 * place) for place in range(10)]
    then = [sample(STEP_S * place, rss=int(100 + rise * place)) for place in range(10, 60)]
    assert any("grows" in fault for fault in faults(*warm, *then)) is grows


def test_a_row_stands_under_its_heads() -> None:
    assert len(row(sample(60, live=12), 64 * MIB)) == len(heads())
