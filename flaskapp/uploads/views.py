"""The pages of uploads: hand a table over, see what is in it, take home its bad rows."""

from flask import Blueprint, Response, abort, current_app, jsonify, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from flaskapp.accounts.audit import write_audit
from flaskapp.errors import BadArguments
from flaskapp.extensions import db
from flaskapp.jobs import queries
from flaskapp.jobs.models import Job
from flaskapp.uploads import actions, receiving, results
from flaskapp.uploads import sample as sample_table
from flaskapp.uploads.models import Upload
from flaskapp.uploads.refusals import UnreadableTable
from flaskapp.uploads.storage import IncomingFile

uploads = Blueprint("uploads", __name__, url_prefix="/uploads")


@uploads.get("")
def index() -> str:
    """The form and the list; `?part=list` is the piece that a live page fetches again."""
    return _page(template="uploads/_list.html" if request.args.get("part") == "list" else "uploads/index.html")


@uploads.post("")
def upload() -> ResponseReturnValue:
    """Take the file and answer at once; the worker does the rest."""
    sent = request.files.get("file")
    try:
        place = _hand_over(receiving.received(), sent.filename if sent else None)
    except (BadArguments, UnreadableTable) as refusal:
        return _refuse(str(refusal), 422)
    return jsonify(location=place) if _asked_by_script() else redirect(place, 303)


@uploads.post("/sample")
def sample() -> ResponseReturnValue:
    """Hand over a made-up table, so that a newcomer sees a finished one within seconds."""
    incoming = receiving.open_incoming()
    for line in sample_table.lines():
        incoming.write(line)
    return redirect(_hand_over(incoming, sample_table.NAME), 303)


def _hand_over(incoming: IncomingFile | None, name: str | None) -> str:
    """Row, job and audit entry in one commit, and the address of the job's page; if it fails, no file either."""
    try:
        accepted = actions.accept(db.session(), incoming, name, current_user.name)
        write_audit(db.session(), "upload", accepted.id, accepted.name)
        place = url_for("console.job", job_id=accepted.job_id)
        db.session.commit()
    except Exception:
        db.session.rollback()
        actions.undo(incoming)
        raise
    return place


@uploads.get("/<upload_id>")
def show(upload_id: str) -> ResponseReturnValue:
    found = _or_404(upload_id)
    if found.table_name is None:
        return redirect(url_for("console.job", job_id=found.job_id))
    return render_template("uploads/show.html", upload=found, **results.shown(found))


@uploads.get("/<upload_id>/bad-rows.csv")
def bad_rows(upload_id: str) -> Response:
    """Every listed bad row with its number and reason; text that a spreadsheet would run is escaped."""
    found = _or_404(upload_id)
    if not found.bad_table_name:
        abort(404, "This table has no bad rows.")
    response = Response(results.bad_rows_lines(found), mimetype="text/csv")
    response.headers.set("Content-Disposition", "attachment", filename=f"bad rows of {found.name}")
    return response


@uploads.errorhandler(RequestEntityTooLarge)
def too_large(_: HTTPException) -> ResponseReturnValue:
    return _refuse(receiving.why_too_large(), 413)


@uploads.errorhandler(OSError)
def no_room(problem: OSError) -> ResponseReturnValue:
    current_app.logger.error("An upload could not be written: %s", problem)
    return _refuse("The file could not be stored: the disk may be full. Nothing was kept; try again later.", 507)


def _refuse(sentence: str, status: int) -> ResponseReturnValue:
    if _asked_by_script():
        return jsonify(error=sentence), status
    return _page(sentence), status


def _asked_by_script() -> bool:
    return request.headers.get("X-Requested-With") == "fetch"


def _page(error: str = "", template: str = "uploads/index.html") -> str:
    found = actions.newest(db.session(), current_user.visible_owner)
    jobs = {job.id: job for job in queries.jobs_by_ids(db.session(), [item.job_id for item in found], None)}
    return render_template(
        template,
        error=error,
        uploads=found,
        jobs=jobs,
        limit=current_app.config["SETTINGS"].max_upload_bytes,
        unfinished=any(not job.is_final for job in jobs.values()),
    )


def _or_404(upload_id: str) -> Upload:
    found = actions.upload_by_id(db.session(), upload_id, current_user.visible_owner)
    if found is None:
        abort(404, "There is no such upload, or it belongs to somebody else.")
    return found


def title_of(job: Job) -> str:
    """`Table airports.csv`: what a person would call the job."""
    found = _of_job(job)
    return f"Table {found.name}" if found else ""


def result_of(job: Job) -> str:
    """The job page's picture of a loaded table."""
    found = _of_job(job)
    if found is None or found.table_name is None:
        return ""
    return render_template("uploads/_result.html", upload=found, **results.shown(found))


def _of_job(job: Job) -> Upload | None:
    return actions.of_job(db.session(), job.id)
