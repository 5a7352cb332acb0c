"""Declaring columns: the same file means the same table here and under SQLAlchemy's ORM."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import (
    JSON,
    Column,
    DateTime,
    ForeignKey,
    Integer,
    MetaData,
    Numeric,
    String,
    create_engine,
    delete,
    exists,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import postgresql

from holdfast.errors import InvalidRequestError, ModelError, NaiveDatetime, NotSupported
from holdfast.model import (
    ENTITY,
    AwareDateTime,
    DeclarativeBase,
    Mapped,
    NaiveDateTime,
    configure,
    declared_attr,
    is_mapped,
    mapped_column,
    mapper_of,
    mapper_of_entity,
    relationship,
)
from tests.rooms.model_files import ddl, load, load_both

FILES = {
    "types": """
class Color(enum.Enum):
    red = 1
    green = 2
class Size(str, enum.Enum):
    S = "s"
    M = "m"
class Thing(Base):
    __tablename__ = "things"
    id: Mapped[int] = mapped_column(primary_key=True)
    text_: Mapped[str]
    maybe: Mapped[Optional[str]]
    maybe2: Mapped[str | None]
    maybe3: Mapped[Union[None, int]]
    real: Mapped[float]
    flag: Mapped[bool]
    money: Mapped[Decimal]
    blob: Mapped[bytes]
    day: Mapped[date]
    moment: Mapped[datetime]
    clock: Mapped[time]
    span: Mapped[timedelta]
    key: Mapped[uuid.UUID]
    color: Mapped[Color]
    size: Mapped[Size | None]
    kind: Mapped[Literal["a", "b", "long one"]]
    data: Mapped[dict[str, Any]]
    items: Mapped[list[str]]
    quoted: Mapped["str"]
    quoted_optional: Mapped["Optional[int]"]
    explicit: Mapped[datetime] = mapped_column(DateTime)
    limited: Mapped[str] = mapped_column(String(30))
    overridden: Mapped[str] = mapped_column(nullable=True)
    forced: Mapped[str | None] = mapped_column(nullable=False)
""",
    "options": """
class Thing(Base):
    __tablename__ = "things"
    __table_args__ = (
        Index("ix_pair", "a", "b"),
        Index("ix_lower", text("lower(name)")),
        Index("ix_partial", "a", postgresql_where=text("b > 0"), postgresql_include=["b"]),
        UniqueConstraint("a", "b", name="uq_ab"),
        CheckConstraint("a > 0", name="positive"),
        {"comment": "of things"},
    )
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    a: Mapped[int] = mapped_column(index=True, default=3)
    b: Mapped[int] = mapped_column(unique=True, server_default=text("7"))
    total: Mapped[int] = mapped_column(Computed("a + b"))
    name: Mapped[str] = mapped_column("the_name", String(20), comment="its name")
    other: Mapped[str] = mapped_column(name="second", type_=Text)
    when: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())
    seq: Mapped[int] = mapped_column(Sequence("things_seq"))
    last: Mapped[int] = mapped_column(sort_order=-1)
    array: Mapped[list[str]] = mapped_column(PGARRAY(String).with_variant(JSON(), "sqlite"))
    jsonb: Mapped[dict[str, Any]] = mapped_column(JSON().with_variant(JSONB(), "postgresql"))
""",
    "mixins": """
class Timestamps:
    created_at: Mapped[datetime] = mapped_column(default=lambda: datetime.now())
    updated_at: Mapped[datetime | None]
class Keyed:
    id: Mapped[int] = mapped_column(primary_key=True)
class Named:
    @declared_attr.directive
    def __tablename__(cls) -> str:
        return cls.__name__.lower()
    @declared_attr
    def label(cls) -> Mapped[str]:
        return mapped_column(String(len(cls.__name__)))
class Owned:
    owner_id: Mapped[int] = mapped_column(ForeignKey("user.id"))
class AbstractThing(Base):
    __abstract__ = True
    note: Mapped[str | None]
    __table_args__ = {"sqlite_autoincrement": True}
class User(Named, Keyed, Timestamps, Base):
    email: Mapped[str]
class Thing(Owned, Named, Keyed, Timestamps, AbstractThing):
    size: Mapped[int]
class Other(AbstractThing, Owned, Keyed, Named):
    note: Mapped[int] = mapped_column(sort_order=-1)
""",
    "annotated": """
intpk = Annotated[int, mapped_column(primary_key=True)]
str50 = Annotated[str, mapped_column(String(50))]
required = Annotated[str, mapped_column(String(9), unique=True, nullable=False, default="x")]
user_fk = Annotated[int, mapped_column(ForeignKey("users.id"))]
UserId = NewType("UserId", int)
Alias = TypeAliasType("Alias", str50)
class User(Base):
    __tablename__ = "users"
    type_annotation_map = {}
    id: Mapped[intpk]
    name: Mapped[str50]
    nick: Mapped[str50 | None]
    nick2: Mapped[Optional[str50]]
    code: Mapped[required]
    code2: Mapped[required] = mapped_column(String(3), default="y")
    alias: Mapped[Alias]
    boss_id: Mapped[user_fk]
    boss2_id: Mapped[user_fk | None]
""",
    "unannotated": """
class User(Base):
    __tablename__ = "users"
    id = Column(Integer, primary_key=True)
    name = mapped_column(String(50), nullable=False)
    nick = Column("nickname", String(50))
    boss_id = Column(ForeignKey("users.id"))
    at = Column(DateTime)
    plain = 3
    _hidden = {"a": 1}
    def method(self): return 1
""",
    "order": """
class User(Base):
    __tablename__ = "users"
    a: Mapped[int]
    b = mapped_column(Integer)
    id: Mapped[int] = mapped_column(primary_key=True)
    c = Column(Integer)
    d: Mapped[str]
    e: Mapped[str] = mapped_column()
    f = mapped_column(String)
""",
    "body": """
class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column()
    other: Mapped[str] = mapped_column("o")
    __table_args__ = (Index("ix_low", func.lower(name)), Index("ix_desc", other.desc()), UniqueConstraint(name, other, name="u"))
""",
    "schema": """
class User(Base):
    __tablename__ = "users"
    __table_args__ = {"schema": "app"}
    id: Mapped[int] = mapped_column(primary_key=True)
class Post(Base):
    __tablename__ = "posts"
    __table_args__ = {"schema": "app"}
    a: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    b: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("app.users.id"))
""",
    "whole": """
class User(Base):
    __table__ = Table("users", Base.metadata, Column("user_id", Integer, primary_key=True), Column("name", String))
    id = __table__.c.user_id
    name: Mapped[str]
class Post(Base):
    __table__ = Table("posts", Base.metadata, Column("id", Integer, key="pk", primary_key=True), Column("title", String))
""",
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("future", [True, False])
def test_a_model_file_declares_the_tables_that_sqlalchemy_declares(name: str, future: bool) -> None:
    ours, theirs = load_both(FILES[name], future=future)

    assert ddl(ours) == ddl(theirs)


@pytest.mark.parametrize("name", FILES)
def test_attributes_have_the_names_that_sqlalchemy_gives(name: str) -> None:
    ours, theirs = load_both(FILES[name])

    for cls in ours.Base.registry.declared:
        oracle = getattr(theirs, cls.__name__).__mapper__
        mapper = mapper_of(cls)
        assert {n: c.name for n, c in mapper.columns.items()} == {
            p.key: p.columns[0].name for p in oracle.column_attrs
        }
        assert list(mapper.columns.values()) == list(mapper.table.c)
        assert [c.name for c in mapper.table.primary_key] == [
            mapper.columns[n].name for n in mapper.primary_key
        ]
        assert {c: n for n, c in mapper.columns.items()} == mapper.attributes


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    handle: Mapped[str] = mapped_column("name", String(50))
    data: Mapped[dict[str, Any]] = mapped_column(default=dict)
    bio: Mapped[str | None] = mapped_column(deferred=True)
    created_at: Mapped[datetime]
    old: Mapped[datetime | None] = mapped_column(NaiveDateTime)


def test_a_class_attribute_is_the_tables_own_column() -> None:
    assert User.id is User.__table__.c.id


def test_a_renamed_column_labels_rows_with_the_attribute() -> None:
    assert select(User.handle).selected_columns.keys() == ["handle"]
    assert select(User.handle).subquery().c.handle is not None
    assert {User.__table__.c.name: 1}[User.handle] == 1
    assert mapper_of(User).attributes[User.handle] == "handle"


def test_a_mapper_tells_what_is_deferred_and_what_can_change_in_place() -> None:
    mapper = mapper_of(User)

    assert mapper.deferred == {"bio"}
    assert mapper.mutable == {"data"}
    assert mapper_of(User()) is mapper
    assert mapper_of_entity(mapper.entity) is mapper
    assert mapper_of_entity(User.__table__) is None
    assert is_mapped(User)
    assert is_mapped(User())
    assert not is_mapped(int)


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        (select(User.id, User).where(User.id == 1), "FROM users \nWHERE users.id = ?"),
        (insert(User).values(handle="x"), None),
        (
            update(User).where(User.id == 1).values({User.handle: "x"}),
            "UPDATE users SET name=? WHERE users.id = ?",
        ),
        (delete(User).where(User.id == 1), "DELETE FROM users WHERE users.id = ?"),
        (select(func.count()).select_from(User), "SELECT count(*) AS count_1 \nFROM users"),
        (exists().select_from(User), "FROM users"),
        (insert(User).returning(User), "RETURNING id, name, data, bio, created_at, old"),
    ],
)
def test_core_takes_a_class_wherever_it_takes_a_table(statement: Any, text: str | None) -> None:
    engine = create_engine("sqlite://")

    if text is not None:
        assert text in str(statement.compile(engine))


def test_an_entity_carries_its_mapper() -> None:
    assert select(User)._raw_columns[0]._annotations[ENTITY] is mapper_of(User)
    assert insert(User).table._annotations[ENTITY] is mapper_of(User)
    assert select(User)._generate_cache_key() == select(User)._generate_cache_key()


def test_an_object_is_not_an_expression() -> None:
    with pytest.raises(
        InvalidRequestError, match="A User object was given where an SQL expression is expected"
    ):
        _ = User.id == User()
    with pytest.raises(InvalidRequestError):
        select(User())  # type: ignore[call-overload]


# ---------------------------------------------------------------- instants


def test_instants_are_stored_in_utc_and_come_back_aware_and_in_order() -> None:
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    east = timezone(timedelta(hours=9))
    first = datetime(2024, 1, 1, 8, tzinfo=east)  # 23:00 UTC the day before
    second = datetime(2024, 1, 1, 0, 0, 0, 1, tzinfo=UTC)
    old = datetime(2020, 1, 1)

    with engine.begin() as connection:
        for moment in (second, first):
            values = {"name": "x", "data": {}, "created_at": moment, "old": old}
            connection.execute(insert(User.__table__), [values])
        connection.exec_driver_sql(
            "insert into users (name, data, created_at) values ('y', '{}', '2025-01-01 00:00:00')"
        )
        found = connection.execute(select(User.created_at, User.old).order_by(User.created_at)).all()
        later = connection.scalars(select(User.id).where(User.created_at > first)).all()
        latest = connection.scalar(select(func.max(User.created_at)))
    engine.dispose()

    assert [row.created_at for row in found] == [first, second, datetime(2025, 1, 1, tzinfo=UTC)]
    assert {row.created_at.tzinfo for row in found} == {UTC}
    assert found[0].old == old
    assert later == [1, 3]
    assert latest == datetime(2025, 1, 1, tzinfo=UTC)


def test_postgresql_pays_nothing_for_an_instant() -> None:
    dialect = postgresql.dialect()
    type_ = User.created_at.type.dialect_impl(dialect)

    assert type_.result_processor(dialect, None) is None
    assert type_.bind_processor(dialect)(moment := datetime.now(UTC)) is moment


def test_a_naive_datetime_is_refused_with_the_line_to_write() -> None:
    process = AwareDateTime().dialect_impl(postgresql.dialect()).bind_processor(postgresql.dialect())

    with pytest.raises(NaiveDatetime, match=r"datetime\.now\(UTC\).*\.replace\(tzinfo=UTC\)"):
        process(datetime(2024, 1, 1))
    with pytest.raises(NaiveDatetime, match=r"\.replace\(tzinfo=None\)"):
        NaiveDateTime().process_bind_param(datetime.now(UTC), postgresql.dialect())


def test_arithmetic_with_instants_binds_intervals() -> None:
    expression = User.created_at - timedelta(days=1)

    assert type(expression.right.type).__name__ == "Interval"
    assert (User.created_at > datetime.now(UTC)).right.type is User.created_at.type


def test_a_datetime_in_any_form_is_an_instant() -> None:
    class Own(DeclarativeBase):
        type_annotation_map = {datetime: DateTime()}  # noqa: RUF012

    class Event(Own):
        __tablename__ = "events"
        id: Mapped[int] = mapped_column(primary_key=True)
        a: Mapped[datetime]
        b = Column(DateTime)
        c = mapped_column(DateTime(timezone=True))
        d: Mapped[datetime | None] = mapped_column(DateTime)

    assert {type(c.type) for n, c in mapper_of(Event).columns.items() if n != "id"} == {AwareDateTime}


# ---------------------------------------------------------------- the base


def test_constraints_get_names_that_migrations_can_find() -> None:
    module = load("""
from holdfast.model import DeclarativeBase
class Base(DeclarativeBase): pass
class User(Base):
    __tablename__ = "users"
    __table_args__ = (CheckConstraint("a > 0"), CheckConstraint("b > 0"), CheckConstraint("a > b", name="order"), UniqueConstraint("a", "b"))
    id: Mapped[int] = mapped_column(primary_key=True)
    a: Mapped[int] = mapped_column(index=True, unique=True)
    b: Mapped[int] = mapped_column(ForeignKey("users.id"))
    c: Mapped[bool] = mapped_column(Boolean(create_constraint=True))
""")

    text = "\n".join(ddl(module)["sqlite"])

    assert "CONSTRAINT pk_users PRIMARY KEY" in text
    assert "CONSTRAINT uq_users_a_b UNIQUE" in text
    assert "CONSTRAINT fk_users_b_users FOREIGN KEY" in text
    assert "CONSTRAINT ck_users_order CHECK" in text
    assert text.count("CONSTRAINT ck_users_") == 4
    assert "INDEX ix_users_a " in text
    assert text == "\n".join(ddl(module)["sqlite"])


def test_a_base_brings_its_own_metadata_and_types() -> None:
    mine = MetaData()

    class Own(DeclarativeBase):
        metadata = mine
        type_annotation_map = {str: String(99), dict: JSON(none_as_null=True)}  # noqa: RUF012

    class Thing(Own):
        __tablename__ = "things"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]
        data: Mapped[dict[str, int]]

    assert Own.metadata is mine
    assert Own.registry.metadata is mine
    assert Thing.__table__.c.name.type.length == 99
    assert Thing.__table__.c.data.type.none_as_null
    assert Own.registry is not Base.registry


def test_columns_of_a_base_belong_to_every_model() -> None:
    class Own(DeclarativeBase):
        id: Mapped[int] = mapped_column(primary_key=True)

    class A(Own):
        __tablename__ = "a"

    class B(Own):
        __tablename__ = "b"

    assert A.id is A.__table__.c.id
    assert B.id is not A.id


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the syntax of Python 3.12")
@pytest.mark.parametrize("future", [True, False])
def test_aliases_of_the_type_statement_mean_what_they_stand_for(future: bool) -> None:
    source = """
type Name = Annotated[str, mapped_column(String(7))]
type MaybeName = Name | None
type Plain = int
class Thing(Base):
    __tablename__ = "things"
    id: Mapped[Plain] = mapped_column(primary_key=True)
    name: Mapped[Name]
    maybe: Mapped[MaybeName]
    either: Mapped[Name | None]
"""

    lines = ddl(load(source, future=future))["sqlite"][0]

    assert "name VARCHAR(7) NOT NULL" in lines
    assert "maybe VARCHAR(7), " in lines
    assert "either VARCHAR(7), " in lines


def test_a_name_local_to_a_function_can_be_annotated_with() -> None:
    module = load("""
def make():
    class Kind(enum.Enum):
        a = 1
    class Thing(Base):
        __tablename__ = "things"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[Kind]
    return Thing, Kind
""")

    thing, kind = module.make()

    assert thing.kind.type.enum_class is kind


def test_an_attribute_named_as_its_type_means_the_type() -> None:
    module = load("""
class Thing(Base):
    __tablename__ = "things"
    id: Mapped[int] = mapped_column(primary_key=True)
    date: Mapped[date]
    time: Mapped[time | None] = mapped_column()
""")

    assert ddl(module)["sqlite"][0].count("DATE NOT NULL") == 1


def test_an_object_made_by_its_own_constructor_is_tracked_before_anything_was_configured() -> None:
    module = load("""
class Parent(Base):
    __tablename__ = "parents"
    id: Mapped[int] = mapped_column(primary_key=True)
    children: Mapped[list["Child"]] = relationship(back_populates="parent")
class Child(Base):
    __tablename__ = "children"
    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int] = mapped_column(ForeignKey("parents.id"))
    parent: Mapped["Parent"] = relationship(back_populates="children")
    def __init__(self, parent):
        self.parent = parent
""")
    parent = module.Parent()

    child = module.Child(parent)

    assert parent.children == [child]


def test_mixin_columns_serve_in_the_arguments_of_a_relation() -> None:
    module = load("""
class Owned:
    owner_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    editor_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    owner: Mapped["User"] = relationship(foreign_keys=[owner_id])
    @declared_attr
    def editor(cls) -> Mapped["User"]:
        return relationship(foreign_keys=[cls.editor_id])
class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
class A(Owned, Base):
    __tablename__ = "a"
    id: Mapped[int] = mapped_column(primary_key=True)
class B(Owned, Base):
    __tablename__ = "b"
    id: Mapped[int] = mapped_column(primary_key=True)
""")

    for cls in (module.A, module.B):
        relations = mapper_of(cls).relations
        assert relations["owner"].pairs[0][0] is cls.__table__.c.owner_id
        assert relations["editor"].pairs[0][0] is cls.__table__.c.editor_id


def test_a_mixin_means_the_names_of_its_own_module() -> None:
    mixins = load("""
from decimal import Decimal as Money
class Priced:
    price: Mapped[Money]
    owner_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    @declared_attr
    def tax(cls) -> Mapped[Money | None]:
        return mapped_column()
    @declared_attr
    def owners(cls) -> Mapped[Many["User"]]:
        return relationship(primaryjoin="User.id == Thing.owner_id", foreign_keys="User.id", viewonly=True)
from typing import List as Many
""")
    sys.modules["mixins_of_test"] = mixins
    module = load("""
from mixins_of_test import Priced
class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
class Thing(Priced, Base):
    __tablename__ = "things"
    id: Mapped[int] = mapped_column(primary_key=True)
""")

    assert isinstance(module.Thing.price.type, Numeric)
    assert isinstance(module.Thing.tax.type, Numeric)
    assert mapper_of(module.Thing).relations["owners"].target.class_ is module.User


def test_declared_attr_serves_columns_of_other_declared_attrs() -> None:
    class Sized:
        @declared_attr
        def size(cls) -> Mapped[int]:  # noqa: N805
            return mapped_column(Integer)

        @declared_attr
        def double(cls) -> Mapped[int]:  # noqa: N805
            return mapped_column(info={"same": cls.size is cls.size})

    class Thing(Sized, Base):
        __tablename__ = "sized_things"
        id: Mapped[int] = mapped_column(primary_key=True)

    assert Thing.double.info == {"same": True}


# ---------------------------------------------------------------- mistakes

KEY = "    id: Mapped[int] = mapped_column(primary_key=True)\n"
MISTAKES = {
    "no primary key": (
        'class A(Base):\n    __tablename__ = "a"\n    x: Mapped[int]\n',
        "A has no primary key",
        "id: Mapped[int] = mapped_column(primary_key=True)",
    ),
    "no table": (f"class Thing(Base):\n{KEY}", "Thing has no table", '__tablename__ = "things"'),
    "no type": (
        f'class A(Base):\n    __tablename__ = "a"\n{KEY}    x: Mapped[complex]\n',
        "A.x: no column type is known for complex",
        "x: Mapped[complex] = mapped_column(JSON)",
    ),
    "union": (
        f'class A(Base):\n    __tablename__ = "a"\n{KEY}    x: Mapped[int | str]\n',
        "A.x: no column type is known for int | str",
        None,
    ),
    "sql type": (
        f'class A(Base):\n    __tablename__ = "a"\n{KEY}    x: Mapped[String]\n',
        "String is an SQL type",
        "x: Mapped[str] = mapped_column(String)",
    ),
    "no annotation": (
        f'class A(Base):\n    __tablename__ = "a"\n{KEY}    x = mapped_column()\n',
        "A.x has no type",
        "x: Mapped[str] = mapped_column()",
    ),
    "mapped missing": (
        f'class A(Base):\n    __tablename__ = "a"\n{KEY}    x: int = mapped_column()\n',
        "A.x: the annotation lacks Mapped",
        "x: Mapped[int] = mapped_column()",
    ),
    "mapped missing with type": (
        f'class A(Base):\n    __tablename__ = "a"\n{KEY}    x: int = Column(Integer)\n',
        "A.x: the annotation lacks Mapped",
        "x: Mapped[int] = mapped_column()",
    ),
    "reserved": (
        f'class A(Base):\n    __tablename__ = "a"\n{KEY}    metadata: Mapped[dict]\n',
        "the name 'metadata' is taken",
        'metadata_: Mapped[...] = mapped_column("metadata")',
    ),
    "reserved registry": (
        f'class A(Base):\n    __tablename__ = "a"\n{KEY}    registry: Mapped[str]\n',
        "the name 'registry' is taken",
        None,
    ),
    "same table": (
        f'class A(Base):\n    __tablename__ = "a"\n{KEY}class B(Base):\n    __tablename__ = "a"\n{KEY}',
        "B: the table 'a' is already declared by A",
        '__tablename__ = "a_2"',
    ),
    "table args": (
        f'class A(Base):\n    __tablename__ = "a"\n    __table_args__ = Index("x", "id")\n{KEY}',
        "A.__table_args__ is a Index",
        "__table_args__ = (Index(...),)",
    ),
    "bad table args": (
        f'class A(Base):\n    __tablename__ = "a"\n    __table_args__ = ({{}}, Index("x", "id"))\n{KEY}',
        "A: ",
        None,
    ),
    "whole table": (
        f'class A(Base):\n    __table__ = "a"\n{KEY}',
        "A.__table__ is not a table",
        '__table__ = Table("name", Base.metadata, ...)',
    ),
    "column besides whole table": (
        (
            'class A(Base):\n    __table__ = Table("a", Base.metadata, Column("id", Integer, primary_key=True))\n'
            "    x: Mapped[int] = mapped_column()\n"
        ),
        "A: the column 'x' is not in the given __table__",
        "x = __table__.c.id",
    ),
    "table on the base": (
        'class A(DeclarativeBase):\n    __tablename__ = "a"\n',
        "A inherits DeclarativeBase itself",
        None,
    ),
    "relation without relationship": (
        f'class A(Base):\n    __tablename__ = "a"\n{KEY}class B(Base):\n    __tablename__ = "b"\n{KEY}    a: Mapped[A]\n',
        "B.a: A is a mapped class, and there is no relationship()",
        "a: Mapped[...] = relationship()",
    ),
    "relation to a class to come, without relationship": (
        f'class B(Base):\n    __tablename__ = "b"\n{KEY}    cs: Mapped[list["C"]]\n',
        "B.cs: C is not defined where the class is, and there is no relationship()",
        "cs: Mapped[...] = relationship()",
    ),
    "unknown type": (
        f'class B(Base):\n    __tablename__ = "b"\n{KEY}    x: Mapped[Decimall] = mapped_column()\n',
        "B.x: the name 'Decimall' is not defined where the class is",
        "from ... import Decimall",
    ),
    "unreadable annotation": (
        f'class B(Base):\n    __tablename__ = "b"\n{KEY}    x: Mapped["int |"]\n',
        "B.x: the annotation",
        "x: Mapped[str]",
    ),
    "column after the class": (
        f'class B(Base):\n    __tablename__ = "b"\n{KEY}B.x = mapped_column(Integer)\nBase.registry.configure()',
        "B.x was given to the class after its table was made",
        "x: Mapped[...] = mapped_column()",
    ),
    "foreign key to nowhere": (
        (
            f'class A(Base):\n    __tablename__ = "things"\n{KEY}'
            f'class B(Base):\n    __tablename__ = "b"\n{KEY}    x = mapped_column(ForeignKey("thing.id"))\nBase.registry.configure()'
        ),
        "B: b.x refers to the table 'thing', which does not exist (did you mean 'things'?)",
        'ForeignKey("things.id")',
    ),
    "unknown argument": (
        f'class A(Base):\n    __tablename__ = "a"\n{KEY}    x: Mapped[int] = mapped_column(indexed=True)\n',
        None,
        None,
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_told_with_the_line_to_write(case: str) -> None:
    source, happened, write = MISTAKES[case]

    with pytest.raises((ModelError, TypeError)) as caught:
        load(source)

    if happened is not None:
        assert isinstance(caught.value, ModelError)
        assert happened in str(caught.value)
    if write is not None:
        assert f"`{write}`" in str(caught.value)


MENDED = {
    "no primary key": ("    x: Mapped[int]\n", "    x: Mapped[int]\n    {}\n"),
    "no table": ("(Base):\n", "(Base):\n    {}\n"),
    "no type": ("x: Mapped[complex]", "{}"),
    "sql type": ("x: Mapped[String]", "{}"),
    "no annotation": ("x = mapped_column()", "{}"),
    "mapped missing": ("x: int = mapped_column()", "{}"),
    "mapped missing with type": ("x: int = Column(Integer)", "{}"),
    "same table": ('class B(Base):\n    __tablename__ = "a"', "class B(Base):\n    {}"),
    "column besides whole table": ("x: Mapped[int] = mapped_column()", "{}"),
    "foreign key to nowhere": ('ForeignKey("thing.id")', "{}"),
    "unreadable annotation": ('x: Mapped["int |"]', "{}"),
}


@pytest.mark.parametrize("case", MENDED)
def test_the_line_of_a_message_mends_the_model(case: str) -> None:
    source = MISTAKES[case][0]
    with pytest.raises(ModelError) as caught:
        load(source)
    wrong, place = MENDED[case]

    module = load(source.replace(wrong, place.format(caught.value.write)))  # type: ignore[attr-defined]

    configure(module.Base)


LATER = {
    "joined inheritance": f'class A(Base):\n    __tablename__ = "a"\n{KEY}class B(A):\n    __tablename__ = "b"\n{KEY}',
    "single inheritance": f'class A(Base):\n    __tablename__ = "a"\n{KEY}class B(A):\n    pass\n',
    "polymorphic": f'class A(Base):\n    __tablename__ = "a"\n    __mapper_args__ = {{"polymorphic_on": "id"}}\n{KEY}',
    "column_property": "from holdfast.model import column_property\ncolumn_property(1)",
    "hybrid": "from holdfast.model import hybrid_property\n@hybrid_property\ndef x(self): ...",
    "composite": "from holdfast.model import composite\ncomposite()",
    "synonym": 'from holdfast.model import synonym\nsynonym("x")',
    "proxy": 'from holdfast.model import association_proxy\nassociation_proxy("x", "y")',
    "dataclass": "from holdfast.model import MappedAsDataclass\nclass B(MappedAsDataclass, DeclarativeBase): ...",
    "init": "mapped_column(init=False)",
    "default_factory": "mapped_column(default_factory=list)",
    "relationship init": "relationship(init=False)",
    "dynamic": "from holdfast.model import DynamicMapped\nDynamicMapped[int]",
    "whole select": 'class A(Base):\n    __table__ = select(literal(1).label("id")).subquery()\n',
}


@pytest.mark.parametrize("case", LATER)
def test_what_comes_later_says_so(case: str) -> None:
    with pytest.raises(NotSupported, match="comes in a later release"):
        load(LATER[case])


STRAYS = {
    "Mapped": "x: orm.Mapped[int]",
    "Mapped on a column": "x: orm.Mapped[int] = mapped_column()",
    "mapped_column": "x: Mapped[int] = orm.mapped_column()",
    "relationship": 'x: Mapped["Thing"] = orm.relationship()',
}


@pytest.mark.parametrize("future", [True, False])
@pytest.mark.parametrize("case", STRAYS)
def test_what_is_imported_from_sqlalchemys_orm_is_never_passed_over(case: str, future: bool) -> None:
    name = case.split(maxsplit=1)[0]

    with pytest.raises(ModelError, match=rf"Thing.x: .*`from holdfast import {name}`") as caught:
        load(thing_with(STRAYS[case]), future=future)

    exec(caught.value.write, {})


def test_a_relation_annotated_with_sqlalchemys_mapped_is_told() -> None:
    module = load(thing_with("x: orm.Mapped[Thing] = relationship()"))

    with pytest.raises(ModelError, match=r"Thing.x: .*`from holdfast import Mapped`"):
        module.Thing()


@pytest.mark.parametrize("line", ["x = orm.column_property(func.now())", "x: orm.WriteOnlyMapped[int]"])
def test_what_sqlalchemys_orm_has_alone_comes_later(line: str) -> None:
    with pytest.raises(NotSupported, match=r"Thing.x: "):
        load(thing_with(line))


def thing_with(line: str) -> str:
    return f"""
from sqlalchemy import orm
class Thing(Base):
    __tablename__ = "things"
    id: Mapped[int] = mapped_column(primary_key=True)
    {line}
"""


def test_names_of_sqlalchemy_that_have_another_form_say_it() -> None:
    for source, write in [
        ("from holdfast.model import deferred\ndeferred()", "mapped_column(..., deferred=True)"),
        ("from holdfast.model import backref\nbackref('x')", "relationship(back_populates=...)"),
        (
            "from holdfast.model import declarative_base\ndeclarative_base()",
            "class Base(DeclarativeBase): pass",
        ),
        ("relationship(backref='x')", 'relationship(back_populates="...")'),
    ]:
        with pytest.raises(ModelError) as caught:
            load(source)
        assert f"`{write}`" in str(caught.value)


def test_an_annotation_that_is_not_mapped_may_be_anything() -> None:
    module = load("""
class Thing(Base):
    __tablename__ = "things"
    id: Mapped[int] = mapped_column(primary_key=True)
    note: "what (is this"
    other: Unknown.thing()
    plain: int
    shown: ClassVar[int] = 3
""")

    assert mapper_of(module.Thing).columns.keys() == {"id"}


def test_a_relation_may_be_given_to_a_class_later() -> None:
    module = load("""
class A(Base):
    __tablename__ = "a"
    id: Mapped[int] = mapped_column(primary_key=True)
class B(Base):
    __tablename__ = "b"
    id: Mapped[int] = mapped_column(primary_key=True)
    a_id: Mapped[int] = mapped_column(ForeignKey("a.id"))
A.bs = relationship(B)
""")

    assert module.A.__mapper__.relations["bs"].uselist
    assert module.A(bs=[module.B()]).bs


def test_objects_of_many_threads_agree_on_one_configuration() -> None:
    module = load("""
class A(Base):
    __tablename__ = "a"
    id: Mapped[int] = mapped_column(primary_key=True)
    bs: Mapped[list["B"]] = relationship(back_populates="a")
class B(Base):
    __tablename__ = "b"
    id: Mapped[int] = mapped_column(primary_key=True)
    a_id: Mapped[int] = mapped_column(ForeignKey("a.id"))
    a: Mapped["A"] = relationship(back_populates="bs")
""")
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: mapper_of(module.A).relations["bs"], range(64)))

    assert len(set(found)) == 1
    assert found[0].back is mapper_of(module.B).relations["a"]
    assert found[0].back.back is found[0]


def test_a_class_declared_later_is_configured_with_the_next_use() -> None:
    class Own(DeclarativeBase):
        pass

    class A(Own):
        __tablename__ = "a"
        id: Mapped[int] = mapped_column(primary_key=True)

    configure(Own)

    class B(Own):
        __tablename__ = "b"
        id: Mapped[int] = mapped_column(primary_key=True)
        a_id: Mapped[int] = mapped_column(ForeignKey(A.id))
        a: Mapped[A] = relationship()

    assert mapper_of(B).relations["a"].target is mapper_of(A)
