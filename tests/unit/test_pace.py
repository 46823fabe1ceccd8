"""How much a worker claims ahead follows how fast its jobs really end."""

from collections.abc import Callable

import pytest

from flaskapp.worker import pace as pacing
from flaskapp.worker.pace import MOST_AHEAD, Pace


@pytest.fixture
def pass_time(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    clock = [100.0]
    monkeypatch.setattr(pacing.time, "monotonic", lambda: clock[0])

    def forward(seconds: float) -> None:
        clock[0] += seconds

    return forward


def test_nothing_is_claimed_ahead_before_a_job_has_ended() -> None:
    assert (Pace(2).ahead(), Pace(2).per_second()) == (0, None)


def test_long_jobs_are_not_claimed_ahead() -> None:
    pace = Pace(2)
    pace.ended(1.0, has_work=False)

    assert (pace.ahead(), pace.per_second()) == (0, 2.0)


def test_short_jobs_are_claimed_ahead_up_to_a_limit() -> None:
    pace = Pace(2)
    pace.ended(0.00001, has_work=False)

    assert pace.ahead() == MOST_AHEAD


def test_a_slow_way_to_the_pool_counts_too(pass_time: Callable[[float], None]) -> None:
    pace = Pace(2)
    for _ in range(50):
        pass_time(0.01)
        pace.ended(0.0001, has_work=True)

    assert pace.per_second() == pytest.approx(100)


def test_waiting_for_work_does_not_count(pass_time: Callable[[float], None]) -> None:
    pace = Pace(2)
    for _ in range(50):
        pass_time(60)
        pace.ended(0.01, has_work=False)

    assert pace.per_second() == pytest.approx(200)


def test_of_a_hundred_jobs_one_at_most_is_claimed_ahead_in_vain_again() -> None:
    """Short and long ones mixed: else all that stood claimed behind a few long ones would be sent again each time."""
    pace = Pace(2)
    pace.ended(0.00001, has_work=False)
    assert pace.ahead() == MOST_AHEAD

    pace.claimed_in_vain()

    ahead = []
    for _ in range(100 * MOST_AHEAD + 100):
        ahead.append(pace.ahead())
        pace.ended(0.00001, has_work=False)
    assert [ahead[ended] for ended in (0, 1, 99, 100, 1000)] == [0, 0, 0, 1, 10]
    assert ahead[-1] == MOST_AHEAD


def test_a_few_quick_jobs_do_not_prove_a_quick_worker(pass_time: Callable[[float], None]) -> None:
    pace = Pace(2)
    for _ in range(50):
        pass_time(20)
        pace.ended(0.005, has_work=False, is_full=False)

    assert pace.proven(is_full=False) is None
    assert pace.proven(is_full=True) == 1


def test_what_was_quick_once_proves_nothing_for_the_first_long_jobs(pass_time: Callable[[float], None]) -> None:
    pace = Pace(2)
    pace.ended(0.005, has_work=False, is_full=True)
    pass_time(10)

    assert pace.proven(is_full=True) is None


def test_what_ended_in_the_best_of_the_last_seconds_is_proven_for_a_while(pass_time: Callable[[float], None]) -> None:
    pace = Pace(2)
    assert pace.proven(is_full=True) is None
    for _ in range(700):
        pass_time(0.002)
        pace.ended(0.002, has_work=True, is_full=True)

    assert pace.proven(is_full=False) == 500
    pass_time(10)
    assert pace.proven(is_full=False) is None


def test_long_jobs_prove_a_slow_worker_also_between_two_of_their_ends(pass_time: Callable[[float], None]) -> None:
    pace = Pace(2)
    for _ in range(4):
        pass_time(60)
        pace.ended(120, has_work=False, is_full=True)

    pass_time(50)

    assert pace.proven(is_full=True) == pytest.approx(1 / 60)


def test_jobs_that_end_together_prove_no_more_than_their_length(pass_time: Callable[[float], None]) -> None:
    pace = Pace(8)
    for _ in range(8):
        pace.ended(4, has_work=False, is_full=True)

    assert pace.proven(is_full=True) == 2


@pytest.mark.parametrize("lengths", [[4.95], [4.6], [1, 8, 2, 7, 3, 6]], ids=["almost five seconds", "less", "mixed"])
def test_a_worker_whose_slots_are_always_taken_is_never_one_that_may_be_quick(
    pass_time: Callable[[float], None], lengths: list[float]
) -> None:
    """One heartbeat that says so sends two hundred jobs to the broker, and they stay there."""
    pace = Pace(1)
    paces = []
    for seconds in lengths * 12:
        pace.filled()
        whole = int(seconds / 0.05)
        for _ in range(whole):
            pass_time(0.05)
            paces.append(pace.proven(is_full=True))
        pass_time(seconds - whole * 0.05)
        pace.ended(seconds, has_work=False, is_full=True)

    assert all(each is not None and each <= 1 for each in paces[200:])


def test_long_jobs_after_short_ones_are_known_once_all_slots_were_taken_for_a_while(
    pass_time: Callable[[float], None],
) -> None:
    pace = Pace(2)
    pace.ended(0.005, has_work=False, is_full=True)
    pass_time(60)
    pace.filled()
    pass_time(1)
    assert pace.proven(is_full=True) is None

    pass_time(5)

    assert pace.proven(is_full=True) == 0.2
