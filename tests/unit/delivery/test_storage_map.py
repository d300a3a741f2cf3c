"""`storage://` becomes a bucket: by the connection's own map, or by asking Claid."""

from __future__ import annotations

import json
from dataclasses import replace

import httpx
import pytest

from airflow_provider_claid.api.errors import ClaidConfigurationError, ClaidInputError
from airflow_provider_claid.delivery import storage_map
from airflow_provider_claid.delivery.storage_map import join, resolve
from airflow_provider_claid.delivery.sync import run
from airflow_provider_claid.hooks.claid import ClaidHook
from airflow_provider_claid.sandbox.server import SandboxServer


@pytest.fixture(autouse=True)
def _nothing_known_yet():
    storage_map._listed.clear()


@pytest.fixture
def sandbox():
    """A sandbox of its own: connected storages outlive a reset."""
    with SandboxServer(latency=0, per_second=None, per_minute=None) as server:
        yield server


def connect(sandbox, name, kind="s3", path="", **parameters):
    credentials = {"access_key": "a", "secret_access_key": "b"}
    body = {"name": name, "type": kind, "parameters": {"bucket": "acme", "path": path, "credentials": credentials}}
    if kind == "web_folder":
        body["parameters"] = parameters
    answer = httpx.post(
        f"{sandbox.url}/v1/storage/storages", headers={"Authorization": "Bearer sandbox-key"}, json=body
    )
    assert answer.status_code == 200, answer.text


def lists(sandbox):
    return sum(1 for item in sandbox.report()["requests"] if item["method"] == "GET")


@pytest.mark.parametrize(
    ("root", "path", "whole"),
    [
        ("s3://b", "", "s3://b/"),
        ("s3://b/", "/", "s3://b/"),
        ("s3://b//in//", "/a/", "s3://b//in/a/"),
        ("s3://b/input/", "a", "s3://b/input/a"),
        ("gs://b/a", "c/d/", "gs://b/a/c/d/"),
        ("file:///tmp/x/", "a/", "file:///tmp/x/a/"),
        ("s3://b", "ü +%/x.png", "s3://b/ü +%/x.png"),
    ],
)
def test_slashes_are_normalised(root, path, whole):
    assert join(root, path) == whole


@pytest.mark.parametrize(
    ("kind", "path", "uri", "whole"),
    [
        ("s3", "/input/", "run/", "s3://acme/input/run/"),
        ("s3", "", "run/1.png", "s3://acme/run/1.png"),
        ("s3", "a", "", "s3://acme/a/"),
        ("gcs", "a/b", "c/", "gs://acme/a/b/c/"),
    ],
)
def test_claid_is_asked_for_what_the_connection_does_not_say(sandbox, account, kind, path, uri, whole):
    name = f"{kind}-{len(path)}-{len(uri)}"
    connect(sandbox, name, kind, path)
    assert run(resolve(account, f"storage://{name}/{uri}")) == whole


def test_the_answer_is_kept_and_asked_again_for_a_new_name(sandbox, account):
    connect(sandbox, "kept")
    for _ in range(3):
        run(resolve(account, "storage://kept/a/"))
    assert lists(sandbox) == 1
    connect(sandbox, "new")
    assert run(resolve(account, "storage://new/a/")) == "s3://acme/a/"
    assert lists(sandbox) == 2


def test_the_connections_map_comes_first_and_needs_no_scope(sandbox, account):
    mapped = replace(account, storages={"my-storage": "gs://elsewhere/x/"})
    assert run(resolve(mapped, "storage://my-storage/a/")) == "gs://elsewhere/x/a/"
    assert lists(sandbox) == 0


def test_an_unknown_name_lists_those_that_exist(account):
    with pytest.raises(ClaidInputError, match=r"Connected are: .*my-storage"):
        run(resolve(account, "storage://nowhere/a/"))


def test_a_web_folder_cannot_receive_output(sandbox, account):
    connect(sandbox, "web", "web_folder", base_url="https://example.com/")
    with pytest.raises(ClaidInputError, match="type web_folder"):
        run(resolve(account, "storage://web/a/"))


def test_a_key_without_the_scope_is_told_which(sandbox, account):
    sandbox.fault("storage", "status", status=403, times=None)
    with pytest.raises(ClaidConfigurationError, match=r"Storage scope.*object_bucket"):
        run(resolve(account, "storage://my-storage/a/"))


@pytest.mark.parametrize("uri", ["s3://b/a/", "storage://", "storage:///a/", "", 7])
def test_what_is_no_storage_address_is_named(account, uri):
    with pytest.raises(ClaidInputError, match="storage://name/folder/"):
        run(resolve(account, uri))


def test_the_hook_resolves(claid_connection, monkeypatch):
    value = {**claid_connection, "extra": {"storages": {"catalogue": "s3://acme/pictures/"}}}
    monkeypatch.setenv("AIRFLOW_CONN_CLAID_DEFAULT", json.dumps(value))
    assert ClaidHook().resolve_output("storage://catalogue/run 1/") == "s3://acme/pictures/run 1/"
