"""Make the virtual environment and install a pinned requirements file and this project into it."""

from __future__ import annotations

import subprocess
import sys
import time
import venv
from pathlib import Path


def main(folder: str, requirements: str) -> None:
    """Install with uv, which takes seconds; where uv cannot reach the packages, with pip, which takes minutes."""
    if sys.version_info < (3, 11):  # noqa: UP036 - this script is what an older Python meets first
        sys.exit(
            f"Python 3.11 or newer is needed; {sys.executable} is {sys.version.split()[0]}. Try make PYTHON=python3.12"
        )
    started = time.monotonic()
    python = Path(folder) / "bin" / "python"
    if not python.exists():
        print(f"[1/3] Making {folder} with Python {sys.version.split()[0]} ...", flush=True)
        venv.create(folder, with_pip=True)
    pinned = len(Path(requirements).read_text().splitlines())
    print(f"[2/3] Installing {pinned} packages from {requirements} ...", flush=True)
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install"]
    uv = [str(python), "-m", "uv", "pip", "install", "--python", str(python)]
    fast = run([*pip, "--quiet", "uv"]) and run([*uv, "-r", requirements])
    if not fast and not run([*pip, "-r", requirements]):
        sys.exit("The packages could not be installed; the lines above say why.")
    print("[3/3] Installing this project ...", flush=True)
    project = ["--quiet", "--no-deps", "--editable", "."]
    if not (fast and run([*uv, *project])) and not run([*pip, *project]):
        sys.exit("This project could not be installed; the lines above say why.")
    print(f"Installed in {time.monotonic() - started:.0f} s.", flush=True)


def run(command: list[str]) -> bool:
    """Run a command, show what it says but for the list of all packages, and tell whether it succeeded."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for line in process.stdout or ():
            if not line.startswith((" + ", " - ", " ~ ")):
                print("     ", line, end="", flush=True)
    return process.returncode == 0


if __name__ == "__main__":
    main(*sys.argv[1:])
