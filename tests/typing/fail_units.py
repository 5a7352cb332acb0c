"""What a type checker must refuse of units of work: each marked line, under mypy and under pyright, and no other."""

from holdfast import AsyncDatabase, AsyncSession, Database, Session


def work(session: Session, amount: int) -> str:
    return str(amount)


async def work_async(session: AsyncSession) -> str:
    return ""


def use(db: Database, session: Session) -> None:
    @db.transaction
    def transfer(session: Session, amount: int) -> str:
        return str(amount)

    transfer("one")  # E:
    transfer(session, 1)  # E:
    transfer()  # E:
    transfer.within(1)  # E:
    number: int = transfer(1)  # E:
    db.run(work)  # E:
    db.run(lambda session: session.nothing)  # E:
    db.run(print, isolation=1)  # E:
    db.transaction(retries="many")  # E:
    session.on_commit(work)  # E:
    session.advisory_lock(1.5)  # E:
    number + 1


async def use_async(db: AsyncDatabase) -> None:
    def blocking(session: AsyncSession) -> str:
        return ""

    await db.run(blocking)  # E:
    text: str = db.run(work_async)  # E:
    text.upper()
