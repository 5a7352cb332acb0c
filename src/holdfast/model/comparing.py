"""The column of a mapped class: SQLAlchemy's, with comparisons to plain values made from a template.

``User.email == "a@b.c"`` costs 10 µs in Core, because each comparison asks anew which types meet and what the
operator means.  The answers depend only on the column, the operator and the type of the value; so the first comparison is
made by Core, and later ones copy it with a new value, in 2 µs.
The copy carries its template as ``holdfast_form``: two comparisons with one form differ only in their value, from which a
statement can name its plan without walking the expression (see ``holdfast.query.statement``).
"""

from __future__ import annotations

import datetime as dt
import decimal
import operator
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column
from sqlalchemy.sql.elements import BinaryExpression, BindParameter, UnaryExpression, _anonymous_label

FORM = "holdfast_form"
PLAIN = frozenset({int, str, float, bytes, uuid.UUID, decimal.Decimal, dt.datetime, dt.date})
"""Types whose values are compared as parameters; None and booleans mean ``IS``."""

_new = object.__new__
_new_text = str.__new__


class Form:
    """A comparison made by Core, to be copied.

    ``label`` is the anonymous name of its parameter, after the number that makes it unlike any other.
    """

    __slots__ = ("bind", "column_hash", "expression", "label", "left", "type")

    def __init__(self, expression: BinaryExpression[Any]) -> None:
        bind: Any = expression.right
        self.expression = {**expression.__dict__, FORM: self}
        self.bind = dict(bind.__dict__)
        self.label = _anonymous_label.safe_construct_with_key(0, bind._orig_key, sanitize_key=True)[1][1:]
        self.left = expression.left
        self.type = bind.type
        self.column_hash = hash(expression.left)

    def fill(self, value: Any) -> BinaryExpression[Any]:
        """The same comparison with another value."""
        bind: Any = _new(BindParameter)
        held = bind.__dict__
        held.update(self.bind)
        held["_anon_map_key"] = name = f"{id(bind)}{self.label}"
        held["key"] = held["_identifying_key"] = key = _new_text(_anonymous_label, f"%({name})s")
        key.quote = None
        held["value"] = value
        expression: Any = _new(BinaryExpression)
        held = expression.__dict__
        held.update(self.expression)
        held["right"] = bind
        held["_orig"] = (self.column_hash, hash(bind))
        return expression  # type: ignore[no-any-return]


def _comparison(name: str) -> Callable[[Any, Any], Any]:
    op = getattr(operator, name.strip("_"))
    by_core = getattr(Column, name)

    def compare(self: Any, other: Any) -> Any:
        kind = type(other)
        if kind not in PLAIN or type(self) is not EntityColumn:
            return by_core(self, other)
        forms = self.__dict__.get(FORM)
        if forms is None:
            forms = self.__dict__[FORM] = {}
        form = forms.get((op, kind, self.type))
        if form is None:
            expression = by_core(self, other)
            if (
                type(expression) is BinaryExpression
                and type(expression.right) is BindParameter
                and expression.left is self
            ):
                forms[op, kind, self.type] = Form(expression)
            return expression
        return form.fill(other)

    return compare


class EntityColumn(Column[Any]):
    """A column whose comparisons are copied."""

    inherit_cache = True

    if not TYPE_CHECKING:  # to a checker they are what Core says
        __eq__ = _comparison("__eq__")
        __ne__ = _comparison("__ne__")
        __lt__ = _comparison("__lt__")
        __le__ = _comparison("__le__")
        __gt__ = _comparison("__gt__")
        __ge__ = _comparison("__ge__")

    __hash__ = Column.__hash__


def order_form_of(expression: Any) -> tuple[Any, ...] | None:
    """The form of a column to order by, ascending or descending; None for any other expression."""
    if type(expression) is EntityColumn:
        return (expression,)
    if (
        type(expression) is UnaryExpression
        and type(expression.element) is EntityColumn
        and not expression.operator
    ):
        return (expression.element, expression.modifier)
    return None


def form_of(expression: Any) -> Form | None:
    """The form of a comparison that is still as it was copied; a clone that was adapted to an alias is not."""
    if type(expression) is not BinaryExpression:
        return None
    form: Form | None = expression.__dict__.get(FORM)
    if form is None or expression.left is not form.left or expression.right.type is not form.type:
        return None
    return form
