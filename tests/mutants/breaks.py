"""The breaks: for each promise of docs/job.md one line whose loss breaks it, and the test that turns red.

`old` stands once in `file`; the rest of the line stays as it is.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Break:
    promise: str
    #: What the broken line no longer does.
    what: str
    file: str
    old: str
    new: str
    test: str

    def __str__(self) -> str:
        return f"{self.promise} {self.what} ({self.file} {self.test})"


_I = "tests/integration"
_LIFECYCLE = "flaskapp/jobs/lifecycle.py"
_CLAIMING = "flaskapp/jobs/claiming.py"
_LIMITS = "flaskapp/jobs/limits.py"
_CHANGES = "flaskapp/jobs/changes.py"
_ATTEMPT = "flaskapp/worker/attempt.py"
_SENDING = "flaskapp/jobs/sending.py"
_OUTBOX = "flaskapp/broker/outbox.py"
_FIRING = "flaskapp/worker/firing.py"
_CRONTABS = "flaskapp/worker/crontabs.py"
_RHYTHM = f"{_I}/test_rhythm.py"
_LOST = "flaskapp/jobs/lost.py"
_PROBES = "flaskapp/broker/probes.py"

BREAKS = [
    # --- G1: a job and the row that asked for it commit together ---
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
    # --- G2: the page never waits for the broker ---
    Break(
        "G2",
        "the nudge asks the broker itself",
        "flaskapp/worker/sessions.py",
        "        relay().nudge()\n",
        "        from flaskapp.broker.publisher import Publisher\n\n        Publisher(relay()._broker_url)._open()\n",
        f"{_I}/test_submitting.py::test_submitting_does_not_wait_for_a_broker_that_is_down[sqlite]",
    ),
    # --- G3: nothing is lost ---
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
        '    return archive(session, outcome.claimed, "stopped", error) and bool(\n        change(session, held(outcome.claimed), **wait(now()))\n    )',
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
    # --- G4: one success, and what a task writes commits with it ---
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
    # --- G5: fenced ---
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
    # --- G6: on time, once ---
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
    # --- G7: far futures cost nothing ---
    Break(
        "G7",
        "the relay sends what is not due",
        _SENDING,
        "Job.run_at <= now(), unreserved",
        "unreserved",
        f"{_I}/test_claiming.py::test_a_job_for_later_is_no_relays_business[sqlite]",
    ),
    # --- G3: what the broker loses is found, and nothing else ---
    Break(
        "G3",
        "no probe is sent",
        _PROBES,
        "            self._send_probe(queue)\n",
        "            pass\n",
        f"{_I}/test_lost_messages.py::test_one_probe_at_a_time_goes_where_jobs_wait_for_long[sqlite]",
    ),
    Break(
        "G3",
        "a probe proves something without its margin",
        _PROBES,
        "elif probe.seen_ago >= self._margin:",
        "else:",
        f"{_I}/test_lost_messages.py::test_it_is_left_alone_until_a_margin_after_the_probe[sqlite]",
    ),
    Break(
        "G3",
        "three missing probes send nothing again",
        _PROBES,
        "if waited_idly and probe.missing + 1 >= lost.MOST_MISSING:",
        "if probe.missing < 0:",
        f"{_I}/test_lost_messages.py"
        "::test_a_probe_missing_before_idle_workers_is_repeated_and_the_third_sends_all_again[sqlite]",
    ),
    Break(
        "G3",
        "a job in a worker's hands counts as lost",
        _LOST,
        "if row.id not in held and row.moment",
        "if row.moment",
        f"{_I}/test_lost_messages.py::test_a_job_in_a_slow_workers_hands_is_not_lost[sqlite]",
    ),
    Break(
        "G3",
        "a worker whose slots are busy counts as idle",
        _LOST,
        " if len(json.loads(row.holds)) < row.concurrency]",
        "]",
        f"{_I}/test_lost_messages.py::test_a_probe_waits_for_a_worker_that_cannot_take_it[sqlite-both slots are busy]",
    ),
    Break(
        "G3",
        "a lost job is given no more time",
        _LOST,
        "margin * 2 ** min(losses, 20)",
        "margin",
        f"{_I}/test_lost_messages.py::test_a_job_lost_again_is_given_twice_the_time[sqlite]",
    ),
    Break(
        "G3",
        "what was sent again meanwhile is sent once more",
        _LIFECYCLE,
        "        lost = and_(lost, Job.queued_at < sent_before)\n",
        "        pass\n",
        f"{_I}/test_lost_messages.py::test_what_was_sent_again_in_the_meantime_is_left_alone[sqlite]",
    ),
    Break(
        "G3",
        "more is claimed than there are slots",
        "flaskapp/worker/recorder.py",
        "(len(self._held) - len(self._outcomes) - ending)",
        "(self._busy + len(self._ready))",
        f"{_I}/test_recorder.py::test_no_more_is_claimed_than_there_are_slots_while_the_event_loop_is_busy[sqlite]",
    ),
    Break(
        "G3",
        "a deleted queue is not declared again",
        "flaskapp/broker/publisher.py",
        "if confirms.unwanted & {queue.name for queue in topology.WORK_QUEUES}:",
        "if not topology.WORK_QUEUES:",
        f"{_I}/test_publisher.py::test_a_queue_that_was_deleted_is_made_again",
    ),
    # --- G8: control works on every broker ---
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
        ".order_by(name).with_for_update()",
        ".order_by(name)",
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
    # --- G9: accounted for ---
    Break(
        "G9",
        "what a worker holds counts as missing at the broker",
        "flaskapp/jobs/comparing.py",
        " - held.get(queue, 0) - messages",
        " - messages",
        f"{_I}/test_stats.py::test_both_counts_are_told_apart[sqlite]",
    ),
    Break(
        "G9",
        "prune forgets to count",
        "flaskapp/jobs/pruning.py",
        "        session.execute(insert(Tally).values(accepted=0, pruned=len(ids)))\n",
        "",
        f"{_I}/test_memory.py::test_the_books_balance_through_every_arrow[sqlite]",
    ),
    Break(
        "G9",
        "nothing is counted as accepted",
        "flaskapp/jobs/submitting.py",
        '{"accepted": accepted, "pruned": 0}',
        '{"accepted": 0, "pruned": 0}',
        f"{_I}/test_queries.py::test_a_row_deleted_by_hand_shows_as_drift[sqlite]",
    ),
]
