"""The view of RabbitMQ."""

from tests.mutants.breaks.base import Break

_I = "tests/integration"
_BROKER_VIEW = f"{_I}/test_broker_view.py"

BREAKS = [
    Break(
        "G8",
        "a drained queue is sent to",
        "flaskapp/jobs/window.py",
        "held = or_(Queue.paused_at.is_not(None), Queue.draining_at.is_not(None))",
        "held = Queue.paused_at.is_not(None)",
        f"{_I}/test_draining.py::test_what_is_at_the_broker_starts_and_nothing_more_is_sent[sqlite]",
    ),
    Break(
        "G2",
        "a command ends before its job has left",
        "flaskapp/api/commands.py",
        "    click.echo(job_id)\n    let_jobs_leave()\n",
        "    click.echo(job_id)\n",
        f"{_I}/test_leaving.py::test_a_submitted_job_has_left_when_the_command_ends[folder]",
    ),
    Break(
        "safety",
        "any certificate is good enough for the monitoring account",
        "flaskapp/broker/management_http.py",
        "context = ssl.create_default_context()",
        "context = ssl._create_unverified_context()",
        f"{_BROKER_VIEW}::test_only_a_good_certificate_is_given_the_account",
    ),
    Break(
        "G2",
        "a page waits for the management API",
        "flaskapp/broker/management.py",
        "end = self._began + patience",
        "end = self._began + 60",
        f"{_BROKER_VIEW}::test_the_page_says_at_once_what_is_wrong_and_shows_sql[silence]",
    ),
    Break(
        "safety",
        "a server that sends a byte a second is read for ever",
        "flaskapp/broker/management_http.py",
        "    end.start()\n",
        "    end.cancel()\n",
        f"{_BROKER_VIEW}::test_the_page_says_at_once_what_is_wrong_and_shows_sql[a byte now and then]",
    ),
    Break(
        "safety",
        "the account that a server repeats is shown",
        "flaskapp/broker/figures.py",
        "return value if is_plain and not self._is_secret(value) else None",
        "return value if is_plain else None",
        f"{_BROKER_VIEW}::test_a_server_that_repeats_the_password_is_not_repeated",
    ),
    Break(
        "questions",
        "who presses *Run now* asks a saved question with their own rights",
        "flaskapp/query/saved_views.py",
        "owner=found.owner)",
        "owner=current_user.name)",
        f"{_I}/test_query_pages.py::test_a_saved_question_runs_now_as_its_rhythm_would",
    ),
]
