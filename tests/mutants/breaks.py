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
_CHANGES = "flaskapp/jobs/changes.py"
_ATTEMPT = "flaskapp/worker/attempt.py"
_SENDING = "flaskapp/jobs/sending.py"
_OUTBOX = "flaskapp/broker/outbox.py"
_LOST = "flaskapp/jobs/lost.py"
_PROBES = "flaskapp/broker/probes.py"

BREAKS = [
    # --- G1: a job and the row that asked for it commit together ---
    Break(
        "G1",
        "the submit commits on its own",
        "flaskapp/worker/celery_app.py",
        '        db.session().info.setdefault("submitted", []).append(job_id)\n',
        "        db.session.commit()\n",
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
        _LIFECYCLE,
        "due = or_(Job.state == JobState.QUEUED, and_(Job.state == JobState.WAITING, Job.run_at <= now()))",
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
        _LIFECYCLE,
        "row.id in wanted and (wanted[row.id].send or 0) == row.sends",
        "row.id in wanted",
        f"{_I}/test_claiming.py::test_a_message_of_an_older_sending_is_refused[sqlite]",
    ),
    # --- G6: on time, once ---
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
