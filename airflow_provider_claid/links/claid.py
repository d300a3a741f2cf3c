"""The link from a finished task to its first picture."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from airflow.providers.common.compat.sdk import BaseOperatorLink

from airflow_provider_claid.api.text import one_line

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, TaskInstanceKey

_SCHEMES = frozenset({
    "http", "https", "storage", "file", "abfs", "abfss", "adl", "az", "wasb", "wasbs", "oss", "hdfs", "webhdfs", "dbfs",
    "sftp", "ssh", "ftp", "smb", "r2",
})  # fmt: skip

RESULT_KEY = "claid_result"
"""XCom key of a job's result, plain JSON."""


class ClaidPictureLink(BaseOperatorLink):
    """Opens the first picture of a task, or its place in the console of the store."""

    name = "Claid picture"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the address of the first picture; "" while there is none."""
        from airflow.providers.common.compat.sdk import XCom

        result = XCom.get_value(key=RESULT_KEY, ti_key=ti_key)
        pictures = result.get("images") if isinstance(result, dict) else None
        first = pictures[0] if isinstance(pictures, list) and pictures else None
        return browser_address(first.get("uri")) if isinstance(first, dict) else ""


class ClaidManifestLink(BaseOperatorLink):
    """Opens the manifest of a batch, or its place in the store's console; in Airflow 3 while the task runs, too."""

    name = "Claid manifest"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the address of the manifest; "" while there is none."""
        from airflow.providers.common.compat.sdk import XCom

        result = XCom.get_value(key=RESULT_KEY, ti_key=ti_key)
        return browser_address(result.get("manifest")) if isinstance(result, dict) else ""


MANIFEST_LINK_KEY = f"_link_{ClaidManifestLink.__name__}"
"""XCom key under which Airflow 3 looks for the link to the manifest."""


def browser_address(uri: object) -> str:
    """
    Turn a picture's URI into an address that a browser can open, or the URI of its store.

    "" for anything but the schemes of the web and of stores: the link is clicked on in Airflow's own page, so that a
    `javascript:` would run there.
    """
    if not isinstance(uri, str):
        return ""
    # As a browser reads it, which drops these anywhere.
    uri = uri.strip().translate(dict.fromkeys(map(ord, "\t\r\n")))
    try:
        parts = urlsplit(uri)
    except ValueError:
        return ""
    bucket, path = (quote(part, errors="replace") for part in (parts.netloc, parts.path.lstrip("/")))
    if parts.scheme in {"s3", "s3a", "s3n"}:
        return f"https://s3.console.aws.amazon.com/s3/object/{bucket}?prefix={path}"
    if parts.scheme in {"gs", "gcs"}:
        return f"https://console.cloud.google.com/storage/browser/_details/{bucket}/{path}"
    return one_line(uri) if parts.scheme in _SCHEMES and uri.lower().startswith(f"{parts.scheme}://") else ""
