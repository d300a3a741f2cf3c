"""
By which connection the pictures of another task were stored: their URIs do not say it, the XCom beside them does.

The operator returns plain URIs, since `S3Hook` would read a connection id as a part of the bucket.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any

from airflow_provider_claid.delivery.watching.expected import STORES, Promise, locate, two_connections

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, XComArg

RETURNED, RESULT = "return_value", "claid_result"


def sources_of(images: Any) -> tuple[XComArg, ...]:
    """Return references to the `claid_result` of each task whose returned value is in these images."""
    if images is None or isinstance(images, str):
        return ()
    from airflow.providers.common.compat.sdk import XComArg

    references = XComArg.iter_xcom_references(images)
    return tuple(XComArg(operator, key=RESULT) for operator, key in references if key == RETURNED)


def sources_of_mapped(task: Any) -> tuple[XComArg, ...]:
    """Return the same for a mapped task, whose images are one item of what it is mapped over."""
    expanded = getattr(task, "expand_input", None)
    if expanded is None:
        return ()
    from airflow.providers.common.compat.sdk import XComArg

    return tuple(XComArg(operator, key=RESULT) for operator, key in expanded.iter_references() if key == RETURNED)


def with_connections(images: Sequence[Promise], sources: Iterable[XComArg], context: Context) -> tuple[Promise, ...]:
    """
    Add to each picture of a store the connection that its task stored it by, as far as these tasks say so.

    Reads one XCom for each task, or instance of a mapped one; an instance of a mapped sensor stops once it has found
    its pictures. A task without a `claid_result` says nothing. Raises `ClaidInputError` if two connections were used
    for one address.
    """
    unsaid = {image.uri for image in images if _is_unsaid(image)}
    own = getattr(context.get("ti"), "map_index", -1)
    found: dict[str, str] = {}
    for source in sources if unsaid else ():
        for result in _results(source, context, own):
            for uri in unsaid & _uris(result):
                conn_id = result["storage_conn_id"]
                if conn_id and found.setdefault(uri, conn_id) != conn_id:
                    raise two_connections(uri, (found[uri], conn_id))
            if own >= 0 and unsaid <= found.keys():
                break
    return tuple(replace(image, storage_conn_id=found[image.uri]) if image.uri in found else image for image in images)


def _is_unsaid(image: Promise) -> bool:
    address = locate(image.uri, "images", image.storage_conn_id)
    return address.conn_id is None and address.scheme in {*STORES, "storage"} - {"file"}


def _results(source: XComArg, context: Context, own: int) -> Iterator[Mapping[str, Any]]:
    """Yield the results of a task, or of each of its mapped instances, first that of the same number."""
    from airflow.providers.common.compat.sdk import XComNotFound

    try:
        value = source.resolve(context)
    except XComNotFound:
        return
    if isinstance(value, Sequence) and not isinstance(value, str):
        many: Iterable[Any] = chain(value[own : own + 1] if own >= 0 else (), value)
    else:
        many = (value,)
    yield from (result for result in many if isinstance(result, Mapping) and "storage_conn_id" in result)


def _uris(result: Mapping[str, Any]) -> set[str]:
    images = result.get("images")
    return {str(image.get("uri")) for image in images or () if isinstance(image, Mapping)}
