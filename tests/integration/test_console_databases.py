"""The SELECTs behind the pages, on the databases that are not SQLite."""

import uuid

import pytest
from sqlalchemy import insert, update
from sqlalchemy.orm import Session

from flaskapp.extensions import db
from flaskapp.jobs import last_hour, watch
from flaskapp.jobs.models import Job, Progress
from tests.integration.windows_fixtures import Site, make_site


@pytest.fixture(params=["postgresql", "mariadb"])
def elsewhere(request, tmp_path):
    service = request.getfixturevalue(request.param)
    site = make_site(tmp_path, service.create_database(f"console_{uuid.uuid4().hex[:8]}"))
    yield site
    with site.app.app_context():
        db.session.remove()
        db.engine.dispose()


def test_every_page_renders_and_turns(elsewhere: Site) -> None:
    operator = elsewhere.signed_in("olga", "operator")
    ids = [elsewhere.job(state) for state in ("waiting", "queued", "running", "succeeded", "failed", "cancelled") * 10]
    for address in (
        "/",
        "/jobs",
        "/jobs?q=header&state=failed",
        "/schedules",
        "/queues",
        "/workers",
        f"/jobs/{ids[2]}",
    ):
        assert operator.get(address).status_code == 200, address
    assert 'rel="next"' in operator.get("/jobs").text


def test_minutes_are_counted_and_waits_measured(elsewhere: Site) -> None:
    for _ in range(3):
        elsewhere.job("succeeded", age=10)
    elsewhere.job("failed", age=200)
    with Session(elsewhere.engine()) as session:
        minutes = last_hour.minutes(session)
    assert {(m.minutes_ago, m.state, m.jobs) for m in minutes} == {(0, "succeeded", 3), (3, "failed", 1)}
    assert all(m.mean_wait == pytest.approx(1, abs=0.01) for m in minutes)


def test_a_watcher_sees_every_kind_of_change(elsewhere: Site) -> None:
    job_id = elsewhere.job("running")

    def look() -> tuple[str, str]:
        with elsewhere.engine().connect() as connection:
            return watch.pulse(connection), watch.versions(connection, [job_id])[job_id]

    seen = [look()]
    elsewhere.write(insert(Progress).values(job_id=job_id, attempt=1, current=1, total=2))
    seen.append(look())
    elsewhere.write(update(Job).where(Job.id == job_id).values(state="queued"))
    seen.append(look())
    elsewhere.job()
    seen.append(look())
    assert len({version for _, version in seen}) == 3
    assert len({pulse for pulse, _ in seen}) == 3
