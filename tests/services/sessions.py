"""All that one program has started, found by its session: its descendants leave its group, but not its session."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress

import psutil

_KILL_SECONDS = 20.0
_ENDED_WELL = "ended well"


def members(leader: int) -> list[psutil.Process]:
    """Return the living processes of the session that `leader` began."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError):
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def kill(leader: int) -> None:
    """SIGKILL a session; return once nothing of it is left."""
    end = time.monotonic() + _KILL_SECONDS
    while found := members(leader):
        for process in found:
            with suppress(psutil.Error):
                process.kill()
        if time.monotonic() > end:
            raise RuntimeError(f"processes that do not die: {found}")
        psutil.wait_procs(found, timeout=0.5)


class Guard:
    """A process that kills sessions if this one ends without `close`, however it ends."""

    def __init__(self) -> None:
        command = [sys.executable, "-P", __file__]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, start_new_session=True)

    def watch(self, leader: int) -> None:
        self._tell(str(leader))

    def close(self) -> None:
        with self._process:
            self._tell(_ENDED_WELL)

    def _tell(self, line: str) -> None:
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()


def _guard() -> None:
    leaders = []
    for line in map(str.strip, sys.stdin):
        if line == _ENDED_WELL:
            return
        leaders.append(int(line))
    for leader in leaders:
        kill(leader)


if __name__ == "__main__":
    _guard()
