"""The schedule and the budget of an account in PostgreSQL, one row per account, changed while it is locked."""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_claid.pacing.budget import Budget, BudgetError
from airflow_provider_claid.pacing.place import Place
from airflow_provider_claid.pacing.schedule import Schedule
from airflow_provider_claid.pacing.shared import CONNECT_SECONDS, STEP_SECONDS, Kept, SharedStore, Version
from airflow_provider_claid.pacing.store import Change, StoreError

if TYPE_CHECKING:
    import psycopg

T = TypeVar("T")

_MILLISECONDS = int(STEP_SECONDS * 1000)
# A lock of another's, or of a process that was stopped in the middle, is waited for as long as a step may take.
_BEGIN = f"""
BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
SET LOCAL lock_timeout = {_MILLISECONDS};
SET LOCAL statement_timeout = {_MILLISECONDS};
SET LOCAL idle_in_transaction_session_timeout = {_MILLISECONDS};
SET LOCAL synchronous_commit = %s;
"""
# The clock is read when the lock is ours: outside of the query that takes it.
_LOCK = """
SELECT extract(epoch FROM clock_timestamp())::float8, version, written_at, schedule, budget
FROM (SELECT * FROM {table} WHERE account = %s FOR UPDATE) AS kept
"""
_MAKE_ROW = "INSERT INTO {table} VALUES (%s, '', 0, '', '') ON CONFLICT DO NOTHING"
_WRITE = """
UPDATE {table} SET version = %s, written_at = %s, schedule = %s, budget = %s WHERE account = %s;
COMMIT
"""
# Logins look for a table in schemas of their own; there is one in a database, wherever it is.
_FIND_TABLE = """
SELECT quote_ident(nspname) || '.airflow_provider_claid_pacing'
FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE relname = 'airflow_provider_claid_pacing' AND relkind IN ('r', 'p') AND relpersistence <> 't'
ORDER BY nspname
"""
# Two that make a table at the same time disturb each other even with IF NOT EXISTS.
_BEGIN_TO_MAKE = "BEGIN; SELECT pg_advisory_xact_lock(hashtext('airflow_provider_claid_pacing'))"
_MAKE_TABLE = """
CREATE TABLE airflow_provider_claid_pacing (
    account text PRIMARY KEY,
    version text NOT NULL,
    written_at float8 NOT NULL,
    schedule bytea NOT NULL,
    budget bytea NOT NULL
)
"""


class PostgresStore(SharedStore):
    """
    A schedule in PostgreSQL (12 or newer), by the server's `clock_timestamp()`; its table is made on first use.

    All logins of a database share one table, in whichever schema it is.

    A step is two round trips: one locks the row, one writes it. Only one with credits waits for the disk.
    """

    def __init__(self, place: Place, account: str, host: str = "") -> None:
        super().__init__(place, account, host)
        self._connection: psycopg.Connection[Any] | None = None
        self._table = ""

    def _transact(self, change: Change[T], *, budgeted: bool) -> T:
        import psycopg

        try:
            with self._opened() as connection, _bounded(connection):
                return self._change_row(connection, change, budgeted=budgeted)
        except psycopg.errors.InsufficientPrivilege as cause:
            raise self._denied(cause) from cause
        except (psycopg.Error, OSError) as cause:
            raise self._failure(cause) from cause

    def _denied(self, cause: Exception) -> StoreError:
        if not self._table:
            return self._failure(cause)
        schema, login = self._table.rpartition(".")[0], self._place.user or "the login of this connection"
        return StoreError(
            f"{self._failure(cause)}. All logins share the table {self._table}: GRANT USAGE ON SCHEMA {schema} and "
            f"SELECT, INSERT, UPDATE ON {self._table} TO {login}"
        )

    @contextmanager
    def _opened(self) -> Iterator[psycopg.Connection[Any]]:
        """Give a connection on which no transaction is under way; one that failed is not used again."""
        connection, self._connection = self._connection, None
        if connection is None or not _is_usable(connection):
            connection, self._table = connect(self._place), ""
        try:
            yield connection
        except BudgetError:
            connection.execute("ROLLBACK")
            self._connection = connection
            raise
        except BaseException:
            connection.close()
            raise
        self._connection = connection

    def _change_row(self, connection: psycopg.Connection[Any], change: Change[T], *, budgeted: bool) -> T:
        kept, now = self._locked(connection, "on" if budgeted else "off")
        schedule, budget = self._memory.resume(kept, now)
        result = change(schedule, now, budget)
        self._write(connection, kept.version.next(), schedule, budget, now)
        return result

    def _locked(self, connection: psycopg.Connection[Any], synchronous: str) -> tuple[Kept, float]:
        """Begin, lock the row, and return it with the store's time; makes what is missing."""
        import psycopg

        values = (synchronous, self._key)
        self._table = self._table or self._located(connection)
        try:
            sent = time.monotonic()
            row = _last(connection.execute(self._of_table(_BEGIN + _LOCK), values))
        except psycopg.errors.UndefinedTable:
            connection.execute("ROLLBACK")
            self._table = self._located(connection)
            sent = time.monotonic()
            row = _last(connection.execute(self._of_table(_BEGIN + _LOCK), values))
        if row is None:
            connection.execute(self._of_table(_MAKE_ROW), (self._key,))
            sent = time.monotonic()
            row = connection.execute(self._of_table(_LOCK), (self._key,)).fetchone()
        assert row is not None
        now, version, written_at, schedule, budget = row
        self._observe(sent, now)
        return Kept(Version.parse(version), written_at, schedule, budget), now

    def _located(self, connection: psycopg.Connection[Any]) -> str:
        """Return the table of this database, with its schema; makes it in the login's first schema if there is none."""
        found = connection.execute(_FIND_TABLE).fetchall()
        if not found:
            connection.execute(_BEGIN_TO_MAKE)
            found = connection.execute(_FIND_TABLE).fetchall()
            if not found:
                connection.execute(_MAKE_TABLE)
                found = connection.execute(_FIND_TABLE).fetchall()
            connection.execute("COMMIT")
        names = [name for (name,) in found]
        if len(names) > 1:
            raise StoreError(
                f"The pacing store {self._place} has several tables, so that logins would not share one pace: "
                f"{', '.join(names)}. Keep one of them and drop the others"
            )
        return str(names[0])

    def _of_table(self, statement: str) -> str:
        return statement.replace("{table}", self._table.replace("%", "%%"))

    def _write(
        self, connection: psycopg.Connection[Any], version: Version, schedule: Schedule, budget: Budget, now: float
    ) -> None:
        connection.execute(self._of_table(_WRITE), (str(version), now, schedule.dump(), budget.dump(), self._key))
        self._memory.see(version, schedule, budget)

    def _forget_client(self) -> None:
        self._connection = None


def connect(place: Place) -> psycopg.Connection[Any]:
    """Connect; raises `psycopg.OperationalError`."""
    import psycopg

    options: dict[str, Any] = {
        "host": place.host,
        "port": place.port,
        "user": place.user,
        "password": place.password,
        "dbname": place.database,
        "connect_timeout": CONNECT_SECONDS,
        "application_name": "airflow-provider-claid",
        **place.client_options(),
    }
    # A cursor of the client's takes several statements at once, and works behind a pool of transactions.
    return psycopg.connect(**options, autocommit=True, prepare_threshold=None, cursor_factory=psycopg.ClientCursor)


def _is_usable(connection: psycopg.Connection[Any]) -> bool:
    """Tell whether an idle connection is still open: a server that closes it says so, and nothing else is said."""
    if connection.closed:
        return False
    waiting = select.poll()
    waiting.register(connection.fileno(), select.POLLIN)
    return not waiting.poll(0)


@contextmanager
def _bounded(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """Break the connection if the block takes longer than the server lets it: then the server does not answer."""
    # A socket of our own to the same connection: the other may be closed, and its number taken by another file.
    with socket.socket(fileno=os.dup(connection.fileno())) as line:
        timer = threading.Timer(STEP_SECONDS + 0.5, _hang_up, (line,))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


def _hang_up(line: socket.socket) -> None:
    with suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)


def _last(cursor: Any) -> Any:
    """Return the first row of the last of several statements."""
    while cursor.nextset():
        pass
    return cursor.fetchone()
