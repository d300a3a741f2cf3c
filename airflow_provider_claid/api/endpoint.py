"""Where the API is and with which key: the address, the headers of every request, and what counts as loopback."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from urllib.parse import urlsplit

import airflow_provider_claid
from airflow_provider_claid.api.addresses import is_local_name, literal

DEFAULT_BASE_URL = "https://api.claid.ai"


@dataclass(frozen=True)
class Endpoint:
    """A Claid API: `base_url` without path or final slash, the key, and how long one answer may take, in seconds."""

    api_key: str = field(repr=False)
    base_url: str = DEFAULT_BASE_URL
    timeout: float = 180.0

    @property
    def is_local(self) -> bool:
        """
        True for a server of this machine or network by its name (a sandbox): it may send us to addresses of that.

        Claid itself, or any other server of the Internet, may not.
        """
        return is_local_name(urlsplit(self.base_url).hostname or "")

    def headers(self) -> dict[str, str]:
        """Build the headers of an API request; the only place where the key is used."""
        return {
            "Authorization": f"Bearer {self.api_key}",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": user_agent(),
        }


def is_loopback_host(host: str) -> bool:
    """Tell whether a host name or address is this machine."""
    found = literal(host)
    return host.lower() == "localhost" if found is None else found.is_loopback


@cache
def user_agent() -> str:
    """Name this provider, Airflow and Python with their versions, for Claid's support."""
    try:
        airflow = metadata.version("apache-airflow")
    except metadata.PackageNotFoundError:
        airflow = "unknown"
    versions = f"apache-airflow/{airflow} python/{platform.python_version()}"
    return f"airflow-provider-claid/{airflow_provider_claid.__version__} {versions}"
