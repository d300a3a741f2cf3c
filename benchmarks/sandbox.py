"""A sandbox in a process of its own, so that it shares no interpreter with what is measured."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx

KEY = "sandbox-key"
AHEAD = -10
"""The priority (`nice`) of a sandbox that goes before everything else on this machine."""


@contextmanager
def sandbox(*options: str, ahead: bool = False) -> Iterator[str]:
    """
    Start a sandbox with these command line options on a free port; yield its address; stop it.

    One that stands for a machine of its own goes `ahead` of what else is busy here, if root starts it: a request that
    is read late counts as sent late.
    """
    command = [sys.executable, "-m", "airflow_provider_claid.sandbox", "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        if ahead:
            with suppress(PermissionError):
                os.setpriority(os.PRIO_PROCESS, process.pid, AHEAD)
        yield _address(process)
    finally:
        os.kill(process.pid, signal.SIGTERM)
        process.wait(20)


def _address(process: subprocess.Popen[str]) -> str:
    greeting = process.stdout.readline() if process.stdout else ""
    if found := re.search(r"http://\S+", greeting):
        return found[0]
    raise RuntimeError(f"The sandbox did not start: {greeting!r}")


def report(url: str, newest: int | None = None) -> dict[str, Any]:
    """Return what the sandbox has seen, with the `newest` requests, by default all that it keeps."""
    query = {} if newest is None else {"newest": newest}
    answer = httpx.get(f"{url}/_sandbox/report", params=query, timeout=30)
    answer.raise_for_status()
    return answer.json()


def reset(url: str) -> None:
    """Let the sandbox forget what it has seen."""
    httpx.post(f"{url}/_sandbox/reset", timeout=30).raise_for_status()
