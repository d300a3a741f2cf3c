"""What the operators accept, checked at parse where it is known there, and again before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_claid.api import models
from airflow_provider_claid.api.errors import ClaidInputError
from airflow_provider_claid.delivery.checks import (
    ON_FILTERED,
    Target,
    check_on_bad_row,
    check_request,
    parse_target,
    split_file,
)
from airflow_provider_claid.delivery.names import check_key, check_name, disk_limit
from airflow_provider_claid.delivery.paths import as_uri
from airflow_provider_claid.delivery.values import number_of, text_of
from airflow_provider_claid.templating import Later, is_literal

if TYPE_CHECKING:
    from airflow_provider_claid.api.models import GenerateRequest
    from airflow_provider_claid.delivery.prompts.source import Defaults
    from airflow_provider_claid.operators.base import ClaidGenerateOperator
    from airflow_provider_claid.operators.batch import ClaidGenerateBatchOperator
    from airflow_provider_claid.operators.image import ClaidGenerateImageOperator

STAND_INS: Mapping[str, Any] = {
    "prompt": "any prompt",
    "number_of_images": 1,
    "guidance_scale": 5.0,
    "output_folder": None,
}
"""The arguments of a request, each with a value that passes, for templates that only a run can render."""

TEXTS = (
    "prompt",
    "filename",
    "output_folder",
    "save_to",
    "records_path",
    "manifest_path",
    "claid_conn_id",
    "storage_conn_id",
)
"""The arguments that are texts, which native rendering makes numbers of, and path objects stand for."""

_OWN_FOLDER = 48
"""Characters that `own_folder` may add to `output_folder`: the job key, the place in a batch, and the submission."""


def settle(operator: ClaidGenerateOperator) -> None:
    """
    Turn what stands for a text into it, in the operator: numbers, dates, path objects. Before and after rendering.

    What stands for none is left for the checks to refuse. Raises `ClaidInputError` for a path object without a URI.
    """
    for name in (*TEXTS, "prompts"):
        given = getattr(operator, name, None)
        value = as_uri(given, name)
        value = value if name == "prompts" else text_of(value)
        if value is not given:
            setattr(operator, name, value)


def request_of(values: Mapping[str, Any]) -> GenerateRequest:
    """Build and check the request from the arguments that `STAND_INS` names; numbers may be texts."""
    return check_request(
        values["prompt"],
        _number(values["number_of_images"], int),
        _number(values["guidance_scale"], float),
        values["output_folder"] or None,
        output_name="output_folder",
    )


def defaults_of(operator: ClaidGenerateBatchOperator) -> Defaults:
    """Return what a prompt of a batch gets that says nothing of it; numbers may be texts."""
    from airflow_provider_claid.delivery.prompts.source import Defaults

    images, scale = _number(operator.number_of_images, int), _number(operator.guidance_scale, float)
    return Defaults(images, scale, operator.output_folder or None)


def max_failed_of(operator: ClaidGenerateBatchOperator) -> float:
    """Return how many prompts of a batch may fail, a count or a share; the number may be a text."""
    given: float = _number(_number(operator.max_failed, int), float)
    if not _is_count(given, 0) and not (isinstance(given, float) and 0 <= given < 1):
        raise ClaidInputError("max_failed", f"{given!r:.40}", "a whole number from 0, or a share of all below 1")
    return given


def target_of(operator: ClaidGenerateOperator) -> Target | None:
    """Read where pictures are copied to; raises `ClaidInputError` for arguments that do not fit together."""
    save_to, filename = operator.save_to, getattr(operator, "filename", None)
    if save_to and operator.output_folder:
        raise ClaidInputError("save_to", "a value together with output_folder", "one of the two", "Leave one out.")
    for name, value in {"save_to": save_to, "output_folder": operator.output_folder}.items():
        if value == "":
            raise ClaidInputError(name, "nothing", "a folder", "Leave it out for addresses that die in 24 hours.")
    if filename and not save_to:
        raise ClaidInputError("filename", f"{filename!r:.80} without save_to", "a name of copies", "Add save_to.")
    own = operator.own_folder and isinstance(operator.output_folder, str)
    if own and len(operator.output_folder or "") > models.MAX_OUTPUT - _OWN_FOLDER:
        came, most = f"{len(operator.output_folder or '')} characters", models.MAX_OUTPUT - _OWN_FOLDER
        raise ClaidInputError("output_folder", came, f"at most {most} with own_folder")
    target = parse_target(save_to, operator.storage_conn_id) if save_to else None
    if filename:
        check_key(target, check_name(filename), "filename")
    return target


def name_of(operator: ClaidGenerateImageOperator, key: str, target: Target | None) -> str:
    """Return what the pictures of a job are called: `filename`, else its key; the folder's disk is asked. Blocks."""
    if not operator.filename:
        return key
    name = check_name(operator.filename)
    check_key(target, name, "filename", disk_limit(target))
    return name


def check_literals(operator: ClaidGenerateImageOperator) -> None:
    """Check at parse time what needs no rendering."""
    settle(operator)
    if getattr(operator, "multiple_outputs", False):
        # Airflow takes the list apart after execute, fails, and would retry a paid task.
        raise ClaidInputError("multiple_outputs", "True", "False", "The operator returns one list of URIs.")
    if operator.deferrable not in (True, False, None):
        raise ClaidInputError("deferrable", repr(operator.deferrable), "True, False or None")
    _check_common(operator, operator.prompt)
    if all(map(is_literal, (operator.save_to, operator.output_folder, operator.storage_conn_id, operator.filename))):
        target_of(operator)
    if operator.filename and is_literal(operator.filename):
        check_name(operator.filename)


def check_batch_literals(operator: ClaidGenerateBatchOperator) -> None:
    """Check at parse time what needs no rendering, and no look into each prompt: that is for the run."""
    settle(operator)
    _check_common(operator, STAND_INS["prompt"])
    if all(map(is_literal, (operator.save_to, operator.output_folder, operator.storage_conn_id))):
        target_of(operator)
    prompts: Any = operator.prompts
    if prompts is not Later:
        require_place(operator)
        _check_prompts(prompts)
    check_on_bad_row(operator.on_bad_row)
    if operator.deduplicate not in (True, False):
        raise ClaidInputError("deduplicate", f"{operator.deduplicate!r:.40}", "True or False")
    if operator.max_credits is not None and not _is_count(operator.max_credits, 1):
        raise ClaidInputError("max_credits", f"{operator.max_credits!r:.40}", "a whole number from 1, or None")
    if is_literal(operator.max_failed):
        max_failed_of(operator)
    if operator.manifest_path and is_literal(operator.manifest_path):
        split_file(operator.manifest_path, "manifest_path", ".jsonl")


def require_place(operator: ClaidGenerateBatchOperator) -> None:
    """Raise `ClaidInputError` for a batch whose pictures would have temporary addresses only."""
    if operator.save_to is None and operator.output_folder is None:
        came, accepted = "nothing, without output_folder", "save_to or output_folder"
        raise ClaidInputError("save_to", came, accepted, "The pictures of a batch need a place that lasts.")


def _check_prompts(prompts: Any) -> None:
    if isinstance(prompts, str) and is_literal(prompts):
        from airflow_provider_claid.delivery.prompts.source import prompt_file

        prompt_file(prompts)
    elif isinstance(prompts, list | tuple):
        if not prompts:
            raise ClaidInputError("prompts", "an empty list", "at least one prompt")
    elif not isinstance(prompts, str) and not hasattr(prompts, "resolve"):
        accepted, fix = "a list of prompts, or the URI of a file with them", "Put them into a list: prompts=[...]."
        raise ClaidInputError("prompts", f"{prompts!r:.40} ({type(prompts).__name__})", accepted, fix)


def _is_count(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _check_common(operator: ClaidGenerateOperator, prompt: str) -> None:
    _check_choices(operator)
    _check_payment(operator)
    values = {"prompt": prompt} | {name: getattr(operator, name) for name in STAND_INS if name != "prompt"}
    request_of({name: value if is_literal(value) else STAND_INS[name] for name, value in values.items()})
    if operator.records_path and is_literal(operator.records_path):
        parse_target(operator.records_path, None, "records_path")


def no_records(argument: str, came: str) -> ClaidInputError:
    """Return the error for an argument that is a promise only records can keep."""
    fix = "Give records_path, or set [claid] records_path for all; the task state store is on workers only."
    return ClaidInputError(argument, f"{came}, without records", "this together with a place for records", fix)


def _check_choices(operator: ClaidGenerateOperator) -> None:
    if operator.on_filtered not in ON_FILTERED:
        raise ClaidInputError("on_filtered", repr(operator.on_filtered), " or ".join(map(repr, ON_FILTERED)))
    if operator.object_tags not in (True, False) or (operator.object_tags and operator.save_to is None):
        fix = "Only pictures that save_to copies can be tagged; those in output_folder are written by Claid."
        came = repr(operator.object_tags)
        raise ClaidInputError("object_tags", came, "False, or True together with save_to", fix)


def _check_payment(operator: ClaidGenerateOperator) -> None:
    if not _is_count(operator.max_submissions, 1):
        came, fix = f"{operator.max_submissions!r:.40}", "Each submission that may have been billed counts."
        raise ClaidInputError("max_submissions", came, "a whole number of at least 1", fix)
    if operator.reuse not in (True, False):
        raise ClaidInputError("reuse", f"{operator.reuse!r:.40}", "True or False")
    if operator.own_folder not in (True, False) or (operator.own_folder and operator.output_folder is None):
        fix = "It is a folder inside output_folder."
        came = repr(operator.own_folder)
        raise ClaidInputError("own_folder", came, "False, or True together with output_folder", fix)
    seconds = operator.reconcile_timeout
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 <= seconds <= 86_400:
        raise ClaidInputError("reconcile_timeout", f"{seconds!r:.40}", "seconds from 0 to 86400")


def _number(value: Any, kind: type[int | float]) -> Any:
    """Turn a rendered text into its number; anything else is left for the check of the request."""
    if not isinstance(value, str):
        return number_of(value)
    try:
        return kind(value.strip())
    except ValueError:
        return value
