"""The link from a finished task to its first picture."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from airflow.providers.common.compat.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, TaskInstanceKey

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
        return browser_address(pictures[0].get("uri") or "") if pictures else ""


def browser_address(uri: str) -> str:
    """Turn a picture's URI into an address that a browser can open."""
    parts = urlsplit(uri)
    path = quote(parts.path.lstrip("/"))
    if parts.scheme in {"s3", "s3a", "s3n"}:
        return f"https://s3.console.aws.amazon.com/s3/object/{parts.netloc}?prefix={path}"
    if parts.scheme in {"gs", "gcs"}:
        return f"https://console.cloud.google.com/storage/browser/_details/{parts.netloc}/{path}"
    return uri
