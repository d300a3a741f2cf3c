"""What tests start is ready when they go on, and never left behind."""

from __future__ import annotations

import signal
import subprocess
import sys

import psutil
import pytest

from tests.services.processes import HOST, REPOSITORY, Process, free_port, listens


def test_dies_with_the_process_that_started_it(tmp_path):
    port = free_port()
    served = [sys.executable, "-m", "http.server", str(port), "--bind", HOST]
    code = (
        "import sys, threading, time; from pathlib import Path; from tests.services.processes import *;"
        f"process = Process({served!r}, Path(sys.argv[1]));"
        "starter = threading.Thread(target=process.start); starter.start(); starter.join();"
        f"process.wait_until(lambda: listens({port})); print(process.pid, flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "log")]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as parent:
        child = psutil.Process(int(parent.stdout.readline()))
        assert listens(port)
        parent.send_signal(signal.SIGKILL)
    child.wait(60)
    assert not listens(port)


def test_is_killed_after_the_grace(tmp_path):
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
    log = tmp_path / "log"
    process = Process([sys.executable, "-c", deaf], log)
    process.start()
    process.wait_until(lambda: log.stat().st_size)
    child = psutil.Process(process.pid)
    process.stop(grace=0.2)
    assert not child.is_running()


def test_tells_why_it_is_not_ready(tmp_path):
    process = Process([sys.executable, "-c", "raise SystemExit('no such disk')"], tmp_path / "log")
    process.start()
    with pytest.raises(RuntimeError, match="no such disk"):
        process.wait_until(lambda: False)
    process.stop()
