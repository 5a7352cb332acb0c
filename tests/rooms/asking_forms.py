"""Statements to ask both libraries: each form is a function of a `Side` that answers a statement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy import (
    and_,
    bindparam,
    case,
    exists,
    func,
    literal,
    literal_column,
    or_,
    text,
    union,
    union_all,
)

from tests.rooms.oracle import let

FORMS: dict[str, Callable[[Any], Any]] = {}
ON_POSTGRESQL: dict[str, Callable[[Any], Any]] = {}
ON_MARIADB: dict[str, Callable[[Any], Any]] = {}


NOT_ON_MARIADB = frozenset({"filter_aggregate"})  # FILTER


def form(make: Callable[[Any], Any]) -> Callable[[Any], Any]:
    FORMS[make.__name__] = make
    return make


def on_postgresql(make: Callable[[Any], Any]) -> Callable[[Any], Any]:
    ON_POSTGRESQL[make.__name__] = make
    return make


def on_mariadb(make: Callable[[Any], Any]) -> Callable[[Any], Any]:
    ON_MARIADB[make.__name__] = make
    return make


def forms(**made: Callable[[Any], Any]) -> None:
    assert not set(FORMS) & set(made)
    FORMS.update(made)


# ---------------------------------------------------------------- plain

forms(
    class_=lambda m: m.select(m.User),
    class_where=lambda m: m.select(m.User).where(m.User.name == "Ada"),
    class_order_limit=lambda m: m.select(m.User).order_by(m.User.id.desc()).limit(2).offset(1),
    columns=lambda m: m.select(m.User.id, m.User.name),
    renamed_column=lambda m: m.select(m.User.motto),
    class_and_column=lambda m: m.select(m.User, m.Post.title).join(m.User.posts),
    two_classes=lambda m: m.select(m.User, m.Post).join(m.Post, m.Post.author_id == m.User.id),
    two_classes_outer=lambda m: m.select(m.User, m.Post).outerjoin(m.Post, m.Post.author_id == m.User.id),
    two_keys=lambda m: m.select(m.User.id, m.Post.id).join(m.User.posts),
    same_column_twice=lambda m: m.select(m.User.id, m.User.id),
    same_label_twice=lambda m: m.select(m.User.id.label("x"), m.User.name.label("x")),
    class_twice=lambda m: m.select(m.User, m.User),
    table=lambda m: m.select(m.User.__table__.c.id, m.User.__table__.c.name),
    whole_table=lambda m: m.select(m.Tag.__table__),
    table_and_class=lambda m: m.select(m.Tag.__table__, m.Post).join(m.Post.tags),
    literal=lambda m: m.select(literal(1)),
    literal_text=lambda m: m.select(literal_column("1"), literal_column("'a'").label("b")),
    no_from=lambda m: m.select(func.abs(-3).label("three"), (literal(2) + 3).label("five")),
    no_result=lambda m: m.select(m.User).where(sa.false()),
    labels=lambda m: m.select(m.User.name.label("who"), (m.User.age + 1).label("next")),
    types=lambda m: m.select(
        m.User.score, m.User.rate, m.User.active, m.User.joined, m.User.kind, m.User.shout, m.User.meta
    ),
    decorated_type=lambda m: m.select(m.User.name).where(m.User.shout == "HEY"),
    enum=lambda m: m.select(m.User.name).where(m.User.kind == m.Kind.gold),
    enum_in=lambda m: m.select(m.User.name).where(m.User.kind.in_([m.Kind.gold])),
    distinct=lambda m: m.select(m.User.age).distinct(),
    distinct_class=lambda m: m.select(m.Tag).join(m.Tag.posts).distinct(),
    is_null=lambda m: m.select(m.User).where(m.User.email.is_(None)),
    in_=lambda m: m.select(m.User).where(m.User.id.in_([1, 3])),
    in_empty=lambda m: m.select(m.User).where(m.User.id.in_([])),
    not_in_empty=lambda m: m.select(m.User).where(m.User.id.not_in([])),
    in_query=lambda m: m.select(m.User).where(
        m.User.id.in_(m.select(m.Post.author_id).where(m.Post.published))
    ),
    tuple_in=lambda m: m.select(m.Order).where(
        sa.tuple_(m.Order.region, m.Order.number).in_([("eu", 1), ("us", 2)])
    ),
    like=lambda m: m.select(m.User).where(m.User.name.like("%d%")),
    startswith=lambda m: m.select(m.User).where(m.User.name.startswith("A", autoescape=True)),
    or_and=lambda m: m.select(m.User).where(or_(and_(m.User.age > 30, m.User.active), m.User.name == "Bob")),
    between=lambda m: m.select(m.User).where(m.User.age.between(20, 30)),
    cast=lambda m: m.select(sa.cast(m.User.age, sa.String)).where(m.User.age.isnot(None)),
    concat=lambda m: m.select(m.User.name + "!"),
    filter_by=lambda m: m.select(m.User).filter_by(name="Ada", age=36),
    filter_by_join=lambda m: m.select(m.User).join(m.User.posts).filter_by(title="P1"),
    filter_=lambda m: m.select(m.User).filter(m.User.age > 30, m.User.active),
    with_only_columns=lambda m: m.select(m.User).where(m.User.age > 30).with_only_columns(m.User.id),
    add_columns=lambda m: m.select(m.User).add_columns(m.User.name),
    select_from=lambda m: m.select(func.count()).select_from(m.User),
    count_query=lambda m: m.select(func.count()).select_from(
        m.select(m.User).where(m.User.age > 30).subquery()
    ),
)

# ---------------------------------------------------------------- functions and their types

forms(
    count=lambda m: m.select(func.count(m.User.id)),
    sum_int=lambda m: m.select(func.sum(m.User.age)),
    sum_numeric=lambda m: m.select(func.sum(m.User.score)),
    sum_float=lambda m: m.select(func.sum(m.User.rate)),
    avg_numeric=lambda m: m.select(func.avg(m.User.score)),
    avg_float=lambda m: m.select(func.avg(m.User.rate)),
    min_max=lambda m: m.select(func.min(m.User.score), func.max(m.User.age), func.max(m.User.joined)),
    max_enum_none=lambda m: m.select(func.max(m.User.shout)),
    lower=lambda m: m.select(func.lower(m.User.name)),
    coalesce=lambda m: m.select(func.coalesce(m.User.email, "none")),
    coalesce_type=lambda m: m.select(func.coalesce(m.User.score, 0)),
    arithmetic=lambda m: m.select(m.User.score * 2, m.User.age + 1, m.User.rate / 2).where(
        m.User.age.isnot(None)
    ),
    division=lambda m: m.select(m.User.age / 5, m.User.age // 5, m.User.age % 7).where(
        m.User.age.isnot(None)
    ),
    case=lambda m: m.select(m.User.name, case((m.User.age > 30, "old"), else_="young")),
    case_value=lambda m: m.select(case({"Ada": 1, "Bob": 2}, value=m.User.name, else_=0)),
    group=lambda m: m.select(m.User.age, func.count()).group_by(m.User.age).having(func.count() > 1),
    window=lambda m: m.select(
        m.Post.id,
        func.row_number()
        .over(
            partition_by=m.Post.author_id,
            order_by=m.Post.likes.desc(),
        )
        .label("n"),
        func.sum(m.Post.likes).over(order_by=m.Post.id, rows=(None, 0)),
    ),
    window_first=lambda m: let(
        lambda ranked: m.select(ranked.c.id).where(ranked.c.n == 1),
        m.select(
            m.Post.id, func.row_number().over(partition_by=m.Post.author_id, order_by=m.Post.id).label("n")
        ).subquery(),
    ),
    filter_aggregate=lambda m: m.select(func.count(m.Post.id).filter(m.Post.published)),
    json_path=lambda m: m.select(m.User.name).where(m.User.meta["b"]["c"].as_string() == "x"),
    json_value=lambda m: m.select(m.User.id, m.User.meta["b"]).where(m.User.meta.isnot(None)),
    json_index=lambda m: m.select(m.User.meta[("a", 1)]).where(m.User.id == 1),
    json_integer=lambda m: m.select(m.User.meta[("a", 0)].as_integer()).where(m.User.id == 1),
    json_where=lambda m: m.select(m.User).where(m.User.meta[("a", 0)].as_integer() == 1),
    numeric_literal=lambda m: m.select(m.User.name).where(m.User.score == sa.literal(7.25)),
    boolean=lambda m: m.select(m.User.name, (m.User.age > 30).label("old"), ~m.User.active),
    func_type=lambda m: m.select(func.abs(m.User.score, type_=sa.Numeric(10, 2))),
    type_coerce=lambda m: m.select(sa.type_coerce(m.User.name, m.Loud)),
    extract=lambda m: m.select(sa.extract("year", m.User.joined)).where(m.User.joined.isnot(None)),
)

# ---------------------------------------------------------------- joins along relations

forms(
    join=lambda m: m.select(m.User).join(m.User.posts),
    join_where=lambda m: m.select(m.User.name, m.Post.title).join(m.User.posts).where(m.Post.published),
    join_to_one=lambda m: m.select(m.Post.title, m.User.name).join(m.Post.author),
    join_outer=lambda m: (
        m.select(m.User.name, func.count(m.Post.id)).join(m.User.posts, isouter=True).group_by(m.User.name)
    ),
    outerjoin=lambda m: m.select(m.User, m.Post).outerjoin(m.User.posts),
    outerjoin_to_one=lambda m: m.select(m.Post, m.User).outerjoin(m.Post.author),
    join_many_back=lambda m: m.select(m.Tag).join(m.Tag.posts).where(m.Post.id == 1),
    join_twice=lambda m: m.select(m.User.name, m.Tag.name).join(m.User.posts).join(m.Post.tags),
    join_many_to_many=lambda m: m.select(m.Post, m.Tag).join(m.Post.tags),
    outerjoin_many_to_many=lambda m: m.select(m.Post, m.Tag).outerjoin(m.Post.tags),
    join_and=lambda m: m.select(m.User.name, m.Post.title).join(m.User.posts.and_(m.Post.published)),
    outerjoin_and=lambda m: m.select(m.User.name, m.Post.title).outerjoin(
        m.User.posts.and_(m.Post.published)
    ),
    outerjoin_and_many=lambda m: m.select(m.Post.id, m.Tag.name).outerjoin(
        m.Post.tags.and_(m.Tag.name == "t1")
    ),
    join_viewonly=lambda m: m.select(m.User.name, m.Post.title).join(m.User.published),
    join_composite=lambda m: m.select(m.Order.note, m.Item.sku).join(m.Order.items),
    join_composite_up=lambda m: m.select(m.Item.sku, m.Order.note).outerjoin(m.Item.order),
    join_one_to_one=lambda m: m.select(m.User.name, m.Profile.text).join(m.User.profile),
    join_from=lambda m: m.select(m.User.name, m.Post.title).join_from(m.User, m.User.posts),
    join_from_tables=lambda m: m.select(m.User.name, m.Profile.text).join_from(m.User, m.Profile),
    join_from_class_on=lambda m: m.select(m.User.name, m.Post.title).join_from(m.User, m.Post, m.User.posts),
    join_target_on=lambda m: m.select(m.User.name, m.Post.title).join(m.Post, m.User.posts),
    join_target_condition=lambda m: m.select(m.User.name, m.Post.title).join(
        m.Post, m.Post.editor_id == m.User.id
    ),
    join_class_only=lambda m: m.select(m.User.name, m.Profile.text).join(m.Profile),
    select_from_join=lambda m: m.select(m.User.name, m.Post.title).select_from(m.Post).join(m.Post.author),
    select_from_join_object=lambda m: m.select(m.User.name).select_from(
        sa.join(m.User, m.Profile, m.User.id == m.Profile.user_id)
    ),
    join_table=lambda m: m.select(m.Post.id, m.post_tags.c.tag_id).join(
        m.post_tags, m.post_tags.c.post_id == m.Post.id
    ),
    two_relations_one_class=lambda m: let(
        lambda a, e: (
            m.select(m.Post.id, a.name, e.name).join(m.Post.author.of_type(a)).join(m.Post.editor.of_type(e))
        ),
        m.aliased(m.User),
        m.aliased(m.User),
    ),
)


@form
def self_join(m: Any) -> Any:
    child = m.aliased(m.Node)
    return m.select(m.Node.name, child.name).join(child, m.Node.children)


@form
def self_join_of_type(m: Any) -> Any:
    child, grandchild = m.aliased(m.Node), m.aliased(m.Node)
    return (
        m.select(m.Node, child, grandchild)
        .join(m.Node.children.of_type(child))
        .outerjoin(child.children.of_type(grandchild))
    )


@form
def self_join_up(m: Any) -> Any:
    parent = m.aliased(m.Node, name="up")
    return (
        m.select(m.Node, parent)
        .outerjoin(m.Node.parent.of_type(parent))
        .where(or_(parent.name != "n1", parent.id.is_(None)))
    )


@form
def self_join_from_alias(m: Any) -> Any:
    parent = m.aliased(m.Node)
    return m.select(parent.name, m.Node.name).select_from(parent).join(parent.children)


@form
def self_many_to_many(m: Any) -> Any:
    idol = m.aliased(m.User)
    return m.select(m.User.name, idol.name).join(m.User.idols.of_type(idol))


@form
def self_many_to_many_outer_on(m: Any) -> Any:
    idol = m.aliased(m.User)
    return m.select(m.User.name, idol.name).outerjoin(idol, m.User.idols)


@form
def alias_where(m: Any) -> Any:
    u = m.aliased(m.User)
    return m.select(u).where(u.name.in_(["Ada", "Bob"])).order_by(u.id)


@form
def alias_relation(m: Any) -> Any:
    u, p = m.aliased(m.User), m.aliased(m.Post)
    return m.select(u, p).join(u.posts.of_type(p)).where(p.published)


@form
def alias_and(m: Any) -> Any:
    p = m.aliased(m.Post)
    return m.select(m.User.name, p.title).outerjoin(m.User.posts.of_type(p).and_(p.published))


@form
def alias_in_columns(m: Any) -> Any:
    a, b = m.aliased(m.User), m.aliased(m.User)
    return m.select(a.name, b.name).where(a.age == b.age, a.id < b.id)


@form
def class_and_its_alias(m: Any) -> Any:
    other = m.aliased(m.User)
    return m.select(m.User, other).where(m.User.age == other.age, m.User.id != other.id)


@form
def subquery_as_class(m: Any) -> Any:
    inner = m.select(m.User).where(m.User.age > 30).subquery()
    u = m.aliased(m.User, inner)
    return m.select(u).where(u.name != "Dan")


@form
def subquery_as_class_joined(m: Any) -> Any:
    u = m.aliased(m.User, m.select(m.User).where(m.User.active).order_by(m.User.id).limit(3).subquery())
    return m.select(u, m.Post).join(m.Post, m.Post.author_id == u.id)


@form
def subquery_as_class_relation(m: Any) -> Any:
    u = m.aliased(m.User, m.select(m.User).where(m.User.active).subquery(), name="live")
    return m.select(u, m.Post.title).join(u.posts)


@form
def subquery_of_target(m: Any) -> Any:
    p = m.aliased(m.Post, m.select(m.Post).where(m.Post.published).subquery())
    return m.select(m.User.name, p.title).join(m.User.posts.of_type(p))


@form
def cte_as_class(m: Any) -> Any:
    u = m.aliased(m.User, m.select(m.User).where(m.User.age > 30).cte("grown"))
    return m.select(u)


@form
def subquery_columns(m: Any) -> Any:
    counts = m.select(m.Post.author_id, func.count().label("n")).group_by(m.Post.author_id).subquery()
    return m.select(m.User.name, counts.c.n).join(counts, counts.c.author_id == m.User.id, isouter=True)


@form
def lateral_or_correlated(m: Any) -> Any:
    count = m.select(func.count(m.Post.id)).where(m.Post.author_id == m.User.id).scalar_subquery()
    return m.select(m.User.name, count.label("posts")).order_by(count.desc(), m.User.id)


@form
def scalar_subquery_class(m: Any) -> Any:
    count = (
        m.select(func.count(m.Post.id))
        .where(m.Post.author_id == m.User.id)
        .correlate(m.User)
        .scalar_subquery()
    )
    return m.select(m.User, count)


@form
def scalar_subquery_where(m: Any) -> Any:
    return m.select(m.User).where(
        m.User.age == m.select(func.max(m.User.age)).correlate(None).scalar_subquery()
    )


@form
def cte(m: Any) -> Any:
    old = m.select(m.User.id, m.User.name).where(m.User.age > 30).cte("old")
    return m.select(old.c.name, m.Post.title).join(m.Post, m.Post.author_id == old.c.id)


@form
def cte_recursive(m: Any) -> Any:
    tree = (
        m.select(m.Node.id, literal(0).label("depth"))
        .where(m.Node.parent_id.is_(None))
        .cte("tree", recursive=True)
    )
    tree = tree.union_all(m.select(m.Node.id, tree.c.depth + 1).where(m.Node.parent_id == tree.c.id))
    return m.select(m.Node, tree.c.depth).join(tree, tree.c.id == m.Node.id)


@form
def cte_recursive_class(m: Any) -> Any:
    up = m.select(m.Node).where(m.Node.id == 7).cte("up", recursive=True)
    above = m.aliased(m.Node, up)
    parent = m.aliased(m.Node)
    up = up.union_all(m.select(parent).where(parent.id == above.parent_id))
    chain = m.aliased(m.Node, up)
    return m.select(chain)


# ---------------------------------------------------------------- any, has, contains

forms(
    any=lambda m: m.select(m.User).where(m.User.posts.any()),
    not_any=lambda m: m.select(m.User).where(~m.User.posts.any()),
    any_where=lambda m: m.select(m.User).where(m.User.posts.any(m.Post.published)),
    any_values=lambda m: m.select(m.User).where(m.User.posts.any(title="P1")),
    any_many=lambda m: m.select(m.Post).where(m.Post.tags.any(m.Tag.name == "t1")),
    any_many_not=lambda m: m.select(m.Post).where(~m.Post.tags.any(name="t1")),
    any_nested=lambda m: m.select(m.User).where(m.User.posts.any(m.Post.tags.any(m.Tag.name == "t3"))),
    any_self=lambda m: m.select(m.Node).where(m.Node.children.any(m.Node.name == "n4")),
    any_self_many=lambda m: m.select(m.User).where(m.User.idols.any(m.User.name == "Cyd")),
    any_viewonly=lambda m: m.select(m.User).where(m.User.published.any()),
    any_composite=lambda m: m.select(m.Order).where(m.Order.items.any(m.Item.sku == "s3")),
    has=lambda m: m.select(m.Post).where(m.Post.author.has(m.User.name == "Ada")),
    has_values=lambda m: m.select(m.Post).where(m.Post.author.has(name="Ada", age=36)),
    has_self=lambda m: m.select(m.Node).where(m.Node.parent.has(m.Node.name == "n1")),
    has_has=lambda m: m.select(m.Node).where(m.Node.parent.has(m.Node.parent.has(m.Node.name == "n1"))),
    has_not=lambda m: m.select(m.Post).where(~m.Post.author.has()),
    has_one_to_one=lambda m: m.select(m.User).where(m.User.profile.has(m.Profile.text == "one")),
    none=lambda m: m.select(m.Post).where(m.Post.author == None),  # noqa: E711
    not_none=lambda m: m.select(m.Post).where(m.Post.author != None),  # noqa: E711
    none_many=lambda m: m.select(m.User).where(m.User.posts == None),  # noqa: E711
    none_one_to_one=lambda m: m.select(m.User).where(m.User.profile == None),  # noqa: E711
    none_composite=lambda m: m.select(m.Item).where(m.Item.order == None),  # noqa: E711
    alias_any=lambda m: let(lambda u: m.select(u).where(u.posts.any(m.Post.published)), m.aliased(m.User)),
    alias_any_self=lambda m: let(
        lambda n: m.select(n).where(n.children.any(m.Node.name == "n4")), m.aliased(m.Node)
    ),
    any_of_type=lambda m: let(
        lambda p: m.select(m.User).where(m.User.posts.of_type(p).any(p.published)), m.aliased(m.Post)
    ),
    any_self_of_type=lambda m: let(
        lambda n: m.select(m.Node).where(m.Node.children.of_type(n).any(n.name == "n4")), m.aliased(m.Node)
    ),
    exists=lambda m: m.select(m.User).where(exists().where(m.Post.author_id == m.User.id, m.Post.published)),
    exists_select=lambda m: m.select(m.User).where(
        m.select(m.Post).where(m.Post.author_id == m.User.id).exists()
    ),
    exists_column=lambda m: m.select(
        m.User.name, exists(m.select(m.Post.id).where(m.Post.author_id == m.User.id))
    ),
    exists_alone=lambda m: m.select(exists().where(m.User.name == "Ada")),
)


@form
def exists_class(m: Any) -> Any:
    return m.select(m.User.id).where(exists(m.select(m.Post).where(m.Post.author_id == m.User.id)))


# ---------------------------------------------------------------- unions, statements of others, text

forms(
    union_columns=lambda m: union(m.select(m.User.name), m.select(m.Tag.name)),
    union_all_order=lambda m: union_all(m.select(m.User.id), m.select(m.Post.id)).order_by("id").limit(3),
    union_classes_as_columns=lambda m: union(
        m.select(m.Tag).where(m.Tag.id == 1), m.select(m.Tag).where(m.Tag.id == 2)
    ),
    except_=lambda m: sa.except_(m.select(m.User.id), m.select(m.Post.author_id)),
    union_from_statement=lambda m: m.select(m.User).from_statement(
        union_all(m.select(m.User).where(m.User.id == 1), m.select(m.User).where(m.User.age == 20))
    ),
    union_method=lambda m: m.select(m.User.name).union(m.select(m.Tag.name)),
    text=lambda m: text("SELECT id, name FROM users ORDER BY id"),
    text_binds=lambda m: text("SELECT name FROM users WHERE id = :id OR name = :name").bindparams(
        id=1, name="Bob"
    ),
    text_columns=lambda m: text("SELECT id, score, joined FROM users").columns(
        m.User.id, m.User.score, m.User.joined
    ),
    text_columns_typed=lambda m: text("SELECT id AS a, meta AS b FROM users").columns(
        a=sa.Integer, b=sa.JSON
    ),
    text_from_statement=lambda m: m.select(m.User).from_statement(
        text("SELECT * FROM users WHERE name = :n").bindparams(n="Ada")
    ),
    text_from_statement_columns=lambda m: m.select(m.Tag).from_statement(
        text("SELECT name, id FROM tags WHERE id < 3").columns(m.Tag.name, m.Tag.id)
    ),
    text_in=lambda m: text("SELECT name FROM users WHERE id IN :ids").bindparams(
        bindparam("ids", [1, 2], expanding=True)
    ),
    text_where=lambda m: m.select(m.User).where(text("users.age > :a")).params(a=30),
    text_colon=lambda m: text(r"SELECT 'a\:b' AS x"),
    text_order=lambda m: m.select(m.User).order_by(text("users.name DESC")),
    text_subquery=lambda m: let(
        lambda q: m.select(q.c.id, m.User.name).join(m.User, m.User.id == q.c.id),
        text("SELECT id FROM users WHERE id > 2").columns(m.User.id).subquery("q"),
    ),
    literal_column_where=lambda m: m.select(m.User.id).where(literal_column("users.age") > 30),
)


@form
def union_as_class(m: Any) -> Any:
    both = union_all(
        m.select(m.User).where(m.User.id == 1), m.select(m.User).where(m.User.id == 4)
    ).subquery()
    u = m.aliased(m.User, both)
    return m.select(u).order_by(u.id.desc())


@form
def params_by_name(m: Any) -> Any:
    return m.select(m.User).where(m.User.name == bindparam("who")).params(who="Bob")


@form
def params_in_subquery(m: Any) -> Any:
    inner = m.select(m.Post.author_id).where(m.Post.title == bindparam("t"))
    return m.select(m.User).where(m.User.id.in_(inner), m.User.age > bindparam("a")).params(t="P1", a=3)


# ---------------------------------------------------------------- PostgreSQL


@on_postgresql
def values(m: Any) -> Any:
    columns = sa.column("a", sa.Integer), sa.column("b", sa.String)
    return m.select(sa.values(*columns, name="v").data([(1, "x"), (2, "y")]))


@on_postgresql
def full_join(m: Any) -> Any:
    return m.select(m.User.name, m.Post.title).join(m.User.posts, full=True)


@on_postgresql
def full_join_class(m: Any) -> Any:
    return m.select(m.User, m.Post).join(m.User.posts, full=True)


@on_postgresql
def distinct_on(m: Any) -> Any:
    from sqlalchemy.dialects.postgresql import distinct_on as on

    return m.select(m.Post).ext(on(m.Post.author_id)).order_by(m.Post.author_id, m.Post.id.desc())


@on_postgresql
def array_agg(m: Any) -> Any:
    return m.select(m.Post.author_id, func.array_agg(m.Post.id)).group_by(m.Post.author_id)


@on_postgresql
def array_any(m: Any) -> Any:
    return m.select(m.User).where(m.User.id == sa.any_(sa.cast([1, 2], sa.ARRAY(sa.Integer))))


@on_postgresql
def array_value(m: Any) -> Any:
    from sqlalchemy.dialects.postgresql import array

    return m.select(array([1, 2]) + array([3]), array([m.User.id, 7]).contains([7])).where(m.User.id == 1)


@on_postgresql
def unnest(m: Any) -> Any:
    numbers = func.unnest(sa.cast([3, 4], sa.ARRAY(sa.Integer))).table_valued("n").render_derived()
    return m.select(numbers.c.n)


@on_postgresql
def series(m: Any) -> Any:
    return m.select(func.generate_series(1, 3).column_valued("i"))


@on_postgresql
def lateral(m: Any) -> Any:
    last = (
        m.select(m.Post.title)
        .where(m.Post.author_id == m.User.id)
        .order_by(m.Post.id.desc())
        .limit(1)
        .lateral()
    )
    return m.select(m.User.name, last.c.title).join(last, sa.true(), isouter=True)


@on_postgresql
def jsonb(m: Any) -> Any:
    from sqlalchemy.dialects.postgresql import JSONB

    meta = sa.cast(m.User.meta, JSONB)
    return m.select(m.User.name, meta["b"].astext).where(meta.contains({"b": {"c": "x"}}), meta.has_key("a"))


@on_postgresql
def jsonb_path(m: Any) -> Any:
    from sqlalchemy.dialects.postgresql import JSONB

    return m.select(sa.cast(m.User.meta, JSONB)[("b", "c")].astext)


@on_postgresql
def json_agg(m: Any) -> Any:
    return m.select(func.json_agg(m.Tag.name), func.jsonb_build_object("a", 1, type_=sa.JSON))


@on_postgresql
def ilike(m: Any) -> Any:
    return m.select(m.User).where(m.User.name.ilike("a%"), m.User.name.regexp_match("^A"))


@on_postgresql
def string_agg(m: Any) -> Any:
    return m.select(func.string_agg(m.Tag.name, sa.literal_column("','")))


@on_postgresql
def aggregate_order(m: Any) -> Any:
    from sqlalchemy.dialects.postgresql import aggregate_order_by

    return m.select(func.array_agg(aggregate_order_by(m.Tag.name, m.Tag.id.desc())).label("names"))


@on_postgresql
def percentile(m: Any) -> Any:
    return m.select(
        func.percentile_cont(0.5).within_group(m.User.age).label("half"),
        func.mode().within_group(m.User.age).label("most"),
    )


@on_postgresql
def avg_int(m: Any) -> Any:
    return m.select(func.avg(m.User.age), func.sum(m.Post.likes)).where(m.User.id == m.Post.author_id)


@on_postgresql
def for_update(m: Any) -> Any:
    return m.select(m.User).where(m.User.id < 3).with_for_update()


@on_postgresql
def for_update_of(m: Any) -> Any:
    return m.select(m.User, m.Post).join(m.User.posts).with_for_update(of=m.User, skip_locked=True)


@on_postgresql
def for_share(m: Any) -> Any:
    return m.select(m.User).where(m.User.id < 3).with_for_update(read=True, nowait=True)


@on_postgresql
def for_no_key(m: Any) -> Any:
    return m.select(m.User).with_for_update(key_share=True)


@on_postgresql
def grouping_sets(m: Any) -> Any:
    return m.select(m.User.age, m.User.active, func.count()).group_by(
        func.grouping_sets(m.User.age, m.User.active)
    )


@on_postgresql
def date_math(m: Any) -> Any:
    from datetime import date

    return m.select(m.User.joined + 1, m.User.joined - date(2020, 1, 1)).where(m.User.joined.isnot(None))


@on_postgresql
def tablesample(m: Any) -> Any:
    return m.select(m.aliased(m.Tag, sa.tablesample(m.Tag.__table__, func.bernoulli(100))))


# ---------------------------------------------------------------- MariaDB


@on_mariadb
def group_concat(m: Any) -> Any:
    return m.select(m.Post.author_id, func.group_concat(m.Post.title)).group_by(m.Post.author_id)


@on_mariadb
def locked(m: Any) -> Any:
    return m.select(m.User).where(m.User.id < 3).with_for_update(skip_locked=True)


@on_mariadb
def shared(m: Any) -> Any:
    return m.select(m.User).where(m.User.id < 3).with_for_update(read=True)


@on_mariadb
def regular_expression(m: Any) -> Any:
    return m.select(m.User).where(m.User.name.regexp_match("^[A-B]"))


@on_mariadb
def question_marks(m: Any) -> Any:
    """What stands in quotes, names and comments is no placeholder."""
    marked = sa.literal_column("'? it''s \\\\ ?'").label("a?b")
    return m.select(marked, m.User.name).where(m.User.name != "?", m.User.id == 1).prefix_with("/* ? */")


@on_mariadb
def recursive(m: Any) -> Any:
    tree = m.select(m.Node.id, m.Node.parent_id).where(m.Node.id == 1).cte("tree", recursive=True)
    tree = tree.union_all(sa.select(m.Node.id, m.Node.parent_id).where(m.Node.parent_id == tree.c.id))
    return m.select(tree.c.id)
