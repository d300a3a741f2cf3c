"""
What Airflow is told about finished pictures: events of assets, hook lineage, and OpenLineage.

All of it comes after the payment and the delivery, so nothing here may fail a task: what goes wrong is a warning.
"""

from __future__ import annotations

import hashlib
import json
import logging
import string
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import airflow
from airflow.providers.common.compat.sdk import Asset, AssetAlias

from airflow_provider_claid.assets.claid import dataset_name
from airflow_provider_claid.delivery.prompts.source import prompt_file

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseHook, Context
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_claid.delivery.checks import Target
    from airflow_provider_claid.delivery.job import JobResult

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Delivery:
    """
    What a finished task announces.

    `extra` is plain JSON for the events of assets. `folders` are the URIs, with a final slash, of the folders in which
    pictures last, each with how many of them were handed on; temporary addresses are in none. `sources` are the URIs
    of the files that the prompts came from: none for a prompt that stands in the Dag.
    """

    extra: Mapping[str, Any]
    folders: Mapping[str, int]
    sources: tuple[str, ...] = ()


def delivery_of(result: JobResult, uris: Sequence[str], prompt: str) -> Delivery:
    """
    Describe a job whose pictures `uris` are handed on; the prompt itself is not kept, only its SHA-256.

    `extra` is `{"uris": [...], "credits": 1, "request_id": "...", "prompt_sha256": "..."}`.
    """
    lasting = {picture.uri for picture in result.pictures if picture.expires_at is None}
    return Delivery(
        {
            "uris": list(uris),
            "credits": result.credits,
            "request_id": result.request_id,
            "prompt_sha256": hashlib.sha256(prompt.encode()).hexdigest(),
        },
        Counter(uri.rpartition("/")[0] + "/" for uri in uris if uri in lasting),
    )


def batch_delivery(summary: Mapping[str, Any], target: Target | None, prompts: Any) -> Delivery:
    """Describe a batch: its counts as `extra`, the folder of its copies, and the file that its prompts came from."""
    folders = {target.uri: summary["delivered"]} if target and summary["delivered"] else {}
    return Delivery(dict(summary), folders, (prompt_file(prompts).uri,) if isinstance(prompts, str) else ())


def announce(context: Context, outlets: Iterable[Any], hook: BaseHook, delivery: Delivery) -> None:
    """Tell Airflow's assets and its hook lineage; never raises an `Exception`."""
    for outlet in outlets:
        with _only_warned(f"The event of outlet {getattr(outlet, 'name', None) or getattr(outlet, 'uri', '')!r}"):
            add_event(context, outlet, delivery)
    with _only_warned("Hook lineage"):
        record_hook_lineage(hook, delivery)


def add_event(context: Context, outlet: Any, delivery: Delivery) -> None:
    """
    Put what was delivered into the event that Airflow makes for this outlet when the task has succeeded.

    An asset, or a reference to one, gets the `extra`. An alias gets an event for each folder that pictures are in, not
    for each picture, which would fill Airflow's table of assets. The asset is what `Asset("s3://bucket/folder/")` is,
    with the final slash that `save_to` has; a Dag scheduled on that is run. Addresses that die in 24 hours are in no
    folder that anybody could come back to, so without `save_to` and `output_folder` an alias gets no event.
    Before Airflow 3.2 an alias takes no lists: its `uris` are JSON text there. Airflow makes an asset that it does not
    know yet, and fails the second of two tasks that bring the same one at the same moment: where mapped tasks share a
    folder, let it be known before, as an outlet or in the schedule of any Dag.

    Other outlets are left alone.
    """
    if isinstance(outlet, AssetAlias):
        for folder in delivery.folders:
            context["outlet_events"][outlet].add(Asset(uri=_asset_uri(folder)), extra=_alias_extra(delivery.extra))
    # References have no common face in all Airflows, and 2.11 has none.
    elif isinstance(outlet, Asset) or type(outlet).__name__ in {"AssetNameRef", "AssetUriRef"}:
        context["outlet_events"][outlet].extra.update(delivery.extra)


def record_hook_lineage(hook: BaseHook, delivery: Delivery) -> None:
    """
    Record for hook lineage: the files of prompts as inputs, the folders of pictures as outputs.

    Folders, because the collector takes 100 assets. A literal prompt has no source, so nothing is an input then.
    """
    if not _lineage_is_read():
        return
    from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector

    collector = get_hook_lineage_collector()  # type: ignore[no-untyped-call]
    for source in delivery.sources:
        collector.add_input_asset(hook, uri=_asset_uri(source))
    for folder in delivery.folders:
        collector.add_output_asset(hook, uri=_asset_uri(folder))


def operator_lineage(delivery: Delivery | None) -> OperatorLineage:
    """
    Return what OpenLineage asks an operator for when its task has ended, None being a task that delivered nothing.

    Inputs are the files of prompts; outputs are the folders of pictures, each with how many were put into it.
    """
    from airflow.providers.common.compat.openlineage.facet import (
        InputDataset,
        OutputDataset,
        OutputStatisticsOutputDatasetFacet,
    )
    from airflow.providers.openlineage.extractors import OperatorLineage

    if delivery is None:
        # OpenLineage asks after a failure too, and takes a bare None for a fault.
        return OperatorLineage()
    inputs = [InputDataset(*dataset_name(source)) for source in delivery.sources]
    outputs = [
        OutputDataset(
            *dataset_name(folder),
            outputFacets={"outputStatistics": OutputStatisticsOutputDatasetFacet(fileCount=count)},
        )
        for folder, count in delivery.folders.items()
    ]
    return OperatorLineage(inputs=inputs, outputs=outputs)


def _alias_extra(extra: Mapping[str, Any], airflow_version: str = airflow.__version__) -> dict[str, Any]:
    """Copy an extra for an alias: older Airflows hash its values, after the task, and a list would fail a paid one."""
    if tuple(map(int, airflow_version.split(".")[:2])) >= (3, 2):
        return dict(extra)
    return {name: json.dumps(value) if isinstance(value, list | dict) else value for name, value in extra.items()}


def _asset_uri(uri: str) -> str:
    """Write a URI as an asset's: Airflow on MySQL refuses other than ASCII, when the task has already succeeded."""
    return quote(uri, safe=string.printable)


def _lineage_is_read() -> bool:
    """Tell whether a plugin reads hook lineage: even the collector for nobody loads boto3, for 0.8 s (Airflow 3.3)."""
    try:
        from airflow.sdk.plugins_manager import get_hook_lineage_readers_plugins  # noqa: TID251 - absent in old ones
    except ImportError:
        return True
    return bool(get_hook_lineage_readers_plugins())


@contextmanager
def _only_warned(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as cause:  # noqa: BLE001 - the pictures are paid for and delivered
        log.warning("%s could not be recorded: %s. The pictures are delivered.", what, type(cause).__name__)
