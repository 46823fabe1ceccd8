"""What a person would call a job, and how its result is shown.

A subject registers them for its tasks when it is initialised:
`app.extensions["job_titles"]["uploads.load"] = title_of_upload` answers a text for a Job, and
`app.extensions["job_results"]["uploads.load"] = show_profile` answers the rendered HTML for a succeeded Job, and
`app.extensions["job_styles"]["uploads.load"] = "uploads.css"` is the stylesheet in static/ that this HTML needs.
"""

import json
from collections.abc import Callable
from typing import Any

from flask import Flask, current_app
from markupsafe import Markup

from flaskapp.jobs import masking
from flaskapp.jobs.models import Job

Title = Callable[[Job], str]
Result = Callable[[Job], str]


def init_app(app: Flask) -> None:
    app.extensions.setdefault("job_titles", {})
    app.extensions.setdefault("job_results", {})
    app.extensions.setdefault("job_styles", {})
    app.jinja_env.filters.update(title_of=title_of, pretty_json=pretty_json, seen=seen)


def seen(job: Job) -> masking.Shown:
    """The job's arguments, result and texts as people may see them: what its task calls secret is masked."""
    celery = current_app.extensions.get("celery")
    return masking.shown(job, celery.tasks.get(job.task) if celery else None)


def title_of(job: Job) -> str:
    titles: dict[str, Title] = current_app.extensions["job_titles"]
    if job.task in titles and (title := titles[job.task](job)):
        return title
    # What a schedule asks for goes by the schedule's name: it was given by somebody who knew what it is for.
    return _words(job.schedule) if job.schedule else plain_title(job.task)


def plain_title(task: str) -> str:
    """`reports.build_monthly` is called "Build monthly"."""
    return _words(task.rpartition(".")[2]) or task


def _words(name: str) -> str:
    words = name.replace("_", " ").replace("-", " ").strip()
    return words[:1].upper() + words[1:] or name


def result_view(job: Job) -> Markup | None:
    """The subject's own picture of the result; None leaves it to the general one."""
    views: dict[str, Result] = current_app.extensions["job_results"]
    return Markup(views[job.task](job)) if job.task in views else None  # noqa: S704 -- a rendered template


def result_style(job: Job) -> str | None:
    """The stylesheet of that picture; there from the start, so that a result that comes live finds it loaded."""
    styles: dict[str, str] = current_app.extensions["job_styles"]
    return styles.get(job.task)


def pretty_json(value: Any) -> str:
    """Indented JSON; a text that was none stays as it is."""
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
