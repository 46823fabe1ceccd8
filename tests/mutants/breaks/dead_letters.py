"""What could not be delivered, what no worker knows, and what is left of a crash."""

from tests.mutants.breaks.base import Break

_I = "tests/integration"

BREAKS = [
    Break(
        "G3",
        "a dead letter does not put its job back",
        "flaskapp/jobs/letters.py",
        "waits_again = lifecycle.hold(session, Hint(letter.job_id, letter.send), rest)",
        "waits_again = False",
        f"{_I}/test_letters.py::test_a_job_that_waits_for_this_message_waits_again[sqlite-queued]",
    ),
    Break(
        "G3",
        "a letter that comes twice has two rows",
        "flaskapp/jobs/letters.py",
        "if letter.redelivered and ",
        "if False and ",
        f"{_I}/test_letters.py::test_a_letter_delivered_again_has_one_row[sqlite]",
    ),
    Break(
        "G3",
        "a letter is acknowledged before its row is committed",
        "flaskapp/broker/dead_letters.py",
        "channel.consume(topology.DEAD_QUEUE.name, inactivity",
        "channel.consume(topology.DEAD_QUEUE.name, auto_ack=True, inactivity",
        f"{_I}/test_dead_letters.py::test_a_letter_that_cannot_be_committed_stays_at_the_broker[sqlite]",
    ),
    Break(
        "G3",
        "headers that no library can read end the worker",
        "flaskapp/broker/tolerance.py",
        "serialization.PROPERTY_CLASSES[_BASIC] = _read",
        "pass",
        f"{_I}/test_dead_letters.py::test_a_worker_reads_on_after_headers_that_cannot_be_read",
    ),
    Break(
        "G3",
        "a letter is replayed twice",
        "flaskapp/worker/replay.py",
        "if letter.replayed_at is not None:",
        "if False:",
        f"{_I}/test_replay.py::test_pressed_twice_it_is_one_job",
    ),
    Break(
        "G3",
        "a worker that knows the task releases nothing",
        "flaskapp/worker/heartbeat.py",
        "released = unknown.release_known(session, [self._knows])",
        "released = 0",
        f"{_I}/test_unknown_tasks.py::test_the_first_beat_of_a_worker_that_knows_it_releases_it[sqlite]",
    ),
    Break(
        "G3",
        "a parked job does not say how far it came",
        "flaskapp/jobs/crashes.py",
        "far = _how_far(session, row)",
        'far = ""',
        f"{_I}/test_evidence.py::test_a_parked_job_says_how_far_it_came[sqlite]",
    ),
]
