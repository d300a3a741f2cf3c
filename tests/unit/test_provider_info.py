"""What Airflow reads of this provider is valid by Airflow's own schemas, and everything it names exists."""

from __future__ import annotations

import json
from importlib import import_module, metadata, resources

import jsonschema
import pytest
from airflow.providers.common.compat.sdk import BaseOperatorLink

from airflow_provider_claid import __version__
from airflow_provider_claid.get_provider_info import get_provider_info
from airflow_provider_claid.hooks.claid import ClaidHook
from airflow_provider_claid.operators.claid import ClaidGenerateImageOperator

INFO = get_provider_info()
CONNECTION = INFO["connection-types"][0]


def schema(name):
    return json.loads((resources.files("airflow") / name).read_text())


def imported(path):
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


def test_the_info_is_valid_at_runtime():
    jsonschema.validate(INFO, schema("provider_info.schema.json"))


def test_the_connection_form_is_valid_by_the_development_schema():
    whole = schema("provider.yaml.schema.json")
    properties, definitions = whole["properties"], {"definitions": whole["definitions"]}
    jsonschema.validate(CONNECTION, properties["connection-types"]["items"] | definitions)
    jsonschema.validate(INFO["config"], properties["config"] | definitions)


def test_the_distribution_has_the_name_and_the_entry_point():
    (entry,) = [
        entry
        for entry in metadata.entry_points(group="apache_airflow_provider")
        if entry.dist.name == INFO["package-name"]
    ]
    assert entry.load()() == INFO
    assert entry.dist.version == __version__


@pytest.mark.parametrize("kind", ["hooks", "operators", "sensors", "triggers"])
def test_every_named_module_exists(kind):
    for item in INFO[kind]:
        for module in item["python-modules"]:
            assert import_module(module)


def test_every_named_class_exists_and_fits():
    assert imported(CONNECTION["hook-class-name"]) is ClaidHook
    assert ClaidHook.conn_type == CONNECTION["connection-type"]
    assert ClaidHook.hook_name == CONNECTION["hook-name"]
    for path in INFO["extra-links"]:
        assert issubclass(imported(path), BaseOperatorLink)
    assert {
        f"{type(link).__module__}.{type(link).__name__}" for link in ClaidGenerateImageOperator.operator_extra_links
    } <= set(INFO["extra-links"])


def test_airflow_finds_the_provider_its_hook_and_its_form():
    from airflow.providers_manager import ProvidersManager

    manager = ProvidersManager()
    assert INFO["package-name"] in manager.providers
    assert manager.hooks["claid"].connection_type == "claid"
    assert manager.hooks["claid"].connection_testable
    assert manager.field_behaviours["claid"]["relabeling"]["password"] == "API key"
    assert "extra__claid__requests_per_second" in manager.connection_form_widgets
    assert set(INFO["extra-links"]) <= set(manager.extra_links_class_names)


def test_older_airflows_get_the_form_from_the_hook():
    behaviour = {name.replace("_", "-"): value for name, value in ClaidHook.get_ui_field_behaviour().items()}
    assert behaviour == CONNECTION["ui-field-behaviour"]
    assert "get_connection_form_widgets" in vars(ClaidHook)


def test_every_template_field_is_an_argument():
    operator = ClaidGenerateImageOperator(task_id="t", prompt="a red bicycle")
    assert all(hasattr(operator, name) for name in operator.template_fields)
