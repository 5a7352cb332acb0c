"""The two sides of the oracle: the same work on Holdfast's session and on SQLAlchemy's.

Objects are known by label.  A side answers what state an object is in, which relations it has in memory, and what
the tables hold, with every key replaced by the label of its row, so that generated keys may differ.  Columns with
``onupdate`` are left out: they tell whether a row was inserted and then updated, or flushed once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any

import psycopg
import sqlalchemy as sa
import sqlalchemy.exc
import sqlalchemy.orm
from sqlalchemy.pool import StaticPool

import holdfast
from holdfast.errors import HoldfastError
from holdfast.model import BATCH, RAW, Direction, mapper_of
from holdfast.observe import StatementStarted
from holdfast.session.changes import GONE
from tests.conftest import ask, mariadb
from tests.properties.oracle_models import HOLDFAST, KINDS, SQLALCHEMY

Tables = dict[str, dict[str, dict[str, Any]]]


class Side:
    """What both sides share: the objects by label, and the reading of tables."""

    errors: tuple[type[BaseException], ...]
    models: SimpleNamespace
    session: Any
    state: Callable[[Any], str]

    def __init__(self) -> None:
        self.objects: dict[str, Any] = {}
        self.savepoints: list[Any] = []

    def label(self, instance: Any) -> str | None:
        if instance is None:
            return None
        found = instance.__dict__.get("label")
        return instance.label if found is None else found

    def stays(self, instance: Any) -> bool:
        """Whether an object has a row, or will have one, and is not marked to be deleted."""
        if self.state(instance) not in ("pending", "persistent"):
            return False
        marked = self.session.deleted
        return not marked or instance not in marked

    def read(self, instance: Any, name: str) -> Any:
        """Read an attribute, which may have to be loaded."""
        return getattr(instance, name)

    def know_former_owner(self, profile: Any) -> None:
        """Load what must be loaded for a profile that lets go of its owner to be an orphan: here nothing."""

    def fetch(self, kind: str, label: str) -> Any:
        """Find by a query, which flushes first, and keep what was found."""
        model = getattr(self.models, kind)
        found = self.session.scalars(self.select(model).where(model.label == label)).first()
        if found is not None:
            self.objects[label] = found
        return found

    def tables(self) -> Tables:
        """All rows by label, as this transaction sees them; nothing is flushed."""
        with self.session.no_autoflush:
            rows = {
                table.name: [tuple(row) for row in self.session.execute(sa.select(*table.c)).all()]
                for table in self.models.Base.metadata.tables.values()
            }
        return by_label(self.models, rows)


def by_label(models: SimpleNamespace, rows: dict[str, list[tuple[Any, ...]]]) -> Tables:
    tables = models.Base.metadata.tables
    labels: dict[tuple[str, tuple[Any, ...]], str] = {}
    for name, table in tables.items():
        if "label" in table.c:
            names = list(table.c.keys())
            keys = [names.index(c.name) for c in table.primary_key]
            at = names.index("label")
            labels.update({(name, tuple(row[k] for k in keys)): row[at] for row in rows[name]})
    return {name: dict(_named(table, rows[name], labels)) for name, table in tables.items()}


def _named(
    table: sa.Table, rows: list[tuple[Any, ...]], labels: dict[Any, str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    names = list(table.c.keys())
    for row in rows:
        values = dict(zip(names, row, strict=True))
        for key in table.foreign_key_constraints:
            found = tuple(values[c.name] for c in key.columns)
            target = None if None in found else labels[key.referred_table.name, found]
            for column in key.columns:
                values["-> " + column.name] = target
        if "label" not in values:
            yield " ".join(sorted(str(v) for n, v in values.items() if n.startswith("->"))), {}
            continue
        for column in table.primary_key:
            if not isinstance(column.type, sa.String):
                del values[column.name]
        left_out = {c.name for c in table.c if c.foreign_keys or c.onupdate is not None}
        yield values["label"], {n: v for n, v in values.items() if n not in left_out}


# ---------------------------------------------------------------- SQLAlchemy


class OrmSide(Side):
    """The oracle."""

    models = SQLALCHEMY
    errors = (sqlalchemy.exc.SQLAlchemyError, AssertionError)
    select = staticmethod(sa.select)

    def __init__(self, engine: sa.Engine) -> None:
        super().__init__()
        self.engine = engine
        self.open()

    def open(self) -> None:
        self.objects.clear()
        self.session = sqlalchemy.orm.Session(self.engine)
        sa.event.listen(self.session, "after_flush_postexec", self._forget_moved)

    def _forget_moved(self, session: Any, _: Any) -> None:
        """One that moved stays in its former owner's list until a commit here; in Holdfast the flush takes it out."""
        for owner in session.identity_map.values():
            held = owner.__dict__.get("lone", ())
            if any(one.__dict__.get("owner_id") not in (None, owner.__dict__.get("id")) for one in held):
                session.expire(owner, ["lone"])

    def state(self, instance: Any) -> str:
        found = sa.inspect(instance)
        for name in ("transient", "pending", "persistent", "deleted"):
            if getattr(found, name):
                return name
        return "detached"

    def read_again(self) -> None:
        """Read what expired, so that touching it in a rule does not flush here alone."""
        with self.session.no_autoflush:
            for instance in self.objects.values():
                if self.state(instance) == "persistent" and "label" not in instance.__dict__:
                    instance.label

    def know_former_owner(self, profile: Any) -> None:
        """Where the owner's side is not loaded, SQLAlchemy does not see the orphan."""
        if profile.owner is not None:
            profile.owner.profile  # to load it

    def forget_relations(self) -> None:
        """A key that was set as a plain value moves nothing in memory here; it does in Holdfast."""
        self.session.expire_all()
        self.read_again()

    def relations(self, instance: Any) -> dict[str, Any]:
        names = sa.inspect(instance).mapper.relationships.keys()
        return {n: instance.__dict__[n] for n in names if n in instance.__dict__}

    def begin_nested(self) -> None:
        self.savepoints.append(self.session.begin_nested())

    def end_nested(self, keep: bool) -> None:
        savepoint = self.savepoints.pop()
        if keep:
            try:
                savepoint.commit()
            except self.errors:
                savepoint.rollback()
                raise
        else:
            savepoint.rollback()


# ---------------------------------------------------------------- Holdfast


class OurSide(Side):
    """What is judged."""

    models = HOLDFAST
    errors = (HoldfastError,)
    select = staticmethod(holdfast.select)

    def __init__(self, database: holdfast.Database) -> None:
        super().__init__()
        self.database = database
        self.statements: list[str] = []
        self.forget = database.observers.add(self._hear)
        self.open()

    def _hear(self, event: Any) -> None:
        if isinstance(event, StatementStarted):
            self.statements.append(event.sql)

    def open(self) -> None:
        self.objects.clear()
        self.session = self.database.session()

    def state(self, instance: Any) -> str:
        batch = instance.__dict__.get(BATCH)
        if batch is None:
            return "transient"
        if batch.pending:
            return "pending"
        return (
            "deleted"
            if batch is GONE
            else "persistent"
            if batch.session is self.session._core
            else "detached"
        )

    def relations(self, instance: Any) -> dict[str, Any]:
        return {n: instance.__dict__[n] for n in mapper_of(instance).relations if n in instance.__dict__}

    def forget_relations(self) -> None:
        """The flush has moved the objects."""

    def begin_nested(self) -> None:
        self.savepoints.append(self.session.begin_nested().__enter__())

    def end_nested(self, keep: bool) -> None:
        savepoint = self.savepoints.pop()
        if keep:
            try:
                savepoint.commit()
            except self.errors:
                savepoint.rollback()
                raise
        else:
            savepoint.rollback()

    # ------------------------------------------------------------ memory

    def snapshot(self) -> dict[str, dict[str, Any]]:
        """What all persistent objects hold in memory."""
        return {
            label: _copied(instance)
            for label, instance in self.objects.items()
            if self.state(instance) == "persistent"
        }

    def memory(self) -> Tables:
        """The loaded columns and relations of the persistent objects, in the form of `expected`."""
        found: Tables = {}
        for label, instance in self.objects.items():
            if self.state(instance) == "persistent":
                mapper, values = mapper_of(instance), instance.__dict__
                held = {
                    n: values.get(n, values.get(RAW + n))
                    for n in mapper.columns
                    if n in values or RAW + n in values
                }
                held |= {n: self.related(v) for n, v in self.relations(instance).items()}
                found.setdefault(mapper.table.name, {})[label] = held
        return found

    def related(self, held: Any) -> Any:
        return sorted(map(str, map(self.label, held))) if isinstance(held, (list, set)) else self.label(held)

    def expected(self) -> Tables:
        """What `memory` must be, if everything is loaded; from the tables alone."""
        with self.session.no_autoflush:
            rows = {
                t.name: [row._asdict() for row in self.session.execute(sa.select(*t.c)).all()]
                for t in self.models.Base.metadata.tables.values()
            }
        found: Tables = {}
        for kind in KINDS:
            mapper = mapper_of(getattr(self.models, kind))
            found[mapper.table.name] = {
                row["label"]: row | {n: _related(r, row, rows) for n, r in mapper.relations.items()}
                for row in rows[mapper.table.name]
            }
        return found


def _related(relation: Any, row: dict[str, Any], rows: dict[str, list[dict[str, Any]]]) -> Any:
    if relation.direction is Direction.MANY_TO_MANY:
        keys = [
            tuple(link[s.name] for _, s in relation.target_pairs)
            for link in rows[relation.secondary.name]
            if all(link[s.name] == row[c.name] for c, s in relation.parent_pairs)
        ]
        ends = [c.name for c, _ in relation.target_pairs]
        return sorted(
            t["label"] for t in rows[relation.target.table.name] if tuple(t[e] for e in ends) in keys
        )
    targets = [
        target["label"]
        for target in rows[relation.target.table.name]
        if all(
            row[mine.name] is not None and row[mine.name] == target[far.name] for mine, far in relation.pairs
        )
    ]
    return sorted(targets) if relation.uselist else targets[0] if targets else None


def _copied(instance: Any) -> dict[str, Any]:
    mapper, values = mapper_of(instance), instance.__dict__
    held: dict[str, Any] = {}
    for name in mapper.columns:
        if name in values or RAW + name in values:
            held[name] = repr(values.get(name, values.get(RAW + name)))
    for name in mapper.relations:
        if name in values:
            value = values[name]
            held[name] = [id(v) for v in value] if isinstance(value, (list, set)) else id(value)
    return held


# ---------------------------------------------------------------- databases


@contextmanager
def sqlite_sides() -> Iterator[tuple[OurSide, OrmSide]]:
    """Both sides on databases in memory."""
    engine = sqlite_engine()
    database = holdfast.Database("sqlite://")
    database.create_all(HOLDFAST.Base)
    yield from _sides(database, engine)


def sqlite_engine() -> sa.Engine:
    """The oracle's own database in memory, with its tables."""
    engine = sa.create_engine("sqlite://", poolclass=StaticPool)
    sa.event.listen(engine, "connect", _prepare_sqlite)
    sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    SQLALCHEMY.Base.metadata.create_all(engine)
    return engine


def _prepare_sqlite(raw: Any, _: Any) -> None:
    raw.isolation_level = None  # BEGIN is said above, so that savepoints work
    raw.execute("PRAGMA foreign_keys = ON")


def _sides(database: holdfast.Database, engine: sa.Engine) -> Iterator[tuple[OurSide, OrmSide]]:
    ours, theirs = OurSide(database), OrmSide(engine)
    try:
        yield ours, theirs
    finally:
        ours.session.close()
        theirs.session.close()
        ours.forget()
        database.close()
        engine.dispose()


class PostgresqlPlace:
    """Two schemas of one database, one for each side; emptied before each use."""

    def __init__(self, url: str) -> None:
        self.raw = psycopg.connect(url, autocommit=True)
        self.raw.execute("DROP SCHEMA IF EXISTS ours CASCADE; DROP SCHEMA IF EXISTS theirs CASCADE")
        self.raw.execute("CREATE SCHEMA ours; CREATE SCHEMA theirs")
        self.engine = sa.create_engine(_in_schema(url, "theirs", "postgresql+psycopg"))
        self.database = holdfast.Database(_in_schema(url, "ours", "postgresql"))
        SQLALCHEMY.Base.metadata.create_all(self.engine)
        self.database.create_all(HOLDFAST.Base)
        tables = [
            f"{schema}.{name}" for name in SQLALCHEMY.Base.metadata.tables for schema in ("ours", "theirs")
        ]
        empty = "; ".join(f"DELETE FROM {table}" for table in tables)  # TRUNCATE costs ten times as much
        self.empty = f"SET session_replication_role = replica; {empty}; SET session_replication_role = origin"

    @contextmanager
    def sides(self) -> Iterator[tuple[OurSide, OrmSide]]:
        self.raw.execute(self.empty)
        ours, theirs = OurSide(self.database), OrmSide(self.engine)
        try:
            yield ours, theirs
        finally:
            ours.session.close()
            theirs.session.close()
            ours.forget()

    def close(self) -> None:
        self.database.close()
        self.engine.dispose()
        self.raw.close()


class MariadbPlace:
    """Two databases of one server, one for each side; emptied before each use."""

    def __init__(self, url: str) -> None:
        ours = sa.make_url(url)
        theirs = ours.set(drivername="mariadb+pymysql", database=f"{ours.database}_theirs")
        self.names = (ours.database, theirs.database)
        self.close_raw = ExitStack()
        self.raw = self.close_raw.enter_context(mariadb(url))
        ask(self.raw, f"CREATE OR REPLACE DATABASE `{theirs.database}` CHARACTER SET utf8mb4")
        self.engine = sa.create_engine(theirs)
        self.database = holdfast.Database(url)
        SQLALCHEMY.Base.metadata.create_all(self.engine)
        self.database.create_all(HOLDFAST.Base)

    @contextmanager
    def sides(self) -> Iterator[tuple[OurSide, OrmSide]]:
        ask(self.raw, "SET foreign_key_checks = 0")
        for name in SQLALCHEMY.Base.metadata.tables:
            for database in self.names:
                ask(self.raw, f"DELETE FROM `{database}`.`{name}`")
        ours, theirs = OurSide(self.database), OrmSide(self.engine)
        try:
            yield ours, theirs
        finally:
            ours.session.close()
            theirs.session.close()
            ours.forget()

    def close(self) -> None:
        self.database.close()
        self.engine.dispose()
        ask(self.raw, f"DROP DATABASE `{self.names[1]}`")
        self.close_raw.close()


def _in_schema(url: str, schema: str, driver: str) -> Any:
    made = sa.make_url(url).set(drivername=driver)
    options = f"-c search_path={schema} -c synchronous_commit=off"
    return made.update_query_dict({"options": options})
