"""The report stays small however long the sandbox runs."""

from __future__ import annotations

from airflow_provider_claid.sandbox import report as module
from airflow_provider_claid.sandbox.report import Record, Report


def record(number):
    return Record(request_id=str(number), method="GET", path="/", wall=0.0, monotonic=0.0)


def test_keeps_the_newest_requests_and_counts_all():
    report = Report()
    for number in range(module.NEWEST + 5):
        one = record(number)
        report.opened(one)
        one.status = 200
        report.closed(one)
    described = report.describe()
    assert len(described["requests"]) == module.NEWEST
    assert described["requests"][0]["request_id"] == "5"
    assert described["statuses"] == {"200": module.NEWEST + 5}


def test_keeps_the_newest_downloads_and_counts_all(monkeypatch):
    monkeypatch.setattr(module, "NEWEST", 2)
    report = Report()
    for path in ("a", "b", "b", "c"):
        report.downloaded(path, authorized=path == "a")
    described = report.describe()
    assert described["downloads"] == {"b": 2, "c": 1}
    assert (described["totals"]["downloads"], described["totals"]["authorized_downloads"]) == (4, 1)
