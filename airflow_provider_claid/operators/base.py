"""What the operators that pay have in common."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_claid.api.errors import ClaidInputError
from airflow_provider_claid.delivery.checks import OnFiltered, Target
from airflow_provider_claid.delivery.stop import Stop
from airflow_provider_claid.exceptions import airflow_errors
from airflow_provider_claid.operators.arguments import TEXTS, no_records, settle, target_of
from airflow_provider_claid.templating import is_native, noting_gaps, render_text

# What only a running task needs (the HTTP client, the pacer) is imported where it runs: every parse would pay.
if TYPE_CHECKING:
    import jinja2
    from airflow.providers.common.compat.sdk import Context
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_claid.api.models import GenerateRequest
    from airflow_provider_claid.delivery.account import Account
    from airflow_provider_claid.delivery.identity import Identity
    from airflow_provider_claid.delivery.job import ImageJob
    from airflow_provider_claid.delivery.records.attempts import Attempt
    from airflow_provider_claid.delivery.records.store import Records
    from airflow_provider_claid.hooks.order import Order
    from airflow_provider_claid.hooks.records import Begun
    from airflow_provider_claid.lineage import Delivery

log = logging.getLogger(__name__)


class ClaidGenerateOperator(BaseOperator):
    """
    Base of the operators that pay: where pictures go, what is recorded, and how often a picture may be paid for.

    :param number_of_images: pictures of a prompt, 1 to 4 (templated).
    :param guidance_scale: how closely to follow the prompt, at least 1 and below 50; 5 to 7 is usual (templated).
    :param output_folder: `storage://name/folder/` of a storage connected to Claid, which writes there (templated).
    :param save_to: the URI of a folder, any `ObjectStoragePath` such as `s3://bucket/folder/` or `file:///folder/`,
        into which the pictures are copied after a check (templated).
    :param claid_conn_id: the Airflow connection with the API key (templated).
    :param storage_conn_id: the Airflow connection for `save_to`; None is the default of its scheme (`aws_default` for
        s3) where that is defined, else the machine's own credentials (templated).
    :param max_submissions: how often a picture may be paid for in all, over all retries of Airflow. 1: a request whose
        outcome is unknown is never sent again, which can cost a picture. 2: it is sent once more, which can cost
        twice the credits; and so on. Above 1 it needs records.
    :param records_path: the URI of a folder for the records that keep retries from paying again, any store that
        refuses to create an object twice: S3, Google Cloud, Azure, `file://` (templated). Default: `[claid]
        records_path`. One per deployment: the runs of two may have the same names. Rights: to put and to get.
    :param reuse: what a person who clears the task gets. True: the recorded pictures, for nothing, unless the request
        changed; False: new pictures, paid again. An automatic retry never pays again for what is recorded.
    :param on_filtered: what a black picture of Claid's content filter does: `fail` the task, once all pictures are
        stored and in XCom; `skip` leaves it out of what is handed on; `keep` hands it on, flagged.
    :param object_tags: put the tags `dag_id`, `run_id`, `task_id` and, in a mapped task, `map_index` on the copies in
        S3 and Azure; other stores have none. Needs the right `s3:PutObjectTagging` (without it pictures are stored
        untagged, with a warning), and S3 charges about 0.01 USD a month for 10,000 tags.
    :param own_folder: add a folder of its own to `output_folder`, for each job: only then are pictures of a lost answer
        found for certain, and not paid again. Needs records.
    :param reconcile_timeout: seconds for which the pictures of a lost answer are looked for in `output_folder`.
    """

    template_fields: Sequence[str] = (
        "number_of_images",
        "guidance_scale",
        "output_folder",
        "save_to",
        "records_path",
        "claid_conn_id",
        "storage_conn_id",
    )
    ui_color = "#e9e4ff"
    _delivery: Delivery | None = None
    _begun: Begun | None = None
    """The attempt, where it has begun before its prompts are known."""

    def __init__(
        self,
        *,
        number_of_images: int | str = 1,
        guidance_scale: float | str = 5.0,
        output_folder: str | None = None,
        save_to: str | None = None,
        claid_conn_id: str = "claid_default",
        storage_conn_id: str | None = None,
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
        self.number_of_images = number_of_images
        self.guidance_scale = guidance_scale
        self.output_folder = output_folder
        self.save_to = save_to
        self.claid_conn_id = claid_conn_id
        self.storage_conn_id = storage_conn_id
        self.max_submissions = max_submissions
        self.records_path = records_path
        self.reuse = reuse
        self.on_filtered = on_filtered
        self.object_tags = object_tags
        self.own_folder = own_folder
        self.reconcile_timeout = reconcile_timeout
        self._stop = Stop()
        self._gaps: dict[str, tuple[str, str]] = {}
        self._nothing: set[str] = set()

    def on_kill(self) -> None:
        """Let no request leave any more. One that has left goes on: its answer is recorded if there is time."""
        self._stop.asked = True

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage:
        """Return the folder of the pictures for OpenLineage, which asks in a fork of the process that has executed."""
        from airflow_provider_claid.lineage import operator_lineage

        return operator_lineage(self._delivery)

    def render_template(
        self,
        content: Any,
        context: Context,
        jinja_env: jinja2.Environment | None = None,
        seen_oids: set[int] | None = None,
    ) -> Any:
        """
        Render a template field.

        A task that comes back from its trigger delivers what was settled before it was paid for: a field that cannot
        be rendered any more (its Variable is gone, say) stays as it is written, with a warning.
        """
        try:
            return self._rendered(content, context, jinja_env, seen_oids)
        except Exception as fault:
            if not comes_back(context):
                raise
            log.warning("A template is not rendered again, nor needed: %s: %s", type(fault).__name__, fault)
            return content

    def _rendered(
        self, content: Any, context: Context, jinja_env: jinja2.Environment | None, seen_oids: set[int] | None
    ) -> Any:
        """Render a template field; a text stays one where templates are native."""
        name = next((name for name in TEXTS if content is not None and content is getattr(self, name, None)), "")
        if name and isinstance(content, str):
            jinja_env = jinja_env or self.get_template_env()
            gap = partial(self._note_gap, name, content)
            if is_native(jinja_env):
                value = render_text(content, context, jinja_env, gap)
            else:
                value = super().render_template(content, context, noting_gaps(jinja_env, gap), seen_oids)
        else:
            value = super().render_template(content, context, jinja_env, seen_oids)
        if name and value is None:
            self._nothing.add(name)
        return value

    def _note_gap(self, name: str, template: str, value: Any) -> None:
        self._gaps[name] = template, "None" if value is None else f"{value!r:.80} ({type(value).__name__})"

    @contextmanager
    def _working(self, context: Context) -> Iterator[None]:
        """Raise Airflow's errors, measure, and leave nothing behind that Airflow fails on once this has ended."""
        from airflow_provider_claid.operators.afterwards import drop_broken_label

        try:
            with airflow_errors(tags_of(context)):
                if self._begun is not None:
                    # Each part of an attempt has a bill of its own.
                    self._begun.note()
                yield
        finally:
            drop_broken_label(self, context)

    def _order_of(self, identity: Identity, attempt: Attempt, request: GenerateRequest, **settled: Any) -> Order:
        from airflow_provider_claid.hooks.order import Order

        return Order(
            identity,
            attempt.generation,
            request,
            self.claid_conn_id,
            attempt=attempt.number,
            owner=attempt.owner,
            storage_conn_id=self.storage_conn_id,
            max_submissions=self.max_submissions,
            reuse=self.reuse,
            own_folder=self.own_folder,
            reconcile_timeout=self.reconcile_timeout,
            tags=self._tags(identity),
            on_filtered=self.on_filtered,
            **settled,
        )

    def _job_of(
        self, order: Order, account: Account, records: Records | None, name: str, target: Target | None, **rest: Any
    ) -> ImageJob:
        from airflow_provider_claid.delivery.job import ImageJob

        return ImageJob(
            account,
            order.request,
            name,
            target,
            order.tags,
            order.ledger(account, records) if records else None,
            order.search(),
            self._stop,
            owner=order.owner,
            look=order.look(),
            on_filtered=self.on_filtered,
            **rest,
        )

    def _tags(self, identity: Identity) -> dict[str, str]:
        return identity.tags() if self.object_tags else {}

    def _records_uri(self) -> str | None:
        from airflow_provider_claid.hooks.records import records_uri

        return records_uri(self.records_path)

    def _begin(self, context: Context) -> None:
        """Write down that the attempt begins, where there is one place for its records whatever it is asked for."""
        from airflow_provider_claid.hooks.records import begin

        settle(self)
        place = self._records_uri()
        if place is not None:
            self._begun = begin(context, place, identity_of(context))

    def _connected_target(self) -> Target | None:
        """Return where pictures are copied to, its connection looked up."""
        from airflow_provider_claid.hooks.storage import storage_connection

        target = target_of(self)
        if target is None:
            if self.storage_conn_id:
                storage_connection(self.storage_conn_id, "")
            return None
        return replace(target, conn_id=storage_connection(target.conn_id, target.scheme))

    def _require_records(self, *, kept: bool) -> None:
        if not kept and self.max_submissions > 1:
            raise no_records("max_submissions", str(self.max_submissions))
        if not kept and self.own_folder:
            # Without them nothing could say in which folder the pictures of a lost answer are.
            raise no_records("own_folder", "True")

    def _check_rendered(self) -> None:
        """Refuse a text in which a template gave None or a list: "photo of a None bicycle" would be billed like any."""
        for name, (template, value) in self._gaps.items():
            came = f"{template!r:.200}, of which an expression gives {value}"
            fix = (
                "Give a default, as in {{ params.x or 'red' }}. A task whose XCom is pulled must come before this one."
                if value == "None"
                else "Name one of its values, or put them together, as in {{ params.x | join(' and ') }}; "
                "for a picture of each, map over them with expand."
            )
            raise ClaidInputError(name, came, "a template that has all its values", fix)
        places = {"save_to": self.save_to, "output_folder": self.output_folder}
        if not any(places.values()) and (lost := sorted(self._nothing & places.keys())):
            came, fix = "None from another task or a template", "Leave it out for addresses that die in 24 hours."
            raise ClaidInputError(lost[-1], came, "a folder", fix)

    def _check_afterwards(self, context: Context) -> None:
        from airflow_provider_claid.operators.afterwards import check_afterwards

        check_afterwards(self, context)


def identity_of(context: Context) -> Identity:
    """Return what the job of a task instance is called."""
    from airflow_provider_claid.delivery.identity import Identity

    ti = context["ti"]
    return Identity(ti.dag_id, ti.run_id, ti.task_id, -1 if ti.map_index is None else ti.map_index)


def comes_back(context: Context) -> bool:
    """Tell whether a task instance comes back from its trigger, so that it does not begin but go on."""
    ti: Any = context["ti"]
    # Airflow 3 has it from the API server, 2.11 in the task instance itself.
    return bool(getattr(getattr(ti, "_ti_context_from_server", None) or ti, "next_method", None))


def tags_of(context: Context) -> dict[str, str]:
    """Return the tags that Airflow gives the metrics of this task."""
    return dict(getattr(context["ti"], "stats_tags", None) or {})
