"""Whether a database error of the core's own statements means "come back later" or "what you ask is wrong"."""

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout


def may_pass(trouble: Exception) -> bool:
    """The database is away or busy; otherwise what we asked of it is wrong, and asking again would not help."""
    return isinstance(trouble, DBAPIError | PoolTimeout) and not isinstance(trouble, DataError | IntegrityError)
