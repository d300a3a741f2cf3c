"""
The HTTP client as this host's environment wants it: proxies, certificates, and which hosts may be reached.

Everything that can be wrong with it is found by `settings`, before anything is sent or written down.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.request import getproxies

import certifi
import httpcore
import httpx

from airflow_provider_claid.api import environment
from airflow_provider_claid.api.addresses import literal, may_be_reached
from airflow_provider_claid.api.environment import Exemption
from airflow_provider_claid.api.errors import ClaidConfigurationError, ClaidPictureError

PUBLIC_ONLY = "claid_public_only"
"""The extension of a request that may reach the Internet alone, and nothing of this machine or network."""

Address = httpx.URL

_HASHED = re.compile(r"[0-9a-f]{8}\.[0-9]+")


@dataclass(frozen=True)
class Settings:
    """What the environment says: the certificates to trust, the proxy for https if any, and who needs none."""

    certificates: ssl.SSLContext
    proxy: httpx.Proxy | None
    exempt: tuple[Exemption, ...]


def settings() -> Settings:
    """
    Read the environment; raises `ClaidConfigurationError` for what no HTTP client can be made with.

    Reads certificates once for a process (about 20 ms); needs no event loop.
    """
    proxies = {scheme: value for scheme, value in getproxies().items() if value}
    named = [
        (scheme, environment.proxy_variable(scheme, os.environ), proxies[scheme])
        for scheme in ("http", "https", "all")
        if scheme in proxies
    ]
    trust = tuple(os.environ.get(name, "") for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE"))
    return _settings(tuple(named), proxies.get("no", ""), trust)


@lru_cache(maxsize=4)
def _settings(named: tuple[tuple[str, str, str], ...], exempt: str, trust: tuple[str, ...]) -> Settings:
    found = {scheme: _proxy(variable, value) for scheme, variable, value in named}
    certificates = _certificates(*trust)
    scheme, variable = next(((scheme, name) for scheme, name, _ in named if scheme != "http"), ("", ""))
    proxy = found.get(scheme)
    # One that is not used, beside that of https, may be of any kind.
    if proxy is not None and proxy.url.scheme.startswith("socks") and find_spec("socksio") is None:
        raise environment.missing_socks(variable)
    if proxy is not None:
        proxy.ssl_context = certificates if proxy.url.scheme == "https" else None
    return Settings(certificates, proxy, environment.exemptions(exempt))


def _proxy(variable: str, value: str) -> httpx.Proxy:
    address = environment.proxy_address(variable, value)
    try:
        return httpx.Proxy(address)
    except (httpx.InvalidURL, ValueError):
        # Not as its cause: that shows the password.
        pass
    raise environment.wrong_proxy(variable, value)


def _certificates(file: str, folder: str, key_log: str) -> ssl.SSLContext:
    """Make the context of TLS from the first of these that is set; else it trusts what the package certifi does."""
    if folder and not file:
        _require_certificates_in(folder)
    cafile, capath = (None, folder) if folder and not file else (file or certifi.where(), None)
    try:
        return ssl.create_default_context(cafile=cafile, capath=capath)
    except (OSError, ValueError) as fault:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=cafile, capath=capath)
        except (OSError, ValueError):
            variable, place = ("SSL_CERT_DIR", folder) if capath else ("SSL_CERT_FILE", cafile or "")
            accepted = "a file that can be read, with certificates in PEM"
        else:
            # Python reads it by the way, for whoever debugs TLS.
            variable, place, accepted = "SSLKEYLOGFILE", key_log, "a file that can be written"
        raise environment.wrong_certificates(variable, f"{place!r} ({_reason(fault, place)})", accepted) from None


def _require_certificates_in(folders: str) -> None:
    """Refuse folders in which OpenSSL would find nothing, silently, so that no server could be verified."""
    for folder in folders.split(os.pathsep):
        try:
            if any(_HASHED.fullmatch(name) for name in os.listdir(folder)):  # noqa: PTH208 - names alone
                return
        except OSError:
            continue
    accepted = "a folder with certificates that are named by hash (openssl rehash)"
    raise environment.wrong_certificates("SSL_CERT_DIR", f"{folders!r}", accepted)


def _reason(fault: Exception, file: str) -> str:
    if isinstance(fault, ssl.SSLError):
        return "it holds no certificate" if Path(file).is_file() else "it is no file"
    return getattr(fault, "strerror", None) or type(fault).__name__


def build_client(limits: httpx.Limits) -> httpx.AsyncClient:
    """Make a client that goes the way the environment says; raises `ClaidConfigurationError` as `settings` does."""
    return httpx.AsyncClient(
        transport=_Ways(settings(), limits),
        # Read above, for better errors and for networks in NO_PROXY.
        trust_env=False,
        cookies=CookieJar(policy=DefaultCookiePolicy(allowed_domains=[])),
    )


class _Ways(httpx.AsyncBaseTransport):
    """Sends each request directly or through the proxy; what comes from a server's answer, to public hosts alone."""

    def __init__(self, found: Settings, limits: httpx.Limits) -> None:
        self._exempt = found.exempt
        options: dict[str, Any] = {"verify": found.certificates, "trust_env": False, "limits": limits}
        self._direct = httpx.AsyncHTTPTransport(**options)
        self._public = _PublicTransport(found.certificates, limits)
        self._proxied = httpx.AsyncHTTPTransport(proxy=found.proxy, **options) if found.proxy else None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self._way(request).handle_async_request(request)

    def _way(self, request: httpx.Request) -> httpx.AsyncHTTPTransport:
        url = request.url
        # Plain http is for this machine only, and that is never reached through a proxy.
        if self._proxied is not None and url.scheme == "https":
            port = url.port or 443
            if not any(each.covers(url.scheme, url.host, port) for each in self._exempt):
                return self._proxied
        return self._public if request.extensions.get(PUBLIC_ONLY) else self._direct

    async def aclose(self) -> None:
        for each in (self._direct, self._public, self._proxied):
            if each is not None:
                await each.aclose()


class _PublicTransport(httpx.AsyncHTTPTransport):
    """Connects to public addresses alone, whatever a name resolves to."""

    def __init__(self, certificates: ssl.SSLContext, limits: httpx.Limits) -> None:
        super().__init__(verify=certificates, trust_env=False, limits=limits)
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=certificates,
            max_connections=limits.max_connections,
            max_keepalive_connections=limits.max_keepalive_connections,
            keepalive_expiry=limits.keepalive_expiry,
            network_backend=_PublicNetwork(),
        )


class _PublicNetwork(httpcore.AnyIOBackend):
    """Looks at what a socket has connected to, before its first byte: a second look-up of a name could differ."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        stream = await super().connect_tcp(host, port, timeout, local_address, socket_options)
        there = stream.get_extra_info("server_addr")
        address = literal(str(there[0])) if isinstance(there, tuple) else None
        if address is None or not may_be_reached(host, address):
            await stream.aclose()
            raise not_public(host)
        return stream


def not_public(host: str) -> ClaidPictureError:
    """Return the error for an address of a picture that leads into this machine or network."""
    message = f"The temporary address leads to {host}, which is of a private network or this machine; it was not opened"
    return ClaidPictureError(message, billed="yes")


def misconfiguration(cause: BaseException, base_url: str) -> ClaidConfigurationError | None:
    """Find the causes that no retry can mend: a broken address or a certificate that does not verify."""
    if isinstance(cause, httpx.UnsupportedProtocol | httpx.InvalidURL | httpx.LocalProtocolError):
        return ClaidConfigurationError("host", base_url, "the address of Claid's API", "Empty it for the default.")
    link: BaseException | None = cause
    while link is not None:
        if isinstance(link, ssl.SSLCertVerificationError):
            return ClaidConfigurationError(
                "host",
                f"{base_url}, whose certificate does not verify ({link.verify_message})",
                "a host with a certificate that this machine trusts",
                "Check the host, or set SSL_CERT_FILE to your company's certificates.",
            )
        link = link.__cause__ or link.__context__
    return None
