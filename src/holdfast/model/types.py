"""The column types of our own: instants that know their time zone, and the old kind that does not.

An instant is stored as ``timestamptz`` on PostgreSQL, which costs nothing there: values pass through
as they are.  Elsewhere it is stored in UTC without a zone (on SQLite as text that sorts in time order)
and comes back aware, in UTC.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Protocol

from sqlalchemy import DateTime
from sqlalchemy.engine import Dialect
from sqlalchemy.sql.operators import OperatorType
from sqlalchemy.types import TypeDecorator, TypeEngine

from holdfast.errors import NaiveDatetime
from holdfast.native import in_utc

ZONED = frozenset({"postgresql", "cockroachdb"})
"""Servers that have a type for instants and drivers that return them aware."""


class Processor(Protocol):
    """What makes a value of a driver the value of a column."""

    def __call__(self, value: Any) -> datetime | None: ...


class AwareDateTime(TypeDecorator[datetime]):
    """An instant: refuses a naive datetime, gives back an aware one."""

    impl = DateTime(timezone=True)
    cache_ok = True
    bind_only_checks = True
    """A server with zones takes the value as it is: who has checked it already need not bind it."""

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Answer the server's own type; MySQL needs six digits said to keep microseconds."""
        if dialect.name in {"mysql", "mariadb"}:
            from sqlalchemy.dialects.mysql import DATETIME

            return dialect.type_descriptor(DATETIME(fsp=6))
        return dialect.type_descriptor(DateTime(timezone=True))

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """Answer what the driver stores; a naive datetime raises `NaiveDatetime`."""
        if not isinstance(value, datetime):
            return value
        if value.tzinfo is None or value.utcoffset() is None:
            raise NaiveDatetime
        return value if dialect.name in ZONED else value.astimezone(UTC).replace(tzinfo=None)

    process_literal_param = process_bind_param

    def bind_processor(self, dialect: Dialect) -> Any:
        """Answer the function that makes a value the driver's; the hot ones are written out."""
        if dialect.name == "sqlite":
            return _text_from_aware
        # The literals of MySQL and MariaDB are written in UTC whatever the zone; the check alone is left.
        return _aware if dialect.name in {"mysql", "mariadb"} else super().bind_processor(dialect)

    def result_processor(self, dialect: Dialect, coltype: object) -> Processor | None:
        """Answer nothing for a server with zones, else the function that makes a value aware."""
        if dialect.name in ZONED:
            return None
        return _aware_from_text if dialect.name == "sqlite" else in_utc

    def coerce_compared_value(self, op: OperatorType | None, value: Any) -> TypeEngine[Any]:
        """Compare datetimes as instants, and leave ``created_at - timedelta(days=1)`` to `DateTime`."""
        if value is None or isinstance(value, datetime):
            return self
        return DateTime(timezone=True).coerce_compared_value(op, value)

    def process_result_value(
        self, value: Any, dialect: Dialect
    ) -> Any:  # pragma: no cover - see result_processor
        """Unused; named because `TypeDecorator` looks for it."""
        return value


class NaiveDateTime(TypeDecorator[datetime]):
    """A datetime without zone, for columns that were made so; refuses an aware one."""

    impl = DateTime(timezone=False)
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """Answer the value as it is; an aware datetime raises `NaiveDatetime`."""
        if isinstance(value, datetime) and value.tzinfo is not None:
            raise NaiveDatetime(
                "A datetime with a time zone was given for a column of type NaiveDateTime",
                mend="Write `value.replace(tzinfo=None)`.",
            )
        return value


def _aware_from_text(value: Any) -> datetime | None:
    if value is None:
        return None
    if len(value) == 26:  # as we write it; parsing with the zone costs half of replacing it afterwards
        return datetime.fromisoformat(value + "+00:00")
    moment = datetime.fromisoformat(value)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _aware(value: Any) -> Any:
    if isinstance(value, datetime) and value.tzinfo is not UTC and value.utcoffset() is None:
        raise NaiveDatetime
    return value


def _text_from_aware(value: Any) -> Any:
    if not isinstance(value, datetime):
        return value
    if value.tzinfo is not UTC:
        if value.tzinfo is None or value.utcoffset() is None:
            raise NaiveDatetime
        value = value.astimezone(UTC)
    return value.isoformat(" ", "microseconds")[:26]
