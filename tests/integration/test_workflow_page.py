"""A job's page shows the workflow that it belongs to; the API names its relatives."""

import re
from typing import Any

import pytest
from celery import chain, chord, group
from flask.testing import FlaskClient

from flaskapp.console.tree import Node, tree_of
from flaskapp.diagnostics.tasks import echo, fail
from flaskapp.extensions import db
from flaskapp.jobs import lifecycle, queries
from flaskapp.worker.testing import run_due_jobs
from tests.helpers import make_current
from tests.integration.windows_fixtures import Site, operator, site  # noqa: F401 -- fixtures


@pytest.fixture
def call(site: Site) -> Any:
    """Send a canvas as olga, and run what is due if asked to."""
    make_current(site.app)

    def call(canvas: Any, run: int = 0) -> Any:
        with site.app.app_context():
            result = canvas.apply_async(owner="olga")
            db.session.commit()
            if run:
                run_due_jobs(run)
        return result

    return call


def drawn(site: Site, job_id: str, owner: str | None = None) -> Any:
    with site.app.app_context():
        job = queries.job_by_id(db.session(), job_id)
        assert job is not None
        tree = tree_of(job, owner)
        return None if tree is None else [shape(node) for node in tree.nodes]


def shape(node: Node) -> Any:
    if node.join is not None:
        return {
            f"{node.done} of {node.join.total}": [shape(part) for part in node.parts],
            "then": [shape(part) for part in node.then],
        }
    assert node.job is not None
    return (
        [node.job.task.split(".")[1], *(shape(part) for part in node.parts)]
        if node.parts
        else node.job.task.split(".")[1]
    )


def test_members_stand_under_their_join_and_the_body_after_it(site: Site, call: Any) -> None:
    result = call(chord([echo.si(1), echo.si(2)], echo.s()), run=1)

    assert drawn(site, result.id) == [{"1 of 2": ["echo", "echo"], "then": ["echo"]}]
    assert drawn(site, result.parent.results[0].id) == drawn(site, result.id)


def test_a_chord_of_chords_is_drawn_inside_out(site: Site, call: Any) -> None:
    inner = chord([echo.si(1), chain(echo.si(2), echo.s())], echo.s())
    result = call(chain(echo.si(0), chord([inner, echo.si(3)], echo.s()), echo.s()), run=100)

    inside = {"2 of 2": ["echo", "echo", "echo"], "then": ["echo"]}
    assert drawn(site, result.id) == ["echo", {"2 of 2": [inside, "echo"], "then": ["echo", "echo"]}]


def test_a_chain_is_drawn_step_after_step(site: Site, call: Any) -> None:
    result = call(chain(echo.si(1), echo.s(), echo.s()), run=100)

    assert drawn(site, result.id) == ["echo", "echo", "echo"]


def test_what_a_job_asked_for_stands_under_it(site: Site, call: Any) -> None:
    result = call(chain(echo.si(1), group(echo.s(), echo.s())), run=100)

    assert drawn(site, result[0].id) == [["echo", "echo", "echo"]]


def test_a_job_alone_has_no_workflow(site: Site, call: Any) -> None:
    assert drawn(site, call(echo.si(1)).id) is None


def test_the_page_shows_states_the_join_and_where_one_is(call: Any, operator: FlaskClient) -> None:
    result = call(chord([echo.si(1), fail.si(9).set(max_attempts=1)], echo.s()), run=100)
    page = operator.get(f"/jobs/{result.id}").text

    section = re.search(r'<section class="workflow".*?</section>', page, re.DOTALL)
    assert section is not None
    words = re.sub(r"<[^>]+>|\s+", " ", section[0])
    assert re.search(r"1 of 2 done ?; +one did not succeed +, then", words)
    assert section[0].count('aria-current="page"') == 1
    assert {"succeeded", "failed"} <= set(words.split())
    # Its own button would run it without its results.
    assert "Run again" not in page


def test_a_parked_job_says_what_it_waits_for(call: Any, operator: FlaskClient) -> None:
    result = call(chord([echo.si(1), echo.si(2)], echo.s()))

    page = operator.get(f"/jobs/{result.id}").text

    assert "It waits for other steps of its workflow." in page
    assert not re.search(r"(?<![\da-f-])9999", page), "the year of its row, not four digits of an id"
    assert "after other steps" in operator.get("/jobs").text


def test_of_a_large_workflow_the_interesting_rows_are_shown(site: Site, call: Any, operator: FlaskClient) -> None:
    members = [echo.si(n) for n in range(150)]
    result = call(chord(members, echo.s()))
    last = result.parent.results[-1].id
    with site.app.app_context():
        lifecycle.cancel(db.session(), last)
        db.session.commit()

    page = operator.get(f"/jobs/{result.id}").text

    assert last[-8:] in page
    assert "and 51 more" in page
    assert page.count('class="tree-step"') == 100


def test_a_stranger_sees_only_their_own_part(site: Site, call: Any) -> None:
    result = call(group(echo.si(1), echo.si(2)))

    assert drawn(site, result.results[0].id, owner="somebody else") is None


def test_the_api_names_the_relatives(site: Site, call: Any) -> None:
    result = call(chain(echo.si(1), echo.s()), run=100)
    script, first = site.script("olga", "operator"), result.parent.id

    assert script.get(f"/jobs/{first}").json["children"] == [result.id]
    shown = script.get(f"/jobs/{result.id}").json
    assert (shown["root_id"], shown["parent_id"], shown["group_id"], shown["children"]) == (first, first, None, [])
    assert "children" not in script.get("/jobs").json["items"][0]


def test_a_step_that_could_not_run_is_not_run_again_by_itself(site: Site, call: Any) -> None:
    result = call(chain(fail.si(9).set(max_attempts=1), echo.s()), run=100)

    assert site.script("olga", "operator").post(f"/jobs/{result.id}/run-again").status_code == 409
