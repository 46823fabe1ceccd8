"""When a mail is to go, as people say it: by the clock of the installation's time zone, the one that schedules use.

So are the two odd hours of the year: a time that the clock jumps over means the end of the jump, one that comes twice
its first pass. Scripts say the offset themselves.
"""

from datetime import UTC, datetime, timedelta, tzinfo

from flask import current_app

from flaskapp.errors import BadArguments
from flaskapp.worker import crontabs, entries, rhythms


def zone() -> tzinfo:
    return entries.zone_of(current_app.extensions["celery"])


def read(text: str) -> datetime:
    """`2027-01-31T08:00` as a browser's field sends it; raises BadArguments."""
    try:
        wall = datetime.fromisoformat(text)
        if not 1970 < wall.year < 9999:
            raise ValueError("no year in which anybody reads mail")
        moment = crontabs.only_instant(wall, zone()) if wall.tzinfo is None else wall
    except (ValueError, OverflowError) as problem:
        raise BadArguments("Choose a day and a time, e.g. 2027-01-31 08:00, or send it now.") from problem
    # The field has no seconds: the minute that is running is not past.
    if moment < datetime.now(UTC) - timedelta(minutes=1):
        raise BadArguments("That time is past. Choose a later one, or send it now.")
    return moment


def said(moment: datetime) -> str:
    return rhythms.said(moment, zone())
