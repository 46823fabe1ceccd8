"""What no worker can run becomes a letter or a waiting row before its message is answered."""

from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from flaskapp.jobs.letters import Letter
from flaskapp.jobs.models import DeadLetter
from flaskapp.jobs.outcomes import Hint
from flaskapp.jobs.unknown import UNKNOWN
from flaskapp.worker import recorder as recorder_module
from flaskapp.worker.recorder import Recorder
from tests.helpers import wait_until
from tests.integration.recorder_fixtures import pool, recorder, started  # noqa: F401 -- fixtures
from tests.makers import queued, row_of


def letters_of(session: Session) -> list[str]:
    session.rollback()
    return list(session.scalars(select(DeadLetter.reason)))


def test_a_buried_message_is_answered_once_its_letter_is_committed(recorder: Recorder, session: Session) -> None:
    seen: list[list[str]] = []

    started(recorder).bury(Letter("malformed", body=b"x"), lambda: seen.append(letters_of(session)))

    assert wait_until(lambda: seen, 5, "it is answered") == [["malformed"]]


def test_a_letter_waits_for_a_database_that_is_away(
    recorder: Recorder, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[int] = []
    real, troubles = recorder._errands._write, [OperationalError("INSERT", {}, Exception("away"))]

    def away_once(errands: Any) -> None:
        if troubles:
            raise troubles.pop()
        real(errands)

    monkeypatch.setattr(recorder._errands, "_write", away_once)
    started(recorder).bury(Letter("malformed"), lambda: answers.append(1))

    wait_until(lambda: answers, 5, "it is answered")
    assert letters_of(session) == ["malformed"]


def test_a_letter_that_the_database_never_takes_is_not_tried_without_a_pause(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[str] = []

    def always_away(errands: Any) -> None:
        happened.append("try")
        raise OperationalError("INSERT", {}, Exception("away"))

    monkeypatch.setattr(recorder._errands, "_write", always_away)
    monkeypatch.setattr(recorder_module, "time", SimpleNamespace(sleep=lambda _: happened.append("pause")))
    started(recorder).bury(Letter("malformed"), lambda: happened.append("answer"))

    wait_until(lambda: len(happened) >= 12, 5, "it has tried six times")
    recorder._errands.clear()
    assert happened[:12] == ["try", "pause"] * 6


def test_what_cannot_be_written_at_all_stops_no_other(recorder: Recorder, session: Session) -> None:
    answers: list[str] = []

    def wrong(_: Session) -> None:
        raise KeyError("a bug of ours")

    recorder._errands.add(wrong, lambda: answers.append("bad"))
    recorder.bury(Letter("malformed"), lambda: answers.append("good"))
    started(recorder)

    wait_until(lambda: len(answers) == 2, 5, "both are answered")
    assert letters_of(session) == ["malformed"]


def test_a_message_for_an_unknown_task_is_acknowledged_once_its_job_is_held(
    recorder: Recorder, session: Session
) -> None:
    job_id = queued(session)
    session.commit()
    answers: list[int] = []

    started(recorder).turn_away(Hint(job_id, 1), lambda: answers.append(1))

    wait_until(lambda: answers, 5, "it is acknowledged")
    session.rollback()
    assert row_of(session, job_id)["sender"] == UNKNOWN
