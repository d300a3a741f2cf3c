"""A batch is killed at moments that a seed chooses, and run again until it ends. `make kills`: 50 times each."""

from __future__ import annotations

import os
import random
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

KILLS = int(os.environ.get("KILLS", "15"))
MOST_ATTEMPTS = 12


def to_its_end(attempts, run, arguments, luck, whole):
    """Kill the batch up to three times, then run it until Airflow would not try again; return how attempts ended."""
    moments = [luck.uniform(0.2, 1.0) * whole for _ in range(luck.choice((1, 1, 2, 3)))]
    states = [attempts.make(run, prompts_of(run), arguments, moment)[0] for moment in moments]
    while states[-1] in {"killed", "retry"}:
        assert len(states) < MOST_ATTEMPTS, states
        states.append(attempts.make(run, prompts_of(run), arguments)[0])
    return states


def test_with_a_folder_of_its_own_every_prompt_is_paid_once_and_delivered(attempts, server, tmp_path):
    arguments = {
        "output_folder": "storage://my-storage/shop/", "own_folder": True, "max_submissions": 2,
        "reconcile_timeout": 1.5,
    }  # fmt: skip
    _, whole = attempts.make("whole", prompts_of("whole"), arguments)
    killed = adopted = 0
    for seed in range(1, KILLS + 1):
        server.reset()
        run = f"seed-{seed}"
        states = to_its_end(attempts, run, arguments, random.Random(seed), whole)
        lines = manifest_of(run, f"file://{tmp_path}/records")
        assert Counter(line["outcome"] for line in lines) == {"delivered": PROMPTS}, (seed, states)
        assert require_readable(lines) == PROMPTS
        assert billed_for(server) == Counter(prompts_of(run)), (seed, states)
        assert states[-1] == "success"
        # What was killed before it reached Claid counts as paid, for nobody can tell.
        assert sum(line["credits"] for line in lines) >= PROMPTS
        killed += states.count("killed")
        adopted += sum(line["request_id"] is None for line in lines)
    print({"killed": killed, "adopted": adopted})
    # Kills that come too late or too early to strike anything would prove little.
    assert killed > KILLS // 2
    assert adopted > 0


@pytest.mark.parametrize("place", ["folder", "bucket"])
def test_with_copies_and_one_submission_nothing_is_paid_twice_and_only_what_was_lost_is_missing(
    attempts, server, bucket, tmp_path, place
):
    folder = f"file://{tmp_path}/pictures" if place == "folder" else f"s3://pictures/{tmp_path.name}"
    arguments = {"save_to": f"{folder}/"}
    if place == "bucket":
        arguments |= {"storage_conn_id": "my_aws", "records_path": f"s3://my_aws@pictures/{tmp_path.name}/records/"}
    _, whole = attempts.make("whole", prompts_of("whole"), arguments)
    killed = unknown = 0
    for seed in range(1, KILLS + 1):
        server.reset()
        run = f"seed-{seed}"
        states = to_its_end(attempts, run, arguments, random.Random(seed), whole)
        lines, billed = manifest_of(run, folder, bucket), billed_for(server)
        outcomes = Counter(line["outcome"] for line in lines)
        assert set(outcomes) <= {"delivered", "unknown"}, (seed, states)
        assert require_readable(lines, bucket) == outcomes["delivered"]
        assert max(billed.values()) == 1, (seed, states, billed)
        assert outcomes["delivered"] <= billed.total() <= PROMPTS
        assert sum(line["credits"] for line in lines) == PROMPTS
        assert states[-1] == ("failed" if outcomes["unknown"] else "success")
        killed += states.count("killed")
        unknown += outcomes["unknown"]
    print(place, {"killed": killed, "unknown": unknown})
    assert killed > KILLS // 2
