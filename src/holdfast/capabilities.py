"""What a server and its driver can do, as frozen facts.

Rule: other rooms ask these facts and never the name of a server or driver.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Locks:
    """Which row locks a SELECT may ask for."""

    for_update: bool = False
    """Also where the write transaction it opens keeps all other writers out."""
    for_share: bool = False
    key_share: bool = False
    nowait: bool = False
    skip_locked: bool = False


@dataclass(frozen=True, slots=True)
class ValuesTable:
    """How a table of values named ``r`` is written: as a whole, and one row of it."""

    text: str
    row: str


@dataclass(frozen=True, slots=True)
class Capabilities:
    """``server_version`` is what is assumed until the first connection tells it."""

    server: str
    server_version: tuple[int, ...]
    driver: str
    max_bound_values: int
    max_statement_bytes: int | None = None
    """How long a statement with its values may be, where they travel in its text; None: no limit to look at."""
    returning: bool = True
    """Whether INSERT tells of its rows."""
    update_returning: bool = True
    delete_returning: bool = True
    empty_rows: bool = False
    """Whether an INSERT that names no column gives rows, ``() VALUES (), ()``; elsewhere DEFAULT VALUES is one."""
    values_table: ValuesTable | None = None
    """How UPDATE joins a table of values, where the server can; one DELETE then names many rows, too."""
    array_parameters: bool = False
    json_each: bool = False
    savepoints: bool = True
    ddl_transactional: bool = True
    aborts_on_error: bool = False
    """Whether an error aborts the transaction: nothing but ROLLBACK is answered afterwards."""
    counts_many: bool = True
    """Whether one statement run for many sets of parameters tells how many rows all touched."""
    locks: Locks = Locks()
    keep_from_writing: str | None = None
    """What is said after BEGIN where BEGIN cannot say READ ONLY; the driver takes it back at the end."""
    advisory_locks: bool = False
    """Whether there are locks by name; else the write transaction, of which there is one, stands for all."""
    named_locks: bool = False
    """Whether those are the connection's (GET_LOCK), and the driver gives them back with the transaction."""
    transaction_status: bool = False
    """Whether the server can be asked what became of a transaction: ``txid_status``, since PostgreSQL 10."""
    ask_read_only: str | None = None
    """The question whether the server takes writes from nobody; its answer is one truth value."""
    pipeline: bool = False
    threaded: bool = False

    @property
    def changes_tell(self) -> bool:
        """Whether UPDATE and DELETE tell which rows they touched."""
        return self.update_returning and self.delete_returning
