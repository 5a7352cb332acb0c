"""Changes to ask both libraries for: each is a function of a `Side` and a session that answers what came of it."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam, delete, func, insert, update

from tests.rooms.oracle import plain

Work = Callable[[Any, Any], Any]
CHANGES: dict[str, Work] = {}
ON_POSTGRESQL: dict[str, Work] = {}
ON_MARIADB: dict[str, Work] = {}
NOT_ON_MARIADB = frozenset(
    {
        "update_returning",  # refused before it is sent: test_statements.py
        "update_returning_class",
        "upsert_do_nothing",  # ON CONFLICT; ON DUPLICATE KEY is below
        "upsert_do_update",
        "upsert_refreshes_loaded",
    }
)


def change(work: Work) -> Work:
    CHANGES[work.__name__] = work
    return work


def on_postgresql(work: Work) -> Work:
    ON_POSTGRESQL[work.__name__] = work
    return work


def on_mariadb(work: Work) -> Work:
    ON_MARIADB[work.__name__] = work
    return work


def upsert(session: Any, side: Any) -> Any:
    """The dialect's own insert."""
    from sqlalchemy.dialects import postgresql, sqlite

    name = session._core.backend.dialect.name if side.ours else session.get_bind().dialect.name
    return postgresql.insert if name == "postgresql" else sqlite.insert


def users(m: Any, s: Any) -> Any:
    """The table as it stands now."""
    t = m.User.__table__
    columns = (t.c.id, t.c.name, t.c.age, t.c.active, t.c.kind, t.c.motto_text, t.c.score)
    return plain(s.execute(sa.select(*columns).order_by(t.c.id)).all())


# ---------------------------------------------------------------- insert


@change
def insert_values(m: Any, s: Any) -> Any:
    s.execute(insert(m.User).values(id=50, name="New"))
    return users(m, s)


@change
def insert_params(m: Any, s: Any) -> Any:
    s.execute(insert(m.User), {"id": 50, "name": "New"})
    s.execute(insert(m.User), {"id": 51, "name": "New", "age": 3})
    return users(m, s)


@change
def insert_attribute_name(m: Any, s: Any) -> Any:
    s.execute(insert(m.User).values(id=50, name="New", motto="mine"))
    s.execute(insert(m.User), {"id": 51, "name": "New", "motto": "yours"})
    s.execute(insert(m.User), [{"id": 52, "name": "a", "motto": "b"}, {"id": 53, "name": "c", "motto": "d"}])
    s.execute(insert(m.User).values({m.User.id: 54, m.User.name: "x", m.User.motto: "z"}))
    return users(m, s)


@change
def insert_list(m: Any, s: Any) -> Any:
    s.execute(insert(m.User), [{"id": 50, "name": "a"}, {"id": 51, "name": "b"}, {"id": 52, "name": "c"}])
    return users(m, s)


@change
def insert_many_values(m: Any, s: Any) -> Any:
    s.execute(
        insert(m.User).values([{"id": 50, "name": "a", "motto": "m"}, {"id": 51, "name": "b", "motto": "n"}])
    )
    s.execute(insert(m.User).values([{"id": 52, "name": "a"}, {"id": 53, "name": "b"}]))
    return users(m, s)


@change
def insert_returning_columns(m: Any, s: Any) -> Any:
    statement = insert(m.User).values(id=50, name="New").returning(m.User.id, m.User.motto)
    return plain(s.execute(statement).all())


@change
def insert_returning_class(m: Any, s: Any) -> Any:
    user = s.scalars(insert(m.User).values(id=50, name="New", score=Decimal("1.5")).returning(m.User)).one()
    return plain(user), user.motto, user.active, plain(user.score), plain(s.get(m.User, 50) is user)


@change
def insert_list_returning(m: Any, s: Any) -> Any:
    rows = [{"id": 60 - n, "name": f"u{n}"} for n in range(5)]
    made = s.scalars(insert(m.User).returning(m.User, sort_by_parameter_order=True), rows).all()
    return [(user.id, user.name, user.motto) for user in made], users(m, s)


@change
def insert_list_returning_columns(m: Any, s: Any) -> Any:
    rows = [{"name": f"tag{n}"} for n in range(3)]
    return plain(s.execute(insert(m.Tag).returning(m.Tag.name), rows).all())


@change
def insert_from_select(m: Any, s: Any) -> Any:
    source = m.select(m.Tag.id + 100, m.Tag.name + "!").where(m.Tag.id < 3)
    s.execute(insert(m.Tag).from_select(["id", "name"], source))
    s.execute(
        insert(m.User).from_select(["id", "name"], m.select(m.Tag.id + 50, m.Tag.name).where(m.Tag.id < 3))
    )
    return plain(s.scalars(m.select(m.Tag.name).order_by(m.Tag.id)).all()), users(m, s)


@change
def insert_expression(m: Any, s: Any) -> Any:
    age = m.select(func.max(m.User.age)).scalar_subquery()
    s.execute(insert(m.User).values(id=50, name=func.lower("ABC"), age=age + 1))
    return users(m, s)


@change
def insert_same_form_other_values(m: Any, s: Any) -> Any:
    for n in range(3):
        s.execute(insert(m.User).values(id=50 + n, name=f"n{n}", active=n % 2 == 0))
    return users(m, s)


@change
def insert_into_table(m: Any, s: Any) -> Any:
    s.execute(insert(m.post_tags), [{"post_id": 4, "tag_id": 1}, {"post_id": 4, "tag_id": 2}])
    s.execute(insert(m.User.__table__).values(id=50, name="t", motto_text="core"))
    post = s.get(m.Post, 4)
    return plain(post.tags), users(m, s)


@change
def upsert_do_nothing(m: Any, s: Any) -> Any:
    made = upsert(s, m)(m.Tag).values(id=1, name="t1").on_conflict_do_nothing()
    s.execute(made)
    return plain(s.execute(made.returning(m.Tag.id)).all())


@change
def upsert_do_update(m: Any, s: Any) -> Any:
    statement = upsert(s, m)(m.User).values([{"id": 1, "name": "A2"}, {"id": 70, "name": "New"}])
    statement = statement.on_conflict_do_update(
        index_elements=[m.User.id], set_={"name": statement.excluded.name}
    )
    found = s.scalars(statement.returning(m.User), execution_options={"populate_existing": True}).all()
    return sorted((u.id, u.name, u.age) for u in found), users(m, s)


@change
def upsert_refreshes_loaded(m: Any, s: Any) -> Any:
    ada = s.get(m.User, 1)
    statement = upsert(s, m)(m.User).values(id=1, name="A2")
    statement = statement.on_conflict_do_update(
        index_elements=["id"], set_={"name": "A3", "age": m.User.age + 1}
    )
    found = s.scalars(statement.returning(m.User), execution_options={"populate_existing": True}).one()
    return found is ada, ada.name, ada.age


# ---------------------------------------------------------------- update


@change
def update_values(m: Any, s: Any) -> Any:
    result = s.execute(update(m.User).where(m.User.age > 30).values(name="Old"))
    return result.rowcount, users(m, s)


@change
def update_expression(m: Any, s: Any) -> Any:
    return s.execute(update(m.User).values(age=m.User.age + 1)).rowcount, users(m, s)


@change
def update_attribute_name(m: Any, s: Any) -> Any:
    s.execute(update(m.User).where(m.User.id == 1).values(motto="mine"))
    s.execute(update(m.User).where(m.User.id == 2).values({m.User.motto: "yours", "age": 9}))
    return users(m, s)


@change
def update_none(m: Any, s: Any) -> Any:
    return s.execute(update(m.User).where(m.User.id == 999).values(name="x")).rowcount


@change
def update_returning(m: Any, s: Any) -> Any:
    statement = (
        update(m.User).where(m.User.id < 3).values(age=m.User.age * 2).returning(m.User.id, m.User.age)
    )
    return plain(sorted(s.execute(statement).all()))


@change
def update_returning_class(m: Any, s: Any) -> Any:
    statement = update(m.User).where(m.User.id < 3).values(age=m.User.age * 2).returning(m.User)
    found = s.scalars(statement).all()
    return sorted((u.id, u.age, u.motto) for u in found)


@change
def update_subquery(m: Any, s: Any) -> Any:
    likes = sa.select(func.sum(m.Post.likes)).where(m.Post.author_id == m.User.id).scalar_subquery()
    s.execute(update(m.User).values(age=likes).execution_options(synchronize_session=False))
    return users(m, s)


@change
def update_by_key(m: Any, s: Any) -> Any:
    s.execute(update(m.User), [{"id": 1, "name": "One"}, {"id": 2, "name": "Two"}])
    return users(m, s)


@change
def update_by_binds(m: Any, s: Any) -> Any:
    table = m.User.__table__
    statement = update(table).where(table.c.id == bindparam("which")).values(name=bindparam("to"))
    connection = s if m.ours else s.connection()
    connection.execute(statement, [{"which": 1, "to": "One"}, {"which": 2, "to": "Two"}])
    return users(m, s)


@change
def update_in(m: Any, s: Any) -> Any:
    for ids in ([1, 2], [3], [], [1, 3, 4]):
        s.execute(
            update(m.User).where(m.User.id.in_(ids)).values(age=func.coalesce(m.User.age, 0) + len(ids))
        )
    return users(m, s)


@change
def update_decorated(m: Any, s: Any) -> Any:
    s.execute(update(m.User).where(m.User.shout == "HEY").values(shout="LOUDER"))
    return plain(s.scalars(m.select(m.User.shout).order_by(m.User.id)).all())


@change
def update_keeps_loaded_in_step(m: Any, s: Any) -> Any:
    found = s.scalars(m.select(m.User).order_by(m.User.id)).all()
    s.execute(update(m.User).where(m.User.age > 30).values(name="Old", age=m.User.age + 1))
    return [(u.id, u.name, u.age, u.motto) for u in found]


@change
def update_from_keeps_loaded_in_step(m: Any, s: Any) -> Any:
    found = s.scalars(m.select(m.User).order_by(m.User.id)).all()
    statement = (
        update(m.User).where(m.Post.author_id == m.User.id, m.Post.title == "P3").values(name=m.Post.title)
    )
    s.execute(statement.execution_options(synchronize_session="fetch"))
    return [(u.id, u.name) for u in found], users(m, s)


@change
def update_out_of_step(m: Any, s: Any) -> Any:
    ada = s.get(m.User, 1)
    s.execute(update(m.User).values(name="Old").execution_options(synchronize_session=False))
    return ada.name


@change
def update_json_in_step(m: Any, s: Any) -> Any:
    ada = s.get(m.User, 1)
    ada.meta
    s.execute(update(m.User).where(m.User.id == 1).values(meta={"new": 1}, kind=m.Kind.plain))
    return plain(ada.meta), ada.kind.name


@change
def update_foreign_key_in_step(m: Any, s: Any) -> Any:
    post, _bob = s.get(m.Post, 1), s.get(m.User, 2)
    post.author
    s.execute(update(m.Post).where(m.Post.id == 1).values(author_id=2))
    return post.author_id


@change
def update_flushes_first(m: Any, s: Any) -> Any:
    ada = s.get(m.User, 1)
    ada.age = 100
    s.execute(update(m.User).where(m.User.age == 100).values(name="Hundred"))
    return ada.name, ada.age


@change
def update_default_clause(m: Any, s: Any) -> Any:
    table = m.User.__table__
    s.execute(update(table).where(table.c.id == 1).values(name="core"))
    return users(m, s)


# ---------------------------------------------------------------- delete


@change
def delete_where(m: Any, s: Any) -> Any:
    s.execute(delete(m.post_tags))
    result = s.execute(delete(m.Post).where(m.Post.published))
    return result.rowcount, plain(s.scalars(m.select(m.Post).order_by(m.Post.id)).all())


@change
def delete_returning(m: Any, s: Any) -> Any:
    s.execute(delete(m.post_tags))
    return plain(
        sorted(s.execute(delete(m.Post).where(m.Post.id < 3).returning(m.Post.id, m.Post.title)).all())
    )


@change
def delete_returning_class(m: Any, s: Any) -> Any:
    found = s.scalars(delete(m.City).where(m.City.id < 3).returning(m.City)).all()
    return sorted(city.name for city in found)


@change
def delete_keeps_loaded_in_step(m: Any, s: Any) -> Any:
    cities = s.scalars(m.select(m.City).order_by(m.City.id)).all()
    s.execute(delete(m.City).where(m.City.id < 3))
    return [city in s for city in cities], s.get(m.City, 1), plain(s.get(m.City, 3) is cities[2])


@change
def delete_out_of_step(m: Any, s: Any) -> Any:
    city = s.get(m.City, 1)
    s.execute(delete(m.City).where(m.City.id < 3).execution_options(synchronize_session=False))
    return city in s


@change
def delete_subquery(m: Any, s: Any) -> Any:
    s.execute(delete(m.Profile).where(m.Profile.user_id.in_(m.select(m.User.id).where(m.User.name == "Ada"))))
    return plain(s.scalars(m.select(m.Profile)).all())


@change
def text_change(m: Any, s: Any) -> Any:
    count = s.execute(sa.text("UPDATE tags SET name = :to WHERE id < :n"), {"to": "x" * 3, "n": 2}).rowcount
    s.execute(sa.text("DELETE FROM profiles"))
    return (
        count,
        plain(s.scalars(m.select(m.Tag.name).order_by(m.Tag.id)).all()),
        plain(s.scalars(m.select(m.Profile)).all()),
    )


# ---------------------------------------------------------------- PostgreSQL


@on_postgresql
def cte_with_changes(m: Any, s: Any) -> Any:
    moved = (
        update(m.Post)
        .where(m.Post.id < 3)
        .values(likes=m.Post.likes + 10)
        .returning(m.Post.id, m.Post.likes)
        .cte()
    )
    return plain(sorted(s.execute(m.select(moved.c.id, moved.c.likes)).all()))


@on_postgresql
def cte_insert_as_class(m: Any, s: Any) -> Any:
    made = insert(m.Tag).values(id=90, name="made").returning(m.Tag).cte("made")
    tag = m.aliased(m.Tag, made)
    return plain(s.scalars(m.select(tag)).all())


@on_postgresql
def cte_delete_insert(m: Any, s: Any) -> Any:
    gone = delete(m.Profile).returning(m.Profile.text).cte("gone")
    s.execute(insert(m.Tag).from_select(["name"], m.select(gone.c.text)))
    return plain(s.scalars(m.select(m.Tag.name).order_by(m.Tag.name)).all())


@on_postgresql
def update_from(m: Any, s: Any) -> Any:
    statement = update(m.User).where(m.Post.author_id == m.User.id, m.Post.id == 3).values(name=m.Post.title)
    return s.execute(statement.returning(m.User.id, m.Post.id)).all()[0][:], users(m, s)


@on_postgresql
def delete_using(m: Any, s: Any) -> Any:
    result = s.execute(delete(m.Profile).where(m.Profile.user_id == m.User.id, m.User.name == "Ada"))
    return result.rowcount, plain(s.scalars(m.select(m.Profile)).all())


@on_postgresql
def upsert_constraint(m: Any, s: Any) -> Any:
    statement = upsert(s, m)(m.User).values(id=80, name="x", email="ada@x.de", motto="q")
    statement = statement.on_conflict_do_update(
        index_elements=["email"], set_={"motto_text": statement.excluded.motto_text}, where=m.User.id == 1
    )
    return plain(s.execute(statement.returning(m.User.id, m.User.motto)).all()), users(m, s)


@on_mariadb
def duplicate_key_update(m: Any, s: Any) -> Any:
    from sqlalchemy.dialects.mysql import insert as upsert

    statement = upsert(m.User).values([{"id": 1, "name": "A2"}, {"id": 70, "name": "New"}])
    statement = statement.on_duplicate_key_update(name=statement.inserted.name)
    s.execute(statement)
    return users(m, s)


@on_mariadb
def duplicate_key_tells(m: Any, s: Any) -> Any:
    from sqlalchemy.dialects.mysql import insert as upsert

    ada = s.get(m.User, 1)
    statement = upsert(m.User).values(id=1, name="A2").on_duplicate_key_update(name="A3", age=m.User.age + 1)
    found = s.scalars(statement.returning(m.User), execution_options={"populate_existing": True}).one()
    return found is ada, ada.name, ada.age


@on_mariadb
def insert_ignore(m: Any, s: Any) -> Any:
    s.execute(insert(m.Tag).prefix_with("IGNORE").values(id=1, name="other"))
    return plain(s.execute(m.select(m.Tag.id, m.Tag.name).order_by(m.Tag.id)).all())


@on_mariadb
def delete_tells(m: Any, s: Any) -> Any:
    gone = s.execute(delete(m.Profile).where(m.Profile.id == 1).returning(m.Profile.id, m.Profile.text))
    return plain(gone.all()), plain(s.scalars(m.select(m.Profile)).all())


@on_mariadb
def update_joined(m: Any, s: Any) -> Any:
    joined = update(m.User).where(m.Post.author_id == m.User.id, m.Post.id == 3).values(name=m.Post.title)
    s.execute(joined.execution_options(synchronize_session=False))
    return users(m, s)


@on_mariadb
def update_both_ways(m: Any, s: Any) -> Any:
    """Each side reads the row as it was: SQLAlchemy's connection is told so here, ours is always."""
    s.execute(sa.text("SET sql_mode = CONCAT(@@sql_mode, ',SIMULTANEOUS_ASSIGNMENT')"))
    s.execute(
        update(m.Post).where(m.Post.id < 4).values(likes=m.Post.author_id, author_id=m.Post.likes % 2 + 1)
    )
    rows = s.execute(m.select(m.Post.id, m.Post.likes, m.Post.author_id).order_by(m.Post.id)).all()
    return plain(rows)
