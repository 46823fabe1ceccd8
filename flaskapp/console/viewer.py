"""Who is looking: every page of the console asks here what it may show.

Pages need an account; a viewer sees only their own jobs, operators and admins see all.
"""

from flask import abort
from flask.typing import ResponseReturnValue
from flask_login import current_user, login_required

from flaskapp.extensions import db
from flaskapp.jobs import queries
from flaskapp.jobs.models import Job


@login_required
def need_account() -> ResponseReturnValue | None:
    """Runs before every request of a blueprint that is not public."""
    return None


def visible_owner() -> str | None:
    """The only owner whose jobs may be shown; None when all may be."""
    owner: str | None = current_user.visible_owner
    return owner


def job_or_404(job_id: str) -> Job:
    """An outsider cannot tell a job of somebody else from one that never was."""
    job = queries.job_by_id(db.session(), job_id, visible_owner())
    if job is None:
        abort(404, "There is no such job, or it belongs to somebody else. Old jobs are removed after a while.")
    return job
