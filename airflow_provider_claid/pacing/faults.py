"""What a failure of a pacing folder means: a fault that a person must mend, or one that may be over soon."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
from contextlib import suppress
from pathlib import Path

# Of what goes wrong when a folder is first used, what may be over soon: it is no fault of the configuration.
_PASSING = {
    errno.EAGAIN, errno.EBUSY, errno.EDQUOT, errno.EINTR, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM,
    errno.ENOSPC, errno.ESTALE, errno.ETIMEDOUT,
}  # fmt: skip
# Of SQLite's codes, those of a file that this user may not write, and of a file system without locks or shared memory.
_LASTING = {
    sqlite3.SQLITE_AUTH,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_READONLY,
}
_NO_LOCKS = {
    sqlite3.SQLITE_IOERR_LOCK, sqlite3.SQLITE_IOERR_RDLOCK, sqlite3.SQLITE_IOERR_SHMLOCK, sqlite3.SQLITE_IOERR_SHMMAP,
    sqlite3.SQLITE_IOERR_SHMOPEN, sqlite3.SQLITE_IOERR_SHMSIZE,
}  # fmt: skip


def is_lasting(cause: sqlite3.Error | OSError) -> bool:
    """Tell whether a folder will not do until somebody changes it, as far as the first use of it can tell."""
    if isinstance(cause, OSError):
        return cause.errno not in _PASSING
    code = getattr(cause, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return code in _NO_LOCKS or code & 0xFF in _LASTING


def described(folder: Path) -> str:
    """Return owner and mode of the folder, or of the nearest that exists above it."""
    for each in (folder, *folder.parents):
        with suppress(OSError):
            found = each.lstat()
            whose = f"uid {found.st_uid}, mode {stat.S_IMODE(found.st_mode):04o}"
            return f"this process is uid {os.getuid()}; {each} has {whose}"
    return f"this process is uid {os.getuid()}"
