"""Settings from the environment, checked once at start.

Every setting has a default that works on a fresh machine. A value that cannot work raises BadSetting with a
sentence that names the variable and shows a good value. Nothing else in the application reads them.
"""

import os
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from flaskapp.errors import BadSetting

DATABASES = {"sqlite", "postgresql", "mariadb", "mysql"}
_EXAMPLES = {
    "BROKER_URL": "amqp://user:password@localhost:5672//",
    "STORAGE_URL": "file:///var/lib/offload/uploads",
    "MAIL_URL": "smtp://user:password@mail.example.org:587",
    "RABBITMQ_MANAGEMENT_URL": "http://offload-monitoring:password@localhost:15672",
    "RABBITMQ_UI_URL": "https://rabbitmq.example.org",
}
BROKERS = {"folder", "amqp", "amqps", "redis", "rediss", "sqs", "zookeeper", "memory"}


@dataclass(frozen=True)
class Settings:
    #: Where SQLite, uploads, the embedded broker and the secret key live.
    instance_path: Path
    database_url: URL
    broker_url: str
    storage_url: str
    secret_key: str
    admin_password: str
    #: How long a worker's lease outlives its last heartbeat.
    lease_seconds: float
    #: How long running jobs may go on after TERM before they are put back.
    stop_seconds: float
    keep_succeeded_days: float
    keep_failed_days: float
    #: How many reverse proxies in front of the web process may be believed.
    trusted_proxies: int
    #: The largest upload that is accepted.
    max_upload_bytes: int
    #: Where mail goes: a server, or a folder of .eml files.
    mail_url: str = field(repr=False)
    #: The sender's address.
    mail_from: str
    #: The one address that the public contact form writes to; empty closes the form.
    mail_contact: str
    #: Messages a second, to all and to one destination domain, over all workers; 0 does not limit.
    mail_rate: float
    mail_domain_rate: float
    #: How long a mail server may be silent.
    mail_timeout_seconds: float
    #: The first pause after a "try again later"; it doubles.
    mail_retry_seconds: float
    #: How this site is reached from outside: for links in mails.
    public_url: str
    #: How long a question in SQL may run.
    query_seconds: float
    #: RabbitMQ's management API with the account that looks; empty: only SQL is shown.
    rabbitmq_management_url: str = field(default="", repr=False)
    #: Where people's browsers find the management pages; holds no account.
    rabbitmq_ui_url: str = ""


def from_environment(environment: Mapping[str, str] | None = None) -> Settings:
    """Read and check every setting; raises BadSetting for the first one that cannot work."""
    env = os.environ if environment is None else environment
    if env.get("RESULT_BACKEND"):
        raise BadSetting("RESULT_BACKEND is not supported yet: results stand in the job table. Unset it.")
    instance = _writable_folder(env.get("INSTANCE_PATH") or "instance")
    return Settings(
        instance_path=instance,
        database_url=_database_url(env.get("DATABASE_URL"), instance),
        broker_url=_url("BROKER_URL", env.get("BROKER_URL") or f"folder://{quote(str(instance))}/broker", BROKERS),
        storage_url=_storage_url(env.get("STORAGE_URL") or f"file://{quote(str(instance))}/uploads"),
        secret_key=env.get("SECRET_KEY") or _kept_secret(instance / "secret_key"),
        admin_password=env.get("ADMIN_PASSWORD", ""),
        lease_seconds=_number("LEASE_SECONDS", env, 30, least=2),
        stop_seconds=_number("STOP_SECONDS", env, 30, least=0),
        keep_succeeded_days=_number("KEEP_SUCCEEDED_DAYS", env, 7, least=0),
        keep_failed_days=_number("KEEP_FAILED_DAYS", env, 90, least=0),
        trusted_proxies=int(_number("TRUSTED_PROXIES", env, 0, least=0)),
        max_upload_bytes=int(_number("MAX_UPLOAD_BYTES", env, 1_000_000_000, least=1)),
        mail_url=_mail_url(env.get("MAIL_URL") or f"file://{quote(str(instance))}/mail"),
        mail_from=_address("MAIL_FROM", env.get("MAIL_FROM") or "offload@localhost"),
        mail_contact=_address("MAIL_CONTACT", env["MAIL_CONTACT"]) if env.get("MAIL_CONTACT") else "",
        mail_rate=_number("MAIL_RATE", env, 0, least=0),
        mail_domain_rate=_number("MAIL_DOMAIN_RATE", env, 0, least=0),
        mail_timeout_seconds=_number("MAIL_TIMEOUT_SECONDS", env, 20, least=0.1),
        mail_retry_seconds=_number("MAIL_RETRY_SECONDS", env, 60, least=0.1),
        public_url=(env.get("PUBLIC_URL") or f"http://{env.get('HOST', '127.0.0.1')}:{env.get('PORT', '8000')}").rstrip(
            "/"
        ),
        query_seconds=_number("QUERY_SECONDS", env, 60, least=1),
        rabbitmq_management_url=(management := _management_url(env.get("RABBITMQ_MANAGEMENT_URL") or "")),
        rabbitmq_ui_url=_ui_url(env.get("RABBITMQ_UI_URL") or "", management),
    )


def _writable_folder(name: str) -> Path:
    folder = Path(name).resolve()
    try:
        # Closed to others: the database in it holds password hashes.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as problem:
        raise BadSetting(
            f"INSTANCE_PATH {folder} cannot be created ({problem.strerror}). "
            "Name a folder you may write to, e.g. INSTANCE_PATH=./instance."
        ) from problem
    if not os.access(folder, os.W_OK):
        raise BadSetting(
            f"INSTANCE_PATH {folder} is not writable. "
            "Make it yours (chown) or name another, e.g. INSTANCE_PATH=./instance."
        )
    return folder


def _database_url(text: str | None, instance: Path) -> URL:
    if not text:
        # Built, not written: the path part of a URL is percent-decoded (FACTS: SQLAlchemy 2.1).
        return URL.create("sqlite", database=str(instance / "offload.sqlite3"))
    try:
        url = make_url(text)
    except (ArgumentError, ValueError) as problem:
        raise BadSetting(
            "DATABASE_URL cannot be read as a URL. Write e.g. postgresql://user@localhost:5432/offload."
        ) from problem
    if url.get_backend_name() not in DATABASES:
        raise BadSetting(
            f"DATABASE_URL begins with {url.drivername}://, which is not supported. Write sqlite:///file, "
            "postgresql://user@localhost:5432/offload or mariadb+pymysql://user@localhost:3306/offload."
        )
    if url.get_backend_name() == "sqlite" and url.database and not Path(url.database).absolute().parent.is_dir():
        raise BadSetting(
            f"DATABASE_URL names a file in {Path(url.database).absolute().parent}, which is no folder. "
            "Make the folder, or write e.g. sqlite:////var/lib/offload/offload.sqlite3."
        )
    if url.drivername in ("mysql", "mariadb"):
        return url.set(drivername=f"{url.drivername}+pymysql")
    return url


def _url(name: str, value: str, schemes: set[str]) -> str:
    try:
        parts = urlsplit(value)
        scheme, _port = parts.scheme, parts.port
    except ValueError:
        # Nothing of the value is repeated, by urlsplit neither: it holds a password.
        raise BadSetting(
            f"{name} cannot be read as a URL. Write e.g. {_EXAMPLES[name]}; escape odd signs in the password with %."
        ) from None
    if scheme not in schemes:
        raise BadSetting(
            f"{name} begins with {f'{scheme}://' if '://' in value else 'no scheme'}, which is not supported. "
            f"It must begin with one of: {', '.join(f'{known}://' for known in sorted(schemes))}."
        )
    return value


def _management_url(value: str) -> str:
    if value and (_web_address(value) is None or not urlsplit(value).username):
        # Nothing of the value is repeated: it holds a password.
        raise BadSetting(
            "RABBITMQ_MANAGEMENT_URL is no http:// or https:// address with an account. "
            f"Write e.g. {_EXAMPLES['RABBITMQ_MANAGEMENT_URL']}; escape odd signs in the password with %."
        )
    return value


def _ui_url(value: str, management: str) -> str:
    if not value:
        return _web_address(management) or ""
    if (address := _web_address(value)) is None or urlsplit(value).username:
        raise BadSetting(
            "RABBITMQ_UI_URL must be an http:// or https:// address without an account: it is shown to browsers. "
            f"Write e.g. {_EXAMPLES['RABBITMQ_UI_URL']}."
        )
    return address


def _web_address(value: str) -> str | None:
    """Without account, query and fragment; None if it is no address of the web."""
    try:
        parts = urlsplit(value)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return None
    odd = not host or any(sign in host for sign in "%\\<>\"' ") or not value.isprintable()
    if parts.scheme not in ("http", "https") or odd or parts.query or parts.fragment:
        return None
    place = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{place}{f':{port}' if port else ''}{parts.path}".rstrip("/")


def _storage_url(value: str) -> str:
    parts = urlsplit(_url("STORAGE_URL", value, {"file"}))
    folder = Path(unquote(parts.path))
    if parts.netloc or parts.query or parts.fragment or not folder.is_absolute():
        raise BadSetting(
            f"STORAGE_URL {value} names no absolute folder. Write three slashes, e.g. {_EXAMPLES['STORAGE_URL']}."
        )
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as problem:
        raise BadSetting(
            f"STORAGE_URL {value} cannot be made ({problem.strerror}). "
            f"Name a folder you may write to, e.g. {_EXAMPLES['STORAGE_URL']}."
        ) from problem
    return value


def _mail_url(value: str) -> str:
    parts = urlsplit(_url("MAIL_URL", value, {"smtp", "smtps", "file"}))
    if parts.scheme == "file":
        folder = Path(unquote(parts.path))
        if parts.netloc or not folder.is_absolute():
            raise BadSetting(
                "MAIL_URL names no absolute folder. Write three slashes, e.g. file:///var/lib/offload/mail."
            )
        return value
    if not parts.hostname:
        raise BadSetting(f"MAIL_URL names no host. Write e.g. {_EXAMPLES['MAIL_URL']}.")
    if (tls := dict(parse_qsl(parts.query)).get("tls", "required")) not in ("required", "off"):
        raise BadSetting(f"MAIL_URL says tls={tls}. Write tls=required (the default) or tls=off.")
    return value


def _address(name: str, value: str) -> str:
    if not re.fullmatch(r"[!-~]+@[!-~]+", value) or value.count("@") != 1 or re.search(r"[<>(),;:\"\\]", value):
        raise BadSetting(f"{name} is {value[:80]!r}, which is no plain address. Write e.g. {name}=offload@example.org.")
    return value


def _number(name: str, env: Mapping[str, str], default: float, least: float) -> float:
    text = env.get(name) or str(default)
    try:
        value = float(text)
    except ValueError as problem:
        raise BadSetting(f"{name} is {text!r}, not a number. Write e.g. {name}={default}.") from problem
    if not least <= value < float("inf"):
        raise BadSetting(f"{name} is {text}; it must be at least {least}. Write e.g. {name}={default}.")
    return value


def _kept_secret(path: Path) -> str:
    """The key made on the first start; several processes may start at once, the first one's key wins."""
    if not path.exists():
        # Written whole, then linked: nobody reads a half-written key, and a second start does not replace the first's.
        draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
        with suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    if key := path.read_text().strip():
        return key
    raise BadSetting(f"The kept SECRET_KEY in {path} is empty. Delete that file, or set SECRET_KEY.")
