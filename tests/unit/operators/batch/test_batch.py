"""Many prompts in one task: each ends in the manifest, is paid once, and lies where it was to be put."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from tests.unit.operators.batch.conftest import prompts_of


def test_every_prompt_is_paid_once_and_stored(task):
    result = task.run(prompts_of(40))
    assert result == task.xcoms["claid_result"]
    expected = {"total": 40, "delivered": 40, "filtered": 0, "failed": 0, "unknown": 0, "not_started": 0, "credits": 40}
    assert {name: result[name] for name in expected} == expected
    assert (task.credits(), task.posts()) == (40, 40)
    lines = task.manifest
    assert [line["index"] for line in lines] == list(range(40))
    assert [line["prompt"] for line in lines] == prompts_of(40)
    for line in lines:
        (uri,) = line["uris"]
        assert Path(urlsplit(uri).path).read_bytes().startswith(b"\x89PNG")
    assert len({line["uris"][0] for line in lines}) == 40
    assert task.xcoms["_link_ClaidManifestLink"] == result["manifest"]
