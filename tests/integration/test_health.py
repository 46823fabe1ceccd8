"""What the machinery around is told about this process."""

import threading

import pytest

from flaskapp.console import health


@pytest.fixture
def stranger(site):
    site.app.extensions["broker_check"] = lambda: None
    return site.browser()


def test_health_is_public_and_ready_when_both_answer(stranger):
    assert stranger.get("/healthz").json == {"status": "alive"}
    assert stranger.get("/readyz").json == {"status": "ready", "database": "ok", "broker": "ok"}


def test_not_ready_names_what_is_wrong_without_its_password(site, stranger):
    def check() -> None:
        raise ConnectionError("amqp://guest:hunter2@localhost:5672 refused the connection")

    site.app.extensions["broker_check"] = check
    answer = stranger.get("/readyz")
    assert answer.status_code == 503
    assert answer.json["database"] == "ok"
    assert "refused the connection" in answer.json["broker"]
    assert "hunter2" not in answer.text


def test_a_check_that_hangs_is_reported_within_its_limit(site, stranger, monkeypatch):
    monkeypatch.setattr(health, "LIMIT_SECONDS", 0.05)
    release = threading.Event()
    site.app.extensions["broker_check"] = lambda: release.wait(10)
    assert "does not answer within" in stranger.get("/readyz").json["broker"]
    release.set()


def test_an_answer_is_kept_for_a_moment(site, stranger):
    asked = []
    site.app.extensions["broker_check"] = lambda: asked.append(1)
    for _ in range(5):
        stranger.get("/readyz")
    assert len(asked) == 1
