"""The memory: one row per job, and the few small tables beside it.

The rows are the truth; brokers and workers are only hints. Invariants stand as CHECK constraints.
Nothing here knows Flask, Celery or Kombu.
"""

from flaskapp.jobs.models.columns import JobId, LongBytes, LongText
from flaskapp.jobs.models.control import Limit, Queue, Start
from flaskapp.jobs.models.history import Attempt, Progress, Tally
from flaskapp.jobs.models.job import FINAL_STATES, PARKED, QUEUES, Job, JobState
from flaskapp.jobs.models.joins import Join
from flaskapp.jobs.models.letters import DeadLetter
from flaskapp.jobs.models.schedules import Firing, Schedule
from flaskapp.jobs.models.workers import Probe, Worker

__all__ = [
    "FINAL_STATES",
    "PARKED",
    "QUEUES",
    "Attempt",
    "DeadLetter",
    "Firing",
    "Job",
    "JobId",
    "JobState",
    "Join",
    "Limit",
    "LongBytes",
    "LongText",
    "Probe",
    "Progress",
    "Queue",
    "Schedule",
    "Start",
    "Tally",
    "Worker",
]
