"""Control works on every broker."""

from tests.mutants.breaks.base import Break

_I = "tests/integration"
_LIFECYCLE = "flaskapp/jobs/lifecycle.py"
_CLAIMING = "flaskapp/jobs/claiming.py"
_LIMITS = "flaskapp/jobs/limits.py"

BREAKS = [
    Break(
        "G8",
        "a step that has not come yet cannot be revoked",
        "flaskapp/worker/remote_control.py",
        "                    lifecycle.write_steps_to_come(session, job_id)\n",
        "",
        f"{_I}/test_broken_workflows.py::test_a_revoked_step_that_has_not_come_never_runs[sqlite]",
    ),
    Break(
        "G8",
        "the window lets everything through",
        "flaskapp/jobs/window.py",
        "windows[queue] - counts.get(queue, 0)",
        "MOST",
        f"{_I}/test_window.py::test_what_is_beyond_the_window_stays_waiting[sqlite]",
    ),
    Break(
        "G8",
        "an older line goes before a more urgent one",
        "flaskapp/jobs/window.py",
        "(-row.priority, row.run_at)",
        "row.run_at",
        f"{_I}/test_window.py::test_priority_goes_before_age_across_queues[sqlite]",
    ),
    Break(
        "G8",
        "a cancel does not reach running jobs",
        _LIFECYCLE,
        "LIVE_STATES = (JobState.WAITING, JobState.QUEUED, JobState.RUNNING)",
        "LIVE_STATES = (JobState.WAITING, JobState.QUEUED)",
        f"{_I}/test_lifecycle.py::test_a_cancelled_attempt_is_fenced_from_there_on[sqlite]",
    ),
    Break(
        "G8",
        "the claim does not look whether its queue is paused",
        _LIMITS,
        "job.queue not in queues or queues[job.queue].paused_at is None",
        "True",
        f"{_I}/test_limits.py::test_a_message_of_a_paused_queue_is_held[sqlite]",
    ),
    Break(
        "G8",
        "what may not start is not held",
        _CLAIMING,
        "lay_down(session, Job.id.in_([row.id for row in startable if row.id not in started]), null())",
        "pass",
        f"{_I}/test_limits.py::test_what_claim_refuses_is_held_and_leaves_again_when_there_is_room[sqlite-key]",
    ),
    Break(
        "G8",
        "the claim counts without locking the limit",
        _LIMITS,
        "session.execute(query.with_for_update(skip_locked=not may_wait))",
        "session.execute(query)",
        f"{_I}/test_limits_shared.py::test_workers_that_claim_at_once_share_the_last_places[postgresql]",
    ),
    Break(
        "G8",
        "the claim gives away more places than there are",
        _LIMITS,
        "            room[bound] -= 1\n",
        "            room[bound] -= 0\n",
        f"{_I}/test_limits.py::test_no_more_are_claimed_than_may_run[sqlite-key]",
    ),
    Break(
        "G8",
        "a start is not counted for its rate",
        _LIMITS,
        "        session.execute(insert(Start), rows)\n",
        "        pass\n",
        f"{_I}/test_limits.py::test_no_more_start_in_a_span_than_the_rate_allows[sqlite-key]",
    ),
    Break(
        "G8",
        "what is on its way keeps no place",
        _LIMITS,
        "min(left) - count.under_way",
        "min(left)",
        f"{_I}/test_limits.py::test_a_relay_that_is_sending_keeps_the_places_of_its_jobs[sqlite-key]",
    ),
    Break(
        "G8",
        "a message that nobody takes keeps its place for ever",
        _LIMITS,
        "_ABOUT_TO_RUN_SECONDS = 60.0",
        "_ABOUT_TO_RUN_SECONDS = 6e6",
        f"{_I}/test_limits.py::test_a_message_that_nobody_takes_does_not_keep_its_place_for_ever[sqlite-key]",
    ),
    Break(
        "G8",
        "the end of a limited job wakes nobody",
        "flaskapp/worker/recorder.py",
        "request.claimed is not None and request.claimed.limited",
        "False",
        f"{_I}/test_recorder.py::test_the_relay_learns_at_once_that_a_limited_job_has_ended[sqlite]",
    ),
    Break(
        "G8",
        "what nobody looks at does not expire",
        "flaskapp/worker/maintenance.py",
        "expired = lifecycle.expire_overdue(session, _EXPIRE_GROUP)",
        "expired = 0",
        f"{_I}/test_overdue.py::test_a_turn_cancels_what_nobody_started_in_time[sqlite-waiting]",
    ),
    Break(
        "G8",
        "a key that was just freed is an error",
        "flaskapp/jobs/submitting.py",
        "_MOST_TRIES = 20",
        "_MOST_TRIES = 1",
        f"{_I}/test_unique_keys.py::test_a_key_that_is_freed_while_others_ask_for_it_is_never_an_error[postgresql]",
    ),
    Break(
        "G8",
        "a key that is taken while a job runs again is an error",
        "flaskapp/jobs/again.py",
        "    except IntegrityError:\n        # Its key",
        "    except KeyError:\n        # Its key",
        f"{_I}/test_unique_keys.py::test_a_job_does_not_run_again_while_its_key_is_just_being_taken[postgresql]",
    ),
    Break(
        "G8",
        "two workers lock the same jobs in different orders",
        _CLAIMING,
        "        .order_by(Job.id)\n",
        "        .order_by(Job.id.desc() if worker[-1] in '02468' else Job.id)\n",
        f"{_I}/test_limits_shared.py::test_workers_that_claim_at_once_keep_a_limit_to_the_number[postgresql]",
    ),
]
