"""
What Airflow asks a provider about its scheme: `storage://name/folder/`, a folder of a storage connected to Claid.

Airflow loads this for the first asset of any scheme, at parse too: nothing is imported that a Dag file could feel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from urllib.parse import SplitResult

    from airflow.providers.common.compat.openlineage.facet import Dataset
    from airflow.providers.common.compat.sdk import Asset

_ALIKE = {"s3a": "s3", "s3n": "s3", "gcs": "gs"}
"""Other spellings of a scheme, each with the one that OpenLineage knows the store by."""


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """
    Check the URI of an asset, from which Airflow has removed final slashes; `ValueError` names what is wrong.

    So `storage://name/folder/` and `storage://name/folder` are one asset, as folders of s3 are.
    """
    faults = {
        "the name of the storage is missing": not uri.netloc,
        "@ is in the name of the storage; a connection id does not belong there": "@" in uri.netloc,
        "it ends at the folder: leave out the ?": bool(uri.query),
    }
    for fault, found in faults.items():
        if found:
            # The URI is not shown: what stands before an @ may be a secret.
            raise ValueError(f"An asset of Claid is storage://name/folder/: {fault}")
    return uri


def create_asset(*, name: str, folder: str = "", extra: dict[str, Any] | None = None) -> Asset:
    """Make the asset of a folder in the storage `name`; no folder is the root of the storage."""
    from airflow.providers.common.compat.sdk import Asset

    inside = folder.strip("/")
    return Asset(uri=f"storage://{name}/{inside}/" if inside else f"storage://{name}/", extra=extra)


def convert_asset_to_openlineage(asset: Asset, lineage_context: Any) -> Dataset:
    """
    Turn an asset into an OpenLineage dataset: namespace `storage://name`, name `folder`.

    Not the bucket behind the storage: Claid would have to be asked, and lineage must not wait for a network.
    """
    from airflow.providers.common.compat.openlineage.facet import Dataset

    namespace, name = dataset_name(asset.uri)
    return Dataset(namespace=namespace, name=name)


def dataset_name(uri: str) -> tuple[str, str]:
    """
    Return namespace and name of a file or folder by OpenLineage's naming: `("s3://bucket", "folder")`.

    It is what Airflow's own converters give, for the schemes that have one. A local file is `("file", "/folder/name")`.
    The storage account that Azure's namespaces begin with is in no URI of Airflow: `("abfs://container", "folder")`.
    """
    parts = urlsplit(uri)
    path = parts.path.rstrip("/")
    if parts.scheme == "file" and not parts.netloc:
        return "file", path or "/"
    return f"{_ALIKE.get(parts.scheme, parts.scheme)}://{parts.netloc}", path.lstrip("/") or "/"
