"""
What a job accepts, checked before anything is sent: each error names the argument, what came, and the fix.

Imports no HTTP client: a Dag file that uses the operators loads this module at every parse.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import ValidationError

from airflow_provider_claid.api import models
from airflow_provider_claid.api.errors import ClaidInputError
from airflow_provider_claid.api.models import GenerateRequest
from airflow_provider_claid.delivery.names import MANIFEST_BYTES, check_folder, check_name, check_stem
from airflow_provider_claid.delivery.paths import as_uri
from airflow_provider_claid.delivery.values import control_in, has_visible, number_of, reference_in, text_of

__all__ = [
    "DEFAULT_CONNECTIONS",
    "ON_BAD_ROW",
    "ON_FILTERED",
    "OnFiltered",
    "Target",
    "check_name",
    "check_no_reference",
    "check_on_bad_row",
    "check_request",
    "parse_target",
    "split_address",
    "split_file",
]

OnFiltered = Literal["fail", "skip", "keep"]
ON_FILTERED: tuple[OnFiltered, ...] = ("fail", "skip", "keep")
ON_BAD_ROW = ("fail", "skip")

DEFAULT_CONNECTIONS = {
    **dict.fromkeys(("s3", "s3a", "s3n"), "aws_default"),
    **dict.fromkeys(("gs", "gcs"), "google_cloud_default"),
    **dict.fromkeys(("abfs", "abfss"), "wasb_default"),
}
"""The connection of each scheme that is used where none is named, as the providers' own hooks do."""

_AZURE = frozenset({"abfs", "abfss", "adl", "az", "wasb", "wasbs"})
"""Schemes of Azure, whose own addresses are `abfss://container@account.dfs.core.windows.net/folder/`."""

_FOLDER_FORM = "the URI of a folder, such as s3://bucket/folder/ or file:///folder/"
_ACCEPTED = {
    "input": f"a text of {models.MIN_PROMPT} to {models.MAX_PROMPT} characters",
    "number_of_images": f"a whole number from {models.MIN_IMAGES} to {models.MAX_IMAGES}",
    "guidance_scale": f"a number from {models.MIN_GUIDANCE:g} up to, but not including, {models.GUIDANCE_BELOW:g}",
    "output": f"storage://name/folder/ with a final slash, at most {models.MAX_OUTPUT} characters",
}
_FIXES = {
    "input": "Shorten or lengthen the prompt.",
    "number_of_images": "Each picture costs one credit.",
    "guidance_scale": "5 to 7 is usual.",
    "output": "Storages are connected in Claid's dashboard.",
}


@dataclass(frozen=True)
class Target:
    """A folder to put pictures into: `uri` with a final slash and without a connection id, and that id apart."""

    uri: str
    scheme: str
    conn_id: str | None = None


def check_request(
    prompt: Any, number_of_images: Any, guidance_scale: Any, output: Any, *, output_name: str = "output"
) -> GenerateRequest:
    """
    Build the request; a value that Claid would refuse is a `ClaidInputError` that names the argument.

    A number or date is taken as the text of a prompt. One that shows nothing, which would be billed, is refused, and so
    are control characters other than tab and line ends, and the name of a value that an f-string wrote in its place.
    """
    prompt = text_of(prompt)
    if isinstance(prompt, str):
        _check_characters(prompt)
    options = {"number_of_images": number_of(number_of_images), "guidance_scale": number_of(guidance_scale)}
    try:
        return GenerateRequest.model_validate({"input": prompt, "options": options, "output": output})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field, came = str(first["loc"][-1]), first["input"]
        name = {"input": "prompt", "output": output_name}.get(field, field)
        raise ClaidInputError(name, _shown(came), _ACCEPTED[field], _fix(field, came)) from None


def parse_target(save_to: Any, storage_conn_id: str | None, field: str = "save_to") -> Target:
    """
    Read the URI of a folder, or a path object; a connection id in it (`s3://id@bucket/`) counts as `storage_conn_id`.

    Raises `ClaidInputError`, also for a folder so deep that its store takes no names in it.
    """
    save_to = as_uri(save_to, field)
    parts = split_address(save_to, field, _FOLDER_FORM)
    inline, _, host = parts.netloc.rpartition("@")
    local = parts.scheme == "file"
    faults = {
        "Begin with a scheme; a local path is file:///path/.": not parts.scheme or "://" not in save_to,
        "Storages connected to Claid go into output_folder.": parts.scheme == "storage",
        "A web address cannot be written to.": parts.scheme in {"http", "https"},
        "Leave out ? and #.": bool(parts.query or parts.fragment),
        f"It names the connection {inline!r}, storage_conn_id names {storage_conn_id!r}: leave one out.": bool(
            inline and storage_conn_id and inline != storage_conn_id
        ),
        "A local folder has three slashes: file:///path/.": local and bool(host or not parts.path.startswith("/")),
        "The bucket is missing.": not local and not host,
    }
    for fix, found in faults.items():
        if found:
            raise ClaidInputError(field, repr(save_to), _FOLDER_FORM, fix)
    target = Target(f"{parts.scheme}://{host}{parts.path.rstrip('/')}/", parts.scheme, inline or storage_conn_id)
    check_folder(target, field)
    return target


def split_address(uri: str, field: str, form: str) -> SplitResult:
    """Take an address apart, of which `form` is accepted; one with credentials is refused and not shown."""
    if not isinstance(uri, str):
        raise ClaidInputError(field, f"{uri!r:.60}", form)
    check_no_reference(uri, field)
    try:
        parts = urlsplit(uri)
    except ValueError as cause:
        raise ClaidInputError(field, repr(uri), form, f"{cause}.") from None
    if ":" in parts.netloc.rpartition("@")[0]:
        fix = "Put the credentials into an Airflow connection and name that."
        raise ClaidInputError(field, "an address with credentials (not shown)", form, fix)
    container, _, host = parts.netloc.rpartition("@")
    if container and "." in host and parts.scheme in _AZURE:
        # Before the @ stands the id of an Airflow connection, as in Airflow's own object storage.
        fix = f"The storage account goes into the Airflow connection: {parts.scheme}://{container}{parts.path}."
        raise ClaidInputError(field, f"{uri!r:.200}", form, fix)
    return parts


def check_on_bad_row(value: Any) -> None:
    """Check what a bad row of a batch is to do."""
    if value not in ON_BAD_ROW:
        raise ClaidInputError("on_bad_row", f"{value!r:.40}", " or ".join(map(repr, ON_BAD_ROW)))


def split_file(uri: Any, field: str, end: str) -> tuple[str, str]:
    """Split the URI of a file with this end, or its path object, into its folder, with a final slash, and its name."""
    uri = as_uri(uri, field)
    folder, _, name = uri.rpartition("/") if isinstance(uri, str) else ("", "", "")
    if not name.endswith(end) or "://" not in folder:
        accepted = f"the URI of a file with the end {end}, such as s3://bucket/folder/monday{end}"
        raise ClaidInputError(field, f"{uri!r:.80}", accepted)
    parse_target(f"{folder}/", None, field)
    check_stem(name.removesuffix(end), field, MANIFEST_BYTES)
    return f"{folder}/", name


def check_no_reference(text: str, field: str) -> None:
    """Raise `ClaidInputError` for a text that has the name of a value in it, which an f-string wrote before the run."""
    if found := reference_in(text):
        came, accepted = f"the name of a value, {found!r}", "the value itself"
        fix = "Only a run knows it: give it alone, without text around it, or put the text together in a task."
        raise ClaidInputError(field, came, accepted, fix)


def _check_characters(prompt: str) -> None:
    check_no_reference(prompt, "prompt")
    if found := control_in(prompt):
        place, name = found
        fix = "Leave it out: tabs and line ends are the only control characters that a prompt may have."
        raise ClaidInputError("prompt", f"{_shown(prompt)} with {name} as character {place}", _ACCEPTED["input"], fix)
    if prompt and not has_visible(prompt):
        accepted, fix = f"{_ACCEPTED['input']} that can be seen", "Nothing but blanks would be billed like any other."
        raise ClaidInputError("prompt", _shown(prompt), accepted, fix)


def _shown(value: Any) -> str:
    if isinstance(value, str):
        text = value if len(value) <= 40 else f"{value[:37]}..."
        return f"{text!r} ({len(value)} characters)"
    return f"{value!r:.60} ({type(value).__name__})"


def _fix(field: str, came: Any) -> str:
    if field == "input" and isinstance(came, list | tuple | set):
        return "A list would be billed character by character: map over it with expand(prompt=[...])."
    if field == "input" and isinstance(came, float):
        return "A number of this size has lost digits: give it as a text."
    return _FIXES[field]
