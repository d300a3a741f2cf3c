"""The schedule and the budget of one host: a SQLite file per account, shared by all processes of one OS user."""

from __future__ import annotations

import hashlib
import os
import socket
import sqlite3
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar
from weakref import WeakSet

from airflow_provider_claid.pacing.budget import Budget, BudgetError
from airflow_provider_claid.pacing.faults import described, is_lasting
from airflow_provider_claid.pacing.owner import Owner
from airflow_provider_claid.pacing.schedule import Schedule
from airflow_provider_claid.pacing.store import Change, FolderError, ScheduleStore, StoreError, key_of

T = TypeVar("T")
BUSY_SECONDS = 5.0
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of our own in it is checked before use
_REMEDY = "set [claid] pacing_dir to a local folder that belongs to this user and has mode 0700"
_TABLES = (
    """CREATE TABLE IF NOT EXISTS pace (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        boot TEXT NOT NULL,
        schedule BLOB NOT NULL
    )""",
    "CREATE TABLE IF NOT EXISTS budget (day TEXT PRIMARY KEY, credits INTEGER NOT NULL)",
)


def default_folder() -> Path:
    """
    Return where schedules are kept unless `[claid] pacing_dir` says otherwise; raises `FileNotFoundError` without any.

    That is in shared memory where there is one: services of one machine may each have a /tmp or a TMPDIR of its own.
    """
    return _folders()[0]


def _folders() -> list[Path]:
    """Return the folders of this host and user that need no setting, the best first."""
    name, parents = f"airflow-provider-claid-{os.getuid()}", []
    if SHARED_MEMORY.is_dir() and os.access(SHARED_MEMORY, os.W_OK | os.X_OK):
        parents.append(SHARED_MEMORY)
    try:
        parents.append(Path(tempfile.gettempdir()))
    except FileNotFoundError:
        if not parents:
            raise
    return [parent / name for parent in parents]


def spare_folders(folder: Path) -> list[Path]:
    """Return other folders of this host and user for a schedule, the best last."""
    try:
        return [spare for spare in reversed(_folders()) if spare != folder]
    except FileNotFoundError:
        return []


def file_name(account: str) -> str:
    """Return the name of an account's file; it holds a hash, never the account's name or key."""
    return f"{key_of(account)}.v1.sqlite3"


class SQLiteStore(ScheduleStore):
    """
    A schedule in a file. Its clock is the host's monotonic clock, so a step of the wall clock changes nothing.

    A folder belongs to one kernel at a time (`Owner`). A schedule that another boot wrote counts as empty; the budget
    outlives a boot, and a loss of power. A file that is deleted is made again, with what this process last saw of it.
    Raises `FolderError` for a folder that is not ours alone, `NotYetError` for one that another kernel has just used,
    and `StoreError` for a file that is locked, unreadable or on a full disk.
    """

    def __init__(self, folder: Path, account: str) -> None:
        self.path = folder / file_name(account)
        self._boot = boot_id()
        self._owner = Owner(folder, self._boot)
        self.lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None
        self._durable = False
        self._at_rest = "OFF"
        self._last_seen = Schedule()
        self._last_budget = Budget()
        self._budget_of: tuple[int, int] | None = None
        _alive.add(self)

    def _step(self, change: Change[T], *, budgeted: bool = False) -> T:
        with self.lock:
            try:
                return self._transact(change, budgeted=budgeted)
            except BudgetError:
                raise
            except (sqlite3.Error, OSError) as cause:
                self.disconnect()
                if isinstance(cause, sqlite3.DatabaseError) and "not a database" in str(cause):
                    with suppress(OSError):
                        self.path.unlink(missing_ok=True)
                raise self._failure(cause) from cause
            except BaseException:
                self.disconnect()
                raise

    def _failure(self, cause: sqlite3.Error | OSError) -> StoreError:
        if is_lasting(cause):
            return FolderError(self.path.parent, f"cannot be used ({cause}; {described(self.path.parent)})", _REMEDY)
        return StoreError(f"The pacing file {self.path} cannot be used ({cause})")

    def _transact(self, change: Change[T], *, budgeted: bool) -> T:
        connection = self._connected()
        self._sync(connection, durable=budgeted)
        with _transaction(connection):
            schedule = self._read(connection)
            budget = self._read_budget(connection) if budgeted else Budget()
            now = time.monotonic()
            result = change(schedule, now, budget)
            self._owner.keep(schedule.bookings[-1] - now if schedule.bookings else 0.0)
            self._write(connection, schedule)
            if budgeted:
                self._write_budget(connection, budget)
        self._last_seen = schedule
        if budgeted:
            self._last_budget, self._budget_of = budget, self._opened
        return result

    def _connected(self) -> sqlite3.Connection:
        """Return a connection to the file that has this name now."""
        if self._connection is not None and self._opened == self._identity():
            self._owner.check()
            return self._connection
        self.disconnect()
        check_folder(self.path.parent)
        self._owner.check(anew=True)
        # isolation_level None: we begin and end transactions ourselves.
        self._connection = sqlite3.connect(
            self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        self.path.chmod(0o600)
        self._prepare(self._connection)
        self._opened = self._identity()
        return self._connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Set the file up; the change to WAL does not wait for others that do the same, so we do."""
        until = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                connection.execute("PRAGMA journal_mode=WAL")
                break
            except sqlite3.OperationalError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.01)
        for table in _TABLES:
            connection.execute(table)
        # A schedule does not outlive a boot, so nothing is gained by waiting for the disk. Where credits are kept, a
        # checkpoint moves what others have made durable, and must wait.
        counted = connection.execute("SELECT 1 FROM budget LIMIT 1").fetchone()
        self._at_rest = "NORMAL" if counted else "OFF"
        connection.execute(f"PRAGMA synchronous={self._at_rest}")
        self._durable = False

    def _sync(self, connection: sqlite3.Connection, *, durable: bool) -> None:
        """Let commits of credits wait for the disk, and from then on checkpoints too."""
        if durable != self._durable:
            self._at_rest = "NORMAL"
            connection.execute(f"PRAGMA synchronous={'FULL' if durable else self._at_rest}")
            self._durable = durable

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def disconnect(self) -> None:
        """Close the file; the next step opens it again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def _read(self, connection: sqlite3.Connection) -> Schedule:
        row = connection.execute("SELECT boot, schedule FROM pace").fetchone()
        if row is None:
            return self._last_seen.copy()
        boot, dumped = row
        try:
            return Schedule.load(dumped) if boot == self._boot else Schedule()
        except ValueError:
            return self._last_seen.copy()

    def _write(self, connection: sqlite3.Connection, schedule: Schedule) -> None:
        connection.execute("INSERT OR REPLACE INTO pace VALUES (1, ?, ?)", (self._boot, schedule.dump()))

    def _read_budget(self, connection: sqlite3.Connection) -> Budget:
        budget = Budget(dict(connection.execute("SELECT day, credits FROM budget")))
        if self._budget_of != self._opened or not budget.days:
            budget.remember(self._last_budget)
        return budget

    def _write_budget(self, connection: sqlite3.Connection, budget: Budget) -> None:
        connection.execute("DELETE FROM budget")
        connection.executemany("INSERT INTO budget VALUES (?, ?)", budget.days.items())


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Commit at the end of the block; a refusal by the budget changes nothing and leaves the connection usable."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BudgetError:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


_alive: WeakSet[SQLiteStore] = WeakSet()
_held: list[SQLiteStore] = []


def _before_fork() -> None:
    """Wait for steps under way and close the files: SQLite's own book of locks must not be inherited."""
    for store in list(_alive):
        store.lock.acquire()
        _held.append(store)
        store.disconnect()


def _after_fork() -> None:
    while _held:
        _held.pop().lock.release()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)


def host_of(folder: Path) -> str:
    """Return a name for whatever shares this folder; "" where the folder cannot be used."""
    try:
        check_folder(folder)
        found = folder.stat()
    except (OSError, StoreError):
        return ""
    which = f"{boot_id()} {found.st_dev} {found.st_ino}"
    return hashlib.sha256(b"claid-host\0" + which.encode()).hexdigest()[:8]


def boot_id() -> str:
    """Return what names the monotonic clock: this boot of the host, and where it has several clocks, which of them."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return socket.gethostname()
    try:
        # A container may have a time namespace, whose clock is ahead or behind.
        return f"{boot} {Path('/proc/self/ns/time').readlink()}"
    except OSError:
        return boot


def check_folder(folder: Path) -> None:
    """Make the folder if need be; raise `FolderError` unless it is ours alone, and `OSError`."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise FolderError(folder, "is not a folder (a link is not accepted)", _REMEDY)
    if found.st_uid != os.getuid():
        raise FolderError(folder, f"belongs to another user ({described(folder)})", _REMEDY)
    if stat.S_IMODE(found.st_mode) & 0o022:
        raise FolderError(folder, f"can be written by others ({described(folder)})", "chmod 700 it")
