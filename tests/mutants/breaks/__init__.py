"""The breaks: for each promise of docs/job.md one line whose loss breaks it, and the test that turns red.

`old` stands once in `file`; the rest of the line stays as it is. One file for each subject.
"""

from tests.mutants.breaks import (
    account,
    broker_loss,
    control,
    dead_letters,
    fencing,
    losing,
    mail,
    outages,
    questions,
    rabbitmq,
    schedules,
    submitting,
    workflows,
)
from tests.mutants.breaks.base import Break

__all__ = ["BREAKS", "Break"]

BREAKS: list[Break] = [
    each
    for part in (
        submitting,
        losing,
        outages,
        fencing,
        schedules,
        broker_loss,
        control,
        dead_letters,
        account,
        workflows,
        questions,
        rabbitmq,
        mail,
    )
    for each in part.BREAKS
]
