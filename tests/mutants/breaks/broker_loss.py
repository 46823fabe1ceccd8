"""What the broker loses is found, and nothing else."""

from tests.mutants.breaks.base import Break

_I = "tests/integration"
_LIFECYCLE = "flaskapp/jobs/lifecycle.py"
_LOST = "flaskapp/jobs/lost.py"
_PROBES = "flaskapp/broker/probes.py"

BREAKS = [
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
        "flaskapp/worker/slots.py",
        "return self._concurrency - self._held.unended()",
        "return self._concurrency - self.busy - len(self._ready)",
        f"{_I}/test_recorder_slots.py::test_no_more_is_claimed_than_there_are_slots_while_the_event_loop_is_busy[sqlite]",
    ),
    Break(
        "G3",
        "a deleted queue is not declared again",
        "flaskapp/broker/publisher.py",
        "if confirms.unwanted & {queue.name for queue in topology.WORK_QUEUES}:",
        "if not topology.WORK_QUEUES:",
        f"{_I}/test_publisher.py::test_a_queue_that_was_deleted_is_made_again",
    ),
]
