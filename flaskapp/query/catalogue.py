"""What may be asked about: views of the job history, and one of each loaded table.

A view has the name of its table and the columns that are written here; arguments, results and error texts of jobs may
hold secrets and are in none. Viewers see what is theirs, operators all.
"""

from dataclasses import dataclass, field

from kombu.utils.json import loads
from sqlalchemy import select
from sqlalchemy.orm import Session

from flaskapp.uploads.models import Upload
from flaskapp.uploads.names import nice_name


@dataclass(frozen=True)
class View:
    name: str
    about: str
    #: Name and meaning, in the order of the view.
    columns: dict[str, str]
    #: FROM …, with {db} before each table.
    source: str
    #: What stands before each column.
    prefix: str
    #: The expression that says whose a row is; empty: everybody may see all.
    owner: str
    #: Names in the view that its table calls otherwise.
    renamed: dict[str, str] = field(default_factory=dict)

    def select(self, db: str, visible: str) -> str:
        """Its text; `db` stands before each table, `visible` says of {owner} whether it may be seen."""
        columns = ", ".join(f"{self.prefix}{self.renamed.get(name, name)} AS {name}" for name in self.columns)
        where = f" WHERE {visible.format(owner=self.owner)}" if self.owner and visible else ""
        return f"SELECT {columns} FROM {self.source.format(db=db)}{where}"  # noqa: S608 -- our own words


VIEWS = (
    View(
        "job",
        "Every job: one row per request to run a task.",
        {
            "id": "the Celery task id",
            "task": "name of the task",
            "queue": "name of the queue",
            "state": "waiting, queued, running, succeeded, failed, cancelled",
            "priority": "higher goes first",
            "owner": "the account that asked",
            "attempt": "how often it was claimed",
            "retries": "how often it was retried",
            "crashes": "processes and leases it lost",
            "run_at": "when it is due, UTC",
            "created_at": "when it was asked for",
            "queued_at": "when the broker confirmed it",
            "started_at": "when its newest attempt began",
            "finished_at": "when it ended",
            "worker": "who runs or ran it",
            "error_type": "kind of error, if it failed",
            "schedule": "the schedule that asked",
            "limit_key": "whose limit it shares",
            "root_id": "first job of its workflow",
            "parent_id": "the job that asked for it",
            "group_id": "its group",
        },
        "{db}job j",
        "j.",
        "j.owner",
    ),
    View(
        "attempt",
        "Attempts of jobs that a later attempt replaced.",
        {
            "job_id": "job.id",
            "number": "which attempt",
            "worker": "who ran it",
            "started_at": "when it began",
            "finished_at": "when it was replaced",
            "outcome": "why it was replaced",
            "error_type": "kind of error",
        },
        "{db}attempt a JOIN {db}job j ON j.id = a.job_id",
        "a.",
        "j.owner",
    ),
    View(
        "effect",
        "What the diagnostic tasks wrote.",
        {"key": "its key", "job_id": "job.id", "attempt": "which attempt", "at": "when"},
        "{db}effect e JOIN {db}job j ON j.id = e.job_id",
        "e.",
        "j.owner",
        {"key": "{key}"},
    ),
    View(
        "upload",
        "Uploaded files and the tables that came of them.",
        {
            "id": "its id",
            "owner": "who uploaded it",
            "name": "the file's name",
            "size": "bytes",
            "created_at": "when it was uploaded",
            "job_id": "the job that loads it",
            "table_name": "its table, once loaded",
            "row_count": "rows",
            "bad_row_count": "rows that were refused",
        },
        "{db}upload u",
        "u.",
        "u.owner",
        {"row_count": "{rows}", "bad_row_count": "bad_rows"},
    ),
    View(
        "mail_recipient",
        "Who was written to, and what became of it: count by state.",
        {
            "message_id": "its message, as on the Mail page",
            "number": "its place in the message",
            "address": "to whom",
            "domain": "of the address",
            "state": "queued, sending, accepted, deferred, rejected, suppressed, cancelled, expired, unknown",
            "reply": "what the mail server said",
            "tries": "how often it was offered",
            "next_at": "when it is tried again",
            "changed_at": "since when it is in this state",
        },
        "{db}mail_recipient r JOIN {db}mail_message m ON m.id = r.message_id",
        "r.",
        "m.owner",
    ),
    View(
        "schedule",
        "The rhythms that submit jobs.",
        {
            "name": "its name",
            "task": "what it runs",
            "rhythm": "when",
            "timezone": "by whose clock",
            "last_due_at": "the newest due time that was decided",
            "next_due_at": "the next one",
            "paused_at": "since when it is paused",
        },
        "{db}schedule s",
        "s.",
        "",
    ),
    View(
        "worker",
        "The processes that are alive.",
        {
            "id": "its id",
            "kind": "worker or beat",
            "host": "on which machine",
            "pid": "process id",
            "concurrency": "slots",
            "started_at": "when it started",
            "heartbeat_at": "its last sign of life",
            "memory": "bytes",
        },
        "{db}worker w",
        "w.",
        "",
    ),
)


@dataclass(frozen=True)
class LoadedTable:
    """An uploaded table under its own name, and under one that people can remember."""

    table_name: str
    nice_name: str
    owner: str
    title: str
    #: Name and type.
    columns: list[tuple[str, str]]


def loaded_tables(session: Session, owner: str | None) -> list[LoadedTable]:
    """Newest first; of everybody if `owner` is None."""
    query = select(Upload).where(Upload.table_name.is_not(None)).order_by(Upload.created_at.desc(), Upload.id)
    if owner is not None:
        query = query.where(Upload.owner == owner)
    return [_loaded(upload) for upload in session.scalars(query)]


def _loaded(upload: Upload) -> LoadedTable:
    columns = loads(upload.report or "{}").get("columns", [])
    described = [(str(column["name"]), str(column["type"])) for column in columns]
    return LoadedTable(str(upload.table_name), nice_name(upload), upload.owner, upload.name, described)
