"""`/v1/storage/…`."""

from __future__ import annotations

from datetime import datetime

import httpx
import pytest

CREDENTIALS = {"access_key": "AKIA1", "secret_access_key": "very-secret"}
S3 = {"name": "mine", "type": "s3", "parameters": {"bucket": "b", "path": "p/", "credentials": CREDENTIALS}}


@pytest.fixture
def connect(client):
    """Connect a storage; all that were connected are gone afterwards."""
    numbers = []

    def ask(body):
        answer = client.post("/v1/storage/storages", json=body)
        if answer.status_code == 200:
            numbers.append(answer.json()["data"]["id"])
        return answer

    yield ask
    for number in numbers:
        client.delete(f"/v1/storage/storages/{number}")


def test_lists_types(client):
    assert client.get("/v1/storage/storage-types").json() == {"data": ["web_folder", "s3", "gcs"]}


def test_lists_storages_without_credentials(client, connect):
    connect(S3)
    first, second = client.get("/v1/storage/storages").json()["data"]
    assert first == {
        "id": 1,
        "name": "my-storage",
        "type": "s3",
        "parameters": {"bucket": "my-storage", "path": "made/"},
        "created_at": first["created_at"],
    }
    assert datetime.fromisoformat(first["created_at"]).tzinfo
    assert second["parameters"] == {"bucket": "b", "path": "p/"}


def test_details_show_the_access_key_only(client, connect):
    made = connect(S3)
    number = made.json()["data"]["id"]
    shown = client.get(f"/v1/storage/storages/{number}")
    assert made.json() == shown.json()
    parameters = {"bucket": "b", "path": "p/", "credentials": {"access_key": "AKIA1"}}
    assert shown.json()["data"]["parameters"] == parameters
    assert "very-secret" not in made.text + shown.text


def test_changes_and_disconnects(client, connect):
    address = f"/v1/storage/storages/{connect(S3).json()['data']['id']}"
    changed = client.patch(address, json={"name": "renamed", "parameters": {"path": "q/"}}).json()["data"]
    assert (changed["name"], changed["parameters"]["path"], changed["parameters"]["bucket"]) == ("renamed", "q/", "b")
    folder = {"type": "web_folder", "parameters": {"base_url": "https://x.example/"}}
    changed = client.patch(address, json=folder).json()["data"]
    assert (changed["type"], changed["parameters"]) == ("web_folder", {"base_url": "https://x.example/"})
    assert client.delete(address).json()["data"]["name"] == "renamed"
    gone = client.get(address)
    assert (gone.status_code, gone.json()["error_message"]) == (404, "Storage not found.")


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
def test_404_for_an_unknown_id(client, method):
    answer = client.request(method, "/v1/storage/storages/999", json={} if method == "PATCH" else None)
    assert answer.status_code == 404
    assert answer.json() == {
        "error_code": "1404",
        "error_type": "storage",
        "error_message": "Storage not found.",
        "error_details": {},
    }


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 51}, "name"),
        ({"name": "my-storage"}, "name"),
        ({"type": "ftp"}, "type"),
        ({"region": "eu"}, "region"),
        ({"parameters": {"path": "p"}}, "parameters.bucket"),
        ({"parameters": {"bucket": "", "credentials": CREDENTIALS}}, "parameters.bucket"),
        (
            {"parameters": {"bucket": "b", "credentials": {"access_key": "a"}}},
            "parameters.credentials.secret_access_key",
        ),
        ({"type": "web_folder"}, "parameters.base_url"),
    ],
)
def test_422_for_bad_storages(connect, change, path):
    answer = connect({**S3, **change})
    assert answer.status_code == 422
    assert answer.json()["error_code"] == "9000"
    assert path in answer.json()["error_details"]


def test_422_for_an_id_that_is_no_number_and_400_for_what_is_not_json(client):
    answer = client.get("/v1/storage/storages/seven")
    assert (answer.status_code, answer.json()["error_code"]) == (422, "9000")
    answer = client.post("/v1/storage/storages", content=b"{", headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error_type"]) == (400, "general")


@pytest.mark.parametrize(("key", "status", "code"), [("wrong", 401, "111"), ("pictures-only", 403, "112")])
def test_needs_the_storage_scope(server, key, status, code):
    for path in ("storage-types", "storages", "storages/1"):
        answer = httpx.get(f"{server.url}/v1/storage/{path}", headers={"Authorization": f"Bearer {key}"})
        assert (answer.status_code, answer.json()["error_code"]) == (status, code)
        assert answer.headers["x-request-id"]


def test_faults_on_storage(server, client, last):
    server.fault("storage", "status", status=503, body="text", message="busy")
    server.fault("storage", "close")
    answer = client.get("/v1/storage/storage-types")
    assert (answer.status_code, answer.text) == (503, "busy")
    with pytest.raises(httpx.RemoteProtocolError):
        client.get("/v1/storage/storage-types")
    assert last("/v1/storage")["status"] == "close"
    assert client.get("/v1/storage/storage-types").status_code == 200
