"""What pages and scripts do with reply templates: one name each, and only what a mail can say.

Nothing here commits: the caller owns the transaction.
"""

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from flaskapp.errors import BadArguments
from flaskapp.jobs.clock import now
from flaskapp.mail.composing import check_texts
from flaskapp.mail.models import ReplyTemplate

_LARGEST_ID = 2**31


def check_template(name: object, subject: object, text: object) -> None:
    """Raises BadArguments."""
    if not isinstance(name, str) or not 1 <= len(name.strip()) <= 80 or not name.isprintable():
        raise BadArguments("Give it a name of 1 to 80 characters.")
    check_texts(subject, text)


def template_by_id(session: Session, written: str) -> ReplyTemplate | None:
    """By its number, as it stands in an address."""
    is_number = written.isascii() and written.isdigit() and len(written) <= 10
    return session.get(ReplyTemplate, int(written)) if is_number and int(written) < _LARGEST_ID else None


def save_template(session: Session, template: ReplyTemplate, name: str, subject: str, text: str) -> bool:
    """Keep a new one, or new words for this one; False if another has the name."""
    try:
        with session.begin_nested():
            template.name, template.subject, template.text = name.strip(), subject.strip(), text.replace("\r\n", "\n")
            template.changed_at = now()
            session.add(template)
            session.flush()
    except IntegrityError:
        return False
    session.refresh(template)
    return True
