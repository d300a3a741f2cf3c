"""A fresh process that measures: it is told one line of JSON at a time, and answers each with one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self


class Child:
    """The process, from outside: it runs a module of ours that calls `serve`."""

    def __init__(self, module: str, environment: Mapping[str, str]) -> None:
        command = [sys.executable, "-m", module]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=dict(environment))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.stdin:
            self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def ask(self, what: str, **arguments: Any) -> dict[str, Any]:
        """Tell, and wait for the answer."""
        self.tell(what, **arguments)
        return self.hear()

    def tell(self, what: str, **arguments: Any) -> None:
        """Let it begin with something."""
        if self._process.stdin:
            self._process.stdin.write(json.dumps({"what": what, **arguments}) + "\n")
            self._process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        """Wait for the answer."""
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise RuntimeError("The process that measures has ended; what it said of it stands above.")
        return dict(json.loads(line))


def serve(**actions: Callable[..., Mapping[str, Any]]) -> None:
    """Be the process: do what is told until there is no more. What it prints is thrown away: some triggers do."""
    with os.fdopen(os.dup(1), "w") as answers, Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        for line in sys.stdin:
            told = json.loads(line)
            answer = actions[told.pop("what")](**told)
            print(json.dumps(answer), file=answers, flush=True)


def measured(action: Callable[[], object]) -> dict[str, Any]:
    """Do it; return seconds by the clock, of CPU in all threads, and megabytes: now, and at most meanwhile."""
    forget_peak()
    started, cpu = time.perf_counter(), time.process_time()
    result = action()
    wall, cpu = time.perf_counter() - started, time.process_time() - cpu
    return {"result": result, "wall": wall, "cpu": cpu, "rss": megabytes("VmRSS"), "peak": megabytes("VmHWM")}


def megabytes(name: str) -> float:
    """Return what Linux says of this process's memory: VmRSS now, VmHWM the most since `forget_peak`."""
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


def forget_peak() -> None:
    """Let VmHWM begin from what is used now."""
    Path("/proc/self/clear_refs").write_text("5")
