"""On time, once; and far futures cost nothing."""

from tests.mutants.breaks.base import Break

_I = "tests/integration"
_SENDING = "flaskapp/jobs/sending.py"
_FIRING = "flaskapp/worker/firing.py"
_CRONTABS = "flaskapp/worker/crontabs.py"
_RHYTHM = f"{_I}/test_rhythm.py"

BREAKS = [
    Break(
        "G6",
        "beat moves the last due time without comparing it",
        _FIRING,
        "            Schedule.last_due_at == self.row.last_due_at,\n",
        "",
        f"{_RHYTHM}::test_a_beat_with_an_older_view_sets_no_last_due_time_back[sqlite]",
    ),
    Break(
        "G6",
        "beat does not ask whether a due time was decided",
        _FIRING,
        "[time for time in chosen if time not in known]",
        "chosen",
        f"{_RHYTHM}::test_a_last_due_time_set_back_by_hand_doubles_nothing[sqlite]",
    ),
    Break(
        "G6",
        "the database allows a second firing of a due time",
        "flaskapp/jobs/models/schedules.py",
        'UniqueConstraint("schedule", "due_at", name="firing_once_per_due_time")',
        'Index("firing_once_per_due_time", "schedule", "due_at")',
        f"{_RHYTHM}::test_the_database_itself_refuses_a_second_firing_of_a_due_time[sqlite]",
    ),
    Break(
        "G6",
        "the last due time is committed before the job",
        _FIRING,
        "        first = due[0] if len(due) < MOST_SEEN else self.rhythm.next_time(self.row.last_due_at)\n        known",
        "        first = session.commit() or due[0]\n        known",
        f"{_RHYTHM}::test_a_turn_that_dies_before_its_commit_leaves_nothing_and_the_next_makes_up_for_it[sqlite]",
    ),
    Break(
        "G6",
        "a job is due when it was seen",
        "flaskapp/jobs/schedules.py",
        "run_at = moment + timedelta(seconds=self.delay_seconds or 0)",
        "run_at = None",
        f"{_RHYTHM}::test_a_due_time_becomes_a_job_that_is_due_at_its_nominal_time[sqlite]",
    ),
    Break(
        "G6",
        "an interval counts from the last look",
        "flaskapp/worker/schedules.py",
        "entry.rhythm.anchored(row.anchor_at or row.last_due_at)",
        "entry.rhythm.anchored(moment)",
        f"{_RHYTHM}::test_an_interval_does_not_drift_over_restarts[sqlite]",
    ),
    Break(
        "G6",
        "missed times are all run whatever the entry says",
        _FIRING,
        'if missed == "all":',
        "if True:",
        f"{_RHYTHM}::test_missed_times_become_one_job_for_the_latest[sqlite]",
    ),
    Break(
        "G6",
        "all missed times are made up without a cap",
        _FIRING,
        "return due[-MOST_MADE_UP:]",
        "return due",
        f"{_RHYTHM}::test_a_hundred_missed_times_are_made_up_and_the_rest_are_counted[sqlite]",
    ),
    Break(
        "G6",
        "overlap is not looked at",
        _FIRING,
        'if self.entry.overlap == "skip" else None',
        "if False else None",
        f"{_RHYTHM}::test_a_time_is_skipped_while_the_job_before_is_not_final[sqlite]",
    ),
    Break(
        "G6",
        "a pause in the middle of a turn is not seen",
        _FIRING,
        "            Schedule.paused_at.is_(None),\n",
        "",
        f"{_RHYTHM}::test_a_pause_that_comes_in_the_middle_of_a_turn_holds[sqlite]",
    ),
    Break(
        "G6",
        "times of a pause are made up for",
        _FIRING,
        "if resumed is not None and time <= resumed",
        "if False",
        f"{_RHYTHM}::test_times_of_a_pause_make_no_jobs_and_are_not_missed[sqlite]",
    ),
    Break(
        "G6",
        "a time in the hour that comes twice is due twice",
        _CRONTABS,
        "[only_instant(wall, zone) for wall in walls]",
        "[moment for wall in walls for moment in instants(wall, zone) or [only_instant(wall, zone)]]",
        "tests/unit/test_crontabs.py::test_a_daily_time_that_comes_twice_is_due_once_on_its_first_pass",
    ),
    Break(
        "G6",
        "a time in the hour that does not exist is forgotten",
        _CRONTABS,
        "[only_instant(wall, zone) for wall in walls]",
        "[moment for wall in walls for moment in instants(wall, zone)[:1]]",
        "tests/unit/test_crontabs.py::test_a_daily_time_that_the_clock_jumps_over_is_due_once_right_after_the_jump",
    ),
    Break(
        "G6",
        "quarters of an hour stop in the hour that comes twice",
        _CRONTABS,
        "if len(fields.hour) == 24:",
        "if False:",
        "tests/unit/test_crontabs.py::test_quarters_of_every_hour_run_in_real_time_through_both_odd_hours",
    ),
    Break(
        "G6",
        "run now moves the last due time",
        "flaskapp/jobs/schedules.py",
        "    session.execute(mine.values(last_job_id=wish.job_id))\n",
        "    session.execute(mine.values(last_job_id=wish.job_id, last_due_at=moment))\n",
        f"{_RHYTHM}::test_run_now_submits_what_the_entry_says_and_moves_no_due_time[sqlite]",
    ),
    Break(
        "G7",
        "the relay sends what is not due",
        _SENDING,
        "Job.run_at <= now(), unreserved",
        "unreserved",
        f"{_I}/test_claiming.py::test_a_job_for_later_is_no_relays_business[sqlite]",
    ),
    Break(
        "G8",
        "what somebody asks a schedule for keeps no limit",
        "flaskapp/jobs/schedules.py",
        '"unique_key", "limit_key"),',
        '"unique_key"),',
        f"{_RHYTHM}::test_run_now_keeps_whatever_an_entry_may_say[limit_key]",
    ),
]
