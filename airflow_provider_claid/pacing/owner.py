"""
To which machine a pacing folder belongs: one at a time, because a schedule counts in the clock of one kernel.

Its processes keep a small file in the folder, the mark, which says who uses it and until when. Whoever finds the mark
of another kernel waits until that one has been silent for so long that nothing it sent counts any more, as after a
reboot; a mark that is renewed meanwhile is that of a machine which is alive. Any file system that several
machines share shows them a replaced file, so this asks neither what kind it is nor whether its locks work.
"""

from __future__ import annotations

import json
import secrets
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from airflow_provider_claid.pacing.store import NotYetError, OtherMachineError

MARK = "machine.json"
# Seconds between two looks at the mark, and by which a mark may be behind the last send time that is booked.
BEAT = 5.0
# Seconds of the future in which a mark is believed: the longest time for which all who wait may have nothing to book.
AHEAD = 120.0
# Seconds without a sign of the other kernel after which the folder may be taken: the minute of the server, a beat, and
# room for clocks. Of a machine of another name, a file system may show what is two minutes old.
SILENCE = 75.0
SILENCE_ELSEWHERE = 150.0
# The longest time between two looks at a mark of another.
LOOK = 2.0


@dataclass(frozen=True)
class Mark:
    """Which kernel (`boot`) of which machine (`host`) uses a folder, until `at`, in seconds since 1970."""

    boot: str
    host: str
    at: float

    @classmethod
    def load(cls, text: str) -> Mark:
        """Return what `dump` wrote; raises `ValueError` for what is no mark."""
        try:
            fields = json.loads(text)
            return cls(str(fields["boot"]), str(fields["host"]), float(fields["at"]))
        except (KeyError, TypeError) as cause:
            raise ValueError("no mark") from cause

    def dump(self) -> str:
        """Return the mark as JSON."""
        return json.dumps(asdict(self))


class Watch:
    """What one process has seen of another kernel's mark, as a pure class; it trusts no clock of the other."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._seen: Mark | None = None
        self._free_at = 0.0
        self.alive = False
        """True once a mark was renewed while we looked."""

    def seconds_left(self, mark: Mark, wall: float, monotonic: float) -> float:
        """Return how long the other kernel has still to be silent before the folder is free; 0 if it is."""
        if mark != self._seen:
            self.alive = self._seen is not None
            silence = SILENCE if mark.host == self._host else SILENCE_ELSEWHERE
            self._seen, self._free_at = mark, monotonic + silence + min(mark.at - wall, AHEAD)
        return max(0.0, self._free_at - monotonic)


class Owner:
    """The mark of a folder. Not thread-safe."""

    def __init__(self, folder: Path, boot: str) -> None:
        self._folder = folder
        self._boot = boot
        self._host = socket.gethostname()
        self._watch = Watch(self._host)
        self._proven_until = 0.0
        self._said = 0.0

    def check(self, *, anew: bool = False) -> None:
        """
        Return if the folder is this kernel's now; the mark is read every five seconds, or `anew`.

        Raises `NotYetError` until another kernel has been silent for long enough, `OtherMachineError` for one that is
        alive, and `OSError`.
        """
        now = time.monotonic()
        if now < self._proven_until and not anew:
            return
        mark = self._read()
        ours = mark is not None and mark.boot == self._boot
        if mark is not None and not ours:
            self._wait_for(mark, time.time(), now)
        self._watch = Watch(self._host)
        self._said = mark.at if mark is not None and ours else 0.0
        self._proven_until = now + BEAT

    def keep(self, ahead: float) -> None:
        """Say that the folder is in use, with a send time booked `ahead` seconds from now; raises `OSError`."""
        until = time.time() + max(0.0, ahead)
        if not until - BEAT < self._said <= until + AHEAD:
            self._write(Mark(self._boot, self._host, until))
            self._said = until

    def _wait_for(self, mark: Mark, wall: float, now: float) -> None:
        self._proven_until = 0.0
        left = self._watch.seconds_left(mark, wall, now)
        if left > 0 and self._watch.alive:
            raise OtherMachineError(
                self._folder,
                f"is used by another machine or container with a clock of its own at this moment ({mark.host!r})",
                "give each machine a local folder of its own ([claid] pacing_dir), and set pacing_conn_id in the "
                "connection so that they share one pace",
            )
        if left > 0:
            raise NotYetError(
                f"The pacing folder {self._folder} was used {wall - mark.at:.0f} s ago by another boot or another "
                f"machine ({mark.host!r}): it is free once that one has been silent for another {left:.0f} s",
                min(left, LOOK),
            )

    def _read(self) -> Mark | None:
        try:
            return Mark.load((self._folder / MARK).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None

    def _write(self, mark: Mark) -> None:
        new = self._folder / f"{MARK}.{secrets.token_hex(4)}"
        try:
            new.write_text(mark.dump(), encoding="utf-8")
            new.replace(self._folder / MARK)
        except OSError:
            new.unlink(missing_ok=True)
            raise
