"""The pages of the console, empty, typical and crowded, as each kind of account sees them."""

import json
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import pytest
from sqlalchemy import delete, insert, update

from flaskapp.jobs.models import Attempt, Job, JobState, Progress, Queue, Schedule, Worker
from tests.integration.windows_fixtures import press

PAGES = ["/", "/jobs", "/schedules", "/queues", "/workers"]
FRAGMENTS = ["/?part=figures", "/jobs/rows", "/schedules?part=list", "/queues?part=list", "/workers?part=list"]
HOSTILE = "<img src=x onerror=alert(1)>"
LONG = "n" * 400
RIGHT_TO_LEFT = "تقرير المبيعات السنوي"


class Tags(HTMLParser):
    """Every start tag with its attributes, as a browser reads them."""

    def __init__(self):
        super().__init__()
        self.tags = []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))


def inline(tag, attributes):
    handlers = [name for name in attributes if name == "style" or name.startswith("on")]
    return tag == "style" or (tag == "script" and "src" not in attributes) or handlers


@pytest.fixture
def crowded(site):
    """Every state, long and hostile names, attempts, progress, children, workers, schedules and a paused queue."""
    site.app.extensions["job_titles"]["diagnostics.echo"] = lambda job: (json.loads(job.args) or ["plain"])[0]
    ids = [
        site.job(state, age=60 + n, args=json.dumps([name]), error_message=name)
        for n, state in enumerate(JobState)
        for name in (HOSTILE, LONG, RIGHT_TO_LEFT)
    ]
    running = site.job("running", attempt=3, retries=2, crashes=1, kwargs=json.dumps({HOSTILE: [HOSTILE] * 50}))
    site.job("succeeded", parent_id=running, result=json.dumps({HOSTILE: {"deep": HOSTILE}}))
    at = datetime.now(UTC) - timedelta(seconds=50)
    site.write(
        insert(Progress).values(job_id=running, attempt=3, current=48_112, total=100_000, message=HOSTILE),
        *(
            insert(Attempt).values(
                job_id=running,
                number=number,
                worker=HOSTILE,
                started_at=at,
                outcome=outcome,
                error_type="OSError",
                error_message=HOSTILE,
                error_traceback=HOSTILE,
            )
            for number, outcome in ((1, "retried"), (2, "rescued"))
        ),
        insert(Worker).values(
            id=HOSTILE, kind="worker", host="atlas", pid=7, queues="default,mail", holds=json.dumps({running: 3})
        ),
        insert(Schedule).values(
            name=HOSTILE, task=LONG[:255], rhythm="every 60 s", last_job_id=ids[0], next_due_at=datetime.now(UTC)
        ),
        insert(Queue).values(name="mail", paused_at=at),
    )
    return [*ids, running]


def everything(client, ids=()):
    """Every page and every fragment, by address."""
    addresses = [*PAGES, *FRAGMENTS, *(f"/jobs/{id}" for id in ids), *(f"/jobs/{id}?part=job" for id in ids)]
    for address in addresses:
        answer = client.get(address)
        assert answer.status_code == 200, address
        yield address, answer.text


def test_every_page_renders_when_nothing_is_there(operator):
    assert len(list(everything(operator))) == 10


def test_every_page_renders_when_it_is_crowded(operator, crowded):
    assert len(list(everything(operator, crowded))) > 40


def test_markup_in_names_arguments_and_errors_stays_text(operator, crowded):
    for address, text in everything(operator, crowded):
        assert "<img" not in text, address


def test_no_page_has_inline_style_or_script(operator, crowded):
    for address, text in everything(operator, crowded):
        found = Tags()
        found.feed(text)
        assert not [tag for tag in found.tags if inline(*tag)], address


def test_a_page_loads_nothing_from_elsewhere(operator, crowded):
    for address, text in everything(operator, crowded):
        assert not re.search(r"""(?:src|href)=["'](?:https?:)?//""", text), address


def test_what_a_page_loads_is_there_also_before_the_sign_in(site, operator):
    for path in set(re.findall(r'(?:src|href)="(/(?:static|assets)/[^"#]+)', operator.get("/").text)):
        assert site.browser().get(path).status_code == 200, path


def test_every_icon_that_is_used_is_drawn(operator, crowded):
    drawn = set(re.findall(r'<symbol id="([\w-]+)"', operator.get("/static/icons.svg").text))
    for address, text in everything(operator, crowded):
        assert set(re.findall(r"icons\.svg#([\w-]+)", text)) <= drawn, address


def test_bootstrap_is_served_packed_and_kept_for_a_year(operator):
    answer = operator.get("/assets/bootstrap.min.css", headers={"Accept-Encoding": "gzip"})
    assert answer.headers["Content-Encoding"] == "gzip"
    assert "immutable" in answer.headers["Cache-Control"]


def test_without_an_account_no_page_is_shown(site, crowded):
    stranger = site.browser()
    for address in [*PAGES, *FRAGMENTS, f"/jobs/{crowded[0]}", "/live"]:
        assert stranger.get(address).status_code in (303, 401), address


def test_the_account_is_written_out_and_a_lost_row_shows_as_drift(site, operator):
    for state in ("waiting", "succeeded", "failed"):
        site.job(state)
    assert '<p class="gauge-figure good">0</p>' in operator.get("/").text
    site.write(delete(Job).where(Job.state == "failed"))
    assert '<p class="gauge-figure bad">1</p>' in operator.get("/").text


def test_failures_are_grouped_and_lead_to_the_jobs_that_failed_so(site, operator):
    ids = [site.job("failed", error_message="No header row.") for _ in range(3)]
    site.job("failed", error_message="Disk full.")
    link = re.search(r'href="(/jobs\?[^"]*header[^"]*)"', operator.get("/").text)
    assert link is not None
    assert set(shown(operator, link[1].replace("&amp;", "&"))) == set(ids)


# --- the list ---------------------------------------------------------------------------------------------


def shown(client, address):
    return re.findall(r'<tr [^>]*data-key="([^"]+)"', client.get(address).text)


def turned(text, direction):
    link = re.search(rf'rel="{direction}" href="([^"]+)"', text)
    return link[1].replace("&amp;", "&") if link else None


def test_filters_narrow_the_list(site, operator):
    failed = site.job("failed", task="mail.send", queue="mail", error_message="It bounced.")
    done = site.job("succeeded")
    assert shown(operator, "/jobs?state=failed") == [failed]
    assert set(shown(operator, "/jobs?state=failed&state=succeeded")) == {failed, done}
    assert shown(operator, "/jobs?task=mail.send") == [failed]
    assert shown(operator, "/jobs?queue=default") == [done]
    assert shown(operator, "/jobs?q=bounced") == [failed]
    assert shown(operator, f"/jobs?q={done[-8:]}") == [done]
    assert shown(operator, "/jobs?q=nothing") == []


def test_what_schedules_asked_for_can_be_left_out_or_shown_alone(site, operator):
    asked, scheduled = site.job("succeeded"), site.job("succeeded", schedule="canary")
    assert set(shown(operator, "/jobs")) == {asked, scheduled}
    assert shown(operator, "/jobs?by=others") == [asked]
    assert shown(operator, "/jobs?by=schedules") == [scheduled]
    assert set(shown(operator, "/jobs?by=nobody")) == {asked, scheduled}


def test_a_job_of_a_schedule_goes_by_the_name_of_the_schedule(site, operator):
    job_id = site.job("succeeded", task="reports.build", schedule="every-morning")
    assert "Every morning</h1>" in operator.get(f"/jobs/{job_id}").text


def test_the_doors_show_what_people_handed_over_and_no_housekeeping(site, operator):
    asked = site.job("succeeded", task="query.run", queue="query")
    sweep = site.job("succeeded", task="query.submit_due", schedule="questions")
    text = operator.get("/").text
    assert asked in text
    assert sweep not in text


@pytest.mark.parametrize(
    "query", ["state=lost", "older=rubbish", "older=2026-01-01T00:00:00~x", "q=%00", "newer=~", "q=" + LONG]
)
def test_odd_filters_and_places_are_answered_with_a_page(site, operator, query):
    site.job()
    assert operator.get(f"/jobs?{query}").status_code == 200


def test_pages_go_older_and_back_without_gap_or_repetition(site, operator):
    ids = [site.job("succeeded", age=age) for age in range(120, 0, -1)][::-1]
    address, seen = "/jobs", []
    while address:
        text = operator.get(address).text
        seen.append(re.findall(r'<tr [^>]*data-key="([^"]+)"', text))
        address = turned(text, "next")
    assert [job_id for page in seen for job_id in page] == ids
    assert shown(operator, turned(text, "prev")) == seen[1]


def test_a_list_keeps_its_filter_when_it_is_turned(site, operator):
    for _ in range(51):
        site.job("failed")
    assert "state=failed" in turned(operator.get("/jobs?state=failed").text, "next")


def test_rows_that_left_the_filter_are_sent_as_left(site, operator):
    left = site.job("succeeded")
    text = operator.get(f"/jobs/rows?state=running&id={left}").text
    assert f'data-key="{left}"' in text
    assert "data-left" in text


# --- one job ----------------------------------------------------------------------------------------------


def test_a_job_tells_its_story_in_order(site, operator):
    job_id = site.job("succeeded", age=100, attempt=3)
    at = datetime.now(UTC) - timedelta(seconds=99.5)
    for number, outcome in ((1, "retried"), (2, "rescued")):
        times = {"started_at": at, "finished_at": at + timedelta(seconds=0.1 * number)}
        site.write(insert(Attempt).values(job_id=job_id, number=number, worker="w", outcome=outcome, **times))
    assert re.findall(r'moment-title"><bdi>([^<]+)', operator.get(f"/jobs/{job_id}").text) == [
        "Asked for by olga",
        "Queued in default",
        "Attempt 1",
        "Attempt 2",
        "Attempt 1 is retried",
        "Rescued from a worker that went silent",
        "Attempt 3",
        "Succeeded",
    ]


def test_many_attempts_are_folded_in_the_middle(site, operator):
    job_id = site.job("succeeded", attempt=41)
    at = datetime.now(UTC) - timedelta(seconds=59)
    for number in range(1, 41):
        site.write(insert(Attempt).values(job_id=job_id, number=number, finished_at=at, outcome="retried"))
    assert "32 attempts between" in operator.get(f"/jobs/{job_id}").text


def test_progress_shows_share_rate_and_time_left(site, operator):
    job_id = site.job("running", age=41)
    site.write(insert(Progress).values(job_id=job_id, attempt=1, current=50, total=200, message="rows"))
    text = operator.get(f"/jobs/{job_id}?part=job").text
    assert 'value="0.2500"' in text
    assert re.search(r"about \d min", text)


def test_progress_of_an_attempt_that_was_replaced_is_not_shown(site, operator):
    job_id = site.job("running", attempt=2)
    site.write(insert(Progress).values(job_id=job_id, attempt=1, current=50, total=200))
    assert 'value="0.2500"' not in operator.get(f"/jobs/{job_id}").text


def test_a_failed_job_says_the_sentence_first_and_folds_the_traceback(site, operator):
    text = operator.get(f"/jobs/{site.job('failed')}").text
    assert text.index("It has no header row.") < text.index("Traceback</summary>") < text.index("File x")


def test_a_subject_names_its_jobs_and_draws_their_results(site, operator):
    site.app.extensions["job_titles"]["diagnostics.echo"] = lambda job: "Table airports.csv"
    site.app.extensions["job_results"]["diagnostics.echo"] = lambda job: "<table id='profile'></table>"
    text = operator.get(f"/jobs/{site.job('succeeded', result='1')}").text
    assert "Table airports.csv</h1>" in text
    assert "<table id='profile'>" in text


@pytest.mark.parametrize("result", ["null", "true", "48112", '"text"', "[1]", '{"a": 1}', '{"a": {"b": 1}}', "{", ""])
def test_any_result_can_be_shown(site, operator, result):
    assert operator.get(f"/jobs/{site.job('succeeded', result=result)}").status_code == 200


def test_cancel_ends_a_waiting_job_and_says_so(site, operator):
    job_id = site.job()
    text = press(operator, f"/jobs/{job_id}", f"/jobs/{job_id}/cancel").text
    assert "Cancelled before it was started." in text
    assert "Cancelled by olga." in text


def test_cancel_of_a_finished_job_is_refused_with_its_state(site, operator):
    job_id = site.job("succeeded")
    text = press(operator, f"/jobs/{job_id}", f"/jobs/{job_id}/cancel").text
    assert "Nothing to cancel: it has succeeded meanwhile." in text


def test_run_again_puts_a_failed_job_back(site, operator):
    job_id = site.job("failed")
    text = press(operator, f"/jobs/{job_id}", f"/jobs/{job_id}/run-again").text
    assert "It waits to run again" in text
    assert "Attempt 1 failed" in text


def test_run_again_of_a_success_is_refused(site, operator):
    job_id = site.job("succeeded")
    text = press(operator, f"/jobs/{job_id}", f"/jobs/{job_id}/run-again").text
    assert "a success is recorded once" in text


def test_run_again_is_refused_while_another_job_holds_its_unique_key(site, operator):
    job_id = site.job("failed", unique_key="nightly")
    site.job("running", unique_key="nightly", live_key="nightly")
    text = press(operator, f"/jobs/{job_id}", f"/jobs/{job_id}/run-again").text
    assert "Another job with the same unique key" in text


def test_a_button_without_its_token_does_nothing(site, operator):
    job_id = site.job()
    assert operator.post(f"/jobs/{job_id}/cancel").status_code == 400


def test_pages_refresh_without_script_while_something_is_unfinished(site, operator):
    refresh = '<noscript><meta http-equiv="refresh"'
    done = site.job("succeeded")
    assert refresh not in operator.get("/jobs").text
    running = site.job("running")
    assert refresh in operator.get("/jobs").text
    assert refresh in operator.get("/").text
    assert refresh in operator.get(f"/jobs/{running}").text
    assert refresh not in operator.get(f"/jobs/{done}").text


def test_an_unknown_job_is_a_page_that_says_so(operator):
    answer = operator.get("/jobs/no-such-job")
    assert answer.status_code == 404
    assert "There is no such job" in answer.text


# --- who may see what -------------------------------------------------------------------------------------


def test_a_viewer_sees_only_their_own_jobs(site):
    own = site.job("failed", owner="vera", error_message="own trouble")
    other = site.job("failed", owner="olga", error_message="secret trouble")
    site.write(
        update(Job).where(Job.id == other).values(parent_id=own),
        insert(Worker).values(id="w", kind="worker", host="atlas", pid=7, holds=json.dumps({other: 1})),
    )
    vera = site.signed_in("vera")
    for address in [*PAGES, *FRAGMENTS, f"/jobs/rows?id={other}", f"/jobs/{own}", "/jobs?q=trouble"]:
        text = vera.get(address).text
        assert "secret trouble" not in text, address
        assert f'/jobs/{other}"' not in text, address
    assert f"/jobs/{own}" in vera.get("/jobs").text
    assert vera.get(f"/jobs/{other}").status_code == 404
    for verb in ("cancel", "run-again"):
        assert press(vera, f"/jobs/{own}", f"/jobs/{other}/{verb}").status_code == 404


# --- secrets --------------------------------------------------------------------------------------


def test_a_secret_argument_shows_on_no_page(site, operator, monkeypatch):
    task = site.app.extensions["celery"].tasks["diagnostics.echo"]
    monkeypatch.setattr(task, "secret_params", ("value",), raising=False)
    texts = {"args": '["hunter2hunter2"]', "error_message": "no hunter2hunter2", "error_traceback": "hunter2hunter2"}
    job_id = site.job("failed", **texts)
    for address in ("/jobs", f"/jobs/{job_id}"):
        page = operator.get(address).text
        assert "***" in page, address
        assert "hunter2" not in page, address


def test_a_job_whose_task_nobody_knows_says_what_it_waits_for(site, operator):
    job_id = site.job("waiting", task="reports.newer", sender="unknown task")

    page = operator.get(f"/jobs/{job_id}").text

    assert "No running worker knows the task <code>reports.newer</code>; it starts when one does." in page
