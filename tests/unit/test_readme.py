"""The README's map is true: every file it names exists, and its Dag is a Dag."""

from __future__ import annotations

import re

import pytest

from tests.conftest import REPOSITORY

README = (REPOSITORY / "README.md").read_text()
LINKS = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
DECISIONS = README.split("| Decision | Where |")[1].split("\n\n")[0].strip().splitlines()[1:]


def test_every_decision_names_its_file():
    assert len(DECISIONS) > 10
    for row in DECISIONS:
        assert "](airflow_provider_claid/" in row or row.endswith("| not built yet |"), row


@pytest.mark.parametrize("link", sorted(set(LINKS)))
def test_every_linked_file_exists(link):
    assert (REPOSITORY / link).exists()


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`?make ([a-z]+)", README)) - {"it"}))
def test_every_make_target_exists(target):
    assert re.search(rf"^{target}:", (REPOSITORY / "Makefile").read_text(), flags=re.MULTILINE)


def test_the_first_dag_is_a_dag():
    code = re.search(r"```python\n(.*?)```", README, flags=re.DOTALL)[1]
    scope = {}
    exec(compile(code, "README.md", "exec"), scope)
    assert len([line for line in code.splitlines() if line.strip()]) <= 12
    assert scope["ClaidGenerateImageOperator"]
