"""What OpenLineage is told of a batch: the files of prompts it read and the folder it filled."""

from __future__ import annotations

import pytest

from tests.unit.operators.batch.conftest import prompts_of

pytest.importorskip("airflow.providers.openlineage")


def test_the_folder_is_an_output_with_the_count_of_its_pictures(task):
    task.run(prompts_of(3))
    lineage = task.operator.get_openlineage_facets_on_complete(None)
    (output,) = lineage.outputs
    assert (output.namespace, output.name) == ("file", str(task.folder))
    assert output.outputFacets["outputStatistics"].fileCount == 3
    assert lineage.inputs == []


def test_a_file_of_prompts_is_an_input(task, tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a red bicycle\na blue door\n")
    task.run(f"file://{prompts}")
    lineage = task.operator.get_openlineage_facets_on_complete(None)
    (source,) = lineage.inputs
    assert (source.namespace, source.name) == ("file", str(prompts))
    assert lineage.outputs[0].outputFacets["outputStatistics"].fileCount == 2
