"""Retry arithmetic: pure functions of numbers."""

import pytest

from flaskapp.jobs.retry import MOST_CRASHES, backoff_seconds, crash_delay_seconds, retry_is_left


@pytest.mark.parametrize(("retries", "longest"), [(0, 2), (1, 4), (2, 8), (7, 256), (8, 512), (9, 600), (500, 600)])
def test_the_backoff_doubles_up_to_ten_minutes(retries: int, longest: float) -> None:
    assert backoff_seconds(retries, spread=1) == longest
    assert backoff_seconds(retries, spread=0) == longest / 2


def test_the_backoff_is_spread_so_that_failures_do_not_come_back_in_step() -> None:
    delays = {backoff_seconds(3) for _ in range(50)}

    assert len(delays) > 40
    assert all(8 <= delay <= 16 for delay in delays)


def test_the_first_crash_runs_again_at_once() -> None:
    assert [crash_delay_seconds(crashes) for crashes in (0, 1, 2)] == [0, 0, 5]
    assert MOST_CRASHES == 3


@pytest.mark.parametrize(
    ("retries", "limit", "left"), [(0, 0, False), (0, 1, True), (1, 1, False), (99, None, True), (2, 3, True)]
)
def test_a_retry_is_left_below_the_limit(retries: int, limit: int | None, left: bool) -> None:
    assert retry_is_left(retries, limit) is left
