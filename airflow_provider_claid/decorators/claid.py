"""`@task.claid_images`: a function that returns a prompt, or many."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import (
    DecoratedOperator,
    context_merge,
    determine_kwargs,
    task_decorator_factory,
)

from airflow_provider_claid.api.errors import ClaidInputError
from airflow_provider_claid.links.claid import ClaidManifestLink, ClaidPictureLink
from airflow_provider_claid.operators.arguments import defaults_of
from airflow_provider_claid.operators.base import identity_of
from airflow_provider_claid.operators.batch import ClaidGenerateBatchOperator
from airflow_provider_claid.operators.image import ClaidGenerateImageOperator
from airflow_provider_claid.templating import Later

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperatorLink, Context, TaskDecorator

    from airflow_provider_claid.delivery.records.attempts import Attempt
    from airflow_provider_claid.delivery.records.objects import Objects

log = logging.getLogger(__name__)


class ClaidImagesDecoratedOperator(DecoratedOperator, ClaidGenerateImageOperator, ClaidGenerateBatchOperator):
    """
    Turn what a function returns into pictures; costs 1 credit each.

    A text, or a dictionary with `prompt` and, if need be, `id` (the `filename`), `number_of_images` and
    `guidance_scale`, is what `ClaidGenerateImageOperator` does with it: its list of URIs is returned. A list of them,
    even of one, is what `ClaidGenerateBatchOperator` does with it: its counts are returned. The arguments of both are
    accepted; `deferrable` holds for one prompt only.

    What a function returns is data, nothing in it is rendered. A retry that finds the answer to one prompt recorded
    takes its pictures, whatever the function returns this time. A list has to be the same in each try: a retry with
    another one is refused, so let what a model writes come from a task before.
    """

    template_fields: Sequence[str] = tuple(
        field
        for field in dict.fromkeys(
            (
                *DecoratedOperator.template_fields,
                *ClaidGenerateImageOperator.template_fields,
                *ClaidGenerateBatchOperator.template_fields,
            )
        )
        if field not in {"prompt", "prompts"}
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {**DecoratedOperator.template_fields_renderers}
    operator_extra_links: Sequence[BaseOperatorLink] = (ClaidPictureLink(), ClaidManifestLink())
    custom_operator_name = "@task.claid_images"

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            python_callable=python_callable, op_args=op_args, op_kwargs=op_kwargs, prompt=Later, prompts=Later, **kwargs
        )

    def execute(self, context: Context) -> Any:
        """Call the function, and make its pictures."""
        context_merge(context, self.op_kwargs)
        self._begun = None
        with self._working(context):
            # Before the function: a try in which it fails leaves its mark, or the next would take its records for lost.
            self._begin(context)
        value = self._returned(context)
        with self._working(context):
            self._note_earlier(context)
            is_batch = self._take(value)
            is_batch = is_batch and not self._is_recorded(context)
            if not is_batch:
                self._refuse_after_batch(context)
        if is_batch:
            return ClaidGenerateBatchOperator.execute(self, context)
        return ClaidGenerateImageOperator.execute(self, context)

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> list[str]:
        """Take the answer that the trigger has recorded; the function is not called again."""
        # The label of a mapped task may name the function's arguments.
        context_merge(context, self.op_kwargs)
        return ClaidGenerateImageOperator.execute_complete(self, context, event)

    def _returned(self, context: Context) -> Any:
        kwargs = determine_kwargs(self.python_callable, self.op_args, context)
        try:
            return self.python_callable(*self.op_args, **kwargs)
        except BaseException:
            if self._begun is None:
                self._leave_mark(context)
            raise

    def _note_earlier(self, context: Context) -> None:
        """Let no error of this part say that nothing was sent, where an earlier try may have paid for a list."""
        from airflow_provider_claid.api.bill import current_bill
        from airflow_provider_claid.hooks.records import try_of

        is_later = try_of(context).number > 1 or (self._begun is not None and self._begun.attempt.number > 1)
        if is_later and (self._begun is None or not self._begun.paid):
            current_bill().found("unknown")

    def _is_recorded(self, context: Context) -> bool:
        """Take the one prompt that an earlier try has recorded, if there is one: it counts, whatever came now."""
        from airflow_provider_claid.hooks.records import begun_in_state, recorded_request

        places = self._begun, begun_in_state(context) if self._records_uri() is None else None
        request = next(filter(None, map(recorded_request, places)), None)
        if request is None:
            return False
        log.warning("The function returns a list now, and returned one prompt in an earlier try: that one counts.")
        self.prompt, self.number_of_images = request.input, request.options.number_of_images
        self.guidance_scale = request.options.guidance_scale
        return True

    def _refuse_after_batch(self, context: Context) -> None:
        from airflow_provider_claid.hooks.batch import has_begun

        if (found := self._marked_place(context)) is None:
            return
        objects, attempt = found
        if has_begun(objects, identity_of(context).key(), attempt.generation, reuse=self.reuse):
            name = f"The value that {self.python_callable.__name__} returned"
            fix = (
                "Both would be paid: let what a model writes come from a task before; or, if paying for the prompt is "
                "right, set reuse=False and clear the task."
            )
            fault = ClaidInputError(name, "one prompt", "the list that it returned in an earlier try", fix)
            fault.billed = "unknown"
            raise fault

    def _marked_place(self, context: Context) -> tuple[Objects, Attempt] | None:
        """Return where the records of a list would be, if this task has left a mark there, and the attempt."""
        from airflow_provider_claid.hooks.batch import marked_below, records_place
        from airflow_provider_claid.hooks.records import begin_batch, keeps_state, try_of

        if (place := self._records_uri()) is not None:
            return (records_place(place, None).objects, self._begun.attempt) if self._begun is not None else None
        # One prompt has no records here, unless Airflow keeps them, which then knows of those of a list.
        if try_of(context).number <= 1 or keeps_state(context) or (target := self._connected_target()) is None:
            return None
        objects = marked_below(target, identity_of(context).key())
        return None if objects is None else (objects, begin_batch(context, objects, identity_of(context)))

    def _leave_mark(self, context: Context) -> None:
        """
        Leave the mark where a list would have left it, if it can be left.

        Where Airflow keeps what it was told, a try that told nothing needs none: one prompt is recorded elsewhere.
        """
        from airflow_provider_claid.delivery.storage import open_folder
        from airflow_provider_claid.hooks.batch import records_place
        from airflow_provider_claid.hooks.records import begin_batch, keeps_state

        if keeps_state(context):
            return
        with suppress(Exception):
            if target := self._connected_target():
                open_folder(target)
                begin_batch(context, records_place(None, target).objects, identity_of(context))

    def _take(self, value: Any) -> bool:
        """Take what the function returned, and tell whether it is a batch; raises `ClaidInputError`."""
        from airflow_provider_claid.delivery.prompts.rows import check_columns, item_of, row_of

        if isinstance(value, list | tuple):
            self.prompts = list(value)
            return True
        if not isinstance(value, str | Mapping):
            name = f"The value that {self.python_callable.__name__} returned"
            came, accepted = f"{value!r:.60} ({type(value).__name__})", "a prompt, a dictionary with one, or a list"
            raise ClaidInputError(name, came, accepted)
        row = row_of(1, value)
        check_columns(row.cells, "The value")
        item = item_of(row, 0, "The value", defaults_of(self))
        self.filename = item.id or self.filename
        self._is_named = bool(item.id)
        self.prompt = item.request.input
        self.number_of_images = item.request.options.number_of_images
        self.guidance_scale = item.request.options.guidance_scale
        return False


def claid_images_task(
    python_callable: Callable[..., Any] | None = None, multiple_outputs: bool = False, **kwargs: Any
) -> TaskDecorator:
    """
    Make a task of a function that returns a prompt, a dictionary with one, or a list: `@task.claid_images`.

    Takes the arguments of `ClaidGenerateImageOperator` and `ClaidGenerateBatchOperator`, and of any task.
    """
    # Not inferred from a return type of `dict`: that would take the result apart, after it was paid for.
    return task_decorator_factory(
        python_callable=python_callable,
        multiple_outputs=multiple_outputs,
        decorated_operator_class=ClaidImagesDecoratedOperator,
        **kwargs,
    )
