"""Who is asking: what the rest of the application knows about the person or script behind a request.

A plain value, read once per request in one statement; it outlives commits and holds no secret.
"""

from dataclasses import dataclass
from typing import Literal

from flaskapp.accounts.models import Role


@dataclass(frozen=True)
class Identity:
    """Stands behind `current_user` when somebody is signed in."""

    account_id: int
    name: str
    role: Role
    #: How they came in: only a browser's session can be abused by a foreign page (CSRF).
    via: Literal["session", "token"]
    #: The random key of the session cookie; empty for tokens.
    key: str = ""

    is_authenticated = True
    is_active = True
    is_anonymous = False

    def get_id(self) -> str:
        """What Flask-Login keeps in the session cookie."""
        return self.key

    @property
    def sees_all(self) -> bool:
        return self.may(Role.OPERATOR)

    @property
    def visible_owner(self) -> str | None:
        """The only owner whose jobs and uploads may be shown; None when all may be."""
        return None if self.sees_all else self.name

    def may(self, role: str) -> bool:
        return self.role.includes(Role(role))
