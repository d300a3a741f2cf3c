"""What Airflow's metrics are told of the requests."""

from __future__ import annotations

from datetime import timedelta

import pytest

from airflow_provider_claid.api.errors import ClaidUnknownOutcomeError
from airflow_provider_claid.delivery import generate as generate_module
from airflow_provider_claid.delivery import job as job_module
from airflow_provider_claid.delivery.checks import check_request, parse_target
from airflow_provider_claid.delivery.generate import generate
from airflow_provider_claid.delivery.job import ImageJob
from airflow_provider_claid.delivery.sync import run
from airflow_provider_claid.metrics import measured

REQUEST = check_request("a red bicycle", 2, 5.0, None)
TAGS = {"dag_id": "shop"}


class Heard:
    """Stands for Airflow's `Stats`."""

    def __init__(self):
        self.counts, self.timers, self.tags = {}, [], []

    def incr(self, name, count=1, rate=1, *, tags=None):
        self.tags.append(tags)
        billed = tags.get("billed")
        self.counts[f"{name}:{billed}" if billed else name] = count

    def timing(self, name, dt, *, tags=None):
        self.tags.append(tags)
        self.timers.append((name, dt))


@pytest.fixture
def stats(monkeypatch):
    heard = Heard()
    monkeypatch.setattr("airflow.providers.common.compat.sdk.Stats", heard, raising=False)
    return heard


def test_a_request_and_its_pictures_are_counted(account, stats):
    with measured(TAGS):
        run(generate(account, REQUEST))
    assert stats.counts == {"claid.requests:yes": 1, "claid.credits": 2, "claid.pictures": 2}
    ((name, waited),) = stats.timers
    assert name == "claid.waited"
    assert timedelta(0) <= waited < timedelta(seconds=5)
    assert all(tags.items() >= TAGS.items() for tags in stats.tags)


def test_refusals_are_requests_that_cost_nothing(account, sandbox, stats, monkeypatch):
    monkeypatch.setattr(generate_module, "FIRST_PAUSE", 0.01)
    sandbox.fault("generate", "status", status=429, body="html", times=2)
    with measured():
        run(generate(account, REQUEST))
    assert stats.counts == {
        "claid.requests:no": 2,
        "claid.requests:yes": 1,
        "claid.refusals": 2,
        "claid.credits": 2,
        "claid.pictures": 2,
    }
    assert len(stats.timers) == 3


def test_a_lost_answer_is_counted_though_the_work_fails(account, sandbox, stats):
    sandbox.fault("generate", "reset", when="after_billing")
    with pytest.raises(ClaidUnknownOutcomeError), measured(TAGS):
        run(generate(account, REQUEST))
    assert stats.counts == {"claid.requests:unknown": 1, "claid.unknown_outcomes": 1}


def test_copies_are_counted(account, stats, tmp_path):
    with measured():
        run(job_module.run(ImageJob(account, REQUEST, "sku", parse_target(f"file://{tmp_path}/out/", None))))
    assert stats.counts["claid.copies"] == 2


def test_without_requests_nothing_is_told(stats):
    with measured(TAGS):
        pass
    assert (stats.counts, stats.timers) == ({}, [])


def test_each_piece_of_work_has_a_bill_of_its_own(account, stats):
    with measured():
        run(generate(account, REQUEST))
        stats.counts.clear()
        with measured():
            pass
        assert stats.counts == {}


def test_metrics_that_fail_lose_no_pictures(account, stats, monkeypatch, caplog):
    def fail(*_, **__):
        raise OSError("no route")

    monkeypatch.setattr(stats, "incr", fail)
    with measured():
        assert len(run(generate(account, REQUEST)).images) == 2
    assert "Metrics could not be sent: OSError: no route" in caplog.text
