"""What can go wrong, named for what happened.

Each message says what happened, to which thing, and what to do next; values are in it, secrets never.
"""


class OffloadError(Exception):
    """The base of every error this application raises itself."""


class BadSetting(OffloadError):
    """A setting in the environment cannot be used; the message names it and shows a good value."""


class LeaseLost(OffloadError):
    """This attempt was replaced, cancelled or taken back: nothing it writes may count any more."""


class NotConfirmed(OffloadError):
    """The broker did not confirm a message; the job stays waiting and will be sent again."""


class UncommittedJobs(OffloadError):
    """A request, or an app context in a task, ended well but left submitted jobs uncommitted: they would vanish."""


class BadArguments(OffloadError):
    """What was asked cannot be a job; the message says which part and how to write it."""


class BadSchedule(OffloadError):
    """An entry of beat_schedule cannot be used; the message names the entry, the key and what it may say."""


class NotReplayable(OffloadError):
    """A dead letter cannot become a job again; the message says why."""
