"""Operators that turn prompts into stored, checked pictures."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator, conf

from airflow_provider_claid.api.errors import ClaidInputError
from airflow_provider_claid.delivery.checks import (
    ON_FILTERED,
    OnFiltered,
    Target,
    check_name,
    check_request,
    parse_target,
)
from airflow_provider_claid.exceptions import airflow_errors
from airflow_provider_claid.links.claid import RESULT_KEY, ClaidPictureLink
from airflow_provider_claid.templating import is_literal

# What only a running task needs (the HTTP client, the pacer) is imported where it runs: every parse would pay.
if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_claid.api.models import GenerateRequest
    from airflow_provider_claid.delivery.job import ImageJob, JobResult
    from airflow_provider_claid.lineage import Delivery

log = logging.getLogger(__name__)

_NOT_BUILT = {
    "deferrable": (None, False),
    "max_submissions": (1,),
    "records_path": (None, ""),
    "reuse": (True,),
    "own_folder": (False,),
    "reconcile_timeout": (120,),
}
"""Arguments that later versions build, with the values that need no building."""

_STAND_INS = {"prompt": "any prompt", "number_of_images": 1, "guidance_scale": 5.0, "output_folder": None}
"""The arguments of a request, each with a value that passes, for templates that only a run can render."""


class ClaidGenerateImageOperator(BaseOperator):
    """
    Turn one prompt into 1 to 4 pictures, stored and checked; costs 1 credit each (Claid API §2 and §8).

    Returns the list of picture URIs. XCom `claid_result` holds plain JSON: request id, credits, and each picture's
    URI, size, type, bytes, SHA-256, whether the content filter made it black, and when its address expires.

    A request is sent again only if it surely was not billed, and a task that failed after it may have been is not
    retried by Airflow. One whose worker was killed outright in the middle is: give it `retries=0` if a second payment
    would be worse than a missing picture.

    Events of `outlets` carry the URIs, the credits, the request id and the SHA-256 of the prompt as their extra; an
    `AssetAlias` gets one for the folder of the pictures. Hook lineage and OpenLineage get the folder as output.

    :param prompt: the text, 3 to 1024 characters (templated).
    :param number_of_images: 1 to 4 (templated).
    :param guidance_scale: how closely to follow the prompt, at least 1 and below 50; 5 to 7 is usual (templated).
    :param output_folder: `storage://name/folder/` of a storage connected to Claid, which writes there (templated).
    :param save_to: the URI of a folder, any `ObjectStoragePath` such as `s3://bucket/folder/` or `file:///folder/`,
        into which the pictures are copied after a check (templated). With neither, the addresses die in 24 hours.
    :param filename: what the copies are called; `-1.png`, `-2.png` … are added (templated). Default: the job key.
        Mapped tasks need names that differ, `{{ ti.map_index }}` say: an equal name is overwritten.
    :param claid_conn_id: the Airflow connection with the API key (templated).
    :param storage_conn_id: the Airflow connection for `save_to`; None is the default of its scheme (`aws_default` for
        s3) where that is defined, else the machine's own credentials (templated).
    :param on_filtered: what a black picture of Claid's content filter does: `fail` the task, once all pictures are
        stored and in XCom; `skip` leaves it out of the returned list; `keep` returns it, flagged in `claid_result`.
    :param object_tags: put the tags `dag_id`, `run_id`, `task_id` and, in a mapped task, `map_index` on the copies in
        S3 and Azure; other stores have none. Needs the right `s3:PutObjectTagging` (without it pictures are stored
        untagged, with a warning), and S3 charges about 0.01 USD a month for 10,000 tags.
    :param deferrable: not built yet; None and the configuration's default run on the worker.
    :param max_submissions: not built yet; only 1 is accepted.
    :param records_path: not built yet (templated).
    :param reuse: not built yet; only True is accepted.
    :param own_folder: not built yet; only False is accepted.
    :param reconcile_timeout: not built yet; only 120 is accepted.
    """

    template_fields: Sequence[str] = (
        "prompt",
        "number_of_images",
        "guidance_scale",
        "output_folder",
        "save_to",
        "filename",
        "records_path",
        "claid_conn_id",
        "storage_conn_id",
    )
    operator_extra_links = (ClaidPictureLink(),)
    ui_color = "#e9e4ff"
    _delivery: Delivery | None = None

    def __init__(
        self,
        *,
        prompt: str,
        number_of_images: int | str = 1,
        guidance_scale: float | str = 5.0,
        output_folder: str | None = None,
        save_to: str | None = None,
        filename: str | None = None,
        claid_conn_id: str = "claid_default",
        storage_conn_id: str | None = None,
        deferrable: bool | None = None,
        max_submissions: int = 1,
        records_path: str | None = None,
        reuse: bool = True,
        on_filtered: OnFiltered = "fail",
        object_tags: bool = False,
        own_folder: bool = False,
        reconcile_timeout: float = 120,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.prompt = prompt
        self.number_of_images = number_of_images
        self.guidance_scale = guidance_scale
        self.output_folder = output_folder
        self.save_to = save_to
        self.filename = filename
        self.claid_conn_id = claid_conn_id
        self.storage_conn_id = storage_conn_id
        self.deferrable = deferrable
        self.max_submissions = max_submissions
        self.records_path = records_path
        self.reuse = reuse
        self.on_filtered = on_filtered
        self.object_tags = object_tags
        self.own_folder = own_folder
        self.reconcile_timeout = reconcile_timeout
        with airflow_errors():
            self._check_literals()

    def execute(self, context: Context) -> list[str]:
        """Pay for the pictures once, bring them to where they last, and return their URIs."""
        from airflow_provider_claid.delivery import sync
        from airflow_provider_claid.delivery.job import deliverable, run
        from airflow_provider_claid.hooks.claid import ClaidHook
        from airflow_provider_claid.lineage import announce, delivery_of

        with airflow_errors():
            self._refuse_what_is_not_built()
            if self.deferrable is None and conf.getboolean("operators", "default_deferrable", fallback=False):
                log.info("[operators] default_deferrable is set; this operator runs on the worker.")
            job = self._job(context)
            result = sync.run(run(job))
            self._hand_over(context, result, job.target)
            uris = deliverable(result, self.on_filtered)
            self._delivery = delivery_of(result, uris, job.request.input)
            announce(context, self.outlets, ClaidHook(self.claid_conn_id), self._delivery)
            return uris

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage:
        """Return the folder of the pictures for OpenLineage, which asks in a fork of the process that has executed."""
        from airflow_provider_claid.lineage import operator_lineage

        return operator_lineage(self._delivery)

    def _job(self, context: Context) -> ImageJob:
        from airflow_provider_claid.delivery.job import Identity, ImageJob
        from airflow_provider_claid.hooks.claid import ClaidHook
        from airflow_provider_claid.hooks.storage import storage_connection

        request, target = self._request(), self._target()
        self._check_map_index(context)
        ti = context["ti"]
        identity = Identity(ti.dag_id, ti.run_id, ti.task_id, -1 if ti.map_index is None else ti.map_index)
        name = check_name(self.filename) if self.filename else identity.key()
        if target is None and request.output is None:
            log.warning("Neither save_to nor output_folder: the addresses of these pictures die in 24 hours.")
        if target is not None:
            target = replace(target, conn_id=storage_connection(target.conn_id, target.scheme))
        elif self.storage_conn_id:
            storage_connection(self.storage_conn_id, "")
        tags = identity.tags() if self.object_tags else {}
        return ImageJob(ClaidHook(self.claid_conn_id).account(), request, name, target, tags)

    def _request(self, instead: Mapping[str, Any] | None = None) -> GenerateRequest:
        """Build and check the request, with stand-ins `instead` of arguments that are not rendered yet."""
        values = {name: getattr(self, name) for name in _STAND_INS} | dict(instead or {})
        return check_request(
            values["prompt"],
            _number(values["number_of_images"], int),
            _number(values["guidance_scale"], float),
            values["output_folder"] or None,
            output_name="output_folder",
        )

    def _target(self) -> Target | None:
        if self.save_to and self.output_folder:
            raise ClaidInputError("save_to", "a value together with output_folder", "one of the two", "Leave one out.")
        for name in ("save_to", "output_folder"):
            if getattr(self, name) == "":
                raise ClaidInputError(name, "nothing", "a folder", "Leave it out for addresses that die in 24 hours.")
        if self.filename and not self.save_to:
            raise ClaidInputError(
                "filename", f"{self.filename!r:.80} without save_to", "a name of copies", "Add save_to."
            )
        return parse_target(self.save_to, self.storage_conn_id) if self.save_to else None

    def _check_map_index(self, context: Context) -> None:
        """Render what Airflow renders after execute: a fault in it then would fail, and retry, a paid task."""
        template = getattr(self, "map_index_template", None)
        if template is None:
            return
        try:
            self.get_template_env().from_string(template).render(context)
        except Exception as cause:
            fix = f"It fails with {type(cause).__name__}: {cause}."
            raise ClaidInputError("map_index_template", f"{template!r:.80}", "a template that renders", fix) from cause

    def _hand_over(self, context: Context, result: JobResult, target: Target | None) -> None:
        value = result.to_json() | {"storage_conn_id": target.conn_id if target else self.storage_conn_id}
        for number, picture in enumerate(result.pictures, 1):
            log.info("Picture %d: %s", number, picture.error or picture.uri)
        log.info("Request %s: %d credits, %d pictures.", result.request_id, result.credits, len(result.pictures))
        context["ti"].xcom_push(key=RESULT_KEY, value=value)

    def _check_literals(self) -> None:
        """Check at parse time what needs no rendering; the rest is checked before anything is sent."""
        self._refuse_what_is_not_built()
        if getattr(self, "multiple_outputs", False):
            # Airflow takes the list apart after execute, fails, and would retry a paid task.
            raise ClaidInputError("multiple_outputs", "True", "False", "The operator returns one list of URIs.")
        if self.on_filtered not in ON_FILTERED:
            raise ClaidInputError("on_filtered", repr(self.on_filtered), " or ".join(map(repr, ON_FILTERED)))
        if self.object_tags not in (True, False) or (self.object_tags and self.save_to is None):
            fix = "Only pictures that save_to copies can be tagged; those in output_folder are written by Claid."
            raise ClaidInputError("object_tags", repr(self.object_tags), "False, or True together with save_to", fix)
        self._request({name: value for name, value in _STAND_INS.items() if not is_literal(getattr(self, name))})
        if all(map(is_literal, (self.save_to, self.output_folder, self.storage_conn_id, self.filename))):
            self._target()
        if self.filename and is_literal(self.filename):
            check_name(self.filename)

    def _refuse_what_is_not_built(self) -> None:
        for name, harmless in _NOT_BUILT.items():
            value = getattr(self, name)
            if not any(value is item or (value == item and type(value) is type(item)) for item in harmless):
                accepted, fix = f"{harmless[0]!r}", "This version does not build it yet; it would do nothing."
                raise ClaidInputError(name, repr(value), accepted, fix)


def _number(value: Any, kind: type[int | float]) -> Any:
    """Turn a rendered text into its number; anything else is left for the check of the request."""
    if not isinstance(value, str):
        return value
    try:
        return kind(value.strip())
    except ValueError:
        return value
