"""A connection in every spelling gives the same account; a wrong field is named, with what is accepted."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import Connection

from airflow_provider_claid.api.errors import ClaidConfigurationError
from airflow_provider_claid.hooks.connection import account_from
from airflow_provider_claid.pacing.schedule import Pace

KEY = "k3y-0123456789abcdef"


def by_fields(**fields):
    extra = fields.pop("extra", None)
    fields = {"password": KEY, **fields}
    return Connection(conn_id="c", conn_type="claid", extra=json.dumps(extra) if extra is not None else None, **fields)


def by_uri(uri):
    return Connection(conn_id="c", uri=uri)


def account(connection):
    return account_from(connection, Path("/nowhere"), {}.get)


def base_url(connection):
    return account(connection).endpoint.base_url


@pytest.mark.parametrize(
    ("connection", "expected"),
    [
        (by_fields(), "https://api.claid.ai"),
        (by_fields(host=""), "https://api.claid.ai"),
        (by_fields(host="api.claid.ai"), "https://api.claid.ai"),
        (by_fields(host="https://api.claid.ai/"), "https://api.claid.ai"),
        (by_fields(host="api.claid.ai", schema="https", port=8443), "https://api.claid.ai:8443"),
        (by_fields(host="https://api.claid.ai:8443"), "https://api.claid.ai:8443"),
        (by_fields(host="127.0.0.1", schema="http", port=8177), "http://127.0.0.1:8177"),
        (by_fields(host="http://127.0.0.1", port=8177), "http://127.0.0.1:8177"),
        (by_fields(host="http://localhost:8177"), "http://localhost:8177"),
        (by_fields(host="http://[::1]:8177"), "http://[::1]:8177"),
        (by_fields(host="::1", schema="http", port=8177), "http://[::1]:8177"),
        (by_uri(f"claid://:{KEY}@/"), "https://api.claid.ai"),
        (by_uri(f"claid://:{KEY}@api.claid.ai"), "https://api.claid.ai"),
        (by_uri(f"claid://:{KEY}@127.0.0.1:8177/http"), "http://127.0.0.1:8177"),
        (by_uri(f"claid://https://:{KEY}@api.claid.ai:443"), "https://api.claid.ai:443"),
        (by_uri(f"claid://http://:{KEY}@127.0.0.1:8177"), "http://127.0.0.1:8177"),
        (by_uri(f"claid://:{KEY}@https%3A%2F%2Fapi.claid.ai"), "https://api.claid.ai"),
    ],
)
def test_host_port_and_schema_apart_or_as_one_address(connection, expected):
    assert base_url(connection) == expected


@pytest.mark.parametrize(
    ("connection", "field", "says"),
    [
        (by_fields(password=None), "password", "API key"),
        (by_fields(password="  "), "password", "API key"),
        (by_fields(password="two words"), "password", "Copy it"),
        (by_fields(password="schlüssel"), "password", "Copy it"),
        (by_fields(password="a\nb"), "password", "Copy it"),
        (by_fields(login="me"), "login", "password alone"),
        (by_uri(f"claid://me:{KEY}@api.claid.ai"), "login", "password alone"),
        (by_fields(host="https://api.claid.ai/v1"), "host", "path"),
        (by_fields(host="api.claid.ai/v1"), "host", "path"),
        (by_fields(host="api.claid.ai?x=1"), "host", "path"),
        (by_uri(f"claid://:{KEY}@api.claid.ai/v1"), "schema", "path"),
        (by_uri(f"claid://:{KEY}@https%3A%2F%2Fapi.claid.ai%2Fv1"), "host", "path"),
        (by_fields(host="http://api.claid.ai"), "host", "https"),
        (by_fields(host="api.claid.ai", schema="http"), "host", "https"),
        (by_fields(host="http://127.0.0.1.evil.example"), "host", "https"),
        (by_fields(host="http://10.0.0.1"), "host", "https"),
        (by_uri(f"claid://http://:{KEY}@api.claid.ai"), "host", "https"),
        (by_uri(f"claid://:{KEY}@api.claid.ai/http"), "host", "https"),
        (by_fields(host="https://me:pw@api.claid.ai"), "host", "user info"),
        (by_fields(host="me@api.claid.ai"), "host", "user info"),
        (by_uri(f"claid://:{KEY}@https%3A%2F%2Fme%3Apw%40api.claid.ai"), "host", "user info"),
        (by_fields(host="ftp://api.claid.ai"), "host", "https"),
        (by_fields(host="https://api.claid.ai", schema="http"), "host", "once"),
        (by_fields(schema="gopher"), "schema", "https"),
        (by_fields(host="https://api.claid.ai:99999"), "host", "read"),
        (by_fields(host="https://api.claid.ai:1", port=2), "port", "once"),
        (by_fields(host="https://"), "host", "read"),
        (by_fields(host="a b"), "host", "read"),
        (by_fields(port=8177), "host", "Give the host"),
        (by_fields(extra=[1]), "extra", "JSON object"),
        (by_fields(extra={"requests_per_second": "fast"}), "requests_per_second", "a number from"),
        (by_fields(extra={"requests_per_second": True}), "requests_per_second", "a number from"),
        (by_fields(extra={"requests_per_second": 0}), "requests_per_second", "a number from"),
        (by_fields(extra={"requests_per_second": "nan"}), "requests_per_second", "a number from"),
        (by_fields(extra={"requests_per_minute": 1.5}), "requests_per_minute", "a whole number"),
        (by_fields(extra={"requests_per_minute": [120]}), "requests_per_minute", "a whole number"),
        (by_fields(extra={"request_timeout": -1}), "request_timeout", "a number from"),
        (by_fields(extra={"account": 7}), "account", "a text"),
        (by_fields(extra={"storages": "s3://b/"}), "storages", "an object such as"),
        (by_fields(extra={"storages": ["s3://b/"]}), "storages", "an object such as"),
        (by_fields(extra={"storages": {"a": "s3://b"}}), "storages", "slash"),
        (by_fields(extra={"storages": {"a": 1}}), "storages", "an object such as"),
        (by_fields(extra={"requests_per_second": 0.01}), "requests_per_second", "from 0.0167"),
        (by_fields(schema="https://me:pw@api.claid.ai"), "schema", "user info"),
        (by_fields(host="me:pw@api.claid.ai/x://y"), "host", "user info"),
        (by_fields(host="https://api.claid.ai?me=pw@x"), "host", "user info"),
        (by_fields(extra={"pacing_conn_id": "redis_default"}), "pacing_conn_id", "which is not defined"),
        (by_fields(extra={"daily_credits": 0}), "daily_credits", "a whole number from 1"),
        (by_fields(extra={"daily_credits": -5}), "daily_credits", "Leave it empty for no limit"),
        (by_fields(extra={"daily_credits": 1.5}), "daily_credits", "a whole number"),
        (by_fields(extra={"daily_credits": "inf"}), "daily_credits", "a whole number"),
        (by_fields(extra={"daily_credits": True}), "daily_credits", "a whole number"),
    ],
)
def test_a_wrong_field_is_named_with_what_is_accepted(connection, field, says):
    with pytest.raises(ClaidConfigurationError) as caught:
        account(connection)
    message = str(caught.value)
    assert field in caught.value.field
    assert says in message
    assert "'c'" in message
    assert "Nothing was sent." in message
    assert KEY not in message
    assert "pw" not in message.replace("password", "")


def test_the_password_of_another_service_is_not_sent():
    with pytest.raises(ClaidConfigurationError, match="must not be sent to Claid"):
        account(Connection(conn_id="c", conn_type="http", host="https://other.example", password="theirs"))


def test_what_the_host_field_hides_is_not_shown():
    with pytest.raises(ClaidConfigurationError) as caught:
        account(by_fields(host="https://someone:hunter2@api.claid.ai/v1"))
    assert "hunter2" not in str(caught.value)


def test_numbers_may_be_texts_and_empty_means_unset():
    extra = {"requests_per_second": "8", "requests_per_minute": "240", "request_timeout": "30.5", "account": ""}
    extra["daily_credits"] = "500"
    found = account(by_fields(extra=extra))
    assert found.pace == Pace(8.0, 240)
    assert (found.endpoint.timeout, found.daily_credits) == (30.5, 500)
    empty = account(by_fields(extra=dict.fromkeys([*extra, "storages", "pacing_conn_id"], "")))
    assert (empty.pace, empty.endpoint.timeout, empty.daily_credits) == (Pace(4.0, 120), 180.0, None)


def test_a_uri_carries_extra_as_texts():
    found = account(by_uri(f"claid://:{KEY}@/?requests_per_second=2&requests_per_minute=60&account=team"))
    assert (found.pace, found.name) == (Pace(2.0, 60), "team")


def test_the_account_is_a_hash_of_the_key_unless_named():
    assert account(by_fields()).name == account(by_fields(host="https://api.claid.ai")).name
    assert account(by_fields()).name != account(by_fields(password="another")).name
    assert KEY not in account(by_fields()).name


def test_blanks_around_the_key_are_left_out():
    assert account(by_fields(password=f" {KEY}\n")).endpoint.api_key == KEY


def test_storages_may_be_an_object_or_its_text():
    storages = {"my-storage": "s3://bucket/prefix/"}
    assert account(by_fields(extra={"storages": storages})).storages == storages
    assert account(by_fields(extra={"storages": json.dumps(storages)})).storages == storages


def test_an_unknown_extra_is_told(caplog):
    with caplog.at_level(logging.WARNING):
        account(by_fields(extra={"colour": "blue"}))
    assert "colour" in caplog.text


@pytest.mark.parametrize("name", ["daily_credit", "Daily-Credits", "request_per_minute", "pacing_conn"])
def test_a_misspelled_extra_is_refused_since_a_limit_that_is_not_heeded_costs_money(name):
    with pytest.raises(ClaidConfigurationError, match=f"extra {name}.*Did you mean"):
        account(by_fields(password="key", extra={name: 1}))


def test_neither_account_nor_endpoint_shows_the_key():
    found = account(by_fields())
    assert KEY not in repr(found)
    assert KEY not in str(found)
