"""The steps of the tour, in their order.

Rule: a step's source is what is shown and what runs, so it is written for a reader and fits in 72 columns.
The docstring is the step's text: its first line the title, the rest what to look at.
"""

# fmt: off
from __future__ import annotations

from typing import Any

from sqlalchemy import func

from holdfast import AsyncDatabase, Database, select
from holdfast.errors import HoldfastError, RelationNotLoaded

from .models import Author, Classifier, File, Package


def save(db: Database, packages: list[Package]) -> None:
    """Save a whole graph

    `add_all` reaches every file, author and requirement. A flush sends one
    statement per table, whatever the number of rows; on SQLite in chunks.
    """
    with db.begin() as session:            # commits at the end
        session.add_all(packages)          # and all they lead to


def find(db: Database) -> dict[str, Any]:
    """A row is one object

    The second time the key is known, and `get` sends nothing.
    """
    with db.session() as session:
        largest = session.scalars(
            select(Package).order_by(Package.size_bytes.desc()).limit(1)
        ).one()
        again = session.get(Package, largest.id)
        return {
            "name": largest.name, "version": largest.version,
            "size_bytes": largest.size_bytes, "same object": again is largest,
        }


def ask(db: Database) -> Any:
    """Ask anything that SQL can

    Statements are SQLAlchemy's own; `.join(Package.files)` knows the keys.
    """
    with db.session() as session:
        files = func.count(File.id)
        return session.execute(
            select(Package.name, files.label("python_files"),
                   func.sum(File.size_bytes).label("bytes"))
            .join(Package.files)
            .where(File.path.like("%.py"))
            .group_by(Package.name).order_by(files.desc()).limit(5)
        ).all()


def lean_on(session: Any, Package: Any) -> dict[str, int]:  # noqa: N803 - two classes take its place
    """N+1 cannot happen by accident

    The same loop, run with SQLAlchemy's ORM and with Holdfast on the same
    tables. Nobody planned what to load. SQLAlchemy can plan it, if every
    query says `selectinload`; here the first touch loads for all.
    """
    users: dict[str, int] = {}
    for package in session.scalars(select(Package)):
        for needed in package.needs:
            for author in needed.authors:
                users[author.name] = users.get(author.name, 0) + 1
    return users


def walk(db: Database) -> list[dict[str, Any]]:
    """A graph, level by level

    Packages need packages: a relation of a table with itself. From those
    that nothing here needs, one statement per level, however wide it is.
    """
    levels: list[dict[str, Any]] = []
    seen: set[Package] = set()
    with db.session() as session:
        level = session.scalars(
            select(Package).where(~Package.needed_by.any())
        ).all()
        while level:
            seen.update(level)
            levels.append({
                "level": len(levels), "packages": len(level),
                "such as": ", ".join(p.name for p in level[:4]),
            })
            below = [needed for p in level for needed in p.needs]
            level = [p for p in dict.fromkeys(below) if p not in seen]
    return levels


def share(db: Database) -> list[dict[str, Any]]:
    """Many to many, in step on both sides

    Append on one side and the other side knows at once, before any
    statement. The association rows go in one.
    """
    with db.begin() as session:
        packages = session.scalars(
            select(Package).order_by(Package.size_bytes).limit(3)
        ).all()
        small = Classifier(name="Size :: Among the smallest here")
        for package in packages:
            package.classifiers.append(small)
        return [
            {"package": package.name, "classifiers": len(package.classifiers)}
            for package in small.packages
        ]


def take_back(db: Database) -> list[dict[str, Any]]:
    """Undo, without asking the database

    After a savepoint's rollback, and after the transaction's, objects are
    what they were. Look at the statements: none reads anything again.
    """
    told = []

    def tell(when: str) -> None:
        told.append({"when": when, "version": package.version})

    with db.session() as session:
        package = session.scalars(select(Package).limit(1)).one()
        tell("loaded")
        package.version = "1.0 of mine"
        with session.begin_nested() as savepoint:    # flushes first
            package.version = "2.0 of mine"
            session.flush()
            tell("in the savepoint")
            savepoint.rollback()
        tell("after its rollback")
        session.rollback()
        tell("after the rollback of all")
    return told


def err(db: Database) -> list[HoldfastError]:
    """Errors say how to mend

    Four mistakes. Each names the field and the mend, never the value;
    nothing is written, and the session goes on after a rollback.
    """
    told: list[HoldfastError] = []
    with db.session() as session:
        known = session.scalars(select(Package).limit(1)).one()
        naive = known.installed_at.replace(tzinfo=None)
        for change in (
            {"installed_at": naive}, {"version": "1." * 500},
            {"size_bytes": 2**80}, {"name": known.name},
        ):
            values = {"name": "mine", "version": "1.0", "size_bytes": 0,
                      "installed_at": known.installed_at}
            try:
                session.add(Package(**(values | change)))
                session.flush()
            except HoldfastError as error:
                told.append(error)
                session.rollback()
    return told


def show(db: Database) -> str:
    """No magic: the code that makes your objects

    A statement is planned once. Its plan holds the SQL and a function, written
    for exactly these columns, that makes objects of rows. Read it:
    """
    plan = db.plan(select(Author).where(Author.name.like("A%")))
    return plan.source


async def wait(db: AsyncDatabase) -> dict[str, Any]:
    """The same, async

    No greenlets: what waits says `await`. So an attribute cannot load by
    itself; touching it is an error that holds the line to write instead.
    """
    async with db.session() as session:
        packages = (await session.scalars(select(Package))).all()
        try:
            refused = str(len(packages[0].authors))
        except RelationNotLoaded as error:
            refused = error.mend
        await session.load(packages, Package.needs, Package.authors)
        first = await packages[0].awaitable_attrs.classifiers
        return {
            "mend": refused,
            "authors": sum(len(n.authors) for p in packages for n in p.needs),
            "classifiers of the first": len(first),
        }
