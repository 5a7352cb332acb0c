"""Statements with loader options to run under both libraries; what must be compared is what was loaded by them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.rooms.oracle import plain

OPTIONS: dict[str, Callable[[Any], Any]] = {
    # ------------------------------------------------------------ select, subquery
    "selectin": lambda m: m.select(m.User).options(m.selectinload(m.User.posts)),
    "selectin_to_one": lambda m: m.select(m.Post).options(m.selectinload(m.Post.author)),
    "selectin_many": lambda m: m.select(m.Post).options(m.selectinload(m.Post.tags)),
    "selectin_many_back": lambda m: m.select(m.Tag).options(m.selectinload(m.Tag.posts)),
    "selectin_chain": lambda m: m.select(m.User).options(
        m.selectinload(m.User.posts).selectinload(m.Post.tags)
    ),
    "selectin_two": lambda m: m.select(m.User).options(
        m.selectinload(m.User.posts), m.selectinload(m.User.profile)
    ),
    "selectin_two_at_once": lambda m: m.select(m.Post).options(
        m.selectinload(m.Post.author), m.selectinload(m.Post.editor)
    ),
    "selectin_composite": lambda m: m.select(m.Order).options(m.selectinload(m.Order.items)),
    "selectin_composite_up": lambda m: m.select(m.Item).options(m.selectinload(m.Item.order)),
    "selectin_string_key": lambda m: m.select(m.Country).options(m.selectinload(m.Country.cities)),
    "selectin_string_key_up": lambda m: m.select(m.City).options(m.selectinload(m.City.country)),
    "selectin_one_to_one": lambda m: m.select(m.User).options(m.selectinload(m.User.profile)),
    "selectin_one_to_one_back": lambda m: m.select(m.Profile).options(m.selectinload(m.Profile.user)),
    "selectin_self": lambda m: (
        m.select(m.Node)
        .where(m.Node.parent_id.is_(None))
        .options(m.selectinload(m.Node.children).selectinload(m.Node.children).selectinload(m.Node.children))
    ),
    "selectin_self_up": lambda m: m.select(m.Node).options(m.selectinload(m.Node.parent)),
    "selectin_self_many": lambda m: m.select(m.User).options(
        m.selectinload(m.User.idols).selectinload(m.User.fans)
    ),
    "selectin_viewonly": lambda m: m.select(m.User).options(m.selectinload(m.User.published)),
    "selectin_and": lambda m: m.select(m.User).options(m.selectinload(m.User.posts.and_(m.Post.published))),
    "selectin_and_many": lambda m: m.select(m.Post).options(
        m.selectinload(m.Post.tags.and_(m.Tag.name == "t2"))
    ),
    "selectin_and_to_one": lambda m: m.select(m.Post).options(
        m.selectinload(m.Post.author.and_(m.User.age > 30))
    ),
    "selectin_and_viewonly": lambda m: m.select(m.User).options(
        m.selectinload(m.User.published.and_(m.Post.likes > 1))
    ),
    "selectin_and_self": lambda m: m.select(m.Node).options(
        m.selectinload(m.Node.children.and_(m.Node.name != "n3"))
    ),
    "selectin_and_composite": lambda m: m.select(m.Order).options(
        m.selectinload(m.Order.items.and_(m.Item.sku != "s1"))
    ),
    "selectin_limit": lambda m: (
        m.select(m.User).order_by(m.User.id).limit(2).options(m.selectinload(m.User.posts))
    ),
    "selectin_none": lambda m: m.select(m.User).where(m.User.id > 99).options(m.selectinload(m.User.posts)),
    "selectin_columns_beside": lambda m: (
        m.select(m.User, m.Post.title).join(m.User.posts).options(m.selectinload(m.User.profile))
    ),
    "selectin_two_entities": lambda m: (
        m.select(m.User, m.Post)
        .outerjoin(m.User.posts)
        .options(m.selectinload(m.User.profile), m.selectinload(m.Post.tags))
    ),
    "subquery": lambda m: m.select(m.User).options(m.subqueryload(m.User.posts).subqueryload(m.Post.tags)),
    "subquery_to_one": lambda m: m.select(m.Post).options(m.subqueryload(m.Post.author)),
    # ------------------------------------------------------------ joined
    "joined": lambda m: m.select(m.User).options(m.joinedload(m.User.posts)),
    "joined_to_one": lambda m: m.select(m.Post).options(m.joinedload(m.Post.author)),
    "joined_inner": lambda m: m.select(m.Profile).options(m.joinedload(m.Profile.user, innerjoin=True)),
    "joined_inner_many": lambda m: m.select(m.User).options(m.joinedload(m.User.posts, innerjoin=True)),
    "joined_many": lambda m: m.select(m.Post).options(m.joinedload(m.Post.tags)),
    "joined_two": lambda m: m.select(m.User).options(m.joinedload(m.User.posts), m.joinedload(m.User.edited)),
    "joined_two_to_one": lambda m: m.select(m.Post).options(
        m.joinedload(m.Post.author), m.joinedload(m.Post.editor)
    ),
    "joined_nested": lambda m: m.select(m.User).options(m.joinedload(m.User.posts).joinedload(m.Post.tags)),
    "joined_nested_up": lambda m: m.select(m.Post).options(
        m.joinedload(m.Post.author).joinedload(m.User.profile)
    ),
    "joined_then_selectin": lambda m: m.select(m.User).options(
        m.joinedload(m.User.posts).selectinload(m.Post.tags)
    ),
    "selectin_then_joined": lambda m: m.select(m.User).options(
        m.selectinload(m.User.posts).joinedload(m.Post.tags)
    ),
    "selectin_then_joined_to_one": lambda m: m.select(m.User).options(
        m.selectinload(m.User.posts).joinedload(m.Post.editor)
    ),
    "joined_to_one_then_selectin": lambda m: m.select(m.Post).options(
        m.joinedload(m.Post.author).selectinload(m.User.idols)
    ),
    "joined_self": lambda m: (
        m.select(m.Node)
        .where(m.Node.parent_id.is_(None))
        .options(m.joinedload(m.Node.children).joinedload(m.Node.children))
    ),
    "joined_self_up": lambda m: m.select(m.Node).options(
        m.joinedload(m.Node.parent).joinedload(m.Node.parent)
    ),
    "joined_self_many": lambda m: m.select(m.User).options(m.joinedload(m.User.idols)),
    "joined_composite": lambda m: m.select(m.Order).options(m.joinedload(m.Order.items)),
    "joined_composite_up": lambda m: m.select(m.Item).options(m.joinedload(m.Item.order)),
    "joined_one_to_one": lambda m: m.select(m.User).options(m.joinedload(m.User.profile)),
    "joined_viewonly": lambda m: m.select(m.User).options(m.joinedload(m.User.published)),
    "joined_and": lambda m: m.select(m.User).options(m.joinedload(m.User.posts.and_(m.Post.published))),
    "joined_and_many": lambda m: m.select(m.Post).options(m.joinedload(m.Post.tags.and_(m.Tag.name == "t1"))),
    "joined_limit": lambda m: (
        m.select(m.User).order_by(m.User.id).limit(2).options(m.joinedload(m.User.posts))
    ),
    "joined_limit_to_one": lambda m: (
        m.select(m.Post).order_by(m.Post.id).limit(3).options(m.joinedload(m.Post.author))
    ),
    "joined_limit_offset_many": lambda m: (
        m.select(m.Post).order_by(m.Post.id).limit(3).offset(1).options(m.joinedload(m.Post.tags))
    ),
    "joined_distinct": lambda m: (
        m.select(m.Tag).join(m.Tag.posts).distinct().options(m.joinedload(m.Tag.posts))
    ),
    "joined_where": lambda m: (
        m.select(m.User).where(m.User.posts.any(m.Post.published)).options(m.joinedload(m.User.posts))
    ),
    "joined_beside_join": lambda m: (
        m.select(m.User).join(m.User.posts).where(m.Post.likes > 2).options(m.joinedload(m.User.posts))
    ),
    "joined_two_entities": lambda m: (
        m.select(m.User, m.Post).join(m.User.posts).options(m.joinedload(m.Post.editor))
    ),
    "joined_outer_entity": lambda m: (
        m.select(m.User, m.Post).outerjoin(m.User.posts).options(m.joinedload(m.Post.editor))
    ),
    "joined_column_beside": lambda m: m.select(m.Post, m.Post.title).options(m.joinedload(m.Post.author)),
    "joined_order": lambda m: (
        m.select(m.User).order_by(m.User.name.desc()).options(m.joinedload(m.User.posts))
    ),
    # ------------------------------------------------------------ lazy, raise, noload, default
    "lazy": lambda m: m.select(m.User).options(m.lazyload(m.User.posts)),
    "default_then_selectin": lambda m: m.select(m.User).options(
        m.defaultload(m.User.posts).selectinload(m.Post.tags)
    ),
    "selectin_then_raise": lambda m: m.select(m.User).options(
        m.selectinload(m.User.posts).raiseload(m.Post.tags)
    ),
    "nested_options": lambda m: m.select(m.User).options(
        m.selectinload(m.User.posts).options(
            m.selectinload(m.Post.tags), m.joinedload(m.Post.editor), m.load_only(m.Post.title)
        )
    ),
    # ------------------------------------------------------------ columns
    "load_only": lambda m: m.select(m.User).options(m.load_only(m.User.name)),
    "load_only_two": lambda m: m.select(m.User).options(m.load_only(m.User.name, m.User.motto)),
    "load_only_deferred": lambda m: m.select(m.User).options(m.load_only(m.User.bio)),
    "defer": lambda m: m.select(m.User).options(m.defer(m.User.meta), m.defer(m.User.age)),
    "defer_renamed": lambda m: m.select(m.User).options(m.defer(m.User.motto)),
    "undefer": lambda m: m.select(m.User).options(m.undefer(m.User.bio)),
    "undefer_all": lambda m: m.select(m.User).options(m.undefer("*")),
    "load_only_chain": lambda m: m.select(m.User).options(
        m.selectinload(m.User.posts).load_only(m.Post.title)
    ),
    "load_only_chain_joined": lambda m: m.select(m.User).options(
        m.joinedload(m.User.posts).load_only(m.Post.title)
    ),
    "load_only_to_one": lambda m: m.select(m.Post).options(
        m.selectinload(m.Post.author).load_only(m.User.name)
    ),
    "defer_chain": lambda m: m.select(m.Post).options(m.joinedload(m.Post.author).defer(m.User.meta)),
    "undefer_chain": lambda m: m.select(m.Post).options(m.joinedload(m.Post.author).undefer(m.User.bio)),
}


def _aliased_options(m: Any) -> Any:
    u = m.aliased(m.User)
    return m.select(u).options(m.selectinload(u.posts).selectinload(m.Post.tags), m.load_only(u.name))


def _aliased_joined(m: Any) -> Any:
    u = m.aliased(m.User)
    return (
        m.select(m.User, u)
        .join(u, u.age == m.User.age)
        .options(m.joinedload(u.posts), m.selectinload(m.User.profile))
    )


def _subquery_joined(m: Any) -> Any:
    u = m.aliased(m.User, m.select(m.User).where(m.User.id < 4).order_by(m.User.id).limit(3).subquery())
    return m.select(u).options(m.joinedload(u.posts))


OPTIONS |= {
    "aliased": _aliased_options,
    "aliased_joined": _aliased_joined,
    "subquery_joined": _subquery_joined,
}


def loaded(instance: Any, depth: int = 5) -> Any:
    """What an object holds now, without a touch: its columns, and its relations with what they hold."""
    held, mapper = instance.__dict__, instance.__mapper__
    relations = mapper.relations if hasattr(mapper, "relations") else {r.key: r for r in mapper.relationships}
    columns = mapper.columns if hasattr(mapper, "attributes") else {a.key: a for a in mapper.column_attrs}
    found: dict[str, Any] = {
        "is": plain(instance),
        "columns": {n for n in columns if n in held or f"*{n}" in held},
    }
    for name in relations if depth else ():
        if name in held:
            value = held[name]
            many = value if isinstance(value, list) else [value]
            found[name] = [None if v is None else loaded(v, depth - 1) for v in many]
    return found


def agree(ours: Any, theirs: Any) -> bool:
    """Whether we loaded the same columns, and at least the relations that they did, with the same in them."""
    if ours is None or theirs is None:
        return ours is theirs
    if ours["is"] != theirs["is"] or ours["columns"] != theirs["columns"]:
        return False
    names = set(theirs) - {"is", "columns"}
    return names <= set(ours) and all(
        len(ours[n]) == len(theirs[n]) and all(map(agree, ours[n], theirs[n])) for n in names
    )


def entities(row: Any) -> list[Any]:
    """The objects in a row."""
    return [value for value in row if hasattr(type(value), "__mapper__")]
