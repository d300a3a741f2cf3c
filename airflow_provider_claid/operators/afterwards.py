"""
What Airflow does once a task has executed: what of it can fail would fail, and retry, a task that is paid for.

So it is proven before anything is sent, and a label that breaks later is left out.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow_provider_claid.api.errors import ClaidInputError
from airflow_provider_claid.operators.mapping import declared_task, is_mapped_operator

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_claid.operators.base import ClaidGenerateOperator

log = logging.getLogger(__name__)

TEMPLATE = "map_index_template"
LABEL_LENGTH = 250
"""Characters that Airflow's database takes of a rendered `map_index_template`."""


def check_afterwards(operator: ClaidGenerateOperator, context: Context) -> None:
    """Raise `ClaidInputError` for what would fail once the task has executed."""
    if fault := label_fault(operator, context):
        accepted = f"a template that renders to a text of at most {LABEL_LENGTH} characters"
        raise ClaidInputError(TEMPLATE, f"{_label(operator, context)!r:.80}", accepted, fault)
    _check_pushed(operator, context)


def drop_broken_label(operator: ClaidGenerateOperator, context: Context) -> None:
    """Have Airflow label a mapped task by its index if its label cannot be rendered any more; never raises."""
    if fault := label_fault(operator, context):
        log.warning("%s %r is left out: %s", TEMPLATE, _label(operator, context), fault)
        context["map_index_template"] = None


def label_fault(operator: ClaidGenerateOperator, context: Context) -> str | None:
    """Render the label as Airflow does after execute, with the context as it is now, and say what is wrong with it."""
    template = _label(operator, context)
    if template is None:
        return None
    try:
        dag: Any = context.get("dag") or operator
        label = dag.get_template_env().from_string(template).render(context)
    except Exception as cause:  # noqa: BLE001 - whatever a template raises
        return f"It fails with {type(cause).__name__}: {cause}."
    return _text_fault(label)


def _label(operator: ClaidGenerateOperator, context: Context) -> Any:
    """Return the template: Airflow takes that of the context, where it has put the task's."""
    own = getattr(operator, TEMPLATE, None)
    return context.get(TEMPLATE, own)


def _text_fault(label: Any) -> str | None:
    if not isinstance(label, str):
        came = f"{label!r:.40} ({type(label).__name__})"
        return f"Native rendering makes it {came}: add a word, as in 'no. {{{{ ti.map_index }}}}'."
    if len(label) > LABEL_LENGTH:
        return f"It renders to {len(label)} characters: {label[:40]!r} …"
    if "\0" in label or not _is_unicode(label):
        return f"It renders to {label[:40]!r}, which no database stores."
    return None


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_pushed(operator: ClaidGenerateOperator, context: Context) -> None:
    """Refuse a task that pushes nothing where another task is mapped over what it returns: Airflow fails the former."""
    declared = declared_task(context)
    if operator.do_xcom_push or declared is None or is_mapped_operator(declared):
        return
    if dependant := next(iter(declared.iter_mapped_dependants()), None):
        fix = f"{dependant.node_id} is mapped over what this task returns."
        raise ClaidInputError("do_xcom_push", "False", "True", fix)
