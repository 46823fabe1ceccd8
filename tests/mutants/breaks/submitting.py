"""A job and the row that asked for it commit together, and the page never waits for the broker."""

from tests.mutants.breaks.base import Break

_I = "tests/integration"

BREAKS = [
    Break(
        "G1",
        "the submit commits on its own",
        "flaskapp/worker/celery_app.py",
        "        session.info.setdefault(SUBMITTED, []).extend(job_ids)\n",
        "        session.commit()\n",
        f"{_I}/test_submitting.py::test_a_rollback_takes_the_job_with_the_business_row[sqlite]",
    ),
    Break(
        "G1",
        "a request may end well with an uncommitted job",
        "flaskapp/worker/sessions.py",
        "response.status_code < 400 and (left",
        "response.status_code < 0 and (left",
        f"{_I}/test_submitting.py::test_a_request_that_ends_well_with_an_uncommitted_job_is_an_error_that_names_it[sqlite]",
    ),
    Break(
        "G1",
        "an app context inside a task may lose what was submitted in it",
        "flaskapp/worker/sessions.py",
        "    app.teardown_appcontext(_refuse_to_lose_children)\n",
        "",
        f"{_I}/test_attempts.py::test_a_child_of_an_app_context_inside_the_task_is_not_lost_silently[sqlite]",
    ),
    Break(
        "G2",
        "the nudge asks the broker itself",
        "flaskapp/worker/sessions.py",
        "        relay().nudge()\n",
        "        from flaskapp.broker.publisher import Publisher\n\n        Publisher(relay()._broker_url)._open()\n",
        f"{_I}/test_submitting.py::test_submitting_does_not_wait_for_a_broker_that_is_down[sqlite]",
    ),
]
