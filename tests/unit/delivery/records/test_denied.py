"""A result that is there and may not be read is never taken for one that is not there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_provider_claid.api.errors import ClaidRecordsError
from airflow_provider_claid.delivery.checks import parse_target
from airflow_provider_claid.delivery.records.objects import LocalObjects
from airflow_provider_claid.delivery.records.store import ObjectRecords
from tests.unit.delivery.records.test_task_state import INTENT, RESULT

KEY = INTENT.identity.key()


class Denying(LocalObjects):
    """A store that lets a user put results, and answers 403 to reading them, as it does for what is not there."""

    def get(self, name):
        return None if name.endswith(".result") else super().get(name)


@pytest.fixture
def records(tmp_path):
    return ObjectRecords(Denying(parse_target(f"file://{tmp_path}/", None)), KEY)


@pytest.fixture
def stored(tmp_path):
    return ObjectRecords(LocalObjects(parse_target(f"file://{tmp_path}/", None)), KEY)


LOST = replace(RESULT, outcome="unknown", billed="unknown")


def test_a_loss_does_not_replace_what_may_not_be_read(records, stored):
    records.claim(INTENT)
    records.finish(1, RESULT)
    assert records.read(1).state == "open"
    with pytest.raises(ClaidRecordsError, match=r"1\.result is there and cannot be read"):
        records.finish(1, LOST, unless_ended=True)
    assert stored.read(1).result == RESULT


def test_a_loss_is_noted_where_nothing_is(records, stored):
    records.claim(INTENT)
    records.finish(1, LOST, unless_ended=True)
    assert stored.read(1).result == LOST


def test_a_loss_replaces_what_ended_a_record_that_was_deleted(stored, tmp_path):
    stored.claim(INTENT)
    stored.finish(1, RESULT)
    (tmp_path / KEY / "1.intent").unlink()
    again = replace(INTENT, token="again")
    stored.claim(again)
    stored.finish(1, replace(LOST, token="again"), unless_ended=True)
    assert stored.read(1).state == "unknown"
