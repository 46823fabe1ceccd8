"""Loading a table in the background, and cleaning up after those that did not get to their end."""

import re
from typing import Any

import sqlalchemy as sa
from celery import shared_task
from celery.exceptions import Ignore
from flask import current_app
from kombu.utils.json import dumps

from flaskapp.extensions import db
from flaskapp.jobs.models import Job, JobState
from flaskapp.uploads import tables
from flaskapp.uploads.columns import survey
from flaskapp.uploads.loading import load
from flaskapp.uploads.models import Upload
from flaskapp.uploads.refusals import UnreadableTable
from flaskapp.uploads.sniffing import sniff
from flaskapp.uploads.storage import Storage

_STAGING = re.compile(r"t_([0-9a-f]{32})_(\d+)")


@shared_task(name="uploads.load_table", bind=True, internal=True, throws=(UnreadableTable,))
def load_table(self: Any, upload_id: str) -> dict[str, Any]:
    """Load the uploaded file into a table of this attempt's own; only the success points the upload to it.

    A million rows go in by short commits, so others write meanwhile. If we die half-way, the next attempt starts
    a table of its own and the sweep drops this one.
    """
    upload = db.session.get(Upload, upload_id)
    if upload is None or upload.job_id != self.request.id:
        # Only the job that the upload asked for may touch its tables.
        raise Ignore(f"The upload {upload_id} is gone, or another job loads it.")
    # Reading and loading take long: no transaction stays open meanwhile.
    db.session.rollback()
    path = _storage().path(upload_id)
    dialect = sniff(path)
    self.progress(0, message="Looking at the columns")
    found = survey(path, dialect, on_progress=lambda rows: self.progress(rows, message="Looking at the columns"))
    table_name = f"t_{upload_id.replace('-', '')}_{self.attempt_number}"
    report = load(
        path,
        dialect,
        found.columns,
        db.engine,
        table_name,
        on_progress=lambda rows: self.progress(rows, found.total, "Loading rows"),
    )
    upload = db.session.get_one(Upload, upload_id)
    upload.table_name = table_name
    upload.bad_table_name = f"{table_name}_bad" if report.bad_rows else None
    upload.rows, upload.bad_rows = report.rows, report.bad_rows
    upload.report = dumps(
        {
            "encoding": dialect.encoding,
            "delimiter": dialect.delimiter,
            "columns": report.profile,
            "bad_rows_listed": report.bad_rows_listed,
        }
    )
    return {"table": table_name, "rows": report.rows, "bad_rows": report.bad_rows, "columns": len(report.profile)}


@shared_task(name="uploads.sweep")
def sweep() -> dict[str, int]:
    """Delete the tables of attempts that did not succeed and the files that no upload knows."""
    # In this order: what succeeds between two of these looks is still running in the second, or known in the third.
    tables_there = sa.inspect(db.engine).get_table_names()
    running = set(db.session.execute(sa.select(Job.id, Job.attempt).where(Job.state == JobState.RUNNING)))
    rows = db.session.execute(sa.select(Upload.id, Upload.table_name, Upload.job_id)).all()
    db.session.rollback()
    wanted = {row.table_name for row in rows}
    jobs = {row.id.replace("-", ""): row.job_id for row in rows}
    dropped = 0
    for name in tables_there:
        if (staged := _STAGING.fullmatch(name)) is None or name in wanted:
            continue
        if (jobs.get(staged[1]), int(staged[2])) not in running:
            tables.drop(db.engine, name)
            dropped += 1
    return {"tables": dropped, "files": _storage().sweep({row.id for row in rows})}


def _storage() -> Storage:
    storage: Storage = current_app.extensions["storage"]
    return storage
