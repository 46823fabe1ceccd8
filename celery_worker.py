"""Celery's front door: `celery -A celery_worker worker` and `celery -A celery_worker beat`."""

import beat_schedule
from flaskapp import create_app

app = create_app().extensions["celery"]
app.conf.beat_schedule = {**beat_schedule.SCHEDULE, **app.conf.beat_schedule}
