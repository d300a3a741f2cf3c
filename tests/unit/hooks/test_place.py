"""The connection that `pacing_conn_id` names, as Airflow's own providers read it; what is wrong with it is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import Connection

from airflow_provider_claid.api.errors import ClaidConfigurationError
from airflow_provider_claid.hooks import place as place_module
from airflow_provider_claid.hooks.claid import ClaidHook
from airflow_provider_claid.hooks.connection import account_from

PASSWORD = "h3dden"


@pytest.fixture(autouse=True)
def _packages_are_there(monkeypatch):
    monkeypatch.setattr(place_module, "find_spec", lambda _: object())


def connection(conn_type="redis", extra=None, **fields):
    fields = {"host": "store", "password": PASSWORD, **fields}
    return Connection(conn_id="p", conn_type=conn_type, extra=json.dumps(extra) if extra else None, **fields)


def place(found):
    claid = Connection(conn_id="c", conn_type="claid", password="key", extra=json.dumps({"pacing_conn_id": "p"}))
    return account_from(claid, Path("/nowhere"), {"p": found}.get).pacing_place


def refusal(found):
    with pytest.raises(ClaidConfigurationError) as caught:
        place(found)
    assert PASSWORD not in str(caught.value)
    return str(caught.value)


def test_redis_by_fields():
    found = place(connection(port=7000, login="me", extra={"db": "2"}))
    assert (found.kind, found.name, found.host, found.port) == ("redis", "p", "store", 7000)
    assert (found.user, found.password, found.database, found.cluster) == ("me", PASSWORD, "2", False)
    assert not found.client_options()


def test_redis_by_address():
    found = place(Connection(conn_id="p", uri=f"redis://:{PASSWORD}@store"))
    assert (found.host, found.port, found.user, found.password, found.database) == ("store", 6379, None, PASSWORD, "0")


@pytest.mark.parametrize("password", ["", "None", "false"])
def test_redis_without_a_password(password):
    assert place(connection(password=password)).password is None


@pytest.mark.parametrize(
    "found",
    [
        connection(extra={"ssl": True}),
        connection(extra={"ssl": "true", "ssl_cert_reqs": "required"}),
        Connection(conn_id="p", uri=f"rediss://:{PASSWORD}@store"),
    ],
)
def test_redis_over_tls_checks_the_server(found):
    assert place(found).client_options() == {"ssl": True, "ssl_cert_reqs": "required", "ssl_check_hostname": True}


def test_redis_over_tls_as_the_connection_says():
    extra = {"ssl": True, "ssl_ca_certs": "/ca.pem", "ssl_cert_reqs": "none"}
    assert place(connection(extra=extra)).client_options() == {
        "ssl": True,
        "ssl_cert_reqs": "none",
        "ssl_check_hostname": False,
        "ssl_ca_certs": "/ca.pem",
    }


def test_a_redis_cluster():
    assert place(connection(extra={"cluster": True})).cluster is True


def test_postgres_by_fields():
    extra = {"sslmode": "verify-full", "sslrootcert": "/ca.pem", "cursor": "dictcursor"}
    found = place(connection("postgres", extra, login="me", schema="base"))
    assert (found.kind, found.host, found.port, found.user, found.password) == (
        "postgres",
        "store",
        5432,
        "me",
        PASSWORD,
    )
    assert (found.database, found.client_options()) == ("base", {"sslmode": "verify-full", "sslrootcert": "/ca.pem"})


def test_postgres_by_address():
    found = place(Connection(conn_id="p", uri=f"postgresql://me:{PASSWORD}@store:5433/base?sslmode=require"))
    assert (found.kind, found.port, found.database) == ("postgres", 5433, "base")
    assert found.client_options() == {"sslmode": "require"}


@pytest.mark.parametrize(
    ("found", "field", "says"),
    [
        (None, "pacing_conn_id", "which is not defined"),
        (connection("http"), "pacing_conn_id", "of type redis or postgres"),
        (connection(host=""), "host", "the host of the server"),
        (connection("postgres", host=""), "host", "the host of the server"),
        (connection(extra={"db": "first"}), "db", "a whole number"),
        (connection(extra={"ssl": "yes"}), "ssl", "true or false"),
        (connection(extra={"ssl": True, "ssl_cert_reqs": "some"}), "ssl_cert_reqs", "required, optional or none"),
        (connection(extra={"cluster": True, "db": 1}), "db", "the only database of a cluster"),
        (connection("postgres", {"iam": True}), "iam", "a user with a password"),
    ],
)
def test_what_is_wrong_is_named_with_what_is_accepted(found, field, says):
    message = refusal(found)
    assert field in message
    assert says in message


@pytest.mark.parametrize(("conn_type", "extra"), [("redis", "redis"), ("postgres", "postgres")])
def test_a_missing_package_is_named_with_what_to_install(conn_type, extra, monkeypatch):
    monkeypatch.setattr(place_module, "find_spec", lambda _: None)
    assert f"pip install 'airflow-provider-claid[{extra}]'" in refusal(connection(conn_type))


def test_no_password_is_shown():
    extra = {"sslmode": "require", "sslpassword": f"{PASSWORD}2"}
    found = place(connection("postgres", extra, login="me"))
    assert "h3dden" not in f"{found!r} {found}"


def test_the_hook_finds_the_connection(monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_CLAID_DEFAULT", json.dumps({"conn_type": "claid", "password": "key",
                       "extra": {"pacing_conn_id": "shared"}}))  # fmt: skip
    with pytest.raises(ClaidConfigurationError, match="which is not defined"):
        ClaidHook().account()
    monkeypatch.setenv("AIRFLOW_CONN_SHARED", f"redis://:{PASSWORD}@store/")
    account = ClaidHook().account()
    assert (account.pacing_place.name, account.pacing_place.host) == ("shared", "store")
    assert PASSWORD not in repr(account)


def test_the_packages_looked_for_are_those_that_are_imported():
    assert set(place_module.KINDS.values()) == {"redis", "psycopg"}
