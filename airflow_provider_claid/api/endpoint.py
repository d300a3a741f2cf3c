"""Where the API is and with which key: the address, the headers of every request, and what counts as loopback."""

from __future__ import annotations

import ipaddress
import platform
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata

import airflow_provider_claid

DEFAULT_BASE_URL = "https://api.claid.ai"


@dataclass(frozen=True)
class Endpoint:
    """A Claid API: `base_url` without path or final slash, the key, and how long one answer may take, in seconds."""

    api_key: str = field(repr=False)
    base_url: str = DEFAULT_BASE_URL
    timeout: float = 180.0

    @property
    def is_loopback(self) -> bool:
        """True for a server on this machine, where plain http is allowed and a proxy makes no sense."""
        return self.base_url.startswith("http://")

    def headers(self) -> dict[str, str]:
        """Build the headers of an API request; the only place where the key is used."""
        return {
            "Authorization": f"Bearer {self.api_key}",
            "Accept": "application/json",
            "User-Agent": user_agent(),
        }


def is_loopback_host(host: str) -> bool:
    """Tell whether a host name or address is this machine."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


@cache
def user_agent() -> str:
    """Name this provider, Airflow and Python with their versions, for Claid's support."""
    try:
        airflow = metadata.version("apache-airflow")
    except metadata.PackageNotFoundError:
        airflow = "unknown"
    versions = f"apache-airflow/{airflow} python/{platform.python_version()}"
    return f"airflow-provider-claid/{airflow_provider_claid.__version__} {versions}"
