"""Programs that tests speak to: started with a log of their own, stopped by id, never left behind."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

HOST = "127.0.0.1"
REPOSITORY = Path(__file__).resolve().parents[2]

# Linux then kills the program when the thread that started it ends, so one thread that lasts starts them all.
_LEASH = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []
_STARTER = ThreadPoolExecutor(1, "services")


class ServiceMissingError(Exception):
    """The programs of a service are not on this machine; the message says what to do."""


class Process:
    """One program that listens, with its output in a file."""

    def __init__(self, command: list[str], log: Path, environment: dict[str, str] | None = None) -> None:
        self.command, self.log, self.environment = command, log, environment
        self._process: subprocess.Popen | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        assert not self.running, f"{self.command[0]} runs already"
        self._process = _STARTER.submit(self._spawn).result()

    def _spawn(self) -> subprocess.Popen:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [*_LEASH, *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment,
                start_new_session=True,
            )

    def wait_until(self, ready: Callable[[], object], seconds: float = 180) -> None:
        """Wait until `ready()` is true; fail with the end of the log if the program ends before, or takes longer."""
        deadline = time.monotonic() + seconds
        while not ready():
            if not self.running or time.monotonic() > deadline:
                state = "is not ready" if self.running else "has ended"
                end = self.log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{self.command[0]} {state}. Its log ends with:\n{end}")
            time.sleep(0.02)

    def stop(self, grace: float = 10) -> None:
        """TERM, and KILL if that was not enough."""
        if self._process is None:
            return
        if self.running:
            self._process.terminate()
        try:
            self._process.wait(grace)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)


class Service(ABC):
    """A program with a temporary folder of its own, for a `with` block or between `start` and `stop`."""

    def __init__(self) -> None:
        self._folder = Path()
        self._process: Process | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @abstractmethod
    def start(self) -> None:
        """Start it, new and empty. Raises `ServiceMissingError` where it is not installed."""

    def stop(self) -> None:
        """Stop it and forget all."""
        self._end()
        if self._folder != Path():
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = Path()

    def _end(self) -> None:
        if self._process is not None:
            self._process.stop()
            self._process = None

    def kill(self) -> None:
        """SIGKILL its main process, as a crash or a lost machine does."""
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.stop()


def free_port() -> int:
    """Return a port that nothing listens on, below those that outgoing connections take: it stays free if given up."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port


def listens(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True
