"""The ten anomalies of isolation, as scripts: Hermitage's, which the reference describes in twelve variants.

A script is a list of steps of two or three transactions on the table ``test(id, value)``, which holds (1, 10) and
(2, 20), and a judgement of what they saw and left.  Who plays it is the business of `stage`; what each server is
expected to do stands in ``test_anomalies.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import delete, insert, update

from holdfast import DeclarativeBase, Mapped, mapped_column, select


class Base(DeclarativeBase):
    pass


class Row(Base):
    __tablename__ = "test"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    value: Mapped[int]


START = {1: 10, 2: 20}


@dataclass(slots=True)
class History:
    """What came of a script: what each transaction read, who committed, who was refused, what is left."""

    reads: dict[str, list[Any]] = field(default_factory=dict)
    committed: set[str] = field(default_factory=set)
    errors: dict[str, str] = field(default_factory=dict)
    final: dict[int, int] = field(default_factory=dict)

    def read(self, who: str, place: int) -> Any:
        """What a transaction read at a place of its reads; None if it did not come so far."""
        known = self.reads.get(who, [])
        return known[place] if place < len(known) else None

    def saw(self, who: str, value: int) -> bool:
        """Whether a value was among all that a transaction read."""
        return any(value in read.values() for read in self.reads.get(who, []))

    @property
    def both(self) -> bool:
        return {"T1", "T2"} <= self.committed


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a transaction: a statement, ``commit`` or ``rollback``."""

    who: str
    word: str
    statement: Any = None


@dataclass(frozen=True, slots=True)
class Anomaly:
    """A script, and whether the anomaly happened."""

    name: str
    steps: tuple[Step, ...]
    happened: Callable[[History], bool]

    @property
    def writers(self) -> set[str]:
        """The transactions that change something."""
        return {step.who for step in self.steps if step.word == "write"}


class Actor:
    """Writes the steps of one transaction."""

    def __init__(self, who: str) -> None:
        self.who = who

    def set(self, id_: int, value: int) -> Step:
        return self._write(update(Row).where(Row.id == id_).values(value=value))

    def add_to_all(self, amount: int) -> Step:
        return self._write(update(Row).values(value=Row.value + amount))

    def insert(self, id_: int, value: int) -> Step:
        return self._write(insert(Row).values(id=id_, value=value))

    def delete(self, value: int) -> Step:
        return self._write(delete(Row).where(Row.value == value))

    def read(self, *ids: int) -> Step:
        """Columns, not objects: a session would remember those."""
        return Step(self.who, "read", select(Row.id, Row.value).where(Row.id.in_(ids)))

    def find(self, value: int) -> Step:
        return Step(self.who, "read", select(Row.id, Row.value).where(Row.value == value))

    def find_multiples(self, of: int) -> Step:
        return Step(self.who, "read", select(Row.id, Row.value).where(Row.value % of == 0))

    def commit(self) -> Step:
        return Step(self.who, "commit")

    def rollback(self) -> Step:
        return Step(self.who, "rollback")

    def _write(self, statement: Any) -> Step:
        return Step(self.who, "write", statement)


T1, T2, T3 = Actor("T1"), Actor("T2"), Actor("T3")


def _vanished(h: History) -> bool:
    """T3 sees half of T2, or T1's changes come and go."""
    first, second, third, fourth = (h.read("T3", place) or {} for place in range(4))
    half = first.get(1) == 12 or second.get(2) == 18 or (third.get(2) == 18 and fourth.get(1) != 12)
    return half or (first.get(1) == 11 and second.get(2) == 20)


def _deleted_what_it_never_saw(h: History) -> bool:
    shown = set(h.read("T2", 0) or ())
    return "T2" in h.committed and START.keys() - h.final.keys() != shown


ANOMALIES = (
    Anomaly(
        "G0",  # dirty write
        (
            *(T1.set(1, 11), T2.set(1, 12), T1.set(2, 21), T1.commit()),
            *(T2.set(2, 22), T2.commit()),
        ),
        lambda h: h.final[1] - 10 != h.final[2] - 20,
    ),
    Anomaly(
        "G1a",  # aborted read
        (T1.set(1, 101), T2.read(1, 2), T1.rollback(), T2.read(1, 2), T2.commit()),
        lambda h: h.saw("T2", 101),
    ),
    Anomaly(
        "G1b",  # intermediate read
        (T1.set(1, 101), T2.read(1, 2), T1.set(1, 11), T1.commit(), T2.read(1, 2), T2.commit()),
        lambda h: h.saw("T2", 101),
    ),
    Anomaly(
        "G1c",  # circular flow
        (T1.set(1, 11), T2.set(2, 22), T1.read(2), T2.read(1), T1.commit(), T2.commit()),
        lambda h: h.saw("T1", 22) and h.saw("T2", 11),
    ),
    Anomaly(
        "OTV",  # observed transaction vanishes
        (
            *(T1.set(1, 11), T1.set(2, 19), T2.set(1, 12), T1.commit(), T3.read(1)),
            *(T2.set(2, 18), T3.read(2), T2.commit(), T3.read(2), T3.read(1), T3.commit()),
        ),
        _vanished,
    ),
    Anomaly(
        "PMP-r",  # predicate-many-preceders, by a read
        (T1.find(30), T2.insert(3, 30), T2.commit(), T1.find_multiples(3), T1.commit()),
        lambda h: h.saw("T1", 30),
    ),
    Anomaly(
        "PMP-w",  # the same, by a write
        (
            *(T1.add_to_all(10), T2.find(20), T2.delete(20), T1.commit()),
            *(T2.find(20), T2.commit()),
        ),
        _deleted_what_it_never_saw,
    ),
    Anomaly(
        "P4",  # lost update
        (T1.read(1), T2.read(1), T1.set(1, 11), T2.set(1, 11), T1.commit(), T2.commit()),
        lambda h: h.both,
    ),
    Anomaly(
        "Gs",  # read skew
        (
            *(T1.read(1), T2.read(1), T2.read(2), T2.set(1, 12), T2.set(2, 18), T2.commit()),
            *(T1.read(2), T1.commit()),
        ),
        lambda h: h.read("T1", 0) == {1: 10} and h.read("T1", 1) == {2: 18},
    ),
    Anomaly(
        "Gs-w",  # read skew, by a write
        (
            *(T1.read(1), T2.read(1, 2), T2.set(1, 12), T2.set(2, 18), T2.commit()),
            *(T1.delete(20), T1.find(20), T1.commit()),
        ),
        lambda h: h.both and 2 in h.final,
    ),
    Anomaly(
        "G2i",  # write skew on items
        (T1.read(1, 2), T2.read(1, 2), T1.set(1, 11), T2.set(2, 21), T1.commit(), T2.commit()),
        lambda h: h.both,
    ),
    Anomaly(
        "G2",  # write skew on a predicate
        (
            *(T1.find_multiples(3), T2.find_multiples(3), T1.insert(3, 30), T2.insert(4, 42)),
            *(T1.commit(), T2.commit()),
        ),
        lambda h: h.both,
    ),
)
