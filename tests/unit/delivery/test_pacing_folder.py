"""A folder for the schedules that cannot be used is refused by name; one that fails later means a share of the pace."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from airflow_provider_claid.api.errors import ClaidConfigurationError
from airflow_provider_claid.delivery.checks import check_request
from airflow_provider_claid.delivery.generate import generate
from airflow_provider_claid.delivery.sync import run
from airflow_provider_claid.hooks import claid as hook_module
from airflow_provider_claid.hooks.claid import ClaidHook
from airflow_provider_claid.pacing import fallback, sqlite
from airflow_provider_claid.pacing import pacer as pacer_module
from airflow_provider_claid.pacing.sqlite import file_name


def open_to_all(folder):
    folder.mkdir()
    folder.chmod(0o777)
    return folder


def of_another(folder):
    folder.mkdir(mode=0o700)
    os.chown(folder, 12345, 12345)
    return folder


def a_link(folder):
    folder.with_name("real").mkdir(mode=0o700)
    folder.symlink_to(folder.with_name("real"))
    return folder


def a_file(folder):
    folder.write_text("")
    return folder


def below_a_file(folder):
    return a_file(folder) / "below"


def a_file_that_is_a_folder(folder):
    (folder / file_name("test")).mkdir(parents=True)
    folder.chmod(0o700)
    return folder


def not_to_be_made(_):
    return Path("/proc/claid-pacing")


@pytest.mark.parametrize("credits", [None, 9])
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (open_to_all, "mode 0777"),
        (of_another, "uid 12345"),
        (a_link, "a link is not accepted"),
        (a_file, "File exists"),
        (below_a_file, "Not a directory"),
        (a_file_that_is_a_folder, "unable to open database file"),
        (not_to_be_made, "No such file"),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused_by_name(sandbox, account, tmp_path, make, said, credits):
    if make is of_another and os.getuid() != 0:
        pytest.skip("only root can make a folder of another user")
    folder = make(tmp_path / "other")
    unusable = replace(account, pacing_dir=folder, daily_credits=credits)
    with pytest.raises(ClaidConfigurationError) as caught:
        run(generate(unusable, check_request("a red bicycle", 1, 5.0, None)))
    assert caught.value.field == "[claid] pacing_dir"
    assert said in str(caught.value)
    assert str(folder) in str(caught.value)
    assert caught.value.billed == "no"
    assert sandbox.report()["totals"]["posts"] == 0


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("mode", [0o500, 0o000])
def test_a_folder_without_the_right_to_write_is_refused_by_owner_and_mode(tmp_path, mode):
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from airflow_provider_claid.pacing.pacer import host_store\n"
        "from airflow_provider_claid.pacing.schedule import Pace\n"
        "os.setgid(12345); os.setuid(12345)\n"
        "try:\n    host_store('test', Path(sys.argv[1]), required=True).book(Pace())\n"
        "except Exception as error:\n    print(type(error).__name__, error)\n"
    )
    with tempfile.TemporaryDirectory() as top:
        Path(top).chmod(0o755)
        folder = Path(top) / "pacing"
        folder.mkdir()
        folder.chmod(mode)
        os.chown(folder, 12345, 12345)
        done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("FolderError")
    assert f"uid 12345, mode {mode:04o}" in done.stdout


def test_a_folder_that_worked_and_fails_later_means_a_share(sandbox, account, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(fallback, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(pacer_module, "spare_folders", lambda _: [tmp_path / "spare"])
    own = replace(account, name=f"fails later {tmp_path}")
    request = check_request("a red bicycle", 1, 5.0, None)
    run(generate(own, request))
    shutil.rmtree(own.pacing_dir)
    open_to_all(own.pacing_dir)
    run(generate(own, request))
    assert "can be written by others" in caplog.text
    assert (tmp_path / "spare" / file_name(own.name)).exists()


def no_temporary_folder():
    raise FileNotFoundError(2, "No usable temporary directory found")


def test_no_folder_for_temporary_files_at_all_is_refused_by_name(claid_connection, monkeypatch):
    monkeypatch.setenv("AIRFLOW__CLAID__PACING_DIR", "")
    monkeypatch.setattr(sqlite.tempfile, "gettempdir", no_temporary_folder)
    monkeypatch.setattr(sqlite, "SHARED_MEMORY", Path("/nowhere"))
    with pytest.raises(ClaidConfigurationError, match=r"\[claid\] pacing_dir: got nothing, and .* Set it"):
        ClaidHook().account()


def test_a_configured_folder_needs_no_folder_for_temporary_files(claid_connection, monkeypatch, sandbox):
    monkeypatch.setattr(sqlite.tempfile, "gettempdir", no_temporary_folder)
    monkeypatch.setattr(sqlite, "SHARED_MEMORY", Path("/nowhere"))
    account = ClaidHook().account()
    run(generate(replace(account, name="no temporary folder"), check_request("a red bicycle", 1, 5.0, None)))


def test_the_default_folder_is_the_same_whatever_tmpdir_says(monkeypatch, tmp_path):
    folders = set()
    for temporary in (tmp_path / "a", tmp_path / "b"):
        monkeypatch.setattr(sqlite.tempfile, "gettempdir", lambda temporary=temporary: str(temporary))
        monkeypatch.setenv("AIRFLOW__CLAID__PACING_DIR", "")
        folders.add(hook_module.pacing_dir())
    assert len(folders) == (1 if sqlite.SHARED_MEMORY.is_dir() else 2)
