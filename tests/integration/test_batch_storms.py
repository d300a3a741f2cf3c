"""A batch while a fifth of all that it asks of Claid, of the pictures' server and of its records goes wrong."""

from __future__ import annotations

import os
from collections import Counter

import pytest

from tests.integration.batches import (
    PROMPTS,
    attempts,
    billed_for,
    manifest_of,
    prompts_of,
    require_readable,
    server,
)

__all__ = ["attempts", "server"]

pytestmark = pytest.mark.timeout(1800)

STORMS = int(os.environ.get("STORMS", "3"))
MOST_ATTEMPTS = 30
TROUBLE = 0.2
PLACES = {
    "own_folder": {"output_folder": "storage://my-storage/shop/", "own_folder": True, "reconcile_timeout": 1.5},
    "save_to": {"save_to": "{folder}/pictures/"},
    "bucket": {
        "save_to": "s3://pictures/{name}/",
        "storage_conn_id": "my_aws",
        "records_path": "s3://my_aws@pictures/{name}/records/",
    },
}


def arguments_of(place, tmp_path):
    names = {"folder": f"file://{tmp_path}", "name": tmp_path.name}
    given = PLACES[place].items()
    return {name: value.format(**names) if isinstance(value, str) else value for name, value in given}


def brew(server, *, downloads):
    """Refuse a fifth of the requests, lose the answers of a fifth of the others, and spoil a fifth of the downloads."""
    server.fault("generate", "status", status=429, body="html", times=None, probability=TROUBLE)
    for kind, options in (
        ("status", {"status": 500}),
        ("status", {"status": 503, "billed": True}),
        ("reset", {"when": "before_billing"}),
        ("reset", {"when": "after_billing"}),
        ("cut", {}),
        ("slow", {"seconds": 1.0}),
    ):
        server.fault("generate", kind, times=None, probability=TROUBLE / 6, **options)
    # What Claid itself has put into a storage, only a sensor reads.
    for kind in ("reset", "truncated", "corrupt", "short") if downloads else ():
        server.fault("picture", kind, times=None, probability=TROUBLE / 4)


@pytest.mark.parametrize("submissions", [1, 2])
@pytest.mark.parametrize("place", PLACES)
def test_nothing_is_lost_and_nothing_paid_more_often_than_allowed(
    attempts, server, bucket, tmp_path, place, submissions
):
    arguments = arguments_of(place, tmp_path) | {"max_submissions": submissions}
    folder = arguments.get("save_to", f"file://{tmp_path}/records/").rstrip("/")
    ended = Counter()
    for storm in range(STORMS):
        server.reset()
        brew(server, downloads=place != "own_folder")
        run = f"storm-{place}-{submissions}-{storm}"
        states = []
        while not states or states[-1] == "retry":
            assert len(states) < MOST_ATTEMPTS, states
            states.append(attempts.make(run, prompts_of(run), arguments, trouble=TROUBLE)[0])
        lines = manifest_of(run, folder, bucket)
        outcomes, billed = Counter(line["outcome"] for line in lines), billed_for(server)
        assert set(outcomes) <= {"delivered", "unknown"}, (run, states, outcomes)
        assert require_readable(lines, bucket) == outcomes["delivered"] >= PROMPTS // 2
        for line in lines:
            assert billed[line["prompt"]] <= line["credits"] <= submissions, (run, line)
            assert billed[line["prompt"]] or line["outcome"] == "unknown", (run, line)
        assert states[-1] == ("failed" if outcomes["unknown"] else "success"), (run, states, outcomes)
        ended += outcomes + Counter(attempts=len(states), billed=billed.total())
    print(place, submissions, dict(ended))
