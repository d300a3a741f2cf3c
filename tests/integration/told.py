"""A program beside a test that has imported Airflow: told line by line what to run, in processes that can be killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

NEVER = 600.0
"""Seconds after which a process is killed that is not to be."""


class Told:
    """The program of this folder with that `name`, from outside; it answers each line with how it ended."""

    def __init__(self, name, environment, log):
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name(name))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
        )
        self._read("ready")

    def tell(self, line):
        """Tell it what to run; return the state in which that ended, and the seconds that it took."""
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        _, state, took = self._read("ENDED").split()
        return state, float(took)

    def _read(self, start):
        for line in self._process.stdout:
            if line.startswith(start):
                return line
        raise AssertionError(f"{self._process.args[1]} has ended")

    def close(self):
        self._process.stdin.close()
        self._process.wait(60)
