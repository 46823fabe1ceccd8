"""The database's running clock: the only source of time in the job core.

`now()` stands still inside a transaction and every machine's own clock is a little wrong; these two
expressions are the database's wall clock at the moment the statement runs. Columns hold UTC.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime, Dialect, literal
from sqlalchemy.dialects import mysql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC datetime with microseconds on every database."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(DateTime(timezone=True))
        if dialect.name in ("mysql", "mariadb"):
            return dialect.type_descriptor(mysql.DATETIME(fsp=6))
        return dialect.type_descriptor(DateTime())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone; write an aware datetime, e.g. datetime.now(UTC)")
        utc = value.astimezone(UTC)
        return utc if dialect.name == "postgresql" else utc.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class now(FunctionElement[datetime]):
    """The database's clock, now."""

    type = UtcDateTime()
    inherit_cache = True
    name = "now"


class seconds_from_now(FunctionElement[datetime]):
    """The database's clock plus a number of seconds (may be negative or fractional)."""

    type = UtcDateTime()
    inherit_cache = True
    name = "seconds_from_now"

    def __init__(self, seconds: Any) -> None:
        super().__init__(literal(float(seconds)) if isinstance(seconds, int | float) else seconds)


@compiles(now, "sqlite")
def _(element: Any, compiler: Any, **options: Any) -> str:
    return "strftime('%Y-%m-%d %H:%M:%f000', 'now')"


@compiles(now, "postgresql")
def _(element: Any, compiler: Any, **options: Any) -> str:
    return "clock_timestamp()"


@compiles(now, "mysql", "mariadb")
def _(element: Any, compiler: Any, **options: Any) -> str:
    return "SYSDATE(6)"


@compiles(seconds_from_now, "sqlite")
def _(element: Any, compiler: Any, **options: Any) -> str:
    seconds = compiler.process(element.clauses, **options)
    return f"strftime('%Y-%m-%d %H:%M:%f000', 'now', ({seconds}) || ' seconds')"


@compiles(seconds_from_now, "postgresql")
def _(element: Any, compiler: Any, **options: Any) -> str:
    seconds = compiler.process(element.clauses, **options)
    return f"(clock_timestamp() + make_interval(secs => CAST({seconds} AS double precision)))"


@compiles(seconds_from_now, "mysql", "mariadb")
def _(element: Any, compiler: Any, **options: Any) -> str:
    seconds = compiler.process(element.clauses, **options)
    return f"(SYSDATE(6) + INTERVAL ({seconds}) SECOND)"
