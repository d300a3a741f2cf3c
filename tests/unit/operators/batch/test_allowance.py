"""How many prompts may fail: a number, or the text that a template renders to."""

import pytest

from airflow_provider_claid.exceptions import ClaidBatchError, ClaidInputError
from tests.unit.operators.batch.conftest import prompts_of


@pytest.mark.parametrize("max_failed", [1, "1", " 1 ", 0.25, "0.25"])
def test_a_prompt_may_fail(task, sandbox, max_failed):
    sandbox.fault("generate", "status", status=422, match="number 2")
    assert task.run(prompts_of(4), max_failed=max_failed)["failed"] == 1


@pytest.mark.parametrize("max_failed", [0, "0", 0.2, "0.2"])
def test_no_prompt_may_fail(task, sandbox, max_failed):
    sandbox.fault("generate", "status", status=422, match="number 2")
    with pytest.raises(ClaidBatchError, match="1 of 4 items failed"):
        task.run(prompts_of(4), max_failed=max_failed)


@pytest.mark.parametrize("max_failed", [-1, "-1", 1.0, "1.0", 2.5, "nan", "inf", "some", "", None, True])
def test_anything_else_is_refused_at_parse(task, max_failed):
    with pytest.raises(ClaidInputError, match="max_failed"):
        task.attempt(prompts_of(4), max_failed=max_failed)


def test_what_a_template_renders_to_is_checked_before_anything_is_paid(task):
    attempt = task.attempt(prompts_of(4), max_failed="{{ params.max_failed }}")
    task.operator.max_failed = "many"
    with pytest.raises(ClaidInputError, match="max_failed"):
        attempt()
    assert task.posts() == 0
