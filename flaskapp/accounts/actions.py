"""What can be done to accounts, sign-ins and tokens.

Each action writes its audit entry in the same transaction; the caller commits. Refusals are BadArguments with
a sentence for people.
"""

import hashlib
import secrets

from sqlalchemy import delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from flaskapp.accounts import passwords
from flaskapp.accounts.audit import write_audit
from flaskapp.accounts.identity import Identity
from flaskapp.accounts.models import NAME_LENGTH, Account, AuditEntry, Role, SignIn, Token
from flaskapp.errors import BadArguments
from flaskapp.jobs.clock import now, seconds_from_now

SIGN_IN_SECONDS = 14 * 86400
AUDIT_SECONDS = 400 * 86400
TOKEN_START = "offload_"  # noqa: S105 -- what every token begins with, not one of them
_MARKS_IN_NAMES = "._-@+"


def add_account(session: Session, name: str, role: str, password: str) -> Account:
    """A new account; BadArguments for a name that is taken or cannot be one."""
    _check_name(name)
    if not password or len(password) > passwords.LONGEST:
        raise BadArguments(f"A password has 1 to {passwords.LONGEST:,} characters.")
    account = Account(name=name, role=Role(role), password_hash=passwords.hashed(password))
    try:
        with session.begin_nested():
            session.add(account)
    except IntegrityError as taken:
        raise BadArguments(f"The name {name} is taken. Choose another; names are never used twice.") from taken
    write_audit(session, "account.add", name, f"role {account.role}")
    return account


def _check_name(name: str) -> None:
    fits = 1 <= len(name) <= NAME_LENGTH and all(mark.isalnum() or mark in _MARKS_IN_NAMES for mark in name)
    if not fits or not name[0].isalnum():
        raise BadArguments(
            f"{name[:NAME_LENGTH]!r} cannot be a name: write 1 to {NAME_LENGTH} letters, digits or {_MARKS_IN_NAMES}, "
            "beginning with a letter or digit, e.g. ada."
        )


def account_by_name(session: Session, name: str) -> Account | None:
    return session.scalar(select(Account).where(Account.name == name)) if _is_text(name) else None


def existing_account(session: Session, name: str) -> Account:
    account = account_by_name(session, name)
    if account is None:
        raise BadArguments(f"There is no account {name[:NAME_LENGTH]!r}. `flask users list` shows all names.")
    return account


def accounts(session: Session) -> list[Account]:
    return list(session.scalars(select(Account).order_by(Account.name)))


def set_active(session: Session, account: Account, is_active: bool) -> None:
    """Let an account in, or put it out at once, its sign-ins and tokens too."""
    account.is_active = is_active
    if not is_active:
        session.execute(delete(SignIn).where(SignIn.account_id == account.id))
    write_audit(session, "account.activate" if is_active else "account.deactivate", account.name)


# --- passwords and sign-ins -------------------------------------------------------------------------------


def authenticate(session: Session, name: str, password: str) -> Account | None:
    """The active account of this name and password; takes as long for names that do not exist."""
    account = account_by_name(session, name)
    right = passwords.matches(account.password_hash if account else None, password)
    if account is not None and right and account.is_active:
        return account
    # A name that nobody has may be a password typed into the wrong field: it is not written down.
    write_audit(session, "sign-in.refused", account.name if account else "(unknown name)", account="")
    return None


def sign_in(session: Session, account: Account, address: str) -> Identity:
    """A fresh key for a browser; the caller puts it into the session cookie."""
    key = secrets.token_urlsafe(32)
    session.execute(delete(SignIn).where(SignIn.created_at < seconds_from_now(-SIGN_IN_SECONDS)))
    session.execute(delete(AuditEntry).where(AuditEntry.at < seconds_from_now(-AUDIT_SECONDS)))
    session.execute(insert(SignIn).values(key_hash=_hash(key), account_id=account.id, address=address[:45]))
    write_audit(session, "sign-in", account.name, account=account.name)
    return Identity(account.id, account.name, Role(account.role), "session", key)


def sign_out(session: Session, key: str) -> None:
    session.execute(delete(SignIn).where(SignIn.key_hash == _hash(key)))
    write_audit(session, "sign-out")


def identity_of_sign_in(session: Session, key: str) -> Identity | None:
    row = session.execute(
        select(Account.id, Account.name, Account.role)
        .join(SignIn, SignIn.account_id == Account.id)
        .where(
            SignIn.key_hash == _hash(key),
            SignIn.created_at > seconds_from_now(-SIGN_IN_SECONDS),
            Account.is_active.is_(True),
        )
    ).first()
    return Identity(row.id, row.name, Role(row.role), "session", key) if row else None


def change_password(session: Session, account: Account, password: str, keep_key: str = "") -> None:
    """Set the password and end every sign-in except the one with `keep_key`; tokens stay."""
    account.password_hash = passwords.hashed(password)
    others = SignIn.account_id == account.id, SignIn.key_hash != _hash(keep_key)
    session.execute(delete(SignIn).where(*others))
    write_audit(session, "account.password", account.name)


# --- tokens -----------------------------------------------------------------------------------------------


def create_token(session: Session, account: Account, name: str) -> str:
    """A new token; this is the only moment it can be read."""
    name = name.strip()
    if not 1 <= len(name) <= 80 or not _is_text(name):
        raise BadArguments("Give the token a name of 1 to 80 characters that says where it is used, e.g. nightly.")
    token = TOKEN_START + secrets.token_urlsafe(32)
    prefix = token[: len(TOKEN_START) + 6]
    session.add(Token(token_hash=_hash(token), prefix=prefix, name=name, account_id=account.id))
    write_audit(session, "token.create", account.name, f"{name} ({prefix}…)")
    return token


def tokens(session: Session, account_id: int) -> list[Token]:
    """Those that still open the door, newest first."""
    query = select(Token).where(Token.account_id == account_id, Token.revoked_at.is_(None))
    return list(session.scalars(query.order_by(Token.id.desc())))


def revoke_token(session: Session, account_id: int, token_id: int) -> bool:
    """False if it is not a living token of this account."""
    token = session.scalar(select(Token).where(Token.id == token_id, Token.account_id == account_id))
    if token is None or token.revoked_at is not None:
        return False
    session.execute(update(Token).where(Token.id == token_id).values(revoked_at=now()))
    write_audit(session, "token.revoke", f"{token.name} ({token.prefix}…)")
    return True


def identity_of_token(session: Session, token: str) -> Identity | None:
    row = session.execute(
        select(Token.id.label("token_id"), Account.id, Account.name, Account.role, _unused_for_a_minute.label("note"))
        .join(Account, Token.account_id == Account.id)
        .where(Token.token_hash == _hash(token), Token.revoked_at.is_(None), Account.is_active.is_(True))
    ).first()
    if row is None:
        return None
    if row.note:
        session.execute(update(Token).where(Token.id == row.token_id, _unused_for_a_minute).values(last_used_at=now()))
        session.commit()
    return Identity(row.id, row.name, Role(row.role), "token")


_unused_for_a_minute = or_(Token.last_used_at.is_(None), Token.last_used_at < seconds_from_now(-60))


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _is_text(value: str) -> bool:
    """PostgreSQL refuses NUL in text; no name has one."""
    return "\0" not in value
