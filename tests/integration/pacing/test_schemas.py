"""Logins of one PostgreSQL whose search paths differ share one table, or are told why they cannot."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from airflow_provider_claid.pacing.budget import Spend
from airflow_provider_claid.pacing.schedule import Pace
from airflow_provider_claid.pacing.store import StoreError
from tests.integration.pacing.conftest import place_of
from tests.pacing_stores import Where
from tests.unit.pacing.conftest import today

ONE_A_MINUTE = Pace(per_second=1000, per_minute=1)
TABLE = "airflow_provider_claid_pacing"


@pytest.fixture
def database(postgres_server):
    """A new database, by its name."""
    name = uuid.uuid4().hex
    postgres_server.make_database(name)
    return name


@pytest.fixture
def login(postgres_server, database):
    """A function that makes a login with a schema of its own, which it uses first; returns an account seen by it."""

    def make(number, schema='a "100%s" schema'):
        name = f"login_{number}_{database}"
        schema = schema + str(number)
        quoted = schema.replace('"', '""')
        with postgres_server.client(database) as client:
            client.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'secret'".encode())
            client.execute(f'CREATE SCHEMA "{quoted}" AUTHORIZATION {name}'.encode())
            client.execute(f'ALTER ROLE {name} SET search_path = "{quoted}"'.encode())
        place = replace(place_of(postgres_server.airflow_connection(database)), user=name, password="secret")
        return Where("account", place=place)

    return make


def grant(postgres_server, database, *logins):
    with postgres_server.client(database) as client:
        find = "SELECT quote_ident(schemaname) FROM pg_tables WHERE tablename = %s"
        (schema,) = client.execute(find, (TABLE,)).fetchone()
        for where in logins:
            user = where.place.user
            client.execute(f"GRANT USAGE ON SCHEMA {schema} TO {user}".encode())
            client.execute(f"GRANT SELECT, INSERT, UPDATE ON {schema}.{TABLE} TO {user}".encode())


def tables(postgres_server, database):
    with postgres_server.client(database) as client:
        return client.execute("SELECT count(*) FROM pg_tables WHERE tablename = %s", (TABLE,)).fetchone()[0]


def test_two_logins_with_schemas_of_their_own_share_one_pace_and_budget(postgres_server, database, login):
    one, other = login(1), login(2)
    store = one.open()
    first = store.book(ONE_A_MINUTE, spend=Spend(2, 9))
    grant(postgres_server, database, other)
    assert other.open().book(ONE_A_MINUTE, spend=Spend(3, 9)).at - first.at > 60.249
    assert store.book(ONE_A_MINUTE).at - first.at > 120.49
    assert today(other.open()) == 5
    assert tables(postgres_server, database) == 1


def test_a_login_without_the_right_is_told_which_table_and_what_to_grant(login):
    one, other = login(1), login(2)
    one.open().book(Pace())
    with pytest.raises(StoreError, match=r"permission denied.*GRANT USAGE ON SCHEMA .*SELECT, INSERT, UPDATE ON"):
        other.open().book(Pace())


def test_logins_that_begin_at_once_make_one_table(postgres_server, database, login):
    logins = [login(number) for number in range(4)]

    def book(where):
        try:
            where.open().book(Pace())
        except StoreError as cause:
            return "permission denied" in str(cause)
        return True

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(book, logins))
    assert tables(postgres_server, database) == 1


def test_two_tables_are_refused_by_name(postgres_server, database, login):
    one, other = login(1, "first"), login(2, "second")
    one.open().book(Pace())
    with postgres_server.client(database) as client:
        client.execute(f"CREATE TABLE second2.{TABLE} (LIKE first1.{TABLE})".encode())
    for where in (one, other):
        with pytest.raises(StoreError, match=f"several tables.*first1.{TABLE}, second2.{TABLE}"):
            where.open().book(Pace())


def test_a_temporary_table_of_the_same_name_is_not_the_pace(postgres_server, database):
    place = place_of(postgres_server.airflow_connection(database))
    store = Where("account", place=place).open()
    store.book(Pace())
    store._connection.execute(f"CREATE TEMPORARY TABLE {TABLE} (nothing int)".encode())
    first = store.book(ONE_A_MINUTE)
    assert Where("account", place=place).open().book(ONE_A_MINUTE).at - first.at > 60.249
