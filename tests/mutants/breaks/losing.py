"""Nothing is lost between the row and the worker."""

from tests.mutants.breaks.base import Break

_I = "tests/integration"
_LIFECYCLE = "flaskapp/jobs/lifecycle.py"
_CLAIMING = "flaskapp/jobs/claiming.py"
_SENDING = "flaskapp/jobs/sending.py"
_OUTBOX = "flaskapp/broker/outbox.py"

BREAKS = [
    Break(
        "G3",
        "a caller's header makes the message another job's",
        "flaskapp/broker/publisher.py",
        '        "id": job.id,\n',
        '        "id": theirs.get("id", job.id),\n',
        f"{_I}/test_publisher.py::test_a_callers_headers_travel_but_do_not_say_whose_message_it_is",
    ),
    Break(
        "G3",
        "a job of an unknown task is left running by run_due_jobs",
        "flaskapp/worker/testing.py",
        "if job.task in current_app.tasks and _run(job):",
        "if _run(job):",
        f"{_I}/test_attempts.py::test_a_job_whose_task_nobody_knows_here_waits_and_the_others_run[sqlite]",
    ),
    Break(
        "G3",
        "a message is marked before it is confirmed",
        _OUTBOX,
        "    confirmed: set[str] = set()\n    try:",
        "    confirmed: set[str] = {job.id for job in batch}\n    try:",
        f"{_I}/test_outbox.py::test_a_broker_that_is_down_leaves_jobs_waiting_and_rested[sqlite]",
    ),
    Break(
        "G3",
        "no reservation ever runs out",
        _SENDING,
        "or_(Job.sending_until.is_(None), Job.sending_until < now())",
        "Job.sending_until.is_(None)",
        f"{_I}/test_claiming.py::test_a_reserved_job_is_nobody_elses_until_the_reservation_ends[sqlite]",
    ),
    Break(
        "G3",
        "a planned stop counts as a crash",
        _LIFECYCLE,
        '    return archive(session, outcome.claimed, "stopped", error) and bool(\n        change(session, held(outcome.claimed), **in_its_place)\n    )',
        "    return crash(session, Crashed(outcome.claimed, error))",
        f"{_I}/test_lifecycle.py::test_a_planned_stop_is_not_counted[sqlite]",
    ),
    Break(
        "G3",
        "a message that overtakes its confirm is refused",
        _CLAIMING,
        "due = or_(Job.state == JobState.QUEUED, arrived)",
        "due = Job.state == JobState.QUEUED",
        f"{_I}/test_claiming.py::test_a_message_may_overtake_its_confirm[sqlite]",
    ),
    Break(
        "G3",
        "a stalled database counts as silence of the workers",
        "flaskapp/worker/maintenance.py",
        "            passed = 0.0\n",
        "            pass\n",
        f"{_I}/test_leases.py::test_a_database_in_which_nobody_can_write_rescues_nobody[sqlite]",
    ),
    Break(
        "G3",
        "no dead lease is rescued",
        "flaskapp/worker/maintenance.py",
        "if silence >= self._lease_seconds]",
        "if silence < 0]",
        f"{_I}/test_leases.py::test_a_silent_workers_job_is_rescued_after_its_lease[sqlite]",
    ),
    Break(
        "G3",
        "a job that merely stood claimed is blamed again and again",
        "flaskapp/worker/offers.py",
        "if not request.is_suspect or len",
        "if True or len",
        f"{_I}/test_recorder_slots.py::test_a_job_that_lost_a_process_before_is_not_claimed_ahead[sqlite]",
    ),
]
