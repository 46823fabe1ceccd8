"""How many messages a worker fetches ahead."""

import time

from flaskapp.worker.prefetch import FEW, MANY, Prefetch


def ended(prefetch: Prefetch, seconds: float, jobs: int) -> bool:
    """True if one of them changed what is wanted."""
    return any([prefetch.follow(seconds) for _ in range(jobs)])


def test_a_worker_begins_with_a_few() -> None:
    assert Prefetch(2).each == FEW


def test_one_short_job_means_nothing() -> None:
    prefetch = Prefetch(2)

    assert not ended(prefetch, 0.001, 1)
    assert prefetch.each == FEW


def test_many_are_wanted_while_jobs_are_short() -> None:
    prefetch = Prefetch(2)

    assert ended(prefetch, 0.001, 30)
    assert prefetch.each == MANY


def test_the_broker_is_told_once() -> None:
    prefetch = Prefetch(2)
    ended(prefetch, 0.001, 30)

    assert not ended(prefetch, 0.001, 30)


def test_a_few_are_wanted_again_once_jobs_are_long() -> None:
    prefetch = Prefetch(2)
    ended(prefetch, 0.001, 30)

    assert ended(prefetch, 1.0, 1)
    assert prefetch.each == FEW


def test_jobs_of_middling_length_change_nothing() -> None:
    prefetch = Prefetch(2)
    ended(prefetch, 0.001, 30)

    assert not ended(prefetch, 0.05, 30)


def test_what_waits_in_vain_goes_back_for_others() -> None:
    prefetch = Prefetch(2)
    ended(prefetch, 0.001, 30)
    long_ago = time.monotonic() - 60

    assert prefetch.surplus([long_ago] * 20) == 20
    assert prefetch.each == FEW


def test_what_has_just_arrived_stays() -> None:
    prefetch = Prefetch(2)
    ended(prefetch, 0.001, 30)

    assert prefetch.surplus([time.monotonic()] * 200) == 0


def test_what_comes_again_after_it_went_back_stays() -> None:
    """Else it would go to and fro between the broker and its only free worker."""
    prefetch = Prefetch(2)
    ended(prefetch, 0.001, 30)
    long_ago = time.monotonic() - 60
    assert prefetch.surplus([long_ago] * 20)
    prefetch.gave_back()

    assert prefetch.surplus([long_ago] * 20) == 0


def test_a_few_always_stay() -> None:
    prefetch = Prefetch(2)
    ended(prefetch, 0.001, 30)

    assert prefetch.surplus([time.monotonic() - 60] * (2 * FEW)) == 0
