"""Which attempt of a task this is: an automatic retry, a person's clearing, a run that was made anew, or a late one."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_claid.delivery.records.attempts import UNKNOWN, Attempt, Try, follow, is_lost, relation_of


@pytest.mark.parametrize(
    ("marks", "try_number", "told_place", "lost"),
    [
        (0, 1, None, False),
        (0, 1, UNKNOWN, False),
        (0, 1, "s3://records/", False),
        (0, 2, None, False),
        (0, 2, UNKNOWN, True),
        (0, 2, "s3://records/", True),
        (0, 9, UNKNOWN, True),
        (1, 1, UNKNOWN, False),
        (1, 2, UNKNOWN, False),
        (1, 2, None, False),
        (3, 9, "s3://records/", False),
    ],
)
def test_a_place_is_lost_where_earlier_attempts_must_have_left_marks(marks, try_number, told_place, lost):
    assert is_lost(marks, try_number, told_place) is lost


def tried(number, max_tries, retries=None, **more):
    return Try(number, max_tries, max_tries if retries is None else retries, **more)


@pytest.mark.parametrize(
    ("last", "now", "relation"),
    [
        # Airflow's own retries.
        (tried(1, 3), tried(2, 3), "retry"),
        (tried(1, 3), tried(4, 3), "retry"),
        (tried(5, 6, 3), tried(6, 6, 3), "retry"),
        (tried(1, 2, 2), tried(2, 2, 5), "retry"),
        # Cleared: max_tries = tries so far + retries of today.
        (tried(1, 3), tried(2, 4, 3), "cleared"),
        (tried(1, 0), tried(2, 1, 0), "cleared"),
        (tried(1, 3), tried(2, 1, 0), "cleared"),
        (tried(1, 2), tried(2, 2, 1), "cleared"),
        (tried(1, 2, started=7), tried(2, 2, 1, started=8), "cleared"),
        # A Dag that was edited between two automatic tries: the run goes on.
        (tried(1, 2, started=7), tried(2, 2, 1, started=7), "retry"),
        # Made by a machine whose clock is behind.
        (tried(1, 2, born=9_000), tried(2, 2, born=4_000), "retry"),
        (tried(1, 2, born=90_000), tried(2, 2, born=4_000), "late"),
        (tried(3, 3), tried(4, 3, 0), "cleared"),
        (tried(1, 1), tried(2, 6, 5), "cleared"),
        # Begun anew by a scheduler that has restarted, or cleared while it ran: a retry cannot be told from that.
        (tried(2, 1), tried(3, 1), "retry"),
        (tried(1, 0), tried(2, 0), "retry"),
        # The same try again: a message that was delivered twice.
        (tried(2, 3), tried(2, 3), "retry"),
        (tried(2, 3, born=5), tried(2, 3, born=5), "retry"),
        (tried(1, 3, started=7), tried(1, 3, started=7), "retry"),
        # Overtaken.
        (tried(2, 3), tried(1, 3), "late"),
        (tried(2, 3, born=6), tried(1, 3, born=5), "late"),
        (tried(2, 3, born=6), tried(2, 3, born=5), "late"),
        (tried(1, 3, started=80_000), tried(2, 3, started=7), "late"),
        # The run was deleted and made again under its run id.
        (tried(2, 3, born=5), tried(1, 3, born=6), "cleared"),
        (tried(1, 3, born=5), tried(1, 3, born=6), "cleared"),
        (tried(1, 3, started=7), tried(1, 3, started=8), "cleared"),
        (tried(1, 3, started=7), tried(2, 4, 3, started=8), "cleared"),
        (tried(1, 3, started=7), tried(2, 3, started=8), "retry"),
    ],
)
def test_how_an_attempt_follows_another(last, now, relation):
    assert relation_of(now, last) == relation


STEPS = st.lists(st.tuples(st.sampled_from(["retry", "clear", "again"]), st.integers(0, 4)), max_size=20)


def airflow(steps):
    """Yield the tries of a task as Airflow counts them, each with whether a person's doing came before it.

    The run is at its end when it is cleared: it starts anew.
    """
    number, retries, born = 1, 2, 100_000
    max_tries, started = retries, born
    yield tried(number, max_tries, retries, born=born, started=born), False
    for what, wanted in steps:
        born += 100_000
        if what == "retry":
            if number > max_tries:
                continue
            number += 1
        elif what == "clear":
            retries = wanted
            max_tries, number = number + retries, number + 1
            started = born
        else:
            number, retries = 1, wanted
            max_tries = retries
            started = born
        yield tried(number, max_tries, retries, born=born, started=started), what != "retry"


@given(STEPS)
def test_the_generation_grows_with_each_clearing_and_with_nothing_else(steps):
    attempt = None
    for now, is_person in airflow(steps):
        following = follow(attempt, now) if attempt else Attempt(told=now, owner="a")
        if attempt is not None:
            assert following.owner == attempt.owner
            assert following.number == attempt.number + 1
            assert following.generation == attempt.generation + is_person
            assert follow(following, attempt.told) is None
        assert follow(following, now) == replace(following, number=following.number + 1)
        attempt = following


@given(STEPS)
def test_a_mark_is_read_as_it_was_written(steps):
    for now, _ in airflow(steps):
        attempt = Attempt(3, 2, replace(now, started=5), refused=True, owner="a")
        assert Attempt.from_json(json.loads(json.dumps(attempt.to_json()))) == attempt
