"""What a RADOS Gateway was asked, from its own log."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class Request(NamedTuple):
    """One request as the gateway logged it: the path as sent, with its query; the range asked for, if any."""

    method: str
    path: str
    status: int
    range: str | None


class AccessLog:
    """The gateway's own log, read on from where it was read before."""

    _STARTED = re.compile(r"starting new request req=(0x\w+)")
    _ENDED = re.compile(r'beast: (0x\w+): .*?\] "(\w+) (.*) HTTP/1\.\d" (\d+) .* (\S+) latency=')

    def __init__(self, path: Path) -> None:
        self._path, self._position = path, 0
        self.requests: list[Request] = []
        self.under_way: set[str] = set()

    def read(self) -> None:
        with self._path.open("rb") as file:
            file.seek(self._position)
            complete = file.read().rpartition(b"\n")[0]
        self._position += len(complete) + bool(complete)
        for line in complete.decode(errors="replace").splitlines():
            if started := self._STARTED.search(line):
                self.under_way.add(started[1])
            elif ended := self._ENDED.search(line):
                self.under_way.discard(ended[1])
                asked = None if ended[5] == "-" else ended[5]
                self.requests.append(Request(ended[2], ended[3], int(ended[4]), asked))

    def wait(self, what: Callable[[], bool], seconds: float) -> bool:
        """Read on until `what()` is true; return whether it became so in time."""
        deadline = time.monotonic() + seconds
        while not what():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.002)
            self.read()
        return True
