"""The only public faces: ``Database`` and ``Session``, and their async sisters."""

from .asynchronous import AsyncDatabase, AsyncSession
from .blocking import Database, Session

__all__ = ["AsyncDatabase", "AsyncSession", "Database", "Session"]
