"""One success, what a task writes commits with it, and what is no longer ours writes nothing."""

from tests.mutants.breaks.base import Break

_I = "tests/integration"
_LIFECYCLE = "flaskapp/jobs/lifecycle.py"
_CLAIMING = "flaskapp/jobs/claiming.py"
_CHANGES = "flaskapp/jobs/changes.py"
_ATTEMPT = "flaskapp/worker/attempt.py"

BREAKS = [
    Break(
        "G4",
        "the task's writes are committed before its success",
        _ATTEMPT,
        "        session.flush()\n        try:",
        "        attempt, self.settled = self.settled, True\n        session.commit()\n        self.settled = attempt\n        try:",
        f"{_I}/test_fences.py::test_what_a_fenced_attempt_wrote_and_submitted_never_was[sqlite]",
    ),
    Break(
        "G4",
        "a failure keeps what the task wrote",
        _ATTEMPT,
        "            db.session.rollback()\n            self.lost = not lifecycle.settle",
        "            self.lost = not lifecycle.settle",
        f"{_I}/test_attempts.py::test_what_a_failing_task_wrote_is_rolled_back[sqlite]",
    ),
    Break(
        "G4",
        "a job may succeed twice",
        _LIFECYCLE,
        "        Job.id.in_([outcome.claimed.job_id for outcome in outcomes]), Job.state == JobState.RUNNING\n",
        "        Job.id.in_([outcome.claimed.job_id for outcome in outcomes])\n",
        f"{_I}/test_lifecycle.py::test_a_job_is_recorded_as_succeeded_once[sqlite]",
    ),
    Break(
        "G4",
        "a lost answer of a commit counts as a failure",
        _ATTEMPT,
        "            self.settled = True\n            return self._look_up(lost)",
        "            self.settled = True\n            return self._roll_back_and(Failed(self.claimed, _error_of(lost)))",
        f"{_I}/test_lost_commits.py::test_a_success_that_was_not_committed_is_put_back_uncounted",
    ),
    Break(
        "G5",
        "the fence forgets the attempt",
        _CHANGES,
        "and_(Job.id == claimed.job_id, Job.state == JobState.RUNNING, Job.attempt == claimed.number)",
        "and_(Job.id == claimed.job_id, Job.state == JobState.RUNNING)",
        f"{_I}/test_lifecycle.py::test_an_attempt_that_was_replaced_changes_nothing",
    ),
    Break(
        "G5",
        "the fence of a commit forgets the attempt",
        _LIFECYCLE,
        '    _TABLE.c.attempt == bindparam("number"),\n',
        "",
        f"{_I}/test_lifecycle.py::test_an_attempt_that_was_replaced_changes_nothing",
    ),
    Break(
        "G5",
        "a commit inside a task is not fenced",
        "flaskapp/worker/sessions.py",
        '        event.listen(db.session, "before_commit", _fence)\n',
        "",
        f"{_I}/test_fences.py::test_a_commit_inside_a_fenced_attempt_is_refused[sqlite]",
    ),
    Break(
        "G5",
        "a stale message may claim the next attempt",
        _CLAIMING,
        "row.id in wanted and (wanted[row.id].send or 0) == row.sends",
        "row.id in wanted",
        f"{_I}/test_claiming.py::test_a_message_of_an_older_sending_is_refused[sqlite]",
    ),
    Break(
        "G5",
        "a pool child inherits an open SQLite connection",
        "flaskapp/extensions.py",
        "        engine.dispose()\n",
        "        pass\n",
        f"{_I}/test_forking.py::test_a_child_inherits_no_open_sqlite_connection",
    ),
]
