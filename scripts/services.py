"""
Install what the integration tests speak to.

Ceph's RADOS Gateway (a real S3 store), Azurite (Azure's emulator), Redis and PostgreSQL.

It never fails: the tests of what is missing are skipped, and say why.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / ".services"
# The last version that does not ask for a newer Node.js than Debian has.
AZURITE = "3.35.0"
CEPH = {"radosgw": "radosgw", "ceph-mon": "ceph-mon", "ceph-osd": "ceph-osd"}
REDIS = {"redis-server": "redis-server"}
# Debian keeps its programs out of the PATH.
POSTGRES = {"/usr/lib/postgresql/*/bin/postgres": "postgresql"}
POLICY = Path("/usr/sbin/policy-rc.d")
NODE = {"node": "nodejs", "npm": "npm"}


def main() -> None:
    """Install all, and tell what is there and what is not."""
    started = time.monotonic()
    report("Ceph RADOS Gateway", debian_packages(CEPH))
    report(f"Azurite {AZURITE}", azurite())
    with no_daemons():
        report("Redis", debian_packages(REDIS))
        report("PostgreSQL", debian_packages(POSTGRES))
    print(f"Looked after in {time.monotonic() - started:.1f} s.", flush=True)


def report(service: str, problem: str | None) -> None:
    """Say one line about one service."""
    print(f"{service}: {'is there' if problem is None else f'not there, its tests are skipped: {problem}'}", flush=True)


def debian_packages(programs: dict[str, str]) -> str | None:
    """Install the packages of the programs that are missing; return why this could not be done."""
    packages = [package for program, package in programs.items() if not found(program)]
    if not packages:
        return None
    command = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
    if shutil.which("apt-get") is None:
        return f"no apt-get here; install {', '.join(packages)} yourself"
    if os.geteuid() != 0:
        return f"not root; run {' '.join(command)} yourself"
    print(f"Installing the Debian packages {', '.join(packages)} ...", flush=True)
    return run(command) and (update_package_lists() or run(command))


def found(program: str) -> bool:
    """Tell whether a program is in the PATH, or anything at a path with wildcards."""
    if program.startswith("/"):
        return any(Path("/").glob(program.lstrip("/")))
    return shutil.which(program) is not None


@contextmanager
def no_daemons() -> Iterator[None]:
    """Let Debian start nothing of what it installs meanwhile: tests start servers of their own."""
    if os.geteuid() != 0 or POLICY.exists() or not POLICY.parent.is_dir():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()


@functools.cache
def update_package_lists() -> str | None:
    """Read the package lists anew, once; return why this could not be done."""
    print("Reading the package lists anew, as that failed ...", flush=True)
    return run(["apt-get", "update"])


def azurite() -> str | None:
    """Install Azurite into a folder of this repository; return why this could not be done."""
    package = FOLDER / "node_modules" / "azurite" / "package.json"
    problem = debian_packages({"node": "nodejs"})
    if problem:
        return problem
    if package.exists() and json.loads(package.read_text())["version"] == AZURITE:
        return None
    problem = debian_packages(NODE)
    if problem:
        return problem
    print(f"Installing azurite@{AZURITE} from npm into {FOLDER.name} ...", flush=True)
    quiet = ["--no-audit", "--no-fund", "--omit=dev", "--loglevel=error"]
    return run(["npm", "install", "--prefix", str(FOLDER), *quiet, f"azurite@{AZURITE}"])


def run(command: list[str]) -> str | None:
    """Run a command; return the end of what it said if it failed."""
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900, env=environment
        )
    except (OSError, subprocess.TimeoutExpired) as cause:
        return str(cause)
    if done.returncode == 0:
        return None
    return f"{' '.join(command[:2])} failed: {' '.join((done.stdout + done.stderr).split())[-500:]}"


if __name__ == "__main__":
    main()
